//! The drawings of a run, SVG.

mod average_precision;
mod confusion;
mod curves;
mod mistakes;
mod reliability;
#[cfg(test)]
mod tests;

pub(crate) use average_precision::average_precisions;
pub(crate) use confusion::confusion_matrix;
pub(crate) use curves::curves;
pub(crate) use mistakes::{Picture, worst_mistakes};
pub(crate) use reliability::reliability;
