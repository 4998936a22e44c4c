//! The drawings of a run, SVG.

mod confusion;
mod curves;
mod mistakes;
mod reliability;
#[cfg(test)]
mod tests;

pub(crate) use confusion::confusion_matrix;
pub(crate) use curves::curves;
pub(crate) use mistakes::worst_mistakes;
pub(crate) use reliability::reliability;
