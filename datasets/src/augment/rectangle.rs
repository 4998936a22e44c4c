//! Random rectangles: what a resized crop keeps and what erasing takes away.

use crate::resample::Region;
use crate::rng::Rng;
use serde::{Deserialize, Serialize};

/// Draws after which an image that no rectangle fits into is left as it is.
const ATTEMPTS: usize = 10;

/// The ranges of a random rectangle.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Rectangles {
    /// Smallest and largest part of the image's area; every part between them is as likely.
    pub area: [f32; 2],
    /// Smallest and largest aspect (width by height) relative to the image's own; their logarithms are evenly spread.
    pub aspect: [f32; 2],
}

impl Rectangles {
    /// A rectangle of whole pixels anywhere in an image of `size`; `None` where none of ten fits, as in a row of pixels.
    pub(crate) fn draw(&self, rng: &mut Rng, size: (u32, u32)) -> Option<Region> {
        let [low, high] = self.aspect.map(f32::ln);
        for _ in 0..ATTEMPTS {
            let area = rng.range_f32(self.area[0], self.area[1]);
            let aspect = rng.range_f32(low, high).exp();
            let side = |length: u32, part: f32| (length as f32 * part.sqrt()).round() as u32;
            let (width, height) = (side(size.0, area * aspect), side(size.1, area / aspect));
            if (1..=size.0).contains(&width) && (1..=size.1).contains(&height) {
                let mut place = |room: u32| rng.below(u64::from(room) + 1) as u32;
                let (x, y) = (place(size.0 - width), place(size.1 - height));
                return Some(Region { x, y, width, height });
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_and_aspects_keep_to_their_ranges_and_reach_all_of_the_image() {
        let ranges = Rectangles { area: [0.2, 0.8], aspect: [0.5, 2.0] };
        let size = (300, 150);
        let mut rng = Rng::new(1);
        let (mut left, mut right, mut wide, mut tall) = (300, 0, 0, 0);
        for _ in 0..2000 {
            let Some(Region { x, y, width, height }) = ranges.draw(&mut rng, size) else { continue };
            assert!(x + width <= 300 && y + height <= 150);
            let area = (width * height) as f32 / (300.0 * 150.0);
            assert!((0.19..0.81).contains(&area), "{area}");
            let aspect = width as f32 / height as f32 / 2.0;
            assert!((0.49..2.05).contains(&aspect), "{aspect}");
            (left, right) = (left.min(x), right.max(x + width));
            if aspect > 1.0 { wide += 1 } else { tall += 1 }
        }
        assert_eq!((left, right), (0, 300));
        assert!(wide > 800 && tall > 800, "{wide} {tall}");
    }

    #[test]
    fn ranges_that_nothing_can_meet_give_nothing() {
        let nan = Rectangles { area: [f32::NAN; 2], aspect: [0.0, f32::INFINITY] };
        let large = Rectangles { area: [4.0, 5.0], aspect: [1.0, 1.0] };
        for size in [(1, 1), (1, 500), (4096, 4096)] {
            assert_eq!(nan.draw(&mut Rng::new(3), size), None);
            assert_eq!(large.draw(&mut Rng::new(3), size), None);
        }
        let all = Rectangles { area: [1.0, 1.0], aspect: [1.0, 1.0] };
        assert_eq!(all.draw(&mut Rng::new(3), (7, 9)), Some(Region::whole((7, 9))));
    }
}
