//! How an image becomes a network's input, as data: model files hold it, and data sets are read by it.

use std::error::Error;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The largest width or height of a network's input.
pub const MAX_INPUT_SIDE: u32 = 4096;

/// The most channels of a network's input.
pub const MAX_CHANNELS: u8 = 32;

/// How an image of another aspect ratio is brought to the input's shape.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fit {
    /// Both sides are scaled on their own: the whole image, distorted.
    #[default]
    Stretch,
    /// Scaled to cover the target, then cut at the middle: no distortion, the borders are lost.
    Crop,
    /// Scaled to lie inside of the target, with mid-gray bars around: the whole image, undistorted.
    Pad,
}

impl Fit {
    /// The words that [`Fit::from_str`] takes.
    pub const WORDS: &[&str] = &["stretch", "crop", "pad"];
}

impl fmt::Display for Fit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Stretch => "stretch",
            Self::Crop => "crop",
            Self::Pad => "pad",
        })
    }
}

impl FromStr for Fit {
    type Err = UnknownFit;

    fn from_str(text: &str) -> Result<Self, UnknownFit> {
        match text.to_ascii_lowercase().as_str() {
            "stretch" => Ok(Self::Stretch),
            "crop" => Ok(Self::Crop),
            "pad" => Ok(Self::Pad),
            _ => Err(UnknownFit { given: text.to_owned() }),
        }
    }
}

/// A word that is no [`Fit`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownFit {
    /// The word.
    pub given: String,
}

impl fmt::Display for UnknownFit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no fit; possible are {}", self.given, Fit::WORDS.join(", "))
    }
}

impl Error for UnknownFit {}

/// From decoded pixels to a network's input of `height x width x channels`; training, evaluation and serving follow the same
/// record.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Preprocessing {
    /// Input width in pixels.
    pub width: u32,
    /// Input height in pixels.
    pub height: u32,
    /// 1 (gray), 3 (RGB), or as many samples as each pixel of a TIFF file has, up to [`MAX_CHANNELS`].
    pub channels: u8,
    /// What happens to images of another aspect ratio.
    pub fit: Fit,
    /// Subtracted from each channel, on the scale 0..=1.
    pub mean: Vec<f32>,
    /// Each channel is divided by it after that; positive.
    pub std: Vec<f32>,
}

impl Preprocessing {
    /// Preprocessing that does not shift or scale values (mean 0, standard deviation 1).
    pub fn new(width: u32, height: u32, channels: u8, fit: Fit) -> Self {
        let n = usize::from(channels);
        Self { width, height, channels, fit, mean: vec![0.0; n], std: vec![1.0; n] }
    }

    /// Values of one input: `height * width * channels`.
    pub fn len(&self) -> usize {
        self.width as usize * self.height as usize * usize::from(self.channels)
    }

    /// True when an input has no values, which [`Self::check`] refuses.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Checks sides (1 to [`MAX_INPUT_SIDE`]), channels (1 to [`MAX_CHANNELS`]) and finite means and positive deviations for each.
    ///
    /// # Errors
    /// What is wrong, as a sentence.
    pub fn check(&self) -> Result<(), String> {
        let sides = 1..=MAX_INPUT_SIDE;
        if !sides.contains(&self.width) || !sides.contains(&self.height) {
            return Err(format!(
                "{}x{} pixels; sides go from 1 to {MAX_INPUT_SIDE}",
                self.width, self.height
            ));
        }
        if !(1..=MAX_CHANNELS).contains(&self.channels) {
            return Err(format!(
                "{} channels; 1 (gray), 3 (RGB) and other numbers up to {MAX_CHANNELS} are possible",
                self.channels
            ));
        }
        self.check_normalization()
    }

    /// Checks that there is a finite mean and a positive finite deviation for each channel.
    ///
    /// # Errors
    /// What is wrong, as a sentence.
    pub fn check_normalization(&self) -> Result<(), String> {
        let n = usize::from(self.channels);
        if self.mean.len() != n || self.std.len() != n {
            let (means, stds) = (self.mean.len(), self.std.len());
            return Err(format!("{means} means and {stds} standard deviations for {n} channels"));
        }
        if !self.mean.iter().all(|m| m.is_finite()) {
            return Err(format!("means {:?} must be finite", self.mean));
        }
        if !self.std.iter().all(|s| s.is_normal() && *s > 0.0) {
            return Err(format!("standard deviations {:?} must be finite and above 0", self.std));
        }
        Ok(())
    }
}
