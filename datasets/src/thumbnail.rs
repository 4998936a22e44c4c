//! Small pictures for lists, made from the pixels that training sees.

use crate::decode::{Image, Pixels};
use crate::error::DecodeError;
use crate::preprocess::{Fit, Prepare, Preprocessing};
use image::{ExtendedColorType, ImageEncoder};

/// Largest side of a thumbnail in pixels.
pub const MAX_THUMBNAIL_SIDE: u32 = 1024;

/// A PNG of a decoded image, scaled to fit a square of `side` pixels and never enlarged. 16 bits become 8.
///
/// # Errors
/// [`DecodeError::BadPreprocessing`] for a side that is not in `1..=`[`MAX_THUMBNAIL_SIDE`], [`DecodeError::BadShape`]
/// when the image contradicts itself.
pub fn thumbnail(image: &Image, side: u32) -> Result<Vec<u8>, DecodeError> {
    if !(1..=MAX_THUMBNAIL_SIDE).contains(&side) {
        let what = format!("a thumbnail of {side} pixels a side; sides go from 1 to {MAX_THUMBNAIL_SIDE}");
        return Err(DecodeError::BadPreprocessing { what });
    }
    let longest = u64::from(image.width.max(image.height)).max(1);
    let scaled = |length: u32| match u64::from(side) {
        side if longest <= side => length,
        side => ((u64::from(length) * side + longest / 2) / longest).max(1) as u32,
    };
    let (width, height) = (scaled(image.width), scaled(image.height));
    let pixels = Preprocessing::new(width, height, image.channels, Fit::Stretch).resize(image)?.pixels;
    let values = match pixels {
        Pixels::U8(values) => values,
        Pixels::U16(values) => {
            values.iter().map(|&v| ((u32::from(v) * 255 + 32_767) / 65_535) as u8).collect()
        }
    };
    // Of other channels than one or three, the first is shown.
    match image.channels {
        1 | 3 => Ok(png(&values, (width, height), image.channels == 3)),
        channels => {
            let first: Vec<u8> = values.iter().step_by(channels.into()).copied().collect();
            Ok(png(&first, (width, height), false))
        }
    }
}

/// A PNG of 8-bit values, gray or RGB, `[height][width]` or `[height][width][3]`.
///
/// # Panics
/// When there are not as many values as size and colour say.
pub fn png(values: &[u8], (width, height): (u32, u32), rgb: bool) -> Vec<u8> {
    let colour = if rgb { ExtendedColorType::Rgb8 } else { ExtendedColorType::L8 };
    let mut png = Vec::new();
    image::codecs::png::PngEncoder::new(&mut png)
        .write_image(values, width, height, colour)
        .expect("the values have the length that size and colour say, and memory takes all of them");
    png
}
