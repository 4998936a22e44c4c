//! How a picture is to be turned: by its EXIF block, or by its XMP where EXIF says nothing.
//!
//! Cameras store pixels as the sensor has them and note how the camera was held. Both notes have the values of TIFF's
//! tag 274. What is broken says nothing: no picture is refused for its notes.

use super::ifd::Directory;
use image::metadata::Orientation;

const ORIENTATION: u16 = 274;

/// What a file's notes say, gathered segment by segment; the first word counts.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Notes {
    exif: Option<u8>,
    xmp: Option<u8>,
}

impl Notes {
    /// Takes an EXIF block: a TIFF structure, perhaps behind the `Exif` and two bytes of JPEG's segment.
    pub(super) fn exif(&mut self, block: &[u8]) {
        self.exif = self.exif.or_else(|| from_exif(block));
    }

    /// Takes an XMP packet.
    pub(super) fn xmp(&mut self, packet: &[u8]) {
        self.xmp = self.xmp.or_else(|| from_xmp(packet));
    }

    /// What to do with the pixels. EXIF goes first: editors that turn the pixels reset it and often forget XMP.
    pub(super) fn orientation(self) -> Orientation {
        self.exif.or(self.xmp).and_then(Orientation::from_exif).unwrap_or(Orientation::NoTransforms)
    }
}

/// True when width and height change places.
pub(super) fn is_sideways(orientation: Orientation) -> bool {
    use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
    matches!(orientation, Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH)
}

/// Only the first directory describes the picture; the second one is the thumbnail's. Writers use every type of whole
/// number that TIFF has.
fn from_exif(block: &[u8]) -> Option<u8> {
    let block = match block {
        [b'E', b'x', b'i', b'f', 0, _, rest @ ..] => rest,
        _ => block,
    };
    let field = Directory::first(block)?.find(ORIENTATION).ok()??;
    checked(field.first().ok()?)
}

fn checked(value: u64) -> Option<u8> {
    (1..=8).contains(&value).then_some(value as u8)
}

/// The property `Orientation` of TIFF's namespace, as an attribute or as an element (XMP part 1, 7.9.2). A search, no
/// parser of XML: in a packet that is cut or damaged elsewhere the note may still be there, and a wrong hit takes the
/// namespace's own prefix in front of the name.
fn from_xmp(packet: &[u8]) -> Option<u8> {
    const NAMESPACE: &[u8] = b"http://ns.adobe.com/tiff/1.0/";
    // `xmlns:PREFIX="NAMESPACE"`; nearly always the prefix is `tiff`.
    let declared = find(packet, NAMESPACE).and_then(|at| {
        let before = packet[..at].strip_suffix(b"\"").or(packet[..at].strip_suffix(b"'"))?.trim_ascii_end();
        let before = before.strip_suffix(b"=")?.trim_ascii_end();
        let colon = before.iter().rposition(|&b| b == b':')?;
        before[..colon].ends_with(b"xmlns").then(|| &before[colon + 1..])
    });
    let name = [declared.unwrap_or(b"tiff"), b":Orientation"].concat();
    let mut rest = packet;
    while let Some(at) = find(rest, &name) {
        let before = rest[..at].last();
        rest = &rest[at + name.len()..];
        let text = rest.trim_ascii_start();
        let value = match text.first()? {
            b'=' if before.is_none_or(u8::is_ascii_whitespace) => text[1..]
                .trim_ascii_start()
                .strip_prefix(b"\"")
                .or(text[1..].trim_ascii_start().strip_prefix(b"'")),
            b'>' if before == Some(&b'<') => Some(&text[1..]),
            _ => None,
        };
        // One digit and then no other.
        if let Some([digit @ b'1'..=b'8', next, ..]) = value.map(<[u8]>::trim_ascii_start)
            && !next.is_ascii_alphanumeric()
        {
            return Some(digit - b'0');
        }
    }
    None
}

fn find(text: &[u8], word: &[u8]) -> Option<usize> {
    text.windows(word.len()).position(|window| window == word)
}

#[cfg(test)]
mod tests {
    use super::{Notes, from_exif, from_xmp};
    use image::metadata::Orientation;

    #[test]
    fn xmp_is_understood_in_its_forms() {
        let with = |text: &str| {
            from_xmp(format!("<x xmlns:tiff=\"http://ns.adobe.com/tiff/1.0/\" {text}").as_bytes())
        };
        assert_eq!(with("tiff:Orientation=\"6\"/>"), Some(6));
        assert_eq!(with("tiff:Orientation = '8'/>"), Some(8));
        assert_eq!(with("><tiff:Orientation>3</tiff:Orientation>"), Some(3));
        assert_eq!(with("><tiff:Orientation>\n 3 \n</tiff:Orientation>"), Some(3));
        assert_eq!(with("tiff:Orientation=\"0\"/>"), None);
        assert_eq!(with("tiff:Orientation=\"9\"/>"), None);
        assert_eq!(with("tiff:Orientation=\"66\"/>"), None);
        assert_eq!(with("tiff:OrientationX=\"6\"/>"), None);
        assert_eq!(with("y:tiff:Orientation=\"6\"/>"), None);
        assert_eq!(with("tiff:Orientation"), None);
        assert_eq!(with("tiff:Orientation="), None);
        assert_eq!(with("tiff:Orientation=\"6"), None);
        let other = b"<x xmlns:t = 'http://ns.adobe.com/tiff/1.0/' t:Orientation='5'/>";
        assert_eq!(from_xmp(other), Some(5));
        assert_eq!(from_xmp(b""), None);
    }

    #[test]
    fn exif_goes_before_xmp_and_the_first_word_counts() {
        let mut notes = Notes::default();
        notes.xmp(b" tiff:Orientation=\"3\" ");
        assert_eq!(notes.orientation(), Orientation::Rotate180);
        notes.exif(b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0");
        notes.exif(b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x03\0\0\0");
        assert_eq!(notes.orientation(), Orientation::Rotate90);
    }

    #[test]
    fn what_is_cut_or_damaged_says_nothing() {
        let block = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
        assert_eq!(from_exif(block), Some(6));
        for length in 0..block.len() {
            // The entry has 22 bytes; the link to the next directory is of no interest.
            assert_eq!(from_exif(&block[..length]), (length >= 22).then_some(6), "{length}");
        }
        for (at, value) in [(4, 0xff), (8, 0xff), (12, 0xff), (13, 12), (14, 0xff)] {
            let mut damaged = block.to_vec();
            damaged[at] = value;
            let _ = from_exif(&damaged);
        }
    }
}
