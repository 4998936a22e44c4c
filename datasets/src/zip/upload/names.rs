//! What entries of an uploaded archive may be called.
//!
//! No name becomes a file name here, so none of these could do harm today. They are refused because an archive that
//! holds one was made to do harm elsewhere or by a broken tool, and because the data set goes on to people who unpack
//! it: on Windows (devices, drive letters), on systems that fold case, by tools that overwrite. Parts that end in a dot
//! or space ("Canis sp.") are names of species and brands, and only name a class; of nothing but dots and spaces, they
//! are what Windows takes for "..".

use super::entry::Entry;
use super::error::UploadError;
use crate::names::nfc;
use crate::zip::names::shown;
use std::cmp::Ordering;

/// Names of devices under Windows, with any extension.
const DEVICES: [&str; 6] = ["con", "prn", "aux", "nul", "conin$", "conout$"];

/// The parts of a name joined by `/`, and whether it is that of a folder.
pub(super) fn path_of(name: &str, max_depth: usize) -> Result<(String, bool), String> {
    const AGAIN: &str = "make the ZIP again from the folder that holds the class folders";
    // The Finder's own files end in a carriage return; they are ignored later.
    let odd = |part: &str| part.chars().any(char::is_control) && !is_icon(part);
    if name.split(['/', '\\']).any(odd) {
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
        if part.chars().all(|c| c == '.' || c == ' ') {
            return Err("its name has a part of nothing but dots and spaces; rename it".to_owned());
        }
        if is_device(part) {
            return Err(format!("its name has a part that is a device under Windows ({part}); rename it"));
        }
    }
    // "./" is the folder that was packed.
    let is_folder = name.ends_with(['/', '\\']) || parts.is_empty();
    Ok((parts.join("/"), is_folder))
}

/// The picture of a folder in the Finder, and the file that carries it on other systems.
fn is_icon(part: &str) -> bool {
    matches!(part, "Icon\r" | "._Icon\r")
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

/// Refuses two entries that would be one file, by name or where case or the normal forms of Unicode are folded, and a
/// file that is also a folder. Folders may differ in their normal form: they are one class.
///
/// Sorted part by part in lower case, all names below one folder are neighbours, so neighbours are all there is to
/// compare, and memory stays at one copy of the names.
pub(super) fn check(entries: &[Entry]) -> Result<(), UploadError> {
    let mut order: Vec<(String, &Entry)> =
        entries.iter().map(|entry| (nfc(&entry.path).to_lowercase(), entry)).collect();
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
        if nfc(&start(first)) != nfc(&start(second)) {
            let reason =
                format!("it differs from {:?} only in upper and lower case; rename one", shown(&first.path));
            return Err(second.refused(&reason));
        }
        let whole = |path: &str| path.split('/').count() == alike;
        if whole(folded) && whole(next_folded) {
            match (first.is_folder, second.is_folder) {
                (true, true) => {}
                (false, false) if first.path == second.path => {
                    return Err(second.refused("its name is listed twice; make the ZIP again"));
                }
                (false, false) => {
                    return Err(
                        second.refused("two names for one place, in two forms of Unicode; rename one")
                    );
                }
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
    fn devices_are_told_from_words() {
        for name in ["CON", "con.png", "Nul.tar.gz", "COM1", "lpt9.x", "com¹", "aux .jpg", "CONIN$"] {
            assert!(is_device(name), "{name}");
        }
        for name in ["cone", "conch.png", "com", "com10", "lpt", "null", "xcon"] {
            assert!(!is_device(name), "{name}");
        }
    }
}
