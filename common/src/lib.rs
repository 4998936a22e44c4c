//! What engine, datasets, pipeline and the tools above them need once, and what belongs to none of them.
//!
//! It stands below all other crates and depends on none, so that engine and datasets can share it without knowing each
//! other. Whatever only one crate needs stays in that crate.
#![forbid(unsafe_code)]

pub mod atomic_file;
pub mod npy;
pub mod preprocessing;
pub mod random;
pub mod svg;
pub mod text;
