//! The `.ocelli` model file: a network, its weights, and all that is needed to use and to judge them.
//!
//! ```text
//! mark, format version, flags, lengths   32 bytes
//! header                                 bincode: graph, names, preprocessing, metrics, provenance, tensor table
//! tensors                                raw little-endian f32, each at a multiple of 64 bytes
//! training state (optional)              bincode header and raw moments: what a resumed run continues from
//! probe images (optional)                pixels and the model's answers: what a loader asks again
//! SHA-256                                of every byte before it
//! ```
//!
//! `docs/model-format.md` gives the layout byte by byte. The encoding is canonical: a model has exactly one file,
//! and a file that is read and written again keeps every byte. So the hash names the content.
//!
//! A file is untrusted. Nothing is allocated from a length that the file declares before that many bytes are
//! known to be there, and the checks hold without the hash: whoever forges a file can forge its hash too.

mod check;
mod codec;
mod frame;
mod probes;
#[cfg(test)]
mod tests;

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::error::EngineError;
use crate::params::Model;

pub use check::{MAX_CLASS_NAME_BYTES, MAX_CLASSES};
pub use frame::{FORMAT_VERSION, MAX_FILE_BYTES};
pub use probes::{MAX_PROBES, Probe, Probes};

/// How an image of another aspect ratio is brought to the size of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fit {
    /// Both sides are scaled on their own: the whole image, distorted.
    Stretch,
    /// Scaled to cover the target, then cut at the middle: no distortion, the borders are lost.
    Crop,
    /// Scaled to lie inside the target, then padded: the whole image, undistorted.
    Pad,
}

/// How an image becomes the network's input; training, evaluation and serving follow the same record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Preprocessing {
    /// Width of the input in pixels.
    pub width: u32,
    /// Height of the input in pixels.
    pub height: u32,
    /// 1 for grey, 3 for RGB.
    pub channels: u8,
    /// What happens to images of another aspect ratio.
    pub fit: Fit,
    /// Subtracted from each channel, on the scale 0..=1.
    pub mean: Vec<f32>,
    /// Each channel is divided by it after that; positive.
    pub std: Vec<f32>,
}

/// How well the model does on images that it was not trained on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Fraction of images whose best class is the right one, in `0..=1`.
    pub accuracy: f32,
    /// Fraction of images whose right class is among the best five, in `0..=1`.
    pub top5: f32,
    /// Mean cross-entropy in nats.
    pub loss: f32,
    /// The split that was measured: `val` or `test`.
    pub split: String,
    /// Number of images in it.
    pub images: u64,
}

/// Where the model comes from, so that it can be made again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// Version of the program that trained it.
    pub version: String,
    /// Seed of the run.
    pub seed: u64,
    /// Name of the data set.
    pub data_name: String,
    /// SHA-256 of the data set's content.
    pub data_hash: [u8; 32],
    /// The resolved recipe as TOML text.
    pub recipe: String,
    /// Time of the training in seconds since 1970-01-01 UTC.
    pub created: u64,
    /// Epochs that were run.
    pub epochs: u32,
    /// Version of the model whose weights it started from.
    pub parent: Option<String>,
}

/// All of a model file that is not weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelMeta {
    /// Name for people; not a file name: it may hold any character.
    pub name: String,
    /// Class names in the order of the logits: unique, of 1 to [`MAX_CLASS_NAME_BYTES`] bytes.
    pub classes: Vec<String>,
    /// How an image becomes the input.
    pub preprocessing: Preprocessing,
    /// Quality on held-out images, where it was measured.
    pub metrics: Option<Metrics>,
    /// Where the model comes from.
    pub provenance: Provenance,
}

/// What a resumed run needs besides the weights.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainingState {
    /// Name of the optimiser that the moments belong to.
    pub optimizer: String,
    /// Steps taken so far.
    pub step: u64,
    /// The optimiser's buffers, each [`ParamLayout::trainable`](crate::ParamLayout::trainable) floats in the
    /// layout of the parameters; floats between tensors are not stored and come back as zero.
    pub moments: Vec<Vec<f32>>,
    /// Text of the caller, returned as it was given.
    pub extra: String,
}

/// A model with everything that its file holds.
#[derive(Clone, Debug)]
pub struct ModelFile {
    /// The network and its weights.
    pub model: Model,
    /// All that is not weights.
    pub meta: ModelMeta,
    /// What a resumed run needs; `None` in a file that only predicts.
    pub training: Option<TrainingState>,
    /// What the model answered when the file was written; `None` where nobody asked it.
    pub probes: Option<Probes>,
}

impl ModelFile {
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

    /// Reads the bytes of a file. Takes at most their number and a few mebibytes of memory.
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
        let (temporary, file) = create_beside(path).map_err(io_error)?;
        let hash = write_and_sync(&encoded, file).and_then(|hash| {
            fs::rename(&temporary, path)?;
            sync_folder(path)?;
            Ok(hash)
        });
        if hash.is_err() {
            // Gone already where the rename took place; the first error is the one to report.
            let _ = fs::remove_file(&temporary);
        }
        hash.map_err(io_error)
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
        return Err(with_path(frame::error("not a model file: not a regular file"), path));
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

/// A new file in the folder of `path` under a name that no other writer uses.
fn create_beside(path: &Path) -> io::Result<(PathBuf, File)> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
    loop {
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".tmp-{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed)));
        let temporary = path.with_file_name(hidden);
        match OpenOptions::new().write(true).create_new(true).open(&temporary) {
            // Left by a killed process that had this one's number.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            result => return Ok((temporary, result?)),
        }
    }
}

fn write_and_sync(encoded: &frame::Encoded, file: File) -> io::Result<[u8; 32]> {
    let mut out = BufWriter::with_capacity(1 << 16, file);
    let hash = encoded.write(&mut out)?;
    out.flush()?;
    out.get_ref().sync_all()?;
    Ok(hash)
}

/// Makes a rename in the folder of `path` survive a power cut.
fn sync_folder(path: &Path) -> io::Result<()> {
    // Only Unix opens folders as files.
    if cfg!(unix) {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}
