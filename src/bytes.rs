//! Numbers of bytes as people write and read them.

/// A number of bytes, with K, M, G or T for powers of 1024.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let number = text.trim_end_matches(['B', 'b']).trim_end_matches(['i', 'I']);
    let (number, shift) = match number.chars().last().map(|unit| unit.to_ascii_uppercase()) {
        Some('K') => (&number[..number.len() - 1], 10),
        Some('M') => (&number[..number.len() - 1], 20),
        Some('G') => (&number[..number.len() - 1], 30),
        Some('T') => (&number[..number.len() - 1], 40),
        _ => (number, 0),
    };
    let bytes = number.trim().parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
    bytes.ok_or_else(|| "write a number of bytes, such as 500M or 2G".to_owned())
}

/// Bytes as people read them: `512 bytes`, `1.5 MiB`, `2.0 GiB`.
pub(crate) fn readable(bytes: u64) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", bytes as f64 / unit as f64),
        None => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_units() {
        let good = [
            ("0", 0),
            ("64", 64),
            ("500M", 500 << 20),
            ("2g", 2 << 30),
            (" 3 KiB ", 3 << 10),
            ("1TB", 1 << 40),
        ];
        for (text, bytes) in good {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for text in ["", "M", "-1", "1.5G", "many", "99999999999T", "1MM", "\u{e9}"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn bytes_are_readable() {
        let written = [0, 1023, 1536, 5 << 20, 3 << 30].map(readable);
        assert_eq!(written, ["0 bytes", "1023 bytes", "1.5 KiB", "5.0 MiB", "3.0 GiB"]);
    }
}
