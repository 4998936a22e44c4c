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
mod ifd;
mod jpeg;
mod library;
mod orientation;
mod pixels;
mod png;
mod sniff;
mod tiff;
mod webp;

use crate::DecodeError;
use image::DynamicImage;
use image::metadata::Orientation;
use std::panic::{AssertUnwindSafe, catch_unwind};

pub use sniff::{FileFormat, file_format};
pub(crate) use sniff::{Format, SNIFF_BYTES, Sniffed, sniff};

/// One decoded image: `height * width * channels` values, interleaved, row by row from the top left.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Image {
    /// Width in pixels, after rotation to upright.
    pub width: u32,
    /// Height in pixels, after rotation to upright.
    pub height: u32,
    /// 1 (gray) or 3 (RGB).
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
    /// 1 (gray) or 3 (RGB): what [`decode`] would give.
    pub channels: u8,
}

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
        Ok(ImageHeader { width, height, channels })
    })
}

/// Pixels as they are stored, and how they are to be turned.
struct Decoded {
    image: DynamicImage,
    orientation: Orientation,
}

/// What a header says of the pixels as they are stored.
struct Header {
    width: u32,
    height: u32,
    /// 1 or 3.
    channels: u8,
    orientation: Orientation,
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

/// Refuses sizes that are none, or beyond the limits.
fn check_size(width: u32, height: u32, format: Format, limits: &DecodeLimits) -> Result<(), DecodeError> {
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
fn memory_limit(limits: &DecodeLimits) -> u64 {
    limits.max_pixels.saturating_mul(16).saturating_add(64 << 20)
}
