//! What is told about data sets and their images.

use ocelli_datasets::Split;
use serde::Serialize;

use crate::store::list::Origin;

/// A data set in a list of data sets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct DatasetSummary {
    /// Its name.
    pub name: String,
    /// Images in all.
    pub images: usize,
    /// Classes in all.
    pub classes: usize,
    /// Bytes of all image files.
    pub bytes: u64,
    /// When it last changed, in seconds since 1970; 0 where the system does not say.
    pub changed: u64,
    /// Why its list cannot be read; the numbers are 0 then.
    pub damaged: Option<String>,
}

/// All about a data set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct DatasetInfo {
    /// Its name.
    pub name: String,
    /// Images in all.
    pub images: usize,
    /// Bytes of all image files.
    pub bytes: u64,
    /// Classes by name.
    pub classes: Vec<ClassInfo>,
    /// When its first image came, of those that are left; seconds since 1970.
    pub created: u64,
    /// When it last changed, in seconds since 1970; 0 where the system does not say.
    pub changed: u64,
    /// Snapshots that are in use.
    pub snapshots: Vec<String>,
}

/// Images of a class.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct ClassInfo {
    /// Its name.
    pub name: String,
    /// Images in all.
    pub images: usize,
    /// Declared for training.
    pub train: usize,
    /// Declared for validation.
    pub val: usize,
    /// Declared for test.
    pub test: usize,
}

/// An image of a data set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct ImageInfo {
    /// SHA-256 of the file, in hexadecimal.
    pub id: String,
    /// Its class.
    pub class: String,
    /// The split that its upload declared; training draws one where there is none.
    #[schemars(with = "Option<String>")]
    pub split: Option<Split>,
    /// What it was called where it came from.
    pub name: String,
    /// When it came, in seconds since 1970.
    pub added: u64,
    /// How it came.
    pub source: Origin,
    /// Size of the file.
    pub bytes: u64,
}

/// Some of a data set's images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct ImagePage {
    /// How many there are in all.
    pub total: usize,
    /// Those that were asked for, in the order in which they came.
    pub images: Vec<ImageInfo>,
}

/// An image file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredImage {
    /// The file as it was sent.
    pub bytes: Vec<u8>,
    /// By content, e.g. `image/png`.
    pub media_type: &'static str,
}

/// What became of an image that was added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct AddedImage {
    /// SHA-256 of the file, in hexadecimal.
    pub id: String,
    /// Its class.
    pub class: String,
    /// It was there before.
    pub duplicate: bool,
}
