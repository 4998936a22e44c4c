//! Files as people have them, and files that were made to do harm, made in code: what the tests of all crates share. Of the
//! program, only the load test (`flood`) takes files from here, to send them to a service.
//!
//! Image formats are written byte by byte where the encoders at hand cannot make a variant (a JPEG with one scan a
//! component, a TIFF with a palette); each writer names its specification. Everything is deterministic.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

pub mod bmp;
mod collage;
pub mod exif;
pub mod hostile;
pub mod jpeg;
pub mod mutate;
mod picture;
pub mod png;
pub mod tiff;
pub mod webp;
pub mod xml;
pub mod zip;

pub use collage::collage;
pub use picture::{BLUE, GREEN, RED, YELLOW, encode, picture, quad};
