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
mod name;
mod read;
mod write;

pub use layer::NetworkFile;
pub(crate) use layer::word;
pub(crate) use name::NETWORK_FILE;
pub use name::is_network_file;
pub use read::MAX_NETWORK_TEXT;
pub use write::network_text;

#[cfg(test)]
mod tests;
