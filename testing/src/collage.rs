//! Pictures of several things, for data sets of images with several labels.

use image::{Rgb, RgbImage, imageops};

/// Where the four places of a collage may be taken, by a seed.
const ORDERS: [[u32; 4]; 6] =
    [[0, 1, 2, 3], [3, 0, 1, 2], [2, 3, 0, 1], [1, 2, 3, 0], [2, 0, 3, 1], [1, 3, 0, 2]];

/// Up to four pictures beside and below each other on gray, each scaled to half of `side` pixels; the seed says which lies
/// where.
///
/// # Panics
/// For more than four pictures.
pub fn collage(pictures: &[RgbImage], side: u32, seed: u32) -> RgbImage {
    assert!(pictures.len() <= 4, "a collage has four places");
    let mut whole = RgbImage::from_pixel(side, side, Rgb([128; 3]));
    let places = ORDERS[seed as usize % ORDERS.len()];
    let half = side / 2;
    for (picture, place) in pictures.iter().zip(places) {
        let small = imageops::resize(picture, half, half, imageops::FilterType::Triangle);
        imageops::replace(&mut whole, &small, i64::from(place % 2 * half), i64::from(place / 2 * half));
    }
    whole
}
