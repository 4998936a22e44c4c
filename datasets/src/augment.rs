//! Random changes to training images that leave their class alone.
//!
//! Everything is drawn from one key, in one order, whatever is switched on: switching the flip off does not change
//! the shift. Beyond the edge the image is mirrored, as in the usual CIFAR recipe.

use crate::error::DatasetError;
use crate::preprocess::{Preprocessing, Sample};
use crate::rng::Rng;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// How much the images are changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AugmentLevel {
    /// Not at all.
    None,
    /// Mirrored left to right, shifted by up to 7 %.
    #[default]
    Light,
    /// Light, and zoomed, rotated by up to 10 degrees, brightness and contrast changed by up to 20 %.
    Medium,
}

impl fmt::Display for AugmentLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::None => "none",
            Self::Light => "light",
            Self::Medium => "medium",
        })
    }
}

impl FromStr for AugmentLevel {
    type Err = DatasetError;

    fn from_str(text: &str) -> Result<Self, DatasetError> {
        match text.to_ascii_lowercase().as_str() {
            "none" => Ok(Self::None),
            "light" => Ok(Self::Light),
            "medium" => Ok(Self::Medium),
            _ => Err(DatasetError::UnknownName {
                what: "augmentation",
                given: text.to_owned(),
                allowed: "none, light, medium",
            }),
        }
    }
}

/// The ranges that random changes are drawn from.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Augment {
    /// Mirror left to right with probability one half. Wrong for digits, letters and left-right signs.
    pub hflip: bool,
    /// Largest shift, as a fraction of the side; whole pixels unless something else resamples anyway.
    pub max_shift: f32,
    /// Smallest visible part of the area, 1 for no zoom.
    pub min_area: f32,
    /// Largest rotation in degrees, either way.
    pub max_degrees: f32,
    /// Largest change of brightness and of contrast, as a fraction.
    pub jitter: f32,
}

impl Augment {
    /// The ranges of a level.
    pub fn new(level: AugmentLevel) -> Self {
        let none = Self { hflip: false, max_shift: 0.0, min_area: 1.0, max_degrees: 0.0, jitter: 0.0 };
        // 7 % is 2 pixels of 28 or 32: objects in small images fill the frame, more shift cuts them.
        let light = Self { hflip: true, max_shift: 0.07, ..none };
        match level {
            AugmentLevel::None => none,
            AugmentLevel::Light => light,
            AugmentLevel::Medium => Self { min_area: 0.7, max_degrees: 10.0, jitter: 0.2, ..light },
        }
    }

    /// True when nothing is ever changed.
    pub fn is_none(&self) -> bool {
        *self == Self::new(AugmentLevel::None)
    }

    /// What happens to the image of one key.
    pub(crate) fn draw(&self, key: u64, width: u32, height: u32) -> Draw {
        let mut rng = Rng::new(key);
        let mut either_way = |range: f32| rng.range_f32(-range, range);
        let flip_draw = either_way(1.0);
        let shift = [either_way(self.max_shift) * width as f32, either_way(self.max_shift) * height as f32];
        let radians = either_way(self.max_degrees).to_radians();
        let [brightness, contrast] = [1.0 + either_way(self.jitter), 1.0 + either_way(self.jitter)];
        let side = (1.0 - (1.0 - self.min_area.clamp(0.01, 1.0)) * rng.unit_f32()).sqrt();
        // The visible part may lie anywhere inside the image.
        let mut room = |length: u32| rng.range_f32(-0.5, 0.5) * (1.0 - side) * length as f32;
        let offset = [shift[0] + room(width), shift[1] + room(height)];
        Draw { flip: self.hflip && flip_draw < 0.0, offset, side, radians, brightness, contrast }
    }
}

/// One drawn change.
pub(crate) struct Draw {
    flip: bool,
    /// Pixels that the visible part is moved by, x and y.
    offset: [f32; 2],
    /// Side of the visible part relative to the image's.
    side: f32,
    radians: f32,
    brightness: f32,
    contrast: f32,
}

impl Draw {
    fn moves_whole_pixels(&self) -> bool {
        self.side == 1.0 && self.radians == 0.0
    }

    fn keeps_values(&self) -> bool {
        self.brightness == 1.0 && self.contrast == 1.0
    }

    /// Writes the changed image, normalised by `normalize(value, channel)` where values stay integers.
    pub(crate) fn apply<T: Sample>(
        &self,
        pre: &Preprocessing,
        values: &[T],
        normalize: impl Fn(T, usize) -> f32,
        out: &mut [f32],
    ) {
        let whole = self.moves_whole_pixels() && self.keeps_values();
        match (pre.channels, whole) {
            (1, true) => self.shift::<T, 1>(pre, values, normalize, out),
            (1, false) => self.warp::<T, 1>(pre, values, out),
            (_, true) => self.shift::<T, 3>(pre, values, normalize, out),
            (_, false) => self.warp::<T, 3>(pre, values, out),
        }
    }

    fn shift<T: Sample, const N: usize>(
        &self,
        pre: &Preprocessing,
        values: &[T],
        normalize: impl Fn(T, usize) -> f32,
        out: &mut [f32],
    ) {
        let (width, height) = (pre.width as usize, pre.height as usize);
        let [dx, dy] = self.offset.map(|o| o.round() as i32);
        let (pixels, _) = values.as_chunks::<N>();
        for (y, row) in out.as_chunks_mut::<N>().0.chunks_exact_mut(width).enumerate() {
            let line = &pixels[mirrored(y as i32 + dy, height) * width..][..width];
            for (x, out) in row.iter_mut().enumerate() {
                let x = if self.flip { width - 1 - x } else { x };
                let pixel = &line[mirrored(x as i32 + dx, width)];
                *out = std::array::from_fn(|c| normalize(pixel[c], c));
            }
        }
    }

    /// Samples the rotated and zoomed image bilinearly on the 0..1 scale; brightness multiplies, contrast pivots on
    /// the data's mean, the result is clipped to 0..1 like any photo and normalised.
    fn warp<T: Sample, const N: usize>(&self, pre: &Preprocessing, values: &[T], out: &mut [f32]) {
        let (width, height) = (pre.width as usize, pre.height as usize);
        let (sin, cos) = self.radians.sin_cos();
        let centre = [width as f32 / 2.0, height as f32 / 2.0];
        let mean: [f32; N] = std::array::from_fn(|c| pre.mean[c]);
        let std: [f32; N] = std::array::from_fn(|c| pre.std[c]);
        let scale = self.brightness / T::WHITE;
        let (pixels, _) = values.as_chunks::<N>();
        for (y, row) in out.as_chunks_mut::<N>().0.chunks_exact_mut(width).enumerate() {
            let py = (y as f32 + 0.5 - centre[1]) * self.side;
            for (x, out) in row.iter_mut().enumerate() {
                let px = (x as f32 + 0.5 - centre[0]) * if self.flip { -self.side } else { self.side };
                let (x0, fx) = split_floor(cos * px - sin * py + centre[0] + self.offset[0] - 0.5);
                let (y0, fy) = split_floor(sin * px + cos * py + centre[1] + self.offset[1] - 0.5);
                let [left, right] = [x0, x0 + 1].map(|x| mirrored(x, width));
                let [top, bottom] = [y0, y0 + 1].map(|y| mirrored(y, height) * width);
                let corners = [top + left, top + right, bottom + left, bottom + right];
                let corners = corners.map(|at| pixels[at].map(Into::<f32>::into));
                for c in 0..N {
                    let above = corners[0][c] + (corners[1][c] - corners[0][c]) * fx;
                    let below = corners[2][c] + (corners[3][c] - corners[2][c]) * fx;
                    let value = (above + (below - above) * fy) * scale;
                    let value = ((value - mean[c]) * self.contrast + mean[c]).clamp(0.0, 1.0);
                    out[c] = (value - mean[c]) / std[c];
                }
            }
        }
    }
}

/// A whole number and what is left, between 0 and 1. Done by casts: the baseline x86-64 has no floor instruction.
fn split_floor(value: f32) -> (i32, f32) {
    let whole = value as i32 - i32::from(value < 0.0);
    (whole, value - whole as f32)
}

/// The index inside `0..length` that mirrors `at` at the edges without repeating the edge pixel.
fn mirrored(at: i32, length: usize) -> usize {
    if (0..length as i32).contains(&at) {
        return at as usize;
    }
    let last = length as i32 - 1;
    let folded = at.rem_euclid(2 * last.max(1));
    folded.min(2 * last - folded).max(0) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Fit;
    use crate::preprocess::normalize_one;

    const ALL: [AugmentLevel; 3] = [AugmentLevel::None, AugmentLevel::Light, AugmentLevel::Medium];

    fn run(augment: &Augment, key: u64, pre: &Preprocessing, values: &[u8]) -> Vec<f32> {
        let mut out = vec![f32::NAN; values.len()];
        let draw = augment.draw(key, pre.width, pre.height);
        draw.apply(pre, values, |v, c| normalize_one(pre, v, c), &mut out);
        out
    }

    #[test]
    fn mirroring_walks_to_and_fro() {
        let walk: Vec<usize> = (-5..8).map(|i| mirrored(i, 4)).collect();
        assert_eq!(walk, [1, 2, 3, 2, 1, 0, 1, 2, 3, 2, 1, 0, 1]);
        assert!((-9..9).all(|i| mirrored(i, 1) == 0));
        assert!((-9..9).all(|i: i32| mirrored(i, 2) == i.rem_euclid(2) as usize));
    }

    #[test]
    fn light_is_a_flip_and_a_shift_of_at_most_two_pixels_and_all_of_them_occur() {
        let pre = Preprocessing::new(28, 28, 1, Fit::Stretch);
        let values: Vec<u8> = (0..28 * 28).map(|i| (i * 31 % 256) as u8).collect();
        let mut candidates = Vec::new();
        for flip in [false, true] {
            for dy in -2i64..=2 {
                for dx in -2i64..=2 {
                    let at = |y: i64, x: i64| {
                        let x = if flip { 27 - x } else { x };
                        let fold = |v: i64| {
                            if v < 0 {
                                -v
                            } else if v > 27 {
                                54 - v
                            } else {
                                v
                            }
                        };
                        values[(fold(y + dy) * 28 + fold(x + dx)) as usize]
                    };
                    let image: Vec<f32> =
                        (0..28 * 28).map(|i| f32::from(at(i / 28, i % 28)) / 255.0).collect();
                    candidates.push(image);
                }
            }
        }
        let augment = Augment::new(AugmentLevel::Light);
        let mut seen = vec![false; candidates.len()];
        for key in 0..600 {
            let out = run(&augment, key, &pre, &values);
            let which = candidates.iter().position(|c| *c == out);
            seen[which.expect("a flip and a small shift")] = true;
        }
        assert!(seen.iter().all(|&s| s), "{seen:?}");
    }

    #[test]
    fn every_level_is_a_function_of_the_key_and_stays_in_range() {
        for (width, height, channels) in [(28, 28, 1), (32, 32, 3), (1, 1, 3), (5, 1, 1), (2, 9, 3)] {
            let mut pre = Preprocessing::new(width, height, channels, Fit::Stretch);
            pre.mean.fill(0.3);
            pre.std.fill(0.25);
            let values: Vec<u8> = (0..pre.len()).map(|i| (i * 97 % 256) as u8).collect();
            let (low, high) = ((0.0 - 0.3) / 0.25, (1.0 - 0.3) / 0.25);
            for augment in ALL.map(Augment::new) {
                for key in 0..50 {
                    let out = run(&augment, key, &pre, &values);
                    assert_eq!(out, run(&augment, key, &pre, &values));
                    assert!(out.iter().all(|v| (low - 1e-5..=high + 1e-5).contains(v)));
                }
            }
        }
    }

    #[test]
    fn a_flat_image_stays_flat_but_for_the_light() {
        let pre = Preprocessing::new(9, 7, 3, Fit::Stretch);
        let augment = Augment::new(AugmentLevel::Medium);
        for key in 0..100 {
            let out = run(&augment, key, &pre, &[100; 9 * 7 * 3]);
            assert!(out.iter().all(|v| (v - out[0]).abs() < 1e-6));
            let level = out[0] * 255.0;
            assert!((100.0 * 0.64 - 0.1..=100.0 * 1.44 + 0.1).contains(&level), "{level}");
        }
    }

    #[test]
    fn switching_the_flip_off_leaves_the_other_draws_alone() {
        let with = Augment::new(AugmentLevel::Medium);
        let without = Augment { hflip: false, ..with };
        for key in 0..100 {
            let (a, b) = (with.draw(key, 32, 32), without.draw(key, 32, 32));
            assert_eq!((a.offset, a.side, a.radians), (b.offset, b.side, b.radians));
            assert!(!b.flip);
        }
    }

    #[test]
    fn names_round_trip() {
        for level in ALL {
            assert_eq!(level.to_string().parse::<AugmentLevel>().unwrap(), level);
        }
        assert!("strong".parse::<AugmentLevel>().unwrap_err().to_string().contains("none, light, medium"));
    }
}
