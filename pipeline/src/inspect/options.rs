//! How a data set is inspected.

use std::path::PathBuf;

use crate::compute::Compute;

/// Images that labels are searched in where nobody says how many: their features take about 5 ms each on two cores.
pub const DEFAULT_SUSPECTS: usize = 4000;

/// How a data set is inspected.
#[derive(Clone, Debug)]
pub struct InspectOptions {
    /// How to compute.
    pub compute: Compute,
    /// Channels that images are decoded to: 3 for gray and colours, another number for TIFF files of so many samples.
    pub channels: u8,
    /// How many images are searched for wrong labels.
    pub suspects: Suspects,
    /// The model that judges labels: one that knows the classes, or any whose features are to be used. The ImageNet model in
    /// this program where none is named.
    pub model: Option<PathBuf>,
    /// Pictures that a finding has of its files.
    pub thumbnails: usize,
}

impl Default for InspectOptions {
    fn default() -> Self {
        InspectOptions {
            compute: Compute::default(),
            channels: 3,
            suspects: Suspects::Most(DEFAULT_SUSPECTS),
            model: None,
            thumbnails: 0,
        }
    }
}

/// How many images are searched for wrong labels by features. A model that knows the classes is asked about all images that
/// it was not trained on, unless it is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suspects {
    /// All of them.
    All,
    /// At most so many, at even distances.
    Most(usize),
    /// None.
    None,
}
