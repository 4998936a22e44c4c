//! Images of none of a model's classes: a score of how little an image looks like any of them, and the threshold above
//! which it is unknown.

mod learn;
mod of_run;
mod score;

pub(crate) use of_run::{PER_CLASS, for_means, learn_from};
pub(crate) use score::{Judge, Known};
