//! Pictures to recognise again.

use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use ocelli_common::random::{STEP, mix};
use std::io::Cursor;

/// Colours of [`quad`].
pub const RED: [u8; 3] = [220, 20, 20];
/// See [`RED`].
pub const GREEN: [u8; 3] = [20, 200, 20];
/// See [`RED`].
pub const BLUE: [u8; 3] = [20, 20, 220];
/// See [`RED`].
pub const YELLOW: [u8; 3] = [220, 220, 20];

/// An image as a file in memory.
pub fn encode(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.into().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// A picture of 4 x 4 coloured blocks that no other seed has.
pub fn picture(seed: u32, width: u32, height: u32) -> RgbImage {
    // Mixed for each block: neighbouring seeds share nothing.
    let block = |number: u32| {
        let [r, g, b, ..] = mix((u64::from(seed) << 8 | u64::from(number)).wrapping_mul(STEP)).to_le_bytes();
        Rgb([r, g, b])
    };
    RgbImage::from_fn(width, height, |x, y| block(4 * (4 * y / height) + 4 * x / width))
}

/// Red, green, blue, yellow: top left, top right, bottom left, bottom right.
pub fn quad(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        Rgb(match (x < width / 2, y < height / 2) {
            (true, true) => RED,
            (false, true) => GREEN,
            (true, false) => BLUE,
            (false, false) => YELLOW,
        })
    })
}
