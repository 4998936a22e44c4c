//! A convolutional network engine for CPUs: SIMD kernels, backpropagation, optimisers, plans and model files.
//!
//! A network is a [`Graph`] of [`Op`]s, a [`Model`] adds its parameters. [`Trainer`] compiles a model for training,
//! [`Inference`] for prediction. Images are `f32` arrays `[n, h, w, c]`, logits `[n, classes]`.
//!
//! ```
//! use ndarray::Array4;
//! use ocelli_engine::graph::{Conv2d, Dense};
//! use ocelli_engine::{Activation, Exec, Graph, Inference, Model, Op, Shape, TrainConfig, Trainer};
//!
//! // Which half of an image is bright, left or right?
//! let mut graph = Graph::new(Shape::new(8, 8, 1));
//! graph.then("conv", Op::Conv2d(Conv2d::new(4, 3)));
//! graph.then("relu", Op::Activation(Activation::Relu));
//! graph.then("flatten", Op::Flatten);
//! graph.then("classes", Op::Dense(Dense { units: 2, bias: true }));
//!
//! let labels: Vec<u32> = (0..32).map(|i| i % 2).collect();
//! let images = Array4::from_shape_fn((32, 8, 8, 1), |(i, _, x, _)| {
//!     if (x < 4) == (labels[i] == 0) { 1.0 } else { 0.0 }
//! });
//!
//! let exec = Exec::new(1)?;
//! let mut trainer = Trainer::new(Model::init(graph, 1)?, TrainConfig::default(), &exec)?;
//! for _ in 0..50 {
//!     trainer.step_images(images.view(), &labels, 0.01)?;
//! }
//!
//! let mut inference = Inference::new(trainer.model(), 32, &exec)?;
//! let logits = inference.predict(images.view())?;
//! for (row, label) in logits.rows().into_iter().zip(labels) {
//!     assert_eq!(u32::from(row[1] > row[0]), label);
//! }
//! # Ok::<(), ocelli_engine::EngineError>(())
//! ```
//!
//! [`Exec`] says where to compute: the instruction set and the pool of threads, which may be the caller's own
//! ([`Pool`]). Results do not depend on the number of threads. [`model_file`] reads and writes models; `zoo` has graphs of
//! known networks.
//!
//! # Names
//!
//! `n h w c`: images, height, width, channels. `kh kw`: height and width of a kernel. `oh ow cout`: of an output.
//! `x y w b`: input, output, weights, bias; `dx dy dw db`: their gradients.
#![deny(unsafe_code)]

mod arena;
mod bf16;
#[allow(unsafe_code, reason = "the one place that allocates with an alignment")]
mod buffer;
mod calibration;
mod class_gradients;
mod collective;
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
pub mod oracle;
#[doc(hidden)]
pub mod parallel;
mod params;
pub mod plan;
pub mod probability;
mod quantization;
pub mod rejection;
pub mod rng;
#[allow(unsafe_code, reason = "intrinsics")]
pub mod simd;
mod train;
pub mod zoo;

pub use bf16::Bf16;
pub use buffer::Buffer;
pub use calibration::{Calibration, Choice, Clip};
pub use class_gradients::{ClassGradients, GradientOutputs};
pub use collective::{Collective, ThreadRank, share, thread_ranks};
pub use error::EngineError;
pub use exec::{Exec, Learning, Mode, Norms, Precision};
pub use geometry::Shape;
pub use graph::{Activation, Graph, Op};
pub use infer::{Inference, Outputs, softmax};
pub use optim::{AdamConfig, Decay, Optimizer};
pub use parallel::{Pool, Wait, default_threads};
pub use params::{Model, ParamEntry, ParamKind, ParamLayout};
pub use plan::{Plan, PlanMemory};
pub use quantization::{LayerScale, Quantization, ValueScale};
pub use simd::{DotIsa, Isa};
pub use train::{Loss, Mixed, StepStats, TrainConfig, Trainer};
