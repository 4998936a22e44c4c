//! Base64 as clients write it: in lines, in the alphabet of URLs, without padding, as a `data:` URL.
//!
//! White space is skipped wherever it stands: MIME breaks lines after 76 characters, PEM after 64. Both alphabets of
//! RFC 4648 are read, but not both in one text, which no writer makes. `%2B` and the like are read as the characters
//! that they stand for. Addresses are never opened.

use std::fmt;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;

/// Clients disagree on the padding; without it nothing is ambiguous.
const STANDARD: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Characters that are cleaned and decoded at a time, in whole groups of four: a text with line breaks needs no copy
/// of its own length.
const PIECE: usize = 4096;

/// Longest scheme of an address that is looked for.
const MAX_SCHEME: usize = 32;

/// Longest text that is taken for the name of a file.
const MAX_FILE_NAME: usize = 1024;

/// Why a text is no base64. Displayed as the end of a sentence: "image 1 is ..".
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NotBase64 {
    /// A character of no alphabet; positions are characters of the text, from 1.
    Character { found: char, position: usize, looks_like: Option<&'static str> },
    /// The first character of the other alphabet.
    Mixed { found: char, position: usize },
    /// `=` before the end, or more of it than belongs there.
    Padding { position: usize },
    /// The last characters make no whole byte.
    Cut,
    /// A `data:` URL of another encoding.
    DataUrl,
    /// `https://..` and the like.
    Address,
}

impl fmt::Display for NotBase64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Character { found, position, looks_like } => {
                write!(f, "not base64: {} at position {position}", Shown(*found))?;
                looks_like.map_or(Ok(()), |hint| write!(f, "; {hint}"))
            }
            Self::Mixed { found, position } => write!(
                f,
                "not base64: {} at position {position} is of the other alphabet (+ and /, or - and _ of URLs, not both)",
                Shown(*found)
            ),
            Self::Padding { position } => {
                write!(f, "not base64: '=' at position {position}, where the text does not end")
            }
            Self::Cut => f.write_str("not base64: its last characters make no whole byte; was it cut off?"),
            Self::DataUrl => f.write_str(
                "a data: URL that is not in base64; it begins as data:image/png;base64, or the like",
            ),
            Self::Address => f.write_str(
                "an address, and this service opens none: send the file itself, in base64 or as the body",
            ),
        }
    }
}

/// A character between quotes, or its number where it cannot be seen.
struct Shown(char);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            c @ ('\\' | '\'' | '"') => write!(f, "'{c}'"),
            c => write!(f, "{c:?}"),
        }
    }
}

/// The bytes of a base64 text or of a `data:` URL in base64.
pub(crate) fn decode(text: &str) -> Result<Bytes, NotBase64> {
    let begin = text.len() - text.trim_start_matches(is_space).len();
    let begin = match scheme(&text[begin..]) {
        Some(scheme) if scheme.eq_ignore_ascii_case("data") => begin + payload_of_data_url(&text[begin..])?,
        // One letter in front of a colon is a drive.
        Some(scheme) if scheme.len() > 1 => return Err(NotBase64::Address),
        _ => begin,
    };
    // Most texts are as they should be.
    match STANDARD.decode(text[begin..].trim_end_matches(is_space)) {
        Ok(bytes) => Ok(bytes.into()),
        Err(_) => read(text, begin).map(Bytes::from),
    }
}

/// White space of MIME, JSON and HTML.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{b}' | '\u{c}')
}

/// What stands in front of the colon of an address. Base64 has no colon.
fn scheme(text: &str) -> Option<&str> {
    let end = text.bytes().take(MAX_SCHEME + 1).position(|byte| byte == b':')?;
    let scheme = &text[..end];
    let may_be = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    (scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.bytes().all(may_be)).then_some(scheme)
}

/// Where the data of a `data:` URL begins: behind `data:[type][;name=value].. ;base64,` (RFC 2397), in any case.
fn payload_of_data_url(text: &str) -> Result<usize, NotBase64> {
    let comma = text.find(',').ok_or(NotBase64::DataUrl)?;
    let mut parameters = text[..comma].split(';').skip(1);
    if parameters.any(|parameter| parameter.trim_matches(is_space).eq_ignore_ascii_case("base64")) {
        Ok(comma + 1)
    } else {
        Err(NotBase64::DataUrl)
    }
}

/// Decodes character by character from the byte `begin` on, and finds out what is wrong.
fn read(text: &str, begin: usize) -> Result<Vec<u8>, NotBase64> {
    let bytes = text.as_bytes();
    let position = |at: usize| text[..at].chars().count() + 1;
    let mut decoded = Vec::with_capacity((bytes.len() - begin) / 4 * 3 + 3);
    let (mut piece, mut filled) = ([0; PIECE], 0);
    // Of `+` and `/`, or of `-` and `_`, the one that was seen first.
    let mut of_urls = None;
    let (mut first_padding, mut paddings) = (0, 0);
    let mut at = begin;
    while at < bytes.len() {
        let (byte, width) = unescaped(&bytes[at..]);
        let digit = match byte {
            b'+' | b'/' | b'-' | b'_' => {
                let url = matches!(byte, b'-' | b'_');
                if *of_urls.get_or_insert(url) != url {
                    return Err(NotBase64::Mixed { found: char::from(byte), position: position(at) });
                }
                Some(match byte {
                    b'-' => b'+',
                    b'_' => b'/',
                    other => other,
                })
            }
            b'=' => {
                if paddings == 0 {
                    first_padding = at;
                }
                paddings += 1;
                None
            }
            _ if byte.is_ascii_alphanumeric() => Some(byte),
            _ if is_space(char::from(byte)) => None,
            _ => {
                let found = text[at..].chars().next().expect("every byte before this one was ASCII");
                return Err(NotBase64::Character {
                    found,
                    position: position(at),
                    looks_like: looks_like(text),
                });
            }
        };
        at += width;
        let Some(digit) = digit else { continue };
        if paddings > 0 {
            return Err(NotBase64::Padding { position: position(first_padding) });
        }
        piece[filled] = digit;
        filled += 1;
        if filled == PIECE {
            append(&mut decoded, &piece)?;
            filled = 0;
        }
    }
    let padded = [0, 0, 2, 1];
    if paddings > padded[filled % 4] {
        return Err(NotBase64::Padding { position: position(first_padding) });
    }
    append(&mut decoded, &piece[..filled])?;
    Ok(decoded)
}

/// Decodes characters of the standard alphabet; only the last piece may end inside of a group.
fn append(decoded: &mut Vec<u8>, digits: &[u8]) -> Result<(), NotBase64> {
    STANDARD.decode_vec(digits, decoded).map_err(|_| NotBase64::Cut)
}

/// The first character of a text and how many bytes it takes; `%2B` is one character.
fn unescaped(text: &[u8]) -> (u8, usize) {
    let hex = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    if let [b'%', high, low, ..] = *text
        && let (Some(high), Some(low)) = (hex(high), hex(low))
        && high < 8
    {
        return (16 * high + low, 3);
    }
    (text[0], 1)
}

/// What clients send in place of base64.
fn looks_like(text: &str) -> Option<&'static str> {
    const NAMES: [&str; 9] = [".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".heic"];
    let text = text.trim_matches(is_space);
    if text.starts_with("b'") || text.starts_with("b\"") {
        return Some("it looks like the bytes of Python turned into text: use .decode()");
    }
    let lower = || text.to_ascii_lowercase();
    if text.len() <= MAX_FILE_NAME
        && (scheme(text).is_some() || NAMES.iter().any(|name| lower().ends_with(name)))
    {
        return Some("it looks like the name of a file, and this service opens none: send what is in it");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [u8; 256] = {
        let (mut all, mut i) = ([0; 256], 0);
        while i < 256 {
            all[i] = i as u8;
            i += 1;
        }
        all
    };

    /// From RFC 4648, without padding.
    fn encode(bytes: &[u8], last: [char; 2]) -> String {
        let alphabet: Vec<char> = ('A'..='Z').chain('a'..='z').chain('0'..='9').chain(last).collect();
        let mut text = String::new();
        for chunk in bytes.chunks(3) {
            let bits =
                chunk.iter().enumerate().fold(0, |bits, (i, &b)| bits | usize::from(b) << (16 - 8 * i));
            text.extend((0..=chunk.len()).map(|i| alphabet[bits >> (18 - 6 * i) & 63]));
        }
        text
    }

    fn padded(text: &str) -> String {
        format!("{text}{}", "=".repeat((4 - text.len() % 4) % 4))
    }

    fn lines(text: &str, width: usize, end: &str) -> String {
        let text: Vec<char> = text.chars().collect();
        text.chunks(width).map(|line| line.iter().collect::<String>() + end).collect()
    }

    #[test]
    fn every_form_of_every_length_is_the_same_bytes() {
        type Form = (&'static str, fn(&str) -> String);
        let forms: [Form; 16] = [
            ("as it is", |t| t.to_owned()),
            ("MIME", |t| lines(t, 76, "\r\n")),
            ("PEM", |t| lines(t, 64, "\n")),
            ("lines of odd lengths", |t| lines(t, 7, "\n")),
            ("a space behind each character", |t| lines(t, 1, " ")),
            ("tabs and feeds", |t| lines(t, 5, "\t\u{b}\u{c}")),
            ("white space around", |t| format!(" \r\n{t}\n\n")),
            ("data URL", |t| format!("data:image/png;base64,{t}")),
            ("data URL without a type", |t| format!("data:;base64,{t}")),
            ("data URL in capitals", |t| format!("DATA:IMAGE/PNG;BASE64,{t}")),
            ("data URL with a parameter", |t| format!("data:image/png;charset=utf-8;base64,{t}")),
            ("data URL with a name", |t| format!("data:image/png;name=a b.png;base64,{t}")),
            ("data URL with spaces", |t| format!("\n data:image/png ; base64 , {t} ")),
            ("data URL in lines", |t| format!("data:image/png;base64,\r\n{}", lines(t, 76, "\r\n"))),
            ("escaped", |t| t.replace('+', "%2B").replace('/', "%2f").replace('=', "%3D")),
            ("data URL with escaped line breaks", |t| {
                format!("data:image/png;base64,{}", lines(t, 76, "%0D%0A").replace('=', "%3d"))
            }),
        ];
        // Around groups of three, around lines, and around the pieces of the slow way.
        let pieces = (PIECE / 4 * 3 - 4)..(PIECE / 4 * 3 + 5);
        for length in (0..70).chain(pieces).chain([100_000]) {
            // All 64 characters are in every three bytes that step through all values.
            let bytes: Vec<u8> = ALL.iter().map(|b| b.wrapping_mul(167)).cycle().take(length).collect();
            for last in [['+', '/'], ['-', '_']] {
                let bare = encode(&bytes, last);
                for text in [padded(&bare), bare] {
                    for (form, write) in forms {
                        assert_eq!(
                            decode(&write(&text)).as_deref(),
                            Ok(&bytes[..]),
                            "{form}, {length} bytes, {last:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_no_base64_is_refused_with_its_place() {
        let long = "A".repeat(PIECE);
        let long_then_comma = format!("{long},");
        let cases = [
            ("AAAA,AAAA", "not base64: ',' at position 5"),
            ("***", "not base64: '*' at position 1"),
            ("not base64!", "not base64: '!' at position 11"),
            ("AA\nA\u{e9}", "not base64: 'é' at position 5"),
            ("éAAA", "not base64: 'é' at position 1"),
            ("AAA\u{0}", "not base64: '\\0' at position 4"),
            ("\u{feff}AAAA", "not base64: '\\u{feff}' at position 1"),
            ("AAAA\u{a0}", "not base64: '\\u{a0}' at position 5"),
            ("AAAA\\nAAAA", "not base64: '\\' at position 5"),
            ("AA%zz", "not base64: '%' at position 3"),
            ("AA%C3%A9", "not base64: '%' at position 3"),
            ("AA%", "not base64: '%' at position 3"),
            (&long_then_comma, "not base64: ',' at position 4097"),
            ("data:image/png;base64,AA*A", "not base64: '*' at position 25"),
            ("b'AAAA'", "not base64: ''' at position 2; it looks like the bytes of Python"),
            ("cat.jpg", "not base64: '.' at position 4; it looks like the name of a file"),
            ("/tmp/cat.PNG", "not base64: '.' at position 9; it looks like the name of a file"),
            ("C:\\cats\\1", "not base64: ':' at position 2; it looks like the name of a file"),
            ("AAA+AAA_", "not base64: '_' at position 8 is of the other alphabet"),
            ("AA-A/AAA", "not base64: '/' at position 5 is of the other alphabet"),
            ("AA==AAAA", "not base64: '=' at position 3, where the text does not end"),
            ("AA==\nAA==", "not base64: '=' at position 3, where"),
            ("AAAA=", "not base64: '=' at position 5, where"),
            ("AAA==", "not base64: '=' at position 4, where"),
            ("=", "not base64: '=' at position 1, where"),
            ("A", "not base64: its last characters make no whole byte"),
            ("AAAA A", "not base64: its last characters make no whole byte"),
            ("AB", "not base64: its last characters make no whole byte"),
            ("AB-_\nAB", "not base64: its last characters make no whole byte"),
            ("data:image/svg+xml,%3Csvg/%3E", "a data: URL that is not in base64"),
            ("data:image/png;base64", "a data: URL that is not in base64"),
            ("data:,AAAA", "a data: URL that is not in base64"),
            ("http://localhost/a.png", "an address, and this service opens none"),
            (" HTTPS://example.org/AAAA", "an address, and this service opens none"),
            ("blob:http://localhost/1", "an address, and this service opens none"),
            ("file:///etc/passwd", "an address, and this service opens none"),
            ("s3://bucket/a.jpg", "an address, and this service opens none"),
        ];
        for (text, said) in cases {
            let error = decode(text).expect_err(text).to_string();
            assert!(error.starts_with(said), "{text:?}: {error}");
            assert!(error.len() < 160 && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn any_text_is_read_or_refused() {
        let parts = [
            "AAAA", "A", "=", " ", "\r\n", "%", "%2", "%3D", "-", "+", "data:", ";base64", ",", ":", "é",
            "\u{0}",
        ];
        for i in 0..parts.len().pow(4) {
            let text: String = (0..4).map(|k| parts[i / parts.len().pow(k) % parts.len()]).collect();
            let Ok(bytes) = decode(&text) else { continue };
            assert!(bytes.len() <= text.len(), "{text:?}");
        }
    }
}
