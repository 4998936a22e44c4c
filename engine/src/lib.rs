//! The CNN engine of Ocelli: tensors, SIMD kernels, layers, backpropagation, optimisers, plans and model files.
#![deny(unsafe_code)]

#[allow(unsafe_code, reason = "the one place that allocates with an alignment")]
mod buffer;
mod error;
pub mod geometry;
pub mod graph;
#[allow(unsafe_code, reason = "kernels check extents once and then work on pointers")]
pub mod kernels;
mod params;
pub mod rng;
#[allow(unsafe_code, reason = "intrinsics")]
pub mod simd;

pub use buffer::Buffer;
pub use error::EngineError;
pub use geometry::Shape;
pub use graph::{Activation, Graph, Op};
pub use params::{Model, ParamEntry, ParamKind, ParamLayout};
pub use simd::Isa;
