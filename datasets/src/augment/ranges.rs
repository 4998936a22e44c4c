//! The ranges that random changes are drawn from.

use super::level::AugmentLevel;
use super::rectangle::Rectangles;
use serde::{Deserialize, Serialize};

/// The ranges that random changes are drawn from.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Augment {
    /// Mirror left to right with probability one half. Wrong for digits, letters and left-right signs.
    pub hflip: bool,
    /// Mirror top to bottom with probability one half. For images without an upside, as from a microscope or from above.
    pub vflip: bool,
    /// Largest shift, as a fraction of the side; whole pixels unless something else resamples anyway.
    pub max_shift: f32,
    /// Smallest visible part of the area at the image's own aspect, 1 for no zoom.
    pub min_area: f32,
    /// Largest rotation in degrees, either way.
    pub max_degrees: f32,
    /// Largest shear along either axis in degrees, either way.
    pub max_shear: f32,
    /// Smallest and largest factor by which the image is enlarged about its centre; 1 and 1 for none.
    pub scale: [f32; 2],
    /// Random resized crop (Szegedy et al., "Going Deeper with Convolutions", 2015): the part of the stored image that is
    /// brought to the network's size, before all other changes.
    pub crop: Option<Rectangles>,
    /// Largest change of brightness, as a fraction.
    pub brightness: f32,
    /// Largest change of contrast about the mean of the data, as a fraction.
    pub contrast: f32,
    /// Largest change of saturation, as a fraction; of images with three channels.
    pub saturation: f32,
    /// Largest change of hue, as a fraction of the colour circle; of images with three channels.
    pub hue: f32,
    /// Probability that a rectangle is replaced by random values (Zhong et al., "Random Erasing Data Augmentation", 2017).
    pub erase: f32,
    /// Apply one operation of `TrivialAugment` in its wide space at a random strength (Müller and Hutter, 2021).
    pub trivial: bool,
}

impl Augment {
    /// The ranges of a level.
    pub fn new(level: AugmentLevel) -> Self {
        let none = Self {
            hflip: false,
            vflip: false,
            max_shift: 0.0,
            min_area: 1.0,
            max_degrees: 0.0,
            max_shear: 0.0,
            scale: [1.0, 1.0],
            crop: None,
            brightness: 0.0,
            contrast: 0.0,
            saturation: 0.0,
            hue: 0.0,
            erase: 0.0,
            trivial: false,
        };
        // 7 % is 2 pixels of 28 or 32: objects in small images fill the frame, more shift cuts them.
        let light = Self { hflip: true, max_shift: 0.07, ..none };
        match level {
            AugmentLevel::None => none,
            AugmentLevel::Light => light,
            AugmentLevel::Medium => {
                Self { min_area: 0.7, max_degrees: 10.0, brightness: 0.2, contrast: 0.2, ..light }
            }
            AugmentLevel::Strong => Self {
                hflip: true,
                // The aspects of the paper.
                crop: Some(Rectangles { area: [0.35, 1.0], aspect: [3.0 / 4.0, 4.0 / 3.0] }),
                max_degrees: 10.0,
                brightness: 0.3,
                contrast: 0.3,
                saturation: 0.3,
                erase: 0.25,
                ..none
            },
            AugmentLevel::Trivial => Self { trivial: true, ..light },
        }
    }

    /// True when nothing is ever changed.
    pub fn is_none(&self) -> bool {
        *self == Self::new(AugmentLevel::None)
    }
}
