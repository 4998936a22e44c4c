//! What keys allow and endpoints need.

use std::fmt;

/// What a key is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    /// No key needed.
    Public,
    /// Predictions, and reading what is served.
    Predict,
    /// Data sets: uploading, looking, deleting images.
    Data,
    /// Training and which model serves.
    Admin,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Scope::Public => "public",
            Scope::Predict => "predict",
            Scope::Data => "data",
            Scope::Admin => "admin",
        })
    }
}
