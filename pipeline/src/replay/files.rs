//! The files of a replay: arrays of features, labels and content hashes, and `replay.json`, which says what they are.

use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use ocelli_common::atomic_file;
use ocelli_common::npy::{self, Element};
use ocelli_datasets::ContentHash;
use ocelli_engine::model_file::ModelFile;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::PipelineError;
use crate::run_folder::{hex, write_atomic};

/// The folder beside a model file.
pub(crate) const REPLAY: &str = "replay";

/// What says that the folder is whole, and of which model: written last.
const RECORD: &str = "replay.json";

/// Largest `replay.json` and largest array that are read.
const MAX_RECORD: u64 = 16 << 20;
const MAX_ARRAY: u64 = 4 << 30;

/// Features of some images of a split.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Kept {
    /// `[images][features]`
    pub(crate) features: Vec<f32>,
    /// The class of each image.
    pub(crate) labels: Vec<u32>,
    /// How many images the split has.
    pub(crate) of: usize,
}

/// A data set that images are of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DataName {
    pub(crate) name: String,
    /// SHA-256 over names, classes, splits and contents, in hexadecimal.
    pub(crate) digest: String,
}

/// What a model keeps of the images that it was trained and measured on. Features are those of the model's own weights.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Replay {
    /// Floats of an image's features.
    pub(crate) len: usize,
    pub(crate) train: Kept,
    pub(crate) val: Kept,
    pub(crate) test: Kept,
    /// [`short_hash`] of all images of the data, kept or not; ascending.
    pub(crate) seen: Vec<u64>,
    /// The data sets, first ones first.
    pub(crate) data: Vec<DataName>,
}

/// The first eight bytes of a content hash, little-endian: among a million images two are the same by chance once in
/// forty million times.
pub(crate) fn short_hash(hash: &ContentHash) -> u64 {
    u64::from_le_bytes(hash[..8].try_into().expect("a hash has more than eight bytes"))
}

/// `replay.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    schema: u32,
    /// SHA-256 of the model file, in hexadecimal.
    model: String,
    classes: Vec<String>,
    /// Floats of an image's features.
    features: usize,
    data: Vec<DataName>,
    train: PartRecord,
    val: PartRecord,
    test: PartRecord,
    seen: ArrayRecord,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PartRecord {
    /// Images whose features are kept.
    images: usize,
    /// Images of the split.
    of: usize,
    features: ArrayRecord,
    labels: ArrayRecord,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ArrayRecord {
    file: String,
    /// Numbers along each axis.
    shape: Vec<usize>,
    /// SHA-256 of the file, in hexadecimal.
    sha256: String,
}

const SCHEMA: u32 = 1;

impl Replay {
    /// Writes the folder beside the model file at `model`, whose SHA-256 is `hash`, and says how many bytes that took. A kill
    /// in between leaves a folder that [`Replay::read`] refuses.
    ///
    /// # Errors
    /// [`PipelineError::Io`].
    pub(crate) fn write(
        &self,
        model: &Path,
        hash: &[u8; 32],
        classes: &[String],
    ) -> Result<u64, PipelineError> {
        let folder = folder_of(model);
        fs::create_dir_all(&folder).map_err(PipelineError::io(&folder))?;
        let part = |name: &str, kept: &Kept| -> Result<PartRecord, PipelineError> {
            let images = kept.labels.len();
            Ok(PartRecord {
                images,
                of: kept.of,
                features: save(
                    &folder,
                    &format!("{name}-features.npy"),
                    &[images, self.len],
                    &kept.features,
                )?,
                labels: save(&folder, &format!("{name}-labels.npy"), &[images], &kept.labels)?,
            })
        };
        let record = Record {
            schema: SCHEMA,
            model: hex(hash),
            classes: classes.to_vec(),
            features: self.len,
            data: self.data.clone(),
            train: part("train", &self.train)?,
            val: part("val", &self.val)?,
            test: part("test", &self.test)?,
            seen: save(&folder, "seen.npy", &[self.seen.len()], &self.seen)?,
        };
        let text = serde_json::to_string_pretty(&record).expect("plain values with text keys") + "\n";
        write_atomic(&folder.join(RECORD), text.as_bytes())?;
        let floats = [&self.train, &self.val, &self.test].map(|kept| kept.features.len() + kept.labels.len());
        Ok((floats.iter().sum::<usize>() * size_of::<f32>() + self.seen.len() * size_of::<u64>()) as u64)
    }

    /// What to say of files that take so many bytes.
    pub(crate) fn describe(&self, bytes: u64) -> String {
        let parts = [("training", &self.train), ("validation", &self.val), ("test", &self.test)];
        let count = |(name, kept): (&str, &Kept)| {
            let images = kept.labels.len();
            let of = if images < kept.of { format!(" of {}", kept.of) } else { String::new() };
            format!("{images}{of} {name}")
        };
        let kept: Vec<String> = parts.into_iter().filter(|(_, kept)| kept.of > 0).map(count).collect();
        let mib = bytes as f64 / f64::from(1 << 20);
        format!("kept the features of {} images, to add classes later: {mib:.1} MiB", kept.join(", "))
    }

    /// Reads what stands beside the model file at `model`; `None` where nothing does.
    ///
    /// # Errors
    /// [`PipelineError::Replay`] for a file that is missing, damaged, or of another model; [`PipelineError::Io`].
    pub(crate) fn read(model: &Path, file: &ModelFile) -> Result<Option<Replay>, PipelineError> {
        let folder = folder_of(model);
        let path = folder.join(RECORD);
        if !path.is_file() {
            return Ok(None);
        }
        let bytes = read_at_most(&path, MAX_RECORD)?;
        let record: Record = serde_json::from_slice(&bytes)
            .map_err(|error| PipelineError::replay(&path, format!("damaged ({error})")))?;
        if record.schema != SCHEMA {
            let reason = format!("its schema is {}, and this version reads schema {SCHEMA}", record.schema);
            return Err(PipelineError::replay(&path, reason));
        }
        let hash = hex(&file.content_hash()?);
        if record.model != hash {
            let short = |hash: &str| hash.chars().take(12).collect::<String>();
            let reason = format!(
                "it holds the features of model {}, and the model beside it is {}",
                short(&record.model),
                short(&hash)
            );
            return Err(PipelineError::replay(&path, reason));
        }
        let len = record.features;
        if record.classes != file.meta.classes || file.model.graph().feature_len() != Some(len) {
            return Err(PipelineError::replay(&path, "its classes or features are not those of the model"));
        }
        let part = |name: &str, part: &PartRecord| -> Result<Kept, PipelineError> {
            let features: Vec<f32> = load(&folder, &part.features, &[part.images, len])?;
            let labels: Vec<u32> = load(&folder, &part.labels, &[part.images])?;
            let known = |&label: &u32| (label as usize) < record.classes.len();
            if !labels.iter().all(known) || !features.iter().all(|value| value.is_finite()) {
                let reason = format!("the {name} part holds classes or numbers that cannot be");
                return Err(PipelineError::replay(&path, reason));
            }
            Ok(Kept { features, labels, of: part.of })
        };
        Ok(Some(Replay {
            len,
            train: part("train", &record.train)?,
            val: part("val", &record.val)?,
            test: part("test", &record.test)?,
            seen: load(&folder, &record.seen, &record.seen.shape[..record.seen.shape.len().min(1)])?,
            data: record.data,
        }))
    }
}

fn folder_of(model: &Path) -> PathBuf {
    model.with_file_name(REPLAY)
}

fn save<T: Element>(
    folder: &Path,
    file: &str,
    shape: &[usize],
    values: &[T],
) -> Result<ArrayRecord, PipelineError> {
    let path = folder.join(file);
    let hash = atomic_file::write_with(&path, |out| {
        let mut out = BufWriter::new(Hashing { out, hash: Sha256::new() });
        npy::write(&mut out, shape, values)?;
        Ok(out.into_inner().map_err(std::io::IntoInnerError::into_error)?.hash.finalize())
    });
    let hash: [u8; 32] = hash.map_err(PipelineError::io(&path))?.into();
    Ok(ArrayRecord { file: file.to_owned(), shape: shape.to_vec(), sha256: hex(&hash) })
}

/// Reads an array of the record, which must have this shape.
fn load<T: Element>(folder: &Path, record: &ArrayRecord, shape: &[usize]) -> Result<Vec<T>, PipelineError> {
    // A name and nothing else: a record from elsewhere must not make us read outside of its folder.
    let plain = Path::new(&record.file).file_name().is_some_and(|name| name == record.file.as_str());
    if !plain || record.shape != shape {
        let reason = format!("{:?} is not the file of an array of this shape", record.file);
        return Err(PipelineError::replay(&folder.join(RECORD), reason));
    }
    let path = folder.join(&record.file);
    let bytes = read_at_most(&path, MAX_ARRAY)?;
    let hash: [u8; 32] = Sha256::digest(&bytes).into();
    if hex(&hash) != record.sha256 {
        return Err(PipelineError::replay(&path, "damaged: its SHA-256 is not the one in replay.json"));
    }
    let found = npy::read(&bytes, shape);
    found.ok_or_else(|| PipelineError::replay(&path, format!("not an array of the shape {shape:?}")))
}

fn read_at_most(path: &Path, most: u64) -> Result<Vec<u8>, PipelineError> {
    let file = File::open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => PipelineError::replay(path, "this file is missing"),
        _ => PipelineError::io(path)(error),
    })?;
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes).map_err(PipelineError::io(path))?;
    if bytes.len() as u64 > most {
        return Err(PipelineError::replay(path, format!("more than {most} bytes")));
    }
    Ok(bytes)
}

/// Hashes what is written.
struct Hashing<W> {
    out: W,
    hash: Sha256,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}
