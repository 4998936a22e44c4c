//! Colours of heat maps: viridis (Smith and van der Walt, 2015), which grows lighter all the way and can be read by people who
//! do not tell red from green, and in gray.

/// Red, green and blue at eleven values from 0 to 1 at the same distance; between them colours are interpolated.
const STOPS: [[u8; 3]; 11] = [
    [68, 1, 84],
    [72, 36, 117],
    [65, 68, 135],
    [53, 95, 141],
    [42, 120, 142],
    [33, 145, 140],
    [34, 168, 132],
    [68, 191, 112],
    [122, 209, 81],
    [189, 223, 38],
    [253, 231, 37],
];

/// The colour of a value of a heat map; one outside of 0..=1 has that of the nearer end.
pub fn colour(value: f32) -> [u8; 3] {
    let last = STOPS.len() - 1;
    let value = if value.is_nan() { 0.0 } else { value.clamp(0.0, 1.0) };
    let at = value * last as f32;
    let first = (at as usize).min(last - 1);
    let part = at - first as f32;
    std::array::from_fn(|channel| {
        let [from, to] = [first, first + 1].map(|stop| f32::from(STOPS[stop][channel]));
        (from + (to - from) * part).round() as u8
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Relative luminance, WCAG 2.2.
    fn luminance(colour: [f64; 3]) -> f64 {
        0.2126 * colour[0] + 0.7152 * colour[1] + 0.0722 * colour[2]
    }

    fn linear(colour: [u8; 3]) -> [f64; 3] {
        colour.map(|value| {
            let value = f64::from(value) / 255.0;
            if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        })
    }

    /// What people without red (protanopia) and without green cones (deuteranopia) see, after Machado et al. (2009).
    const BLIND: [[[f64; 3]; 3]; 2] = [
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    ];

    #[test]
    fn larger_values_are_lighter_for_everybody() {
        let seen = |value: usize| {
            let own = linear(colour(value as f32 / 50.0));
            let by =
                |matrix: [[f64; 3]; 3]| luminance(matrix.map(|row| (0..3).map(|i| row[i] * own[i]).sum()));
            [luminance(own), by(BLIND[0]), by(BLIND[1])]
        };
        for value in 0..50 {
            let (low, high) = (seen(value), seen(value + 1));
            assert!((0..3).all(|eyes| high[eyes] > low[eyes]), "{value}: {low:?} {high:?}");
        }
        let ratio = (seen(50)[0] + 0.05) / (seen(0)[0] + 0.05);
        assert!(ratio > 7.0, "the ends differ by {ratio}");
    }

    #[test]
    fn ends_hold_what_lies_beyond_them() {
        for (value, stop) in [
            (-1.0, 0),
            (0.0, 0),
            (0.3, 3),
            (0.5, 5),
            (1.0, 10),
            (7.0, 10),
            (f32::INFINITY, 10),
            (f32::NAN, 0),
        ] {
            assert_eq!(colour(value), STOPS[stop], "{value}");
        }
        assert_eq!(colour(0.05), [70, 19, 101]);
    }
}
