//! Layers: what a kernel family needs to run forward and backward inside a plan. Safe code; shapes, saved values and
//! calls, with forward and backward side by side.
//!
//! A layer is made when a plan is compiled, with every place in memory resolved. It never sees an instruction set
//! beyond handing it on, allocates nothing when it runs, and cuts its work into pieces that depend on shapes alone.

pub(crate) mod activation;
pub(crate) mod add;
pub(crate) mod batchnorm;
pub(crate) mod before;
pub(crate) mod behind;
pub(crate) mod bytes;
pub(crate) mod channel_gather;
pub(crate) mod channel_scale;
pub(crate) mod concat;
pub(crate) mod conv2d;
pub(crate) mod dense;
pub(crate) mod depthwise;
pub(crate) mod dropout;
pub(crate) mod filters;
pub(crate) mod halves;
pub(crate) mod input;
pub(crate) mod norm_pool;
pub(crate) mod outputs;
pub(crate) mod packed;
pub(crate) mod panels;
pub(crate) mod pool;
pub(crate) mod real;
pub(crate) mod run;
pub(crate) mod separable;
pub(crate) mod split;
