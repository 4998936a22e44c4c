//! Drawing what happens to one image.

use super::colour::{Colour, mix};
use super::erase::{ERASED, Erased};
use super::image_ops::ImageOp;
use super::ranges::Augment;
use super::trivial::Trivial;
use super::warp::Affine;
use crate::resample::Region;
use crate::rng::{Rng, split_mix64};

/// What the numbers of a stream are drawn for: one more kind of change moves none of the others.
const CROP: u64 = 1;
const SHAPE: u64 = 2;
const COLOUR: u64 = 3;
const ERASE: u64 = 4;
const TRIVIAL: u64 = 5;

/// One drawn change, in the order in which it is made.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Draw {
    /// The part of the stored image that is brought to the network's size; `None` for all of it.
    pub(crate) crop: Option<Region>,
    pub(crate) op: Option<ImageOp>,
    pub(crate) affine: Affine,
    pub(crate) colour: Colour,
    pub(crate) erased: Option<Erased>,
}

impl Augment {
    /// What happens to the image of one key, which is stored as `stored` and written as `size`.
    pub(crate) fn draw(&self, key: u64, stored: (u32, u32), size: (u32, u32)) -> Draw {
        let (width, height) = (size.0 as f32, size.1 as f32);
        let mut rng = Rng::new(key);
        let mut either_way = |range: f32| rng.range_f32(-range, range);
        let flip_draw = either_way(1.0);
        let shift = [either_way(self.max_shift) * width, either_way(self.max_shift) * height];
        let mut radians = either_way(self.max_degrees).to_radians();
        let [mut brightness, mut contrast] =
            [1.0 + either_way(self.brightness), 1.0 + either_way(self.contrast)];
        let side = (1.0 - (1.0 - self.min_area.clamp(0.01, 1.0)) * rng.unit_f32()).sqrt();
        // The visible part may lie anywhere inside the image.
        let mut room = |length: f32| rng.range_f32(-0.5, 0.5) * (1.0 - side) * length;
        let mut offset = [shift[0] + room(width), shift[1] + room(height)];

        let mut rng = stream(key, SHAPE);
        let vflip_draw = rng.range_f32(-1.0, 1.0);
        let mut tangent = || rng.range_f32(-self.max_shear, self.max_shear).to_radians().tan();
        let mut shear = [tangent(), tangent()];
        // A factor of 1.25 is as likely as 0.8.
        let scale = rng.range_f32(self.scale[0].ln(), self.scale[1].ln()).exp();
        let mut rng = stream(key, COLOUR);
        let mut saturation = 1.0 + rng.range_f32(-self.saturation, self.saturation);
        let hue = rng.range_f32(-self.hue, self.hue);
        let mut op = None;
        if self.trivial {
            match Trivial::draw(&mut stream(key, TRIVIAL), size) {
                Trivial::Identity => {}
                Trivial::Shear(tangents) => shear = [shear[0] + tangents[0], shear[1] + tangents[1]],
                Trivial::Shift(pixels) => offset = [offset[0] + pixels[0], offset[1] + pixels[1]],
                Trivial::Degrees(degrees) => radians += degrees.to_radians(),
                Trivial::Brightness(factor) => brightness *= factor,
                Trivial::Contrast(factor) => contrast *= factor,
                Trivial::Saturation(factor) => saturation *= factor,
                Trivial::Image(change) => op = Some(change),
            }
        }
        let mut rng = stream(key, ERASE);
        let erased = (rng.unit_f32() < self.erase).then(|| ERASED.draw(&mut rng, size)).flatten();
        Draw {
            crop: self.crop.and_then(|ranges| ranges.draw(&mut stream(key, CROP), stored)),
            op,
            affine: Affine {
                flip: [self.hflip && flip_draw < 0.0, self.vflip && vflip_draw < 0.0],
                offset,
                side: side / scale,
                radians,
                shear,
            },
            colour: Colour { brightness, contrast, mix: mix(saturation, hue) },
            erased: erased.map(|region| Erased { region, seed: rng.next_u64() }),
        }
    }
}

/// Numbers of one key for one purpose.
fn stream(key: u64, purpose: u64) -> Rng {
    Rng::new(split_mix64(&mut (key ^ purpose.rotate_right(8))))
}
