//! The versions of the model: loading them, asking them, exchanging them.

pub(crate) mod batcher;
pub(crate) mod classifier;
pub(crate) mod decode;
pub(crate) mod explaining;
pub(crate) mod first;
pub(crate) mod loader;
pub(crate) mod models;
pub(crate) mod pass;
pub(crate) mod pending;
pub(crate) mod serving;
pub(crate) mod single_flight;
pub(crate) mod stats;
