//! One image of a data set with its label.

use crate::split::Split;

/// One labelled image of a source.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Item {
    /// Path relative to the root, ZIP entry name, path as the CSV has it, or `FILE#INDEX`.
    pub name: String,
    /// Index into [`crate::Source::classes`].
    pub class: u32,
    /// The split that the layout declares.
    pub split: Option<Split>,
}
