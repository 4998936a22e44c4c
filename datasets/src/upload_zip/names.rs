//! What entries of an uploaded archive may be called.
//!
//! No name becomes a file name here, so none of these could do harm today. They are refused because an archive that
//! holds one was made to do harm elsewhere or by a broken tool, and because the data set goes on to people who unpack
//! it: on Windows (devices, trailing dots, drive letters), on systems that fold case, by tools that overwrite.

use super::UploadError;
use super::directory::Entry;
use std::cmp::Ordering;

/// Characters of a name that a message shows.
const SHOWN: usize = 80;

/// Names of devices under Windows, with any extension.
const DEVICES: [&str; 6] = ["con", "prn", "aux", "nul", "conin$", "conout$"];

/// Characters 128 to 255 of code page 437, in which APPNOTE (appendix D) has names without the UTF-8 flag.
const CP437: &str = concat!(
    "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐",
    "└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}",
);

/// The text of a name. Many tools write UTF-8 without the flag for it, so that is tried first.
pub(super) fn text(raw: &[u8], flagged_utf8: bool) -> Result<String, String> {
    match std::str::from_utf8(raw) {
        Ok(name) => Ok(name.to_owned()),
        Err(_) if flagged_utf8 => Err("its name says to be UTF-8 and is not; make the ZIP again".to_owned()),
        Err(_) => {
            let high: Vec<char> = CP437.chars().collect();
            Ok(raw
                .iter()
                .map(|&b| if b < 128 { char::from(b) } else { high[usize::from(b) - 128] })
                .collect())
        }
    }
}

/// A name as messages show it: printable and short.
pub(super) fn shown(name: &str) -> String {
    let mut text: String = name.chars().take(SHOWN).flat_map(char::escape_debug).collect();
    if name.chars().nth(SHOWN).is_some() {
        text.push_str("...");
    }
    text
}

/// The parts of a name joined by `/`, and whether it is that of a folder.
pub(super) fn path_of(name: &str, max_depth: usize) -> Result<(String, bool), String> {
    const AGAIN: &str = "make the ZIP again from the folder that holds the class folders";
    if name.chars().any(char::is_control) {
        return Err("its name has a NUL or control character; rename it".to_owned());
    }
    if name.starts_with(['/', '\\']) {
        return Err(format!("its name is an absolute path; {AGAIN}"));
    }
    if let [letter, b':', ..] = name.as_bytes()
        && letter.is_ascii_alphabetic()
    {
        return Err(format!("its name begins with a drive letter; {AGAIN}"));
    }
    let parts: Vec<&str> = name.split(['/', '\\']).filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") {
        return Err(format!("its name leads out of the archive (\"..\"); {AGAIN}"));
    }
    if parts.len() > max_depth {
        return Err(format!("it lies {} folders deep; at most {max_depth} are read", parts.len()));
    }
    for part in &parts {
        if part.ends_with(['.', ' ']) {
            return Err("its name has a part that ends in a dot or space; rename it".to_owned());
        }
        if is_device(part) {
            return Err(format!("its name has a part that is a device under Windows ({part}); rename it"));
        }
    }
    // "./" is the folder that was packed.
    let is_folder = name.ends_with(['/', '\\']) || parts.is_empty();
    Ok((parts.join("/"), is_folder))
}

fn is_device(part: &str) -> bool {
    let stem = part.split(['.', ':']).next().unwrap_or("").trim_end().to_lowercase();
    let numbered = |port: &str| {
        let number = stem.strip_prefix(port).and_then(|rest| {
            let mut chars = rest.chars();
            chars.next().filter(|_| chars.next().is_none())
        });
        // Windows takes superscript digits as well.
        number.is_some_and(|c| matches!(c, '0'..='9' | '¹' | '²' | '³'))
    };
    DEVICES.contains(&stem.as_str()) || numbered("com") || numbered("lpt")
}

/// Refuses two entries that would be one file, by name or where case is folded, and a file that is also a folder.
///
/// Sorted part by part in lower case, all names below one folder are neighbours, so neighbours are all there is to
/// compare, and memory stays at one copy of the names.
pub(super) fn check(entries: &[Entry]) -> Result<(), UploadError> {
    let mut order: Vec<(String, &Entry)> =
        entries.iter().map(|entry| (entry.path.to_lowercase(), entry)).collect();
    let by_parts = |a: &str, b: &str| -> Ordering { a.split('/').cmp(b.split('/')) };
    order.sort_by(|(a, _), (b, _)| by_parts(a, b));
    for pair in order.windows(2) {
        let [(folded, first), (next_folded, second)] = pair else { unreachable!("windows of two") };
        let alike = folded
            .split('/')
            .zip(next_folded.split('/'))
            .take_while(|(a, b)| a == b && !a.is_empty())
            .count();
        if alike == 0 {
            continue;
        }
        let start = |entry: &Entry| entry.path.split('/').take(alike).collect::<Vec<_>>().join("/");
        if start(first) != start(second) {
            let reason =
                format!("it differs from {:?} only in upper and lower case; rename one", shown(&first.path));
            return Err(second.refused(&reason));
        }
        let whole = |path: &str| path.split('/').count() == alike;
        if whole(folded) && whole(next_folded) {
            match (first.is_folder, second.is_folder) {
                (true, true) => {}
                (false, false) => return Err(second.refused("its name is listed twice; make the ZIP again")),
                _ => return Err(second.refused("it is both a file and a folder; make the ZIP again")),
            }
        } else if whole(folded) && !first.is_folder {
            return Err(first.refused("it is both a file and a folder; make the ZIP again"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_page_437_has_128_upper_characters() {
        assert_eq!(CP437.chars().count(), 128);
        assert_eq!(text(b"m\x84use", false).unwrap(), "mäuse");
        assert_eq!(text("mäuse".as_bytes(), false).unwrap(), "mäuse");
        assert!(text(b"m\x84use", true).is_err());
    }

    #[test]
    fn devices_are_told_from_words() {
        for name in ["CON", "con.png", "Nul.tar.gz", "COM1", "lpt9.x", "com¹", "aux .jpg", "CONIN$"] {
            assert!(is_device(name), "{name}");
        }
        for name in ["cone", "conch.png", "com", "com10", "lpt", "null", "xcon"] {
            assert!(!is_device(name), "{name}");
        }
    }

    #[test]
    fn messages_show_names_short_and_printable() {
        assert_eq!(shown("a\n\u{202e}b"), "a\\n\\u{202e}b");
        assert_eq!(shown(&"ä".repeat(100)), "ä".repeat(80) + "...");
    }
}
