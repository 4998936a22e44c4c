//! What `/status` and `/metrics` tell of the models.

use serde::Serialize;

/// How many models there are, and what those that are loaded take.
#[derive(Serialize, schemars::JsonSchema)]
pub(crate) struct ModelLoad {
    pub(crate) count: usize,
    /// Versions in memory, also those that do not serve.
    pub(crate) loaded: usize,
    /// Bytes that these take.
    pub(crate) memory: u64,
    /// Bytes that all may take together, but for the default model.
    pub(crate) memory_limit: u64,
    /// Versions that were unloaded for others.
    pub(crate) evicted: u64,
    /// Files of the folder of models that are no versions.
    pub(crate) refused: Vec<RefusedFile>,
    #[serde(skip)]
    pub(crate) shadows: Vec<(String, u64, u64)>,
}

/// A file that is no version.
#[derive(Clone, Debug, PartialEq, Serialize, schemars::JsonSchema)]
pub(crate) struct RefusedFile {
    /// Its path in the folder.
    pub(crate) file: String,
    pub(crate) reason: String,
}
