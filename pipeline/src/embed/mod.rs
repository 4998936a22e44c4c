//! Features of images, and what follows from how near they are to each other: similar images, near duplicates, labels
//! that look wrong.
//!
//! An image's features are what the last dense layer of a network reads. Two images are as similar as the cosine of the
//! angle between their features: 1 for the same direction. Labels take no part in it, so a model helps with classes that
//! it has never heard of.

mod embeddings;
mod images;
mod near;
#[cfg(test)]
mod tests;
mod write;

pub use embeddings::Embeddings;
pub use near::{Duplicates, LabelSuspect, MAX_PAIRS, Neighbour, Pair};
