//! Training: `config` says how, `trainer` does it.

mod batch;
mod config;
mod trainer;

pub(crate) use batch::{check_batch, check_images};
pub use config::TrainConfig;
pub use trainer::{StepStats, Trainer};
