//! From the bytes of a file to a model: which format they are of, and what comes of it.

use crate::error::ExchangeError;
pub use crate::imported::{Format, Head, Import, ImportOptions, InputRule};
use crate::torch;

/// Reads a model from the bytes of a file of any [`Format`], which is told by the bytes.
///
/// # Errors
/// [`ExchangeError`]: for bytes that are no such file, damaged or not supported, and for what the options have to say.
pub fn import(bytes: &[u8], options: &ImportOptions) -> Result<Import, ExchangeError> {
    match sniff(bytes) {
        Some(Format::Torch) => return torch::import_torch(bytes, options),
        Some(Format::Safetensors) => return torch::import_safetensors(bytes, options),
        _ => {}
    }
    let start: String = bytes.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    Err(ExchangeError::UnknownFormat(format!(
        "no model of Keras, ONNX, PyTorch or safetensors: the file begins with the bytes {start}"
    )))
}

/// The format of a file by its bytes.
fn sniff(bytes: &[u8]) -> Option<Format> {
    if torch::is_state_dict(bytes) {
        return Some(Format::Torch);
    }
    if torch::is_safetensors(bytes) {
        return Some(Format::Safetensors);
    }
    None
}
