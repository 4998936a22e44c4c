//! What is told about data sets and their images.

use ocelli_datasets::Split;
use serde::Serialize;

use crate::store::image::Origin;

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
    /// When it last changed, in seconds since 1970.
    pub changed: u64,
    /// Images whose file is missing or is not what was sent.
    pub damaged: usize,
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
    /// When it was made; seconds since 1970.
    pub created: u64,
    /// When it last changed, in seconds since 1970.
    pub changed: u64,
    /// Jobs that it is needed for.
    pub jobs: Vec<u64>,
    /// Images since a job was last asked for.
    pub fresh: u64,
}

/// Images of a class.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct ClassInfo {
    /// Its name.
    pub name: String,
    /// Images in all.
    pub images: usize,
    /// To train on.
    pub train: usize,
    /// That choose the best epoch.
    pub val: usize,
    /// For the final result.
    pub test: usize,
    /// Images whose file is missing or is not what was sent.
    pub damaged: usize,
}

/// An image of a data set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct ImageInfo {
    /// SHA-256 of the file, in hexadecimal.
    pub id: String,
    /// Its class.
    pub class: String,
    /// The split that it got when it came, for ever.
    #[schemars(with = "SplitSchema")]
    pub split: Split,
    /// What it was called where it came from.
    pub name: String,
    /// When it came, in seconds since 1970.
    pub added: u64,
    /// How it came.
    pub source: Origin,
    /// Size of the file.
    pub bytes: u64,
    /// Why its file cannot be used; the same image sent again restores it.
    pub damaged: Option<String>,
}

/// The JSON of [`Split`], which the reader of data sets defines without knowing of schemas.
#[derive(schemars::JsonSchema)]
#[schemars(rename = "Split", rename_all = "lowercase")]
#[allow(dead_code, reason = "it is described, never made")]
enum SplitSchema {
    Train,
    Val,
    Test,
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
    /// Its split, which it keeps.
    #[schemars(with = "SplitSchema")]
    pub split: Split,
    /// It was there before.
    pub duplicate: bool,
}
