//! What a trained model keeps of its images to learn further classes without losing the ones it knows: their features, in
//! the folder `replay` beside its file.

mod files;
mod merge;
mod of_run;
mod sample;

pub(crate) use files::{DataName, Kept, Replay, short_hash};
pub(crate) use of_run::{Computed, Selection};
pub(crate) use sample::most_kept;
