//! The `.ocelli` model file: a network, its weights, and all that is needed to use and to judge them.
//!
//! ```text
//! mark, format version, flags, lengths   32 bytes
//! header                                 bincode: graph, names, preprocessing, metrics, origin, tensor table
//! tensors                                raw little-endian f32 or f16, each at a multiple of 64 bytes
//! training state (optional)              bincode header and raw moments: what a resumed run continues from
//! probe images (optional)                pixels and the model's answers: what a loader asks again
//! int8 scales (optional)                 bincode: how values and weights become bytes
//! SHA-256                                of every byte before it
//! ```
//!
//! `docs/model-format.md` gives the layout byte by byte. The encoding is canonical: a model has exactly one file,
//! and a file that is read and written again keeps every byte. So the hash names the content.
//!
//! A file is untrusted. Nothing is allocated from a length that the file declares before that many bytes are
//! known to be there, and the checks hold without the hash: whoever forges a file can forge its hash too.

mod bytes;
mod check;
mod codec;
mod contents;
mod frame;
mod half;
mod probes;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

use ocelli_common::atomic_file;

use crate::error::EngineError;
use crate::params::{Model, ParamKind};

pub use contents::{
    Fit, Imported, InnerValue, LabelQuality, MAX_CLASS_NAME_BYTES, MAX_CLASSES, MAX_MEANS, MAX_PROBES,
    Metrics, ModelFile, ModelMeta, MultiLabel, Origin, Preprocessing, Probe, Probes, Rejection,
    RejectionScore, Trained, TrainingState, WeightType,
};
pub use frame::{FORMAT_VERSION, MAX_FILE_BYTES};
pub use half::{from_f16, to_f16};

impl ModelFile {
    /// A model to predict with: weights in f32, no training state, no probes, no int8.
    pub fn new(model: Model, meta: ModelMeta) -> Self {
        let (training, probes, quantization) = (None, None, None);
        ModelFile { model, weights: WeightType::F32, meta, training, probes, quantization }
    }

    /// The same model with the weights of its convolutions and dense layers rounded to f16, in which its file stores them.
    /// It has no training state, no probes and no int8: all belong to the weights before.
    ///
    /// # Errors
    /// [`EngineError::ModelFile`] for a weight past the largest f16, 65,504.
    pub fn with_f16_weights(mut self) -> Result<ModelFile, EngineError> {
        let entries = self.model.layout().entries().to_vec();
        for entry in entries.iter().filter(|entry| entry.kind == ParamKind::Weight) {
            let values = &mut self.model.params_mut()[entry.range()];
            for value in values {
                let rounded = half::from_f16(half::to_f16(*value));
                if !rounded.is_finite() {
                    let (name, value) = (&entry.name, *value);
                    return Err(bytes::error(format!("tensor `{name}` holds {value}, too large for f16")));
                }
                *value = rounded;
            }
        }
        let (training, probes, quantization) = (None, None, None);
        Ok(ModelFile { weights: WeightType::F16, training, probes, quantization, ..self })
    }

    /// The bytes of the file.
    ///
    /// # Errors
    /// [`EngineError::ModelFile`] when the parts contradict each other (say, more classes than logits), a weight is
    /// not finite, or the file would pass [`MAX_FILE_BYTES`]: what is written can be read.
    pub fn to_bytes(&self) -> Result<Vec<u8>, EngineError> {
        let encoded = frame::Encoded::new(self)?;
        let mut bytes = Vec::with_capacity(encoded.len() as usize);
        encoded.write(&mut bytes).expect("a write to memory cannot fail");
        Ok(bytes)
    }

    /// Reads the bytes of a file. Takes at most their number and a few mebibytes of memory, twice their number where
    /// weights are stored in f16.
    ///
    /// # Errors
    /// [`EngineError::ModelFile`] for bytes that are no model file, of another version, damaged or inconsistent.
    pub fn from_bytes(bytes: &[u8]) -> Result<ModelFile, EngineError> {
        frame::read(bytes)
    }

    /// The SHA-256 that the file of this model ends with: the identity of its content.
    ///
    /// # Errors
    /// As [`ModelFile::to_bytes`].
    pub fn content_hash(&self) -> Result<[u8; 32], EngineError> {
        let encoded = frame::Encoded::new(self)?;
        Ok(encoded.write(&mut io::sink()).expect("a write to nowhere cannot fail"))
    }

    /// Writes the file so that a crash leaves the old one or the new one whole, and returns its SHA-256.
    ///
    /// The new file is written beside the old one under a temporary name, flushed to the disk, then renamed.
    ///
    /// # Errors
    /// As [`ModelFile::to_bytes`], with the path; [`EngineError::Io`] when the disk refuses. The temporary file is
    /// gone then.
    pub fn save(&self, path: &Path) -> Result<[u8; 32], EngineError> {
        let encoded = frame::Encoded::new(self).map_err(|error| with_path(error, path))?;
        let io_error = |source| EngineError::Io { path: path.to_owned(), source };
        let written = atomic_file::write_with(path, |file| {
            let mut out = BufWriter::with_capacity(1 << 16, file);
            let hash = encoded.write(&mut out)?;
            out.flush()?;
            Ok(hash)
        });
        written.map_err(io_error)
    }

    /// Reads a file of at most [`MAX_FILE_BYTES`].
    ///
    /// # Errors
    /// As [`ModelFile::from_bytes`], with the path; [`EngineError::Io`] when the file cannot be read.
    pub fn load(path: &Path) -> Result<ModelFile, EngineError> {
        let bytes = read_file(path)?;
        ModelFile::from_bytes(&bytes).map_err(|error| with_path(error, path))
    }
}

/// A short name for a content hash: its first 12 hexadecimal digits.
pub fn version_id(hash: &[u8; 32]) -> String {
    hash[..6].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn with_path(error: EngineError, path: &Path) -> EngineError {
    match error {
        EngineError::ModelFile { reason, .. } => {
            EngineError::ModelFile { path: Some(path.to_owned()), reason }
        }
        other => other,
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, EngineError> {
    let io_error = |source| EngineError::Io { path: path.to_owned(), source };
    // Asked before the file is opened, as opening a pipe waits for its other end.
    if !fs::metadata(path).map_err(io_error)?.is_file() {
        return Err(with_path(bytes::error("not a model file: not a regular file"), path));
    }
    let file = File::open(path).map_err(io_error)?;
    let len = file.metadata().map_err(io_error)?.len();
    // A large file of another kind is refused after its first bytes.
    let mut bytes = Vec::new();
    (&file).take(frame::FRAME_BYTES as u64).read_to_end(&mut bytes).map_err(io_error)?;
    let len = frame::check_start(&bytes, len).map_err(|error| with_path(error, path))?;
    bytes.try_reserve_exact(len - bytes.len()).map_err(|_| io_error(io::ErrorKind::OutOfMemory.into()))?;
    let rest = (len - bytes.len()) as u64;
    file.take(rest).read_to_end(&mut bytes).map_err(io_error)?;
    Ok(bytes)
}
