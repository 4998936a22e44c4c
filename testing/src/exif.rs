//! EXIF blocks and XMP packets that say how a picture is to be turned, and the files that carry them.

use crate::jpeg::with_segment;

/// TIFF's types of whole numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the names are TIFF's")]
pub enum Kind {
    Byte = 1,
    Short = 3,
    Long = 4,
    SignedByte = 6,
    SignedShort = 8,
    SignedLong = 9,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Byte, Self::Short, Self::Long, Self::SignedByte, Self::SignedShort, Self::SignedLong];
}

/// A TIFF structure whose first directory has an orientation (TIFF 6.0, section 2; EXIF 2.3, 4.6.4).
pub fn block(orientation: u32, kind: Kind, big_endian: bool) -> Vec<u8> {
    block_at(8, orientation, kind, big_endian)
}

/// The same with the directory at an offset of at least 8, behind zeros.
pub fn block_at(offset: u32, orientation: u32, kind: Kind, big_endian: bool) -> Vec<u8> {
    let short = |v: u16| if big_endian { v.to_be_bytes() } else { v.to_le_bytes() };
    let long = |v: u32| if big_endian { v.to_be_bytes() } else { v.to_le_bytes() };
    let mut out = if big_endian { b"MM\0*".to_vec() } else { b"II*\0".to_vec() };
    out.extend(long(offset));
    out.resize(offset as usize, 0);
    // A tag in front of the orientation, and one behind.
    out.extend(short(3));
    let entry =
        |tag: u16, kind: u16, value: [u8; 4]| [&short(tag), &short(kind), &long(1)[..], &value].concat();
    let value = match kind {
        Kind::Byte | Kind::SignedByte => [orientation as u8, 0, 0, 0],
        Kind::Short | Kind::SignedShort => [short(orientation as u16), [0; 2]].concat().try_into().unwrap(),
        Kind::Long | Kind::SignedLong => long(orientation),
    };
    out.extend(entry(256, 4, long(77)));
    out.extend(entry(274, kind as u16, value));
    out.extend(entry(296, 3, [short(2), [0; 2]].concat().try_into().unwrap()));
    out.extend(long(0));
    out
}

/// An XMP packet with the orientation as an attribute or as an element (XMP part 1, 7.9.2).
pub fn xmp(orientation: u32, as_element: bool) -> Vec<u8> {
    let (attribute, element) = if as_element {
        (String::new(), format!("<tiff:Orientation>{orientation}</tiff:Orientation>"))
    } else {
        (format!(" tiff:Orientation=\"{orientation}\""), String::new())
    };
    format!(
        "<?xpacket begin=\"\" id=\"W5M0MpCehiHzreSzNTczkc9d\"?><x:xmpmeta xmlns:x=\"adobe:ns:meta/\"><rdf:RDF \
         xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\"><rdf:Description rdf:about=\"\" \
         xmlns:tiff=\"http://ns.adobe.com/tiff/1.0/\"{attribute}>{element}</rdf:Description></rdf:RDF></x:xmpmeta>\
         <?xpacket end=\"w\"?>"
    )
    .into_bytes()
}

/// A JPEG with an EXIF segment.
pub fn jpeg_with_exif(jpeg: &[u8], block: &[u8]) -> Vec<u8> {
    with_segment(jpeg, 0xe1, &[b"Exif\0\0".as_slice(), block].concat())
}

/// A JPEG with an XMP segment.
pub fn jpeg_with_xmp(jpeg: &[u8], packet: &[u8]) -> Vec<u8> {
    with_segment(jpeg, 0xe1, &[b"http://ns.adobe.com/xap/1.0/\0".as_slice(), packet].concat())
}
