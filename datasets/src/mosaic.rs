//! Many images in one picture, as the network sees them.

use crate::preprocess::Preprocessing;
use crate::thumbnail::png;

/// Most images of a mosaic: a square of eight.
const MOST: usize = 64;

/// Pixels between two images.
const GAP: usize = 2;

/// A PNG of the first 64 of some normalised images, as [`crate::ImageSet::fill_augmented_to`] writes them: `size` is their
/// width and height, `preprocessing` says how they were normalised. Of images with other channels than one or three, the
/// first is shown. `None` without images.
///
/// # Panics
/// When `images` is not a whole number of images.
pub fn mosaic(preprocessing: &Preprocessing, size: (u32, u32), images: &[f32]) -> Option<Vec<u8>> {
    let (width, height) = (size.0 as usize, size.1 as usize);
    let n = usize::from(preprocessing.channels);
    assert_eq!(images.len() % (width * height * n), 0, "images must hold whole images");
    let shown = (images.len() / (width * height * n)).min(MOST);
    if shown == 0 {
        return None;
    }
    let columns = (1..).find(|side| side * side >= shown).expect("64 images are a square of eight");
    let rows = shown.div_ceil(columns);
    let side = |count: usize, length: usize| count * (length + GAP) - GAP;
    let colours = if n == 3 { 3 } else { 1 };
    let line = side(columns, width) * colours;
    let mut values = vec![u8::MAX; side(rows, height) * line];
    for (i, image) in images.chunks_exact(width * height * n).take(shown).enumerate() {
        let (left, top) = ((i % columns) * (width + GAP) * colours, (i / columns) * (height + GAP));
        for (y, row) in image.chunks_exact(width * n).enumerate() {
            let out = &mut values[(top + y) * line + left..][..width * colours];
            for (out, pixel) in out.chunks_exact_mut(colours).zip(row.chunks_exact(n)) {
                for (c, out) in out.iter_mut().enumerate() {
                    let value = pixel[c] * preprocessing.std[c] + preprocessing.mean[c];
                    *out = (value * 255.0 + 0.5) as u8;
                }
            }
        }
    }
    Some(png(&values, ((line / colours) as u32, side(rows, height) as u32), colours == 3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::{DecodeLimits, Pixels, decode};
    use crate::preprocess::Fit;

    #[test]
    fn images_stand_in_rows_with_their_own_values() {
        for (count, columns, rows) in [(1, 1, 1), (2, 2, 1), (3, 2, 2), (10, 4, 3), (64, 8, 8), (70, 8, 8)] {
            for channels in [1u8, 3, 5] {
                let mut pre = Preprocessing::new(4, 3, channels, Fit::Stretch);
                pre.mean.fill(0.4);
                pre.std.fill(0.2);
                let level = |i: usize| ((i % 50) * 5) as u8;
                let images: Vec<f32> = (0..count * pre.len())
                    .map(|at| (f32::from(level(at / pre.len())) / 255.0 - 0.4) / 0.2)
                    .collect();
                let file = mosaic(&pre, (4, 3), &images).unwrap();
                let image = decode(&file, &DecodeLimits::default()).unwrap();
                assert_eq!((image.width, image.height), (columns * 6 - 2, rows * 5 - 2));
                let n = usize::from(image.channels);
                let Pixels::U8(values) = image.pixels else { panic!("8 bits") };
                for i in 0..count.min(64) {
                    let (x, y) = (i % columns as usize * 6, i / columns as usize * 5);
                    assert_eq!(values[(y * image.width as usize + x) * n], level(i), "{count} {i}");
                }
            }
        }
        assert_eq!(mosaic(&Preprocessing::new(4, 3, 1, Fit::Stretch), (4, 3), &[]), None);
    }
}
