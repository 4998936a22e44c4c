//! What ZIP archives are not, and what they may hold that is not read: told by its name, with what to do.

use super::inflate::Method;
use super::records::{FLAG_ENCRYPTED, FLAG_MASKED, FLAG_PATCH, FLAG_STRONG};

/// Bytes that [`other_archive`] looks at; the mark of tar stands at 257.
pub(crate) const HEAD_BYTES: usize = 512;

/// The archive format of a file that is no ZIP archive to be read, by its first bytes or, where these say nothing, by
/// its name.
pub(crate) fn other_archive(head: &[u8], name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    let ends = |ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
    Some(match head {
        [b'7', b'z', 0xbc, 0xaf, 0x27, 0x1c, ..] => "7z archive",
        [b'R', b'a', b'r', b'!', 0x1a, 7, ..] => "RAR archive",
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => "file packed with xz",
        [b'B', b'Z', b'h', b'1'..=b'9', b'1', b'A', b'Y', ..] => "file packed with bzip2",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "file packed with zstd",
        [b'M', b'S', b'C', b'F', 0, ..] => "CAB archive",
        // The mark of archives in parts, in front of the first part.
        [b'P', b'K', 7, 8, ..] => "first part of a ZIP archive in several parts",
        _ if head.get(257..262) == Some(b"ustar") => "tar archive",
        [0x1f, 0x8b, ..] if ends(&[".tar.gz", ".tgz"]) => "tar archive packed with gzip",
        _ if ends(&[".tar"]) => "tar archive",
        _ if ends(&[".7z"]) => "7z archive",
        _ if ends(&[".rar"]) => "RAR archive",
        _ if is_numbered(&name, ".z") => "part of a ZIP archive in several parts",
        _ if is_numbered(&name, ".zip.") || is_numbered(&name, ".7z.") => {
            "part of an archive in several parts"
        }
        _ => return None,
    })
}

/// True for `photos.z01` and `photos.zip.001`.
fn is_numbered(name: &str, mark: &str) -> bool {
    name.rsplit_once(mark).is_some_and(|(_, number)| {
        (2..=3).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit())
    })
}

/// How an entry is packed, or why it cannot be read.
pub(super) fn method(method: u16, flags: u16) -> Result<Method, &'static str> {
    if method == 99 {
        return Err("it is encrypted (AES); make the ZIP again without a password");
    }
    if flags & (FLAG_ENCRYPTED | FLAG_STRONG | FLAG_MASKED) != 0 {
        return Err("it is encrypted; make the ZIP again without a password");
    }
    Err(match method {
        0 => return Ok(Method::Stored),
        8 if flags & FLAG_PATCH == 0 => return Ok(Method::Deflated),
        1..=6 | 10 => "its compression is of ZIP programs before 1993; make the ZIP again with deflate",
        9 => {
            "its compression, Deflate64, is not supported; make the ZIP again with deflate (7-Zip: mm=Deflate)"
        }
        12 => "its compression, bzip2, is not supported; make the ZIP again with deflate",
        14 => "its compression, LZMA, is not supported; make the ZIP again with deflate",
        20 | 93 => "its compression, Zstandard, is not supported; make the ZIP again with deflate",
        94 => "its compression, MP3, is not supported; make the ZIP again with deflate",
        95 => "its compression, XZ, is not supported; make the ZIP again with deflate",
        96 => "its compression, that of WinZip for JPEG, is not supported; make the ZIP again with deflate",
        97 => "its compression, WavPack, is not supported; make the ZIP again with deflate",
        98 => "its compression, PPMd, is not supported; make the ZIP again with deflate",
        _ => "its compression is not supported; make the ZIP again with deflate",
    })
}
