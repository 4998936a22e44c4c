//! From the bytes of a file to a model: which format they are of, and what comes of it.

use crate::error::ExchangeError;
pub use crate::imported::{Format, Head, Import, ImportOptions, InputRule};
use crate::{keras, onnx, torch};

/// Reads a model from the bytes of a file of any [`Format`], which is told by the bytes.
///
/// # Errors
/// [`ExchangeError`]: for bytes that are no such file, damaged or not supported, and for what the options have to say.
pub fn import(bytes: &[u8], options: &ImportOptions) -> Result<Import, ExchangeError> {
    match sniff(bytes) {
        Some(Format::Onnx) => onnx::import(bytes, options),
        Some(Format::KerasH5) => keras::import_h5(bytes, options),
        Some(Format::Keras) => keras::import_archive(bytes, options),
        Some(Format::Torch) => torch::import_torch(bytes, options),
        Some(Format::Safetensors) => torch::import_safetensors(bytes, options),
        None => {
            let start: String = bytes.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
            Err(ExchangeError::UnknownFormat(format!(
                "no model of Keras, ONNX, PyTorch or safetensors: the file begins with the bytes {start}"
            )))
        }
    }
}

/// The format of a file by its bytes.
fn sniff(bytes: &[u8]) -> Option<Format> {
    if torch::is_state_dict(bytes) {
        return Some(Format::Torch);
    }
    if torch::is_safetensors(bytes) {
        return Some(Format::Safetensors);
    }
    if keras::is_h5(bytes) {
        return Some(Format::KerasH5);
    }
    if keras::is_archive(bytes) {
        return Some(Format::Keras);
    }
    if onnx::is_model(bytes) {
        return Some(Format::Onnx);
    }
    None
}
