//! From logits to probabilities and ranks, as the engine does it.

pub(crate) use ocelli_engine::probability::{probabilities, ranking, sigmoids, temperature};
