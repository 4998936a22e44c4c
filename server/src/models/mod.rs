//! Models and their versions: which of them are loaded, asking them, exchanging them.

pub(crate) mod ask_shadow;
pub(crate) mod batcher;
pub(crate) mod budget;
pub(crate) mod catalog;
pub(crate) mod classifier;
pub(crate) mod decode;
pub(crate) mod explaining;
pub(crate) mod first;
pub(crate) mod folder;
pub(crate) mod loader;
pub(crate) mod model;
pub(crate) mod pass;
pub(crate) mod pending;
pub(crate) mod resources;
pub(crate) mod serving;
pub(crate) mod shadow;
pub(crate) mod single_flight;
pub(crate) mod stats;
