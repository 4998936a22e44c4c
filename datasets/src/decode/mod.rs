//! The one decoder: bytes of an image file in, upright pixels out.
//!
//! The format is told by the first bytes, never by the name. EXIF and XMP orientation is applied, palettes are
//! expanded, alpha is composited on white, CMYK becomes RGB, gray stays one channel, 16 bits stay 16 bits, of an
//! animation the first frame counts. Limits are checked against the header before pixels are allocated. A variant that
//! would be decoded wrongly is refused by its name.
//!
//! One file a format; each has a `decode` and a `header` that agree on size, channels and orientation. The crates that
//! do the decoding are named in [`library`], `jpeg/second.rs` and `tiff/chunks.rs` alone.

mod bmp;
mod decoded;
mod ifd;
mod jpeg;
mod library;
mod orientation;
mod pixels;
mod png;
mod sniff;
mod tiff;
mod webp;

use crate::error::DecodeError;
use image::metadata::Orientation;
use std::panic::{AssertUnwindSafe, catch_unwind};

pub use decoded::{DecodeLimits, Image, ImageHeader, Pixels};
use decoded::{Decoded, Header};
pub use sniff::{FileFormat, file_format};
pub(crate) use sniff::{Format, SNIFF_BYTES, Sniffed, sniff};

/// Decodes one image file.
///
/// # Errors
/// [`DecodeError`] for anything that is not a whole, supported image within the limits. Floating-point images are
/// taken as 16-bit when all values lie in 0..=1 and refused otherwise.
pub fn decode(bytes: &[u8], limits: &DecodeLimits) -> Result<Image, DecodeError> {
    guarded(bytes, limits, |format| {
        let Decoded { mut image, orientation } = match format {
            Format::Jpeg => jpeg::decode(bytes, limits)?,
            Format::Png => png::decode(bytes, limits)?,
            Format::WebP => webp::decode(bytes, limits)?,
            Format::Tiff => tiff::decode(bytes, limits)?,
            Format::Bmp => bmp::decode(bytes, limits)?,
            Format::Gif => Decoded {
                image: library::decode(bytes, format, limits)?,
                orientation: Orientation::NoTransforms,
            },
        };
        image.apply_orientation(orientation);
        pixels::plain(image, format.name())
    })
}

/// Decodes one image file to so many channels: with 1 or 3 as [`decode`] does, which gives gray or RGB; with another
/// number all samples of a TIFF file of gray or RGB samples and others beside them, none of them taken for alpha.
///
/// # Errors
/// As [`decode`], and [`DecodeError::Channels`] for an image with another number of samples.
pub fn decode_channels(bytes: &[u8], limits: &DecodeLimits, channels: u8) -> Result<Image, DecodeError> {
    if matches!(channels, 1 | 3) {
        return decode(bytes, limits);
    }
    guarded(bytes, limits, |format| match format {
        Format::Tiff => tiff::decode_samples(bytes, limits, channels),
        _ => {
            let header = probe(bytes, limits)?;
            Err(DecodeError::Channels { found: header.channels.into(), wanted: channels })
        }
    })
}

/// Reads size and channels from the header alone, under the same limits as [`decode`].
///
/// # Errors
/// As [`decode`], as far as the header shows them.
pub fn probe(bytes: &[u8], limits: &DecodeLimits) -> Result<ImageHeader, DecodeError> {
    guarded(bytes, limits, |format| {
        let Header { width, height, channels, orientation } = match format {
            Format::Jpeg => jpeg::header(bytes, limits)?,
            Format::Png => png::header(bytes, limits)?,
            Format::WebP => webp::header(bytes, limits)?,
            Format::Tiff => tiff::header(bytes, limits)?,
            Format::Bmp => bmp::header(bytes, limits)?,
            Format::Gif => library::header(bytes, format, limits)?,
        };
        let (width, height) =
            if orientation::is_sideways(orientation) { (height, width) } else { (width, height) };
        let turned = orientation != Orientation::NoTransforms;
        Ok(ImageHeader { width, height, channels, turned })
    })
}

/// Runs `work` on the recognised format. The decoders are other people's code fed with hostile bytes; should one
/// panic, that is a damaged file to us and must not end a training run or a server.
fn guarded<T>(
    bytes: &[u8],
    limits: &DecodeLimits,
    work: impl FnOnce(Format) -> Result<T, DecodeError>,
) -> Result<T, DecodeError> {
    if bytes.is_empty() {
        return Err(DecodeError::Empty);
    }
    match sniff(&bytes[..bytes.len().min(SNIFF_BYTES)]) {
        Sniffed::Image(_) if bytes.len() as u64 > limits.max_bytes => {
            Err(DecodeError::TooManyBytes { limit: limits.max_bytes })
        }
        Sniffed::Image(format) => catch_unwind(AssertUnwindSafe(|| work(format)))
            .unwrap_or(Err(DecodeError::Corrupt { format: format.name() })),
        Sniffed::Undecoded(format) => Err(DecodeError::Undecoded { format }),
        Sniffed::Other(looks_like) => Err(DecodeError::NotAnImage { looks_like }),
    }
}
