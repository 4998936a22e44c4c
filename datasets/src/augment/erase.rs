//! Rectangles of random values (Zhong et al., "Random Erasing Data Augmentation", 2017).

use super::frame::Frame;
use super::rectangle::Rectangles;
use crate::resample::Region;
use crate::rng::Rng;

/// The ranges of the paper.
pub(crate) const ERASED: Rectangles = Rectangles { area: [0.02, 0.4], aspect: [0.3, 1.0 / 0.3] };

/// A drawn rectangle with the seed of what it is filled with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Erased {
    pub(crate) region: Region,
    pub(crate) seed: u64,
}

impl Erased {
    /// Writes values between black and white, normalised, over the rectangle.
    pub(crate) fn apply(&self, frame: &Frame, out: &mut [f32]) {
        let n = frame.channels();
        let Region { x, y, width, height } = self.region;
        let mut rng = Rng::new(self.seed);
        for row in out.chunks_exact_mut(frame.width * n).skip(y as usize).take(height as usize) {
            for pixel in row[x as usize * n..(x + width) as usize * n].chunks_exact_mut(n) {
                for (c, value) in pixel.iter_mut().enumerate() {
                    *value = (rng.unit_f32() - frame.mean[c]) / frame.std[c];
                }
            }
        }
    }
}
