//! A learning rate by a range test (Smith, 2015, "Cyclical learning rates for training neural networks"): the rate rises
//! from far too low to far too high within some steps, and the loss says which rates teach most. The weights are thrown
//! away.

mod draw;
mod range_test;
mod suggest;

pub(crate) use range_test::range_test;
pub use range_test::{LrFind, LrPoint};
