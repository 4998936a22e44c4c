//! What the model takes: names of its tensors, and how much of it one request may hold.

use crate::config::Config;
use crate::http::problem::Problem;
use crate::models::serving::Input;

/// The input that the metadata names.
pub(super) const PIXELS: &str = "pixels";

/// The input that takes image files.
pub(super) const IMAGE: &str = "image";

/// The output that the metadata names.
pub(super) const PROBABILITIES: &str = "probabilities";

/// The output that says whether an image shows a class of the model.
pub(super) const KNOWN: &str = "known";

/// The output that says how little an image looks like any class.
pub(super) const SCORE: &str = "score";

/// What the model takes and what one request may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    pub(crate) input: Input,
    pub(crate) images: usize,
    pub(super) json_depth: usize,
}

impl Expected {
    pub(crate) fn new(input: Input, config: &Config) -> Expected {
        Expected { input, images: config.images_per_request, json_depth: config.json_depth }
    }

    /// Values of one image.
    pub(crate) fn values(&self) -> usize {
        self.input.height as usize * self.input.width as usize * usize::from(self.input.channels)
    }
}

/// A body that does not say what the protocol wants, and why.
pub(super) fn bad(reason: impl Into<String>) -> Problem {
    Problem::BadBody(reason.into())
}
