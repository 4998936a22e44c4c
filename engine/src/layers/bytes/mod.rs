//! Layers on bytes, at inference: what `crate::quantization` has scales for.

mod add;
mod conv2d;
mod convert;
mod depthwise;
mod filters;
mod pool;

pub(crate) use add::AddBytesLayer;
pub(crate) use conv2d::{ByteResidual, Conv2dBytesLayer};
pub(crate) use convert::{DequantizeLayer, QuantizeLayer};
pub(crate) use depthwise::DepthwiseBytesLayer;
pub(crate) use filters::ByteFilters;
pub(crate) use pool::{GlobalPoolBytesLayer, MaxPoolBytesLayer};
