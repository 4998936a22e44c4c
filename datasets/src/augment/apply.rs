//! Making what was drawn.

use super::draw::Draw;
use super::frame::Frame;
use super::ranges::Augment;
use crate::preprocess::Preprocessing;
use crate::resample::{Region, Sample, View, resample};
use std::borrow::Cow;

/// An image as it is stored, to be written at some size.
pub(crate) struct Stored<'a, T> {
    pub(crate) preprocessing: &'a Preprocessing,
    pub(crate) values: &'a [T],
}

impl<'a, T: Sample> Stored<'a, T> {
    /// Writes the image at a size, normalised by `normalize(value, channel)`.
    pub(crate) fn write(&self, size: (u32, u32), normalize: impl Fn(T, usize) -> f32, out: &mut [f32]) {
        let n = usize::from(self.preprocessing.channels);
        let values = self.part(None, size);
        for (out, pixel) in out.chunks_exact_mut(n).zip(values.chunks_exact(n)) {
            for (c, (out, &value)) in out.iter_mut().zip(pixel).enumerate() {
                *out = normalize(value, c);
            }
        }
    }

    /// Writes the image at a size, changed by what is drawn from `key`. `normalize(value, channel)` serves images whose
    /// values stay integers.
    pub(crate) fn write_augmented(
        &self,
        (augment, key): (&Augment, u64),
        size: (u32, u32),
        normalize: impl Fn(T, usize) -> f32,
        out: &mut [f32],
    ) {
        let pre = self.preprocessing;
        let Draw { crop, op, affine, colour, erased } = augment.draw(key, (pre.width, pre.height), size);
        let (width, height) = (size.0 as usize, size.1 as usize);
        let frame = Frame { width, height, mean: &pre.mean, std: &pre.std };
        let mut values = self.part(crop, size);
        if let Some(op) = op {
            op.apply(values.to_mut(), width, frame.channels());
        }
        affine.apply(&colour, &frame, &values, normalize, out);
        if let Some(erased) = erased {
            erased.apply(&frame, out);
        }
    }

    /// A region of the stored image, all of it for `None`, at a size.
    fn part(&self, region: Option<Region>, size: (u32, u32)) -> Cow<'a, [T]> {
        let pre = self.preprocessing;
        let stored = (pre.width, pre.height);
        let region = region.unwrap_or(Region::whole(stored));
        if region == Region::whole(size) && stored == size {
            return Cow::Borrowed(self.values);
        }
        let view = View { values: self.values, size: stored, channels: pre.channels };
        Cow::Owned(resample(&view, region, size))
    }
}
