//! Training from weights that were learnt on ImageNet: when that is right, and the last layer's first weights.

mod choose;
mod head;
mod layer;

pub(crate) use choose::with_start;
pub(crate) use head::fit_head;
pub(crate) use layer::{How, Pass, fit_layer, logits, plain_layer};
