//! What comes of one image.

use std::time::Duration;

use ocelli_pipeline::Prediction;

/// The prediction for one image, and where its time went.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) prediction: Prediction,
    /// What the last dense layer reads, where it was asked for.
    pub(crate) features: Option<Vec<f32>>,
    pub(crate) decode: Duration,
    /// Waiting for a decoding thread and for the model.
    pub(crate) queue: Duration,
    /// The forward pass of the whole batch this image was part of.
    pub(crate) compute: Duration,
}
