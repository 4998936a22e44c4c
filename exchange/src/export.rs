//! From a model to the bytes of another program's file.

use ocelli_engine::model_file::ModelFile;

use crate::error::ExchangeError;
pub use crate::target::{ExportOptions, Numbers, Target};
use crate::{npz, torch};

/// The bytes of a file with this model.
///
/// # Errors
/// [`ExchangeError::Export`] for a model that the format cannot hold.
pub fn export(file: &ModelFile, options: &ExportOptions) -> Result<Vec<u8>, ExchangeError> {
    let format = options.target.name();
    if options.with_preprocess && matches!(options.target, Target::Safetensors | Target::Npz) {
        let reason = "it holds weights and no graph that could normalise pixels: choose --to onnx".to_owned();
        return Err(ExchangeError::Export { format, reason });
    }
    match options.target {
        Target::Safetensors => return torch::write_safetensors(file, options.numbers),
        Target::Npz => return npz::write(file, options.numbers),
        Target::Onnx | Target::Keras => {}
    }
    Err(ExchangeError::Export { format, reason: "not built yet".to_owned() })
}
