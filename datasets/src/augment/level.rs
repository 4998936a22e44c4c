//! How much training images are changed, as a word.

use crate::error::DatasetError;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// How much the images are changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AugmentLevel {
    /// Not at all.
    None,
    /// Mirrored left to right, shifted by up to 7 %.
    #[default]
    Light,
    /// Light, and zoomed, rotated by up to 10 degrees, brightness and contrast changed by up to 20 %.
    Medium,
    /// A part of 35 to 100 % of the area, mirrored, rotated by up to 10 degrees, brightness, contrast and saturation
    /// changed by up to 30 %, a rectangle erased in every fourth image.
    Strong,
    /// Light, and one operation of `TrivialAugment` at a random strength.
    Trivial,
}

impl AugmentLevel {
    /// The words that are understood.
    pub const WORDS: &[&str] = &["none", "light", "medium", "strong", "trivial"];

    const ALL: [AugmentLevel; 5] = [Self::None, Self::Light, Self::Medium, Self::Strong, Self::Trivial];
}

impl fmt::Display for AugmentLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(Self::WORDS[*self as usize])
    }
}

impl FromStr for AugmentLevel {
    type Err = DatasetError;

    fn from_str(text: &str) -> Result<Self, DatasetError> {
        let word = text.to_ascii_lowercase();
        Self::ALL.into_iter().find(|level| Self::WORDS[*level as usize] == word).ok_or_else(|| {
            DatasetError::UnknownName {
                what: "augmentation",
                given: text.to_owned(),
                allowed: "none, light, medium, strong, trivial",
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for level in AugmentLevel::ALL {
            assert_eq!(level.to_string().parse::<AugmentLevel>().unwrap(), level);
        }
        let message = "heavy".parse::<AugmentLevel>().unwrap_err().to_string();
        assert!(message.contains(&AugmentLevel::WORDS.join(", ")), "{message}");
    }
}
