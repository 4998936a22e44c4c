//! WebP (RFC 9649): whether the file is all there, and its EXIF and XMP chunks.

use super::decoded::{DecodeLimits, Decoded, Header};
use super::library;
use super::orientation::Notes;
use super::sniff::Format;
use crate::error::DecodeError;

/// `RIFF`, the length, `WEBP`.
const HEAD_BYTES: usize = 12;

pub(super) fn decode(bytes: &[u8], limits: &DecodeLimits) -> Result<Decoded, DecodeError> {
    // RIFF states its length behind the first 8 bytes; some writers leave out the final padding byte.
    let declared = bytes.get(4..8).map_or(0, |n| u64::from(little_endian(n)));
    if (bytes.len() as u64 + 1) < declared + 8 {
        return Err(DecodeError::Truncated { format: Format::WebP.name() });
    }
    let image = library::decode(bytes, Format::WebP, limits)?;
    Ok(Decoded { image, orientation: notes(bytes).orientation() })
}

pub(super) fn header(bytes: &[u8], limits: &DecodeLimits) -> Result<Header, DecodeError> {
    let header = library::header(bytes, Format::WebP, limits)?;
    Ok(Header { orientation: notes(bytes).orientation(), ..header })
}

/// Notes count wherever their chunks stand: writers forget the flag in VP8X that announces them.
fn notes(bytes: &[u8]) -> Notes {
    let mut notes = Notes::default();
    let mut at = HEAD_BYTES;
    while let Some((kind, length)) = bytes.get(at..at + 8).map(|head| head.split_at(4)) {
        let length = little_endian(length) as usize;
        // A last byte that is missing is not missed.
        let rest = &bytes[at + 8..];
        let data = &rest[..length.min(rest.len())];
        match kind {
            b"EXIF" => notes.exif(data),
            b"XMP " => notes.xmp(data),
            _ => {}
        }
        at += 8 + length.next_multiple_of(2);
    }
    notes
}

fn little_endian(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes.try_into().expect("the callers take 4 bytes"))
}
