//! Formats as the `image` crate decodes them.

use super::decoded::{DecodeLimits, Header, check_size, memory_limit};
use super::sniff::Format;
use crate::error::DecodeError;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader};
use std::io::Cursor;

/// All pixels, as they are stored.
pub(super) fn decode(
    bytes: &[u8],
    format: Format,
    limits: &DecodeLimits,
) -> Result<DynamicImage, DecodeError> {
    let decoder = open(bytes, format, limits)?;
    DynamicImage::from_decoder(decoder).map_err(|e| translate(&e, format))
}

/// Size and channels by the header.
pub(super) fn header(bytes: &[u8], format: Format, limits: &DecodeLimits) -> Result<Header, DecodeError> {
    let decoder = open(bytes, format, limits)?;
    let (width, height) = decoder.dimensions();
    let channels = if decoder.color_type().has_color() { 3 } else { 1 };
    Ok(Header { width, height, channels, orientation: Orientation::NoTransforms })
}

/// A decoder that has read the header and stays within the limits.
fn open<'a>(
    bytes: &'a [u8],
    format: Format,
    limits: &DecodeLimits,
) -> Result<impl ImageDecoder + 'a, DecodeError> {
    let format_there = match format {
        Format::Jpeg => ImageFormat::Jpeg,
        Format::Png => ImageFormat::Png,
        Format::WebP => ImageFormat::WebP,
        Format::Gif => ImageFormat::Gif,
        Format::Tiff => ImageFormat::Tiff,
        Format::Bmp => ImageFormat::Bmp,
    };
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format_there);
    let mut memory = image::Limits::no_limits();
    memory.max_alloc = Some(memory_limit(limits));
    reader.limits(memory);
    let decoder = reader.into_decoder().map_err(|e| translate(&e, format))?;
    let (width, height) = decoder.dimensions();
    check_size(width, height, format, limits)?;
    Ok(decoder)
}

fn translate(error: &ImageError, format: Format) -> DecodeError {
    let format = format.name();
    match error {
        ImageError::Unsupported(_) => {
            DecodeError::Unsupported { format, variant: "of this colour type or compression".into() }
        }
        ImageError::Limits(_) => DecodeError::Memory { format },
        ImageError::IoError(_) => DecodeError::Truncated { format },
        _ if ends_early(error) => DecodeError::Truncated { format },
        _ => DecodeError::Corrupt { format },
    }
}

/// True when an end-of-file error lies at the root of a decoder's error.
fn ends_early(error: &ImageError) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(e) = cause {
        if e.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::UnexpectedEof) {
            return true;
        }
        cause = e.source();
    }
    false
}
