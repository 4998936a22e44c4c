//! The CNN engine of Ocelli: tensors, SIMD kernels, layers, backpropagation, optimisers, plans and model files.
#![deny(unsafe_code)]

mod arena;
#[allow(unsafe_code, reason = "the one place that allocates with an alignment")]
mod buffer;
mod error;
mod exec;
pub mod geometry;
pub mod graph;
mod infer;
#[allow(unsafe_code, reason = "kernels check extents once and then work on pointers")]
pub mod kernels;
mod layers;
pub mod model_file;
mod optim;
#[doc(hidden)]
pub mod parallel;
mod params;
pub mod plan;
pub mod rng;
#[allow(unsafe_code, reason = "intrinsics")]
pub mod simd;
mod train;
pub mod zoo;

pub use buffer::Buffer;
pub use error::EngineError;
pub use exec::{Exec, Mode};
pub use geometry::Shape;
pub use graph::{Activation, Graph, Op};
pub use infer::{Inference, softmax};
pub use optim::{AdamConfig, Optimizer};
pub use parallel::{Pool, Wait, default_threads};
pub use params::{Model, ParamEntry, ParamKind, ParamLayout};
pub use plan::{Plan, PlanMemory};
pub use simd::Isa;
pub use train::{StepStats, TrainConfig, Trainer};
