//! Parameters of a network: `model` keeps them, `start` makes first weights of other kinds than random ones.

mod eigen;
mod model;
mod start;

pub use model::{Model, ParamEntry, ParamKind, ParamLayout};
