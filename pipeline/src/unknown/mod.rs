//! Images of none of a model's classes: a score of how little an image looks like any of them, and the threshold above
//! which the answer is `unknown`.

mod learn;
mod score;

pub(crate) use learn::{HeldOut, learn};
pub(crate) use score::{Judge, Known, class_means};
