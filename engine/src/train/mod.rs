//! Training: `config` says how, `trainer` does it.

mod batch;
mod config;
mod targets;
mod trainer;

pub(crate) use batch::{check_batch, check_images};
pub use config::{Loss, TrainConfig};
pub use targets::Mixed;
pub use trainer::{StepStats, Trainer};
