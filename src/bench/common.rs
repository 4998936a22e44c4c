//! What both measurements say and take alike.

pub(super) const DEBUG_BUILD: &str = "this is a debug build: its times mean nothing";

pub(super) fn parse_seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|s| (0.0..=86_400.0).contains(s));
    seconds.ok_or_else(|| "write seconds from 0 to 86400".to_owned())
}
