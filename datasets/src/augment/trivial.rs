//! `TrivialAugment` (Müller and Hutter, "TrivialAugment: Tuning-free Yet State-of-the-Art Data Augmentation", 2021): one
//! operation at a random strength.
//!
//! Its wide space, with two differences: beyond the edge the image is mirrored instead of black, as everywhere here, and
//! contrast pivots on the mean of the data instead of that of the image.

use super::image_ops::ImageOp;
use crate::rng::Rng;

/// Strengths that are told apart; 0 is no change.
const STRENGTHS: u64 = 31;

/// Largest shear as the tangent of its angle.
const SHEAR: f32 = 0.99;
/// Largest shift in pixels; also that of the paper for photos.
const PIXELS: f32 = 32.0;
const DEGREES: f32 = 135.0;
/// Largest change of brightness, contrast, saturation and sharpness: an image is never wholly black or flat.
const ENHANCE: f32 = 0.99;
/// Bits that posterizing takes away at most.
const BITS: f32 = 6.0;

/// What is done to one image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Trivial {
    Identity,
    /// Tangents along x and y.
    Shear([f32; 2]),
    /// Pixels along x and y.
    Shift([f32; 2]),
    Degrees(f32),
    /// Factor.
    Brightness(f32),
    /// Factor.
    Contrast(f32),
    /// Factor.
    Saturation(f32),
    Image(ImageOp),
}

impl Trivial {
    /// How many operations there are, each as likely as the others.
    pub(crate) const COUNT: u64 = 14;

    /// Draws for an image of `size`, which a shift does not leave.
    pub(crate) fn draw(rng: &mut Rng, size: (u32, u32)) -> Self {
        let which = rng.below(Self::COUNT);
        let strength = rng.below(STRENGTHS) as f32 / (STRENGTHS - 1) as f32;
        let sign = if rng.next_u64() >> 63 == 0 { 1.0 } else { -1.0 };
        let factor = 1.0 + sign * strength * ENHANCE;
        let shift = |side: u32| sign * strength * PIXELS.min(side as f32);
        match which {
            0 => Self::Identity,
            1 => Self::Shear([sign * strength * SHEAR, 0.0]),
            2 => Self::Shear([0.0, sign * strength * SHEAR]),
            3 => Self::Shift([shift(size.0), 0.0]),
            4 => Self::Shift([0.0, shift(size.1)]),
            5 => Self::Degrees(sign * strength * DEGREES),
            6 => Self::Brightness(factor),
            7 => Self::Saturation(factor),
            8 => Self::Contrast(factor),
            9 => Self::Image(ImageOp::Sharpness(factor)),
            10 => Self::Image(ImageOp::Posterize(8 - (strength * BITS).round() as u32)),
            11 => Self::Image(ImageOp::Solarize(1.0 - strength)),
            12 => Self::Image(ImageOp::AutoContrast),
            _ => Self::Image(ImageOp::Equalize),
        }
    }
}
