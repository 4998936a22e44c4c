//! Networks as TOML: a user's own network as a list of layers.
//!
//! ```toml
//! [[layer]]
//! op = "conv2d"
//! filters = 32
//! kernel = 3
//! padding = "same"
//!
//! [[layer]]
//! op = "relu"
//!
//! [[layer]]
//! op = "global_avg_pool"
//!
//! [[layer]]
//! op = "dense"
//! units = "classes"
//! ```
//!
//! A layer reads the one before it, or those that `inputs` names (`input` is the image). `layer` has the operations and
//! their settings, `read` turns a text into layers, `build` layers into a graph for a size of images and a number of
//! classes, `write` a graph into a text.

mod build;
mod layer;
mod read;
mod write;

pub use layer::NetworkFile;
pub(crate) use layer::word;
pub use write::network_text;

/// What a run folder calls the file of its network, and its recipe the network.
pub(crate) const NETWORK_FILE: &str = "network.toml";

/// Largest text of a network in bytes: 4096 layers with long names fit.
pub const MAX_NETWORK_TEXT: u64 = 1 << 20;

/// Whether a recipe's `model` names a file instead of a built-in network.
pub fn is_network_file(model: &str) -> bool {
    std::path::Path::new(model).extension().is_some_and(|ending| ending.eq_ignore_ascii_case("toml"))
}

#[cfg(test)]
mod tests;
