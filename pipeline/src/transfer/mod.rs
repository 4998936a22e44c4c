//! Training from weights that were learnt on ImageNet: when that is right, by which recipe, and the last layer's first
//! weights.

mod choose;
mod head;
mod recipe;

pub(crate) use choose::with_start;
pub(crate) use head::fit_head;
pub(crate) use recipe::resolve;
