//! What a file is, by its first bytes.

/// A format that is decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Format {
    Jpeg,
    Png,
    WebP,
    Gif,
    Tiff,
    Bmp,
}

impl Format {
    /// Its name for messages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::WebP => "WebP",
            Self::Gif => "GIF",
            Self::Tiff => "TIFF",
            Self::Bmp => "BMP",
        }
    }
}

/// The format of an image file, for its name and for the web.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileFormat {
    /// Its name, e.g. `JPEG`.
    pub name: &'static str,
    /// Usual extension, without a dot, e.g. `jpg`.
    pub extension: &'static str,
    /// Media type (RFC 2046), e.g. `image/jpeg`.
    pub media_type: &'static str,
}

/// The format of a file by its first bytes, or `None` for one that [`decode`](super::decode) does not know.
pub fn file_format(bytes: &[u8]) -> Option<FileFormat> {
    let Sniffed::Image(format) = sniff(&bytes[..bytes.len().min(SNIFF_BYTES)]) else { return None };
    let (extension, media_type) = match format {
        Format::Jpeg => ("jpg", "image/jpeg"),
        Format::Png => ("png", "image/png"),
        Format::WebP => ("webp", "image/webp"),
        Format::Gif => ("gif", "image/gif"),
        Format::Tiff => ("tif", "image/tiff"),
        Format::Bmp => ("bmp", "image/bmp"),
    };
    Some(FileFormat { name: format.name(), extension, media_type })
}

/// How many bytes [`sniff`] wants to see: the brands of an ISO media file stand behind its first 16.
pub(crate) const SNIFF_BYTES: usize = 48;

/// What the first bytes say a file is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sniffed {
    /// One of the formats we decode.
    Image(Format),
    /// An image format we only recognise.
    Undecoded(&'static str),
    /// Something else.
    Other(&'static str),
}

/// Tells a file's kind from its first [`SNIFF_BYTES`] bytes (fewer if it is shorter).
pub(crate) fn sniff(head: &[u8]) -> Sniffed {
    match head {
        [0xff, 0xd8, 0xff, ..] => Sniffed::Image(Format::Jpeg),
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Sniffed::Image(Format::Png),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Sniffed::Image(Format::WebP),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Sniffed::Image(Format::Gif),
        // Canon's second raw format is a TIFF with a mark of its own.
        [b'I', b'I', 42, 0, _, _, _, _, b'C', b'R', 2, ..] => Sniffed::Undecoded(RAW),
        [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => Sniffed::Image(Format::Tiff),
        [b'B', b'M', ..] => Sniffed::Image(Format::Bmp),
        [_, _, _, _, b'f', b't', b'y', b'p', brands @ ..] => iso_media(brands),
        [0xff, 0x0a, ..] | [0, 0, 0, 12, b'J', b'X', b'L', b' ', ..] => Sniffed::Undecoded("JPEG XL"),
        [0, 0, 0, 12, b'j', b'P', b' ' | 0x1a, b' ' | 0x1a, ..] | [0xff, 0x4f, 0xff, 0x51, ..] => {
            Sniffed::Undecoded("JPEG 2000")
        }
        [b'I', b'I', 0xbc, ..] => Sniffed::Undecoded("JPEG XR"),
        // Fujifilm, Olympus, Panasonic, Canon's first, Minolta, Sigma.
        [b'F', b'U', b'J', b'I', b'F', b'I', b'L', b'M', ..]
        | [b'I', b'I', b'R', b'O' | b'S', ..]
        | [b'M', b'M', b'O', b'R', ..]
        | [b'I', b'I', b'U', 0, ..]
        | [b'I', b'I', 0x1a, 0, 0, 0, b'H', b'E', b'A', b'P', ..]
        | [0, b'M', b'R', b'M', ..]
        | [b'F', b'O', b'V', b'b', ..] => Sniffed::Undecoded(RAW),
        [0, 0, 1, 0, ..] => Sniffed::Undecoded("ICO"),
        [b'8', b'B', b'P', b'S', ..] => Sniffed::Undecoded("Photoshop"),
        [b'g', b'i', b'm', b'p', b' ', b'x', b'c', b'f', ..] => Sniffed::Undecoded("GIMP (XCF)"),
        [b'P', b'1'..=b'7' | b'F' | b'f', b'\n' | b'\r' | b' ' | b'\t', ..] => Sniffed::Undecoded("PNM"),
        [b'q', b'o', b'i', b'f', ..] => Sniffed::Undecoded("QOI"),
        [b'D', b'D', b'S', b' ', ..] => Sniffed::Undecoded("DDS"),
        [0x76, 0x2f, 0x31, 0x01, ..] => Sniffed::Undecoded("OpenEXR"),
        [b'#', b'?', b'R', b'A', b'D', b'I', b'A', b'N', b'C', b'E', ..] => {
            Sniffed::Undecoded("Radiance HDR")
        }
        [b'S', b'I', b'M', b'P', b'L', b'E', b' ', ..] => Sniffed::Undecoded("FITS"),
        [b'%', b'P', b'D', b'F', ..] => Sniffed::Other("a PDF"),
        [b'P', b'K', 3 | 5, 4 | 6, ..] => Sniffed::Other("a ZIP archive"),
        [b'<', ..] | [0xef, 0xbb, 0xbf, b'<', ..] => Sniffed::Other("SVG, HTML or other markup"),
        _ if is_text(head) => Sniffed::Other("it looks like text"),
        _ => Sniffed::Other("unknown format"),
    }
}

/// The name of raw camera formats.
pub(super) const RAW: &str = "raw camera";

/// UTF-8 without control characters, of which the last character may be cut.
fn is_text(head: &[u8]) -> bool {
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(e) if e.error_len().is_none() => {
            std::str::from_utf8(&head[..e.valid_up_to()]).expect("it is valid up to there")
        }
        Err(_) => return false,
    };
    !text.is_empty() && text.chars().all(|c| !c.is_control() || c.is_ascii_whitespace())
}

/// A file of boxes (ISO 14496-12) by its brands: the major one, its version, the compatible ones.
fn iso_media(brands: &[u8]) -> Sniffed {
    let is = |brand: &[u8]| match brand {
        b"avif" | b"avis" => Some("AVIF"),
        [b'h', b'e', b'i' | b'v', _] => Some("HEIC"),
        b"crx " => Some(RAW),
        b"jxl " => Some("JPEG XL"),
        b"jp2 " | b"jpx " => Some("JPEG 2000"),
        _ => None,
    };
    let mut brands = brands.chunks_exact(4);
    let major = brands.next().unwrap_or_default();
    match is(major) {
        Some(format) => Sniffed::Undecoded(format),
        // The brands of the container say nothing of the coding; the compatible ones do.
        None if matches!(major, b"mif1" | b"msf1" | b"miaf") => {
            Sniffed::Undecoded(brands.skip(1).find_map(is).unwrap_or("HEIC"))
        }
        None => Sniffed::Other("a video"),
    }
}

#[cfg(test)]
mod tests {
    use super::{Sniffed, sniff};

    #[test]
    fn formats_that_are_not_decoded_have_their_names() {
        let cases: [(&[u8], &str); 15] = [
            (b"\0\0\0\x20ftypmif1\0\0\0\0mif1avifmiaf", "AVIF"),
            (b"\0\0\0\x20ftypmif1\0\0\0\0mif1heic", "HEIC"),
            (b"\0\0\0\x18ftypmif1\0\0\0\0", "HEIC"),
            (b"\0\0\0\x18ftypheix\0\0\0\0", "HEIC"),
            (b"\0\0\0\x18ftypavis\0\0\0\0", "AVIF"),
            (b"\0\0\0\x18ftypcrx \0\0\0\x01", "raw camera"),
            (b"II*\0\x10\0\0\0CR\x02\0", "raw camera"),
            (b"FUJIFILMCCD-RAW 0201", "raw camera"),
            (b"IIRO\x08\0\0\0", "raw camera"),
            (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
            (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
            (b"8BPS\0\x01", "Photoshop"),
            (b"P6\n8 8\n255\n", "PNM"),
            (b"qoif\0\0\0\x01", "QOI"),
            (b"\0\0\x01\0\x01\0", "ICO"),
        ];
        for (bytes, name) in cases {
            assert_eq!(sniff(bytes), Sniffed::Undecoded(name), "{}", bytes.escape_ascii());
        }
        assert_eq!(sniff("Rot ist schön, Grün ist schöner".as_bytes()), Sniffed::Other("it looks like text"));
    }
}
