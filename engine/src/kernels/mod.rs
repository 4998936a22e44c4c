//! The kernels, one file or folder per family.

pub mod activation;
pub mod batchnorm;
pub mod bytes;
pub mod conv2d;
pub mod depthwise;
pub mod elementwise;
pub mod fold;
pub mod gemm;
mod lanes;
mod micro;
mod pack;
pub mod pool;
pub mod reduce;
#[doc(hidden)]
pub mod reference;
pub mod sigmoid_loss;
pub mod softmax;
pub mod update;
pub mod winograd;

pub use lanes::Number;
pub(crate) use micro::OuterProducts;
pub use micro::{Halves, Reals};

#[cfg(test)]
pub(crate) mod testing;
