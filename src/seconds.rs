//! Times on the command line.

/// Seconds of a text such as `90s`, `10m` or `2h`.
pub(crate) fn parse_seconds(text: &str) -> Result<u32, String> {
    let (number, factor) = match text.trim().split_at_checked(text.trim().len().saturating_sub(1)) {
        Some((number, "s")) => (number, 1),
        Some((number, "m")) => (number, 60),
        Some((number, "h")) => (number, 3600),
        _ => (text.trim(), 1),
    };
    let seconds = number.parse::<u32>().ok().and_then(|number| number.checked_mul(factor));
    seconds.ok_or_else(|| "write a time such as 90s, 10m or 2h".to_owned())
}
