//! ONNX, <https://onnx.ai/onnx/repo-docs/IR.html>: graphs of operators in `N, C, H, W`, in a protobuf.
//!
//! | files | what they do |
//! |---|---|
//! | `wire`, `field`, `schema`, `tensor` | the protobuf: views of the bytes, which copy nothing |
//! | `constant` | constants, and operators on constants alone |
//! | `view`, `layout` | what a value of the graph is in the engine's memory |
//! | `order` | the nodes that count, in an order in which they can run |
//! | `steps` | layers while the graph is read |
//! | `windows`, `dense`, `elementwise`, `shapes`, `parts` | operators, a family each |
//! | `quantized` | scales of networks in 8 bits |
//! | `finish`, `metadata`, `read` | from all of these to a model |
//! | `message`, `write` | from a model to a file |

mod call;
mod constant;
mod dense;
mod elementwise;
mod field;
mod finish;
mod layout;
mod message;
mod metadata;
mod order;
mod parts;
mod quantized;
mod read;
mod schema;
mod shapes;
mod steps;
mod tensor;
mod view;
mod windows;
mod wire;
mod write;

pub(crate) use read::import;
pub(crate) use write::export;

/// Whether bytes begin as a model of ONNX does: with its version or producer.
pub(crate) fn is_model(bytes: &[u8]) -> bool {
    schema::is_model(bytes)
}
