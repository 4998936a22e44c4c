//! From decoded pixels to the two kinds that the product has: gray or RGB, 8 or 16 bits.

use super::decoded::{Image, Pixels};
use crate::error::DecodeError;
use image::{DynamicImage, ImageBuffer};

/// Gray or RGB without alpha, in the file's own depth.
pub(super) fn plain(image: DynamicImage, format: &'static str) -> Result<Image, DecodeError> {
    let (width, height) = (image.width(), image.height());
    let (channels, pixels) = match image {
        DynamicImage::ImageLuma8(b) => (1, Pixels::U8(b.into_raw())),
        DynamicImage::ImageRgb8(b) => (3, Pixels::U8(b.into_raw())),
        DynamicImage::ImageLuma16(b) => (1, Pixels::U16(b.into_raw())),
        DynamicImage::ImageRgb16(b) => (3, Pixels::U16(b.into_raw())),
        DynamicImage::ImageLumaA8(b) => (1, Pixels::U8(on_white::<u8, 2>(b.into_raw()))),
        DynamicImage::ImageRgba8(b) => (3, Pixels::U8(on_white::<u8, 4>(b.into_raw()))),
        DynamicImage::ImageLumaA16(b) => (1, Pixels::U16(on_white::<u16, 2>(b.into_raw()))),
        DynamicImage::ImageRgba16(b) => (3, Pixels::U16(on_white::<u16, 4>(b.into_raw()))),
        // No format but TIFF has floats, and those are scaled where they are read.
        _ => return Err(DecodeError::Corrupt { format }),
    };
    Ok(Image { width, height, channels, pixels })
}

/// Composites pixels of `N` values, alpha last, on white: `v a + max (1 - a)`, rounded. In place.
fn on_white<T: Value, const N: usize>(mut values: Vec<T>) -> Vec<T> {
    let mut kept = 0;
    for pixel in 0..values.len() / N {
        let alpha: u32 = values[pixel * N + N - 1].into();
        for c in 0..N - 1 {
            let value: u32 = values[pixel * N + c].into();
            // At most max * max + max / 2, which fits u32 for 16 bits too.
            let mixed = (value * alpha + T::MAX * (T::MAX - alpha) + T::MAX / 2) / T::MAX;
            values[kept] = T::from_u32(mixed);
            kept += 1;
        }
    }
    values.truncate(kept);
    values
}

/// Values of 8 or 16 bits.
pub(super) trait Value: Copy + Into<u32> {
    /// The value of white.
    const MAX: u32;
    /// The value, [`Self::MAX`] for what is above it.
    fn from_u32(value: u32) -> Self;
}
impl Value for u8 {
    const MAX: u32 = 255;
    fn from_u32(value: u32) -> Self {
        value.min(255) as u8
    }
}
impl Value for u16 {
    const MAX: u32 = 65_535;
    fn from_u32(value: u32) -> Self {
        value.min(65_535) as u16
    }
}

/// An image of these values, 1 or 3 a pixel; `None` when their count is another.
pub(super) fn with_values(width: u32, height: u32, channels: u8, values: Pixels) -> Option<DynamicImage> {
    use DynamicImage::{ImageLuma8, ImageLuma16, ImageRgb8, ImageRgb16};
    match (channels, values) {
        (1, Pixels::U8(values)) => ImageBuffer::from_raw(width, height, values).map(ImageLuma8),
        (1, Pixels::U16(values)) => ImageBuffer::from_raw(width, height, values).map(ImageLuma16),
        (_, Pixels::U8(values)) => ImageBuffer::from_raw(width, height, values).map(ImageRgb8),
        (_, Pixels::U16(values)) => ImageBuffer::from_raw(width, height, values).map(ImageRgb16),
    }
}
