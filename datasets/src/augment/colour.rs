//! Brightness, contrast, saturation and hue, on the scale 0..1.

/// Luma of red, green and blue (Rec. 601), and the two colour differences of YIQ.
const YIQ: [[f32; 3]; 3] =
    [[0.299, 0.587, 0.114], [0.595_716, -0.274_453, -0.321_263], [0.211_456, -0.522_591, 0.311_135]];
/// Its inverse.
const RGB: [[f32; 3]; 3] =
    [[1.0, 0.956_296, 0.621_024], [1.0, -0.272_122, -0.647_381], [1.0, -1.106_989, 1.704_615]];

/// A drawn change of colours.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Colour {
    /// Factor of every value.
    pub(crate) brightness: f32,
    /// Factor of the distance from the mean of the data.
    pub(crate) contrast: f32,
    /// What saturation and hue do to red, green and blue.
    pub(crate) mix: Option<[[f32; 3]; 3]>,
}

impl Colour {
    /// No change.
    pub(crate) const SAME: Colour = Colour { brightness: 1.0, contrast: 1.0, mix: None };
}

/// Saturation times `saturation` and hue turned by `hue` of a circle, which leave luma alone; `None` for no change.
pub(crate) fn mix(saturation: f32, hue: f32) -> Option<[[f32; 3]; 3]> {
    if saturation == 1.0 && hue == 0.0 {
        return None;
    }
    let (sin, cos) = (hue * std::f32::consts::TAU).sin_cos();
    let turned = |differences: [f32; 2]| {
        [differences[0] * cos - differences[1] * sin, differences[0] * sin + differences[1] * cos]
            .map(|v| v * saturation)
    };
    let mut mix = [[0.0; 3]; 3];
    for (from, _) in YIQ[0].iter().enumerate() {
        let [i, q] = turned([YIQ[1][from], YIQ[2][from]]);
        for to in 0..3 {
            mix[to][from] = RGB[to][0] * YIQ[0][from] + RGB[to][1] * i + RGB[to][2] * q;
        }
    }
    Some(mix)
}

/// Red, green and blue after a mix.
pub(crate) fn mixed(mix: &[[f32; 3]; 3], pixel: [f32; 3]) -> [f32; 3] {
    mix.map(|row| row[0] * pixel[0] + row[1] * pixel[1] + row[2] * pixel[2])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn luma(pixel: [f32; 3]) -> f32 {
        mixed(&YIQ, pixel)[0]
    }

    #[test]
    fn luma_and_gray_stay_and_a_whole_turn_changes_nothing() {
        let pixels = [[0.2, 0.4, 0.9], [1.0, 0.0, 0.0], [0.5, 0.5, 0.5]];
        for pixel in pixels {
            for saturation in [0.0, 0.5, 1.7] {
                for hue in [-0.5, 0.1, 0.33, 1.0] {
                    let after = mixed(&mix(saturation, hue).unwrap(), pixel);
                    assert!((luma(after) - luma(pixel)).abs() < 1e-4, "{pixel:?} {after:?}");
                    if pixel[0] == pixel[2] {
                        assert!(after.iter().all(|v| (v - 0.5).abs() < 1e-4), "{after:?}");
                    }
                    if saturation == 0.0 {
                        assert!(after.iter().all(|v| (v - luma(pixel)).abs() < 1e-4), "{after:?}");
                    }
                }
            }
            let after = mixed(&mix(1.0, 1.0).unwrap(), pixel);
            assert!(after.iter().zip(pixel).all(|(a, b)| (a - b).abs() < 1e-4), "{pixel:?} {after:?}");
        }
        assert_eq!(mix(1.0, 0.0), None);
    }

    #[test]
    fn a_third_of_a_turn_makes_red_green_or_blue() {
        for (hue, strongest) in [(1.0 / 3.0, 2), (-1.0 / 3.0, 1)] {
            let after = mixed(&mix(1.0, hue).unwrap(), [1.0, 0.0, 0.0]);
            let most = (0..3).max_by(|&a, &b| after[a].total_cmp(&after[b])).unwrap();
            assert_eq!(most, strongest, "{after:?}");
        }
    }
}
