//! Optimisers over flat parameters: SGD with momentum, Adam, AdamW, Muon, and clipping by the global norm.
//!
//! `optimizer` has the settings, `groups` says which parameters move at which rate, `state` makes the step,
//! `average` follows the parameters.

mod average;
mod groups;
mod muon;
mod optimizer;
mod state;

pub(crate) use average::Average;
pub use groups::Decay;
pub(crate) use groups::Moving;
pub use optimizer::{AdamConfig, Optimizer};
pub(crate) use state::{OptimizerState, Step, clip_factor};
