//! ONNX, <https://onnx.ai/onnx/repo-docs/IR.html>: graphs of operators in `N, C, H, W`, in a protobuf.
//!
//! | files | what they do |
//! |---|---|
//! | `wire`, `field`, `schema`, `tensor` | the protobuf: views of the bytes, which copy nothing |
//! | `constant` | constants, and operators on constants alone |
//! | `view`, `layout` | what a value of the graph is in the engine's memory |
//! | `steps` | layers while the graph is read |
//! | `windows`, `dense`, `elementwise`, `shapes` | operators, a family each |
//! | `quantized` | scales of networks in 8 bits |
//! | `finish`, `metadata`, `read` | from all of these to a model |

mod call;
mod constant;
mod dense;
mod elementwise;
mod field;
mod finish;
mod layout;
mod metadata;
mod quantized;
mod read;
mod schema;
mod shapes;
mod steps;
mod tensor;
mod view;
mod windows;
mod wire;

use ocelli_engine::model_file::ModelFile;

use crate::error::ExchangeError;
use crate::target::{ExportOptions, Target};

pub(crate) use read::import;

/// Whether bytes begin as a model of ONNX does: with its version or producer.
pub(crate) fn is_model(bytes: &[u8]) -> bool {
    schema::is_model(bytes)
}

pub(crate) fn export(_: &ModelFile, _: &ExportOptions) -> Result<Vec<u8>, ExchangeError> {
    Err(ExchangeError::Export { format: Target::Onnx.name(), reason: "not built yet".to_owned() })
}
