//! Heat maps.

use serde::Serialize;

/// How much each place of an image speaks for a class, from 0 for nothing to 1 for the place that speaks most for it.
#[derive(Clone, Debug, PartialEq, Serialize, schemars::JsonSchema)]
pub struct HeatMap {
    /// Places in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Row by row, from the top left.
    pub values: Vec<f32>,
}

impl HeatMap {
    /// A map whose largest value is 1: `raw` divided by its largest value. What is negative or no number becomes 0, and so
    /// does everything where nothing is positive.
    ///
    /// # Panics
    /// When `raw` does not have `width * height` values.
    pub(super) fn normalized((width, height): (usize, usize), raw: &[f32]) -> HeatMap {
        assert_eq!(raw.len(), width * height, "a value for each place");
        let largest = raw.iter().copied().filter(|value| value.is_finite()).fold(0.0, f32::max);
        let part = |&value: &f32| {
            if value > 0.0 && value.is_finite() { value / largest } else { 0.0 }
        };
        HeatMap { width, height, values: raw.iter().map(part).collect() }
    }

    /// The map at another size, interpolated between the middles of its places (bilinear); beyond the outer ones their
    /// values go on.
    ///
    /// # Panics
    /// For a size of zero.
    pub fn resized(&self, width: usize, height: usize) -> HeatMap {
        assert!(width > 0 && height > 0, "a size");
        let columns = spots(self.width, width);
        let mut values = Vec::with_capacity(width * height);
        for (top, bottom, down) in spots(self.height, height) {
            let [top, bottom] = [top, bottom].map(|y| &self.values[y * self.width..][..self.width]);
            values.extend(columns.iter().map(|&(left, right, across)| {
                let row = |row: &[f32]| row[left] + (row[right] - row[left]) * across;
                row(top) + (row(bottom) - row(top)) * down
            }));
        }
        HeatMap { width, height, values }
    }

    /// The map at the size of an image, or where that has a side of more than `most` places, in its shape at most so large.
    pub fn for_image(&self, (width, height): (usize, usize), most: usize) -> HeatMap {
        let longest = width.max(height).max(1);
        let side = |side: usize| if longest <= most { side } else { (side * most).div_ceil(longest) };
        self.resized(side(width).max(1), side(height).max(1))
    }
}

/// For each of `to` places along a side the two of `from` places that it lies between, and how far towards the second.
fn spots(from: usize, to: usize) -> Vec<(usize, usize, f32)> {
    let spot = |at: usize| {
        let middle = (at as f32 + 0.5) * from as f32 / to as f32 - 0.5;
        let middle = middle.clamp(0.0, (from - 1) as f32);
        let first = middle.floor() as usize;
        (first, (first + 1).min(from - 1), middle - first as f32)
    };
    (0..to).map(spot).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(width: usize, height: usize, values: &[f32]) -> HeatMap {
        HeatMap { width, height, values: values.to_vec() }
    }

    #[test]
    fn the_largest_value_becomes_one_and_nothing_stays_nothing() {
        for (raw, expected) in [
            ([2.0, 8.0, 0.0, 4.0], [0.25, 1.0, 0.0, 0.5]),
            ([0.0; 4], [0.0; 4]),
            ([-1.0, -2.0, 0.0, -0.5], [0.0; 4]),
            ([f32::NAN, 1e-38, f32::INFINITY, -1.0], [0.0, 1.0, 0.0, 0.0]),
            ([f32::MAX, 0.0, f32::MIN_POSITIVE / 2.0, 0.0], [1.0, 0.0, 0.0, 0.0]),
        ] {
            assert_eq!(HeatMap::normalized((2, 2), &raw), map(2, 2, &expected));
        }
    }

    #[test]
    fn sizes_change_between_the_middles_of_places() {
        let two = map(2, 1, &[0.0, 1.0]);
        assert_eq!(two.resized(4, 1).values, [0.0, 0.25, 0.75, 1.0]);
        assert_eq!(two.resized(1, 3).values, [0.5; 3]);
        assert_eq!(two.resized(2, 1), two);
        assert_eq!(map(1, 1, &[0.5]).resized(3, 2), map(3, 2, &[0.5; 6]));
        let square = map(2, 2, &[0.0, 1.0, 1.0, 0.0]);
        assert_eq!(square.resized(3, 3).values, [0.0, 0.5, 1.0, 0.5, 0.5, 0.5, 1.0, 0.5, 0.0]);
    }

    #[test]
    fn interpolated_values_stay_between_those_that_are_there() {
        let values: Vec<f32> = (0..35).map(|i| ((i * 17) % 11) as f32 / 10.0).collect();
        let seven = map(7, 5, &values);
        for (width, height) in [(224, 160), (13, 9), (3, 2), (1, 1)] {
            let other = seven.resized(width, height);
            assert_eq!(other.values.len(), width * height);
            assert!(other.values.iter().all(|value| (0.0..=1.0).contains(value)), "{width}x{height}");
        }
    }

    #[test]
    fn a_map_for_an_image_has_its_shape_and_no_more_places_than_asked() {
        let seven = map(7, 7, &[0.5; 49]);
        for (size, most, expected) in [
            ((224, 224), 64, (64, 64)),
            ((28, 28), 64, (28, 28)),
            ((300, 100), 60, (60, 20)),
            ((4096, 1), 64, (64, 1)),
        ] {
            let fitted = seven.for_image(size, most);
            assert_eq!((fitted.width, fitted.height), expected);
        }
    }
}
