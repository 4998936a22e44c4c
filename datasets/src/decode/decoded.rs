//! What decoders take and give: pixels, headers, limits.

use super::sniff::Format;
use crate::error::DecodeError;
use image::DynamicImage;
use image::metadata::Orientation;

/// One decoded image: `height * width * channels` values, interleaved, row by row from the top left.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Image {
    /// Width in pixels, after rotation to upright.
    pub width: u32,
    /// Height in pixels, after rotation to upright.
    pub height: u32,
    /// 1 (gray) or 3 (RGB); others only from [`crate::decode_channels`].
    pub channels: u8,
    /// The values.
    pub pixels: Pixels,
}

/// Pixel values in the depth of the file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Pixels {
    /// 0..=255.
    U8(Vec<u8>),
    /// 0..=65535.
    U16(Vec<u16>),
}

impl Pixels {
    /// How many values there are.
    pub fn len(&self) -> usize {
        match self {
            Self::U8(values) => values.len(),
            Self::U16(values) => values.len(),
        }
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What an image may cost before it is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DecodeLimits {
    /// Width times height.
    pub max_pixels: u64,
    /// Width or height alone.
    pub max_side: u32,
    /// Size of the encoded file in bytes.
    pub max_bytes: u64,
}

impl Default for DecodeLimits {
    /// 64 megapixels (above any phone's normal mode), 32,768 pixels a side, 256 MiB encoded.
    fn default() -> Self {
        Self { max_pixels: 64_000_000, max_side: 32_768, max_bytes: 256 << 20 }
    }
}

/// What the header of an image file says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ImageHeader {
    /// Width in pixels, upright.
    pub width: u32,
    /// Height in pixels, upright.
    pub height: u32,
    /// 1 (gray) or 3 (RGB): what [`crate::decode`] would give.
    pub channels: u8,
    /// Whether EXIF or XMP say that the stored pixels are to be turned or mirrored, which width and height have in them.
    pub turned: bool,
}

/// Pixels as they are stored, and how they are to be turned.
pub(super) struct Decoded {
    pub(super) image: DynamicImage,
    pub(super) orientation: Orientation,
}

/// What a header says of the pixels as they are stored.
pub(super) struct Header {
    pub(super) width: u32,
    pub(super) height: u32,
    /// 1 or 3.
    pub(super) channels: u8,
    pub(super) orientation: Orientation,
}

/// Refuses sizes that are none, or beyond the limits.
pub(super) fn check_size(
    width: u32,
    height: u32,
    format: Format,
    limits: &DecodeLimits,
) -> Result<(), DecodeError> {
    if width == 0 || height == 0 {
        return Err(DecodeError::Corrupt { format: format.name() });
    }
    if width.max(height) > limits.max_side || u64::from(width) * u64::from(height) > limits.max_pixels {
        let DecodeLimits { max_pixels, max_side, .. } = *limits;
        return Err(DecodeError::TooLarge { width, height, max_pixels, max_side });
    }
    Ok(())
}

/// What decoding may allocate: four 32-bit floats a pixel is the widest there is; the rest is for tables, a row buffer
/// and small images.
pub(super) fn memory_limit(limits: &DecodeLimits) -> u64 {
    limits.max_pixels.saturating_mul(16).saturating_add(64 << 20)
}
