//! Keras: `.h5` of Keras 2 and 3, and `.keras`.
//!
//! | file | what is there |
//! |---|---|
//! | `hdf5` | the library, and the bounds that hold for untrusted files |
//! | `fields`, `nodes` | the configuration: settings by name, and which layer reads which |
//! | `weights` | where a layer's weights are |
//! | `draft` | the network while it grows: what a layer puts off for the next one to do |
//! | `builder`, `activation`, `spatial`, `elementwise`, `dispatch` | layers |
//! | `model` | models of layers and of models |
//! | `read` | what is around: input, head, labels |
//! | `write` | `.keras` files for Keras 3 |

mod activation;
mod builder;
mod dispatch;
mod draft;
mod elementwise;
mod fields;
mod hdf5;
mod model;
mod nodes;
mod read;
mod spatial;
mod weights;
mod write;

use ocelli_engine::model_file::ModelFile;

use crate::archive;
use crate::error::ExchangeError;
use crate::imported::{Import, ImportOptions};
use crate::target::ExportOptions;

/// Whether the bytes begin as a `.h5` file.
pub(crate) fn is_h5(bytes: &[u8]) -> bool {
    bytes.starts_with(hdf5::SIGNATURE)
}

/// Whether the bytes are an archive with the members of a `.keras` file.
pub(crate) fn is_archive(bytes: &[u8]) -> bool {
    archive::is_archive(bytes) && read::is_archive(bytes)
}

/// Reads a `.h5` file.
///
/// # Errors
/// [`ExchangeError`]
pub(crate) fn import_h5(bytes: &[u8], options: &ImportOptions) -> Result<Import, ExchangeError> {
    read::h5(bytes, options)
}

/// Reads a `.keras` file.
///
/// # Errors
/// [`ExchangeError`]
pub(crate) fn import_archive(bytes: &[u8], options: &ImportOptions) -> Result<Import, ExchangeError> {
    read::archive(bytes, options)
}

/// The bytes of a `.keras` file.
///
/// # Errors
/// [`ExchangeError::Export`]
pub(crate) fn export(file: &ModelFile, options: &ExportOptions) -> Result<Vec<u8>, ExchangeError> {
    write::archive(file, options)
}
