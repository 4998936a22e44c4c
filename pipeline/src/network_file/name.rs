//! Names of files with networks.

use std::path::Path;

/// What a run folder calls the file of its network, and its recipe the network.
pub(crate) const NETWORK_FILE: &str = "network.toml";

/// Whether a recipe's `model` names a file instead of a built-in network.
pub fn is_network_file(model: &str) -> bool {
    Path::new(model).extension().is_some_and(|ending| ending.eq_ignore_ascii_case("toml"))
}
