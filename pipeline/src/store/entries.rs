//! Entries of the tables of a data folder, as callers see them.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Who asks for a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// The scope of the key, such as `admin`; `service` for what the service does by itself.
    pub scope: String,
    /// The name of the key.
    pub key: String,
}

impl Actor {
    /// The service itself, on behalf of `what`, such as `job 3`.
    pub fn service(what: impl Into<String>) -> Actor {
        Actor { scope: "service".to_owned(), key: what.into() }
    }
}

/// A change. Times are seconds since 1970-01-01 UTC.
#[derive(Clone, Debug, PartialEq, Serialize, schemars::JsonSchema)]
pub struct AuditEntry {
    /// Numbers go up, and are never given twice.
    pub id: u64,
    /// When.
    pub at: u64,
    /// Who: the scope of the key.
    pub scope: String,
    /// Who: the name of the key.
    pub key: String,
    /// What was done, such as `promote`.
    pub action: String,
    /// To what, such as a version or the name of a data set.
    pub subject: String,
    /// More about it.
    pub detail: Value,
}

/// A change of images of a data set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Change {
    /// Its number: they go up, and are never given twice.
    pub change: u64,
    /// When it was made, in seconds since 1970.
    pub at: u64,
    /// Who made it: the scope of the key.
    pub scope: String,
    /// Who made it: the name of the key.
    pub key: String,
    /// The class that its images went to; null where they were removed.
    pub class: Option<String>,
    /// How many images.
    pub images: usize,
    /// When it was undone, in seconds since 1970.
    pub undone: Option<u64>,
}

/// What somebody says about a prediction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct FeedbackInput {
    /// The class that was predicted.
    pub predicted: Option<String>,
    /// The class that it should be.
    pub label: Option<String>,
    /// The model version that predicted.
    pub version: Option<String>,
    /// Anything else.
    pub note: Option<String>,
}

/// An entry that waits for a review.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct FeedbackEntry {
    /// SHA-256 of the image, in hexadecimal.
    pub id: String,
    /// When it came, in seconds since 1970.
    pub added: u64,
    /// Size of the image file.
    pub bytes: u64,
    /// Why its file cannot be used; the same image sent again restores it.
    pub damaged: Option<String>,
    /// What was said.
    #[serde(flatten)]
    pub input: FeedbackInput,
}

/// Some of the entries that wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct FeedbackPage {
    /// How many there are in all.
    pub total: usize,
    /// Those that were asked for, oldest first.
    pub feedback: Vec<FeedbackEntry>,
}

/// A job that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredJob {
    /// Numbers go up, and are never given twice.
    pub id: u64,
    /// The model whose service it is for.
    pub model: String,
    /// The data set.
    pub dataset: String,
    /// Whether nothing more will happen.
    pub ended: bool,
    /// What the service knows of it, as JSON.
    pub record: String,
}
