//! Images of none of a model's classes: a score of how little an image looks like any of them, and the threshold above
//! which it is unknown.

mod folder;
mod learn;
mod of_run;
mod spread;
mod words;

pub(crate) use folder::{is_no_class, set_apart};
pub(crate) use ocelli_engine::rejection::{Judge, Known, Seen};
pub(crate) use of_run::{Network, PER_CLASS, for_means, inner_values, learn_from};
pub(crate) use words::about;
