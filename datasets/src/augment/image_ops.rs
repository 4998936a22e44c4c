//! The operations of `TrivialAugment` that need the whole image: as Pillow defines them.

use crate::resample::Sample;

/// Levels that equalizing tells apart.
const LEVELS: usize = 256;

/// One operation with its strength.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum ImageOp {
    /// Keep so many of the highest bits.
    Posterize(u32),
    /// Invert values from this part of white on.
    Solarize(f32),
    /// Stretch each channel from its darkest and lightest value to black and white.
    AutoContrast,
    /// Make the levels of each channel equally frequent; 16-bit values are put into 256 levels.
    Equalize,
    /// The distance from the smoothed image times this factor: 0 is smoothed, 1 the image, 2 sharpened.
    Sharpness(f32),
}

impl ImageOp {
    /// Changes an image of `n` channels and rows of `width` pixels.
    pub(crate) fn apply<T: Sample>(self, values: &mut [T], width: usize, n: usize) {
        let white = T::WHITE as u32;
        let bits = (white + 1).ilog2();
        match self {
            ImageOp::Posterize(kept) => change(values, |v| v >> (bits - kept) << (bits - kept)),
            ImageOp::Solarize(part) => {
                let threshold = (part * T::WHITE) as u32;
                change(values, |v| if v < threshold { v } else { white - v });
            }
            ImageOp::AutoContrast => (0..n).for_each(|c| auto_contrast(values, c, n)),
            ImageOp::Equalize => (0..n).for_each(|c| equalize(values, c, n)),
            ImageOp::Sharpness(factor) => sharpen(values, width, n, factor),
        }
    }
}

fn change<'a, T: Sample + 'a>(values: impl IntoIterator<Item = &'a mut T>, to: impl Fn(u32) -> u32) {
    values.into_iter().for_each(|v| *v = T::from_u32(to((*v).into())));
}

fn auto_contrast<T: Sample>(values: &mut [T], c: usize, n: usize) {
    let channel = values.iter().skip(c).step_by(n).map(|&v| Into::<u32>::into(v));
    let (low, high) = channel.fold((u32::MAX, 0), |(low, high), v| (low.min(v), high.max(v)));
    if low < high {
        let scale = f64::from(T::WHITE) / f64::from(high - low);
        let offset = -f64::from(low) * scale;
        change(values.iter_mut().skip(c).step_by(n), |v| (f64::from(v) * scale + offset).max(0.0) as u32);
    }
}

fn equalize<T: Sample>(values: &mut [T], c: usize, n: usize) {
    let white = T::WHITE as u32;
    let level = |v: u32| v as usize * LEVELS / (white as usize + 1);
    let mut counts = [0; LEVELS];
    values.iter().skip(c).step_by(n).for_each(|&v| counts[level(v.into())] += 1);
    let Some(&lightest) = counts.iter().rev().find(|&&count| count > 0) else { return };
    let step = (counts.iter().sum::<usize>() - lightest) / (LEVELS - 1);
    if step == 0 {
        return;
    }
    let mut darker = step / 2;
    let levels = counts.map(|count| {
        let to = (darker / step).min(LEVELS - 1) as u32;
        darker += count;
        to * (white / (LEVELS as u32 - 1))
    });
    change(values.iter_mut().skip(c).step_by(n), |v| levels[level(v)]);
}

/// Pixels at the edges have no smoothed value and stay.
fn sharpen<T: Sample>(values: &mut [T], width: usize, n: usize, factor: f32) {
    let before = values.to_vec();
    let (row, rows) = (width * n, values.len() / (width * n));
    if width < 3 {
        return;
    }
    for y in 1..rows.max(1) - 1 {
        for at in y * row + n..(y + 1) * row - n {
            let value = |at: usize| Into::<f32>::into(before[at]);
            let line = |at: usize| value(at - n) + value(at) + value(at + n);
            // Pillow's SMOOTH: ones around a five, rounded.
            let sum = line(at - row) + line(at) + line(at + row) + 4.0 * value(at);
            let smooth = (sum / 13.0 + 0.5).floor();
            let sharp = smooth + (value(at) - smooth) * factor;
            values[at] = T::from_u32(sharp.clamp(0.0, T::WHITE) as u32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: (usize, usize) = (24, 20);

    fn picture() -> Vec<u8> {
        (0..SIZE.0 * SIZE.1 * 3).map(|i| (40 + (i * 97 + i / 5 * 13) % 160) as u8).collect()
    }

    /// Depends on every value and its place.
    fn sum(values: &[u8]) -> u64 {
        values.iter().zip(1..).map(|(&v, i)| i * u64::from(v)).sum()
    }

    #[test]
    fn eight_bit_values_are_those_of_pillow() {
        // Pillow 13.0.0: ImageOps.posterize, solarize, autocontrast, equalize and ImageEnhance.Sharpness of this picture.
        let expected = [
            (ImageOp::Sharpness(1.0), 123_991_840),
            (ImageOp::Posterize(3), 108_021_952),
            (ImageOp::Solarize(0.5), 90_376_732),
            (ImageOp::AutoContrast, 131_786_759),
            (ImageOp::Equalize, 193_629_784),
            (ImageOp::Sharpness(1.6), 123_674_950),
            (ImageOp::Sharpness(0.25), 123_665_817),
        ];
        for (op, of_pillow) in expected {
            let mut values = picture();
            op.apply(&mut values, SIZE.0, 3);
            assert_eq!(sum(&values), of_pillow, "{op:?}");
        }
    }

    #[test]
    fn sixteen_bit_values_are_the_wider_eight_bit_ones() {
        let wide = |values: &[u8]| values.iter().map(|&v| u16::from(v) * 257).collect::<Vec<u16>>();
        for op in [ImageOp::Solarize(0.5), ImageOp::AutoContrast, ImageOp::Equalize] {
            let (mut narrow, mut values) = (picture(), wide(&picture()));
            op.apply(&mut narrow, SIZE.0, 3);
            op.apply(&mut values, SIZE.0, 3);
            let apart = values.iter().zip(wide(&narrow)).map(|(&a, b)| a.abs_diff(b)).max();
            // 8-bit results are cut to whole levels.
            assert!(apart <= Some(257), "{op:?}: {apart:?}");
        }
        let mut values = [0xffffu16, 0x1234];
        ImageOp::Posterize(4).apply(&mut values, 1, 1);
        assert_eq!(values, [0xf000, 0x1000]);
    }

    #[test]
    fn flat_and_tiny_images_stay() {
        for op in [ImageOp::AutoContrast, ImageOp::Equalize, ImageOp::Sharpness(1.9)] {
            for (width, height) in [(1, 1), (2, 2), (1, 9), (9, 1), (3, 3), (40, 40)] {
                for n in [1, 3, 5] {
                    let mut values = vec![77u8; width * height * n];
                    op.apply(&mut values, width, n);
                    assert!(values.iter().all(|&v| v == 77), "{op:?} {width}x{height}");
                }
            }
        }
    }
}
