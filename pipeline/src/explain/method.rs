//! How a map is made.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How a map is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ExplainMethod {
    /// Channels of a layer, weighed by the mean of the class's gradient.
    #[default]
    GradCam,
    /// Channels of a layer, weighed pixel by pixel by the positive part of the class's gradient.
    LayerCam,
    /// What hiding a part of the image takes from the class's probability.
    Occlusion,
}

impl ExplainMethod {
    /// All of them.
    pub const ALL: [ExplainMethod; 3] =
        [ExplainMethod::GradCam, ExplainMethod::LayerCam, ExplainMethod::Occlusion];

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            ExplainMethod::GradCam => "gradcam",
            ExplainMethod::LayerCam => "layercam",
            ExplainMethod::Occlusion => "occlusion",
        }
    }

    /// The method of a word.
    pub fn named(word: &str) -> Option<ExplainMethod> {
        ExplainMethod::ALL.into_iter().find(|method| method.name() == word)
    }
}

impl fmt::Display for ExplainMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
