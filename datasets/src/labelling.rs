//! What the labels of a data set are expected to be, and where they stand.

use std::path::Path;

/// How many labels an image has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LabelsPerImage {
    /// One: its class.
    #[default]
    One,
    /// Any number, also none.
    Any,
    /// Any number where a table of labels shows images with several or none, else one.
    AsFound,
}

/// How a data set is to be labelled.
#[derive(Clone, Copy, Debug, Default)]
pub struct Labelling<'a> {
    /// How many labels an image has.
    pub per_image: LabelsPerImage,
    /// A table (CSV, TSV) that says the labels, instead of folders and of tables among the images. Its paths begin in the
    /// folder or archive of the images.
    pub table: Option<&'a Path>,
}
