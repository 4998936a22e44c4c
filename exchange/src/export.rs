//! From a model to the bytes of another program's file.

use ocelli_engine::model_file::ModelFile;

use crate::error::ExchangeError;
use crate::onnx;
pub use crate::target::{ExportOptions, Numbers, Target};

/// The bytes of a file with this model.
///
/// # Errors
/// [`ExchangeError::Export`] for a model that the format cannot hold.
pub fn export(file: &ModelFile, options: &ExportOptions) -> Result<Vec<u8>, ExchangeError> {
    let format = options.target.name();
    match options.target {
        Target::Onnx => return onnx::export(file, options),
        Target::Safetensors | Target::Keras | Target::Npz => {}
    }
    Err(ExchangeError::Export { format, reason: "not built yet".to_owned() })
}
