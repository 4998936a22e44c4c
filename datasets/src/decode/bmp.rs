//! BMP: headers that the library does not know, and alpha that nobody meant.
//!
//! An alpha of zero everywhere hides the whole picture. Writers that fill the fourth byte with zero while their header
//! calls it alpha mean an opaque picture, and viewers show one.

use super::decoded::{DecodeLimits, Decoded, Header, Pixels};
use super::library;
use super::pixels::with_values;
use super::sniff::Format;
use crate::error::DecodeError;
use image::DynamicImage;
use image::metadata::Orientation;
use std::borrow::Cow;

const FILE_HEADER_BYTES: usize = 14;
/// BITMAPINFOHEADER, which OS/2's second header begins with.
const INFO_BYTES: usize = 40;
/// Where the compression stands in the file, from BITMAPINFOHEADER on.
const COMPRESSION: usize = 30;
const BITFIELDS: u32 = 3;
/// Bit fields with a mask for alpha behind the header (Windows CE).
const ALPHA_BITFIELDS: u32 = 6;
/// BITMAPV3INFOHEADER: the masks, with alpha, belong to it.
const V3_BYTES: u32 = 56;

pub(super) fn decode(bytes: &[u8], limits: &DecodeLimits) -> Result<Decoded, DecodeError> {
    let image = match library::decode(&usual(bytes)?, Format::Bmp, limits)? {
        DynamicImage::ImageRgba8(b) if b.pixels().all(|p| p[3] == 0) => {
            let (width, height) = b.dimensions();
            let colours = b.into_raw().chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect();
            with_values(width, height, 3, Pixels::U8(colours)).expect("three values of each pixel's four")
        }
        image => image,
    };
    Ok(Decoded { image, orientation: Orientation::NoTransforms })
}

pub(super) fn header(bytes: &[u8], limits: &DecodeLimits) -> Result<Header, DecodeError> {
    library::header(&usual(bytes)?, Format::Bmp, limits)
}

/// The file with a header that the library knows.
fn usual(bytes: &[u8]) -> Result<Cow<'_, [u8]>, DecodeError> {
    let word = |at: usize| {
        let bytes = bytes.get(at..at + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().expect("the range has 4 bytes")))
    };
    let Some(size) = word(FILE_HEADER_BYTES) else { return Ok(bytes.into()) };
    let compression = if size >= 20 { word(COMPRESSION).unwrap_or(0) } else { 0 };
    let refuse = |variant: &'static str| {
        Err(DecodeError::Unsupported { format: Format::Bmp.name(), variant: variant.into() })
    };
    match (size, compression) {
        // OS/2's second header, which may stop after any of its fields.
        (16..40 | 64, 3) => refuse("with the Huffman compression of OS/2"),
        (16..40 | 64, 4) => refuse("with the 24-bit run lengths of OS/2"),
        (16..40 | 64, _) => Ok(with_info_header(bytes, size as usize).into()),
        (_, 4) => refuse("that holds a JPEG for a printer"),
        (_, 5) => refuse("that holds a PNG for a printer"),
        (_, 11..=13) => refuse("with CMYK colours"),
        (40, ALPHA_BITFIELDS) => {
            let mut mended = bytes.to_vec();
            mended[FILE_HEADER_BYTES..][..4].copy_from_slice(&V3_BYTES.to_le_bytes());
            mended[COMPRESSION..][..4].copy_from_slice(&BITFIELDS.to_le_bytes());
            Ok(mended.into())
        }
        _ => Ok(bytes.into()),
    }
}

/// The file with its header of `size` bytes filled up or cut to BITMAPINFOHEADER.
fn with_info_header(bytes: &[u8], size: usize) -> Vec<u8> {
    let (file_header, rest) = bytes.split_at(FILE_HEADER_BYTES);
    let (info, rest) = rest.split_at(size.min(rest.len()));
    let mut info = info[..info.len().min(INFO_BYTES)].to_vec();
    info.resize(INFO_BYTES, 0);
    info[..4].copy_from_slice(&(INFO_BYTES as u32).to_le_bytes());
    let mut mended = [file_header, &info, rest].concat();
    let start = u32::from_le_bytes(bytes[10..14].try_into().expect("the range has 4 bytes"));
    let moved = i64::from(start) + INFO_BYTES as i64 - size as i64;
    mended[10..14].copy_from_slice(&(moved.max(0) as u32).to_le_bytes());
    mended
}
