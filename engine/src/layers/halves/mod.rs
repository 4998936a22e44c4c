//! Layers on bf16 that have no like in f32: sums over taps alone, and what lies between the two kinds of numbers.

mod conv2d;
mod convert;

pub(crate) use conv2d::{HalfConv2dBackward, HalfConv2dLayer, HalfDataGradient};
pub(crate) use convert::ConvertLayer;
