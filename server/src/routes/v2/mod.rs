//! `/v2`: the Open Inference Protocol; [`crate::v2`] says what the model takes and gives there.

pub(super) mod infer;
pub(super) mod metadata;
mod model;
pub(super) mod repository;
