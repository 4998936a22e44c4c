//! What to evaluate on, and how.

use ocelli_datasets::Split;

use crate::compute::Compute;
use crate::data::Data;

/// What to evaluate on, and how.
#[derive(Clone, Debug)]
pub struct EvaluateOptions {
    /// The images.
    pub data: Data,
    /// Which of them. `None` takes the test split (or val, where the layout declares no test) of data that declares
    /// splits and of the data set that the model was trained on, and all images of anything else.
    pub split: Option<Split>,
    /// How to compute.
    pub compute: Compute,
    /// Part of the images that may be unreadable.
    pub max_bad: f32,
    /// Takes the mean of the probabilities of each image and its mirror image, where the model's recipe allows mirroring.
    pub mirror: bool,
}
