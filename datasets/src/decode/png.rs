//! PNG (ISO 15948): where its chunks say how to turn the picture, and files that lack their end.
//!
//! libpng and browsers show a picture whose pixels are all there and whose IEND chunk is not: a download that stopped
//! in its last bytes, a writer that forgot to finish. Such a file gets its end back. One that stops within its pixels
//! is refused.

use super::decoded::{DecodeLimits, Decoded, Header};
use super::library;
use super::orientation::Notes;
use super::sniff::Format;
use crate::error::DecodeError;
use flate2::read::ZlibDecoder;
use std::io::Read;

const SIGNATURE_BYTES: usize = 8;
/// Length and type in front of a chunk's data, checksum behind it.
const CHUNK_OVERHEAD: usize = 12;
/// An IEND chunk.
const END: [u8; CHUNK_OVERHEAD] = [0, 0, 0, 0, b'I', b'E', b'N', b'D', 0xae, 0x42, 0x60, 0x82];
/// The longest compressed text that is unpacked for its note of the orientation.
const MAX_TEXT: u64 = 1 << 20;

pub(super) fn decode(bytes: &[u8], limits: &DecodeLimits) -> Result<Decoded, DecodeError> {
    let chunks = walk(bytes);
    let image = match chunks.end {
        End::There => library::decode(bytes, Format::Png, limits)?,
        End::Missing { whole } => {
            let mended = [&bytes[..whole], &END].concat();
            library::decode(&mended, Format::Png, limits).map_err(|e| match e {
                DecodeError::Corrupt { format } => DecodeError::Truncated { format },
                e => e,
            })?
        }
        End::Cut => return Err(DecodeError::Truncated { format: Format::Png.name() }),
    };
    Ok(Decoded { image, orientation: chunks.notes.orientation() })
}

pub(super) fn header(bytes: &[u8], limits: &DecodeLimits) -> Result<Header, DecodeError> {
    let header = library::header(bytes, Format::Png, limits)?;
    Ok(Header { orientation: walk(bytes).notes.orientation(), ..header })
}

struct Chunks {
    notes: Notes,
    end: End,
}

enum End {
    /// There is an IEND.
    There,
    /// There is none, but pixels up to `whole`; whether they are enough, their decoder knows.
    Missing { whole: usize },
    /// The file stops within its pixels or before them.
    Cut,
}

/// Goes from chunk to chunk without looking at checksums: a wrong one of a chunk that matters is the decoder's to find.
fn walk(bytes: &[u8]) -> Chunks {
    let mut notes = Notes::default();
    let mut pixels = false;
    let mut at = SIGNATURE_BYTES;
    let end = loop {
        let missing = if pixels { End::Missing { whole: at } } else { End::Cut };
        let Some((length, kind)) = bytes.get(at..at + 8).map(|head| head.split_at(4)) else { break missing };
        // Padding instead of an end.
        if !kind.iter().all(u8::is_ascii_alphabetic) {
            break missing;
        }
        let length = u32::from_be_bytes(length.try_into().expect("the range has 4 bytes")) as usize;
        let Some(data) = bytes.get(at + 8..).and_then(|rest| rest.get(..length)) else {
            break if kind == b"IDAT" { End::Cut } else { missing };
        };
        match kind {
            b"IEND" => break End::There,
            b"IDAT" => pixels = true,
            b"eXIf" => notes.exif(data),
            b"tEXt" | b"zTXt" | b"iTXt" => take_text(kind, data, &mut notes),
            _ => {}
        }
        at += CHUNK_OVERHEAD + length;
        if at > bytes.len() {
            // The data is there and its checksum is not, so that nothing tells whether the data is good.
            break if kind == b"IDAT" { End::Cut } else { missing };
        }
    };
    Chunks { notes, end }
}

/// Texts that hold an EXIF block or an XMP packet: XMP has a keyword of its own, and ImageMagick writes profiles of
/// other formats as hexadecimal digits.
fn take_text(kind: &[u8], data: &[u8], notes: &mut Notes) {
    let Some((keyword, rest)) = split_at_zero(data) else { return };
    let is_xmp = keyword == b"XML:com.adobe.xmp";
    let profile = keyword.strip_prefix(b"Raw profile type ");
    if !is_xmp && !profile.is_some_and(|name| matches!(name, b"exif" | b"APP1" | b"xmp")) {
        return;
    }
    let unpacked = match (kind, rest) {
        (b"tEXt", text) => Some(text.to_vec()),
        (b"zTXt", [0, packed @ ..]) => inflate(packed),
        // Compression flag and method, language, translated keyword.
        (b"iTXt", [flag, _, rest @ ..]) => split_at_zero(rest)
            .and_then(|(_, rest)| split_at_zero(rest))
            .and_then(|(_, text)| if *flag == 1 { inflate(text) } else { Some(text.to_vec()) }),
        _ => None,
    };
    let Some(text) = unpacked else { return };
    if is_xmp {
        return notes.xmp(&text);
    }
    let Some(block) = from_hexadecimal(&text) else { return };
    match block.strip_prefix(b"http://ns.adobe.com/xap/1.0/\0") {
        Some(packet) => notes.xmp(packet),
        None if profile == Some(b"xmp") => notes.xmp(&block),
        None => notes.exif(&block),
    }
}

fn split_at_zero(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = data.iter().position(|&b| b == 0)?;
    Some((&data[..at], &data[at + 1..]))
}

fn inflate(packed: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    ZlibDecoder::new(packed).take(MAX_TEXT).read_to_end(&mut text).ok()?;
    Some(text)
}

/// `\nexif\n   28\n4d4d002a..`: a name, a length, digits in lines.
fn from_hexadecimal(text: &[u8]) -> Option<Vec<u8>> {
    let mut lines = text.trim_ascii_start().splitn(3, |&b| b == b'\n').skip(2);
    let digits: Vec<u8> =
        lines.next()?.iter().filter_map(|&b| char::from(b).to_digit(16)).map(|d| d as u8).collect();
    Some(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}
