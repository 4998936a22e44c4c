//! The versions of a model, and which of them serves.
//!
//! A version is named by the first 12 hexadecimal digits of its content's SHA-256 and never changes. What was found out
//! about it stands beside it in `VERSION.json`, which is written last: with it the version is there, without it is not.
//! `current` names the version that serves and those that served before it, so going back is one replacement of one file.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use ocelli_engine::model_file::{Metrics, ModelFile, version_id};
use serde::{Deserialize, Serialize};

use crate::gate::Verdict;
use crate::metrics::Evaluation;
use crate::run_folder::{hex, write_atomic};
use crate::store::StoreError;

/// Versions that going back can reach.
const MAX_HISTORY: usize = 100;

/// Largest record or evaluation that is read back.
const MAX_RECORD: u64 = 64 << 20;

/// What is known of a version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct VersionRecord {
    /// The first 12 hexadecimal digits of the content's SHA-256.
    pub version: String,
    /// Versions are numbered from 1 in the order they came.
    pub number: u32,
    /// Seconds since 1970-01-01 UTC at which it came into the store.
    pub created: u64,
    /// `imported`, or `trained` by a job of this service.
    pub origin: String,
    /// The job that trained it.
    pub job: Option<String>,
    /// Version of the model whose weights it started from.
    pub parent: Option<String>,
    /// Class names in the order of the logits.
    pub classes: Vec<String>,
    /// Width of the input in pixels.
    pub width: u32,
    /// Height of the input in pixels.
    pub height: u32,
    /// 1 for gray, 3 for RGB.
    pub channels: u8,
    /// Learnable numbers.
    pub parameters: usize,
    /// Size of the file in bytes.
    pub bytes: u64,
    /// Name of the data set it was trained on.
    pub data_name: String,
    /// SHA-256 of that data set in hexadecimal.
    pub data_hash: String,
    /// Quality on held-out images.
    #[schemars(with = "Option<MetricsSchema>")]
    pub metrics: Option<Metrics>,
    /// How it compared with the version that served when it was made.
    pub verdict: Option<Verdict>,
}

/// The JSON of [`Metrics`], which the engine defines without knowing of schemas.
#[derive(schemars::JsonSchema)]
#[schemars(rename = "Metrics")]
#[allow(dead_code, reason = "it is described, never made")]
struct MetricsSchema {
    /// Part of the images whose best class is right, in 0..=1.
    accuracy: f32,
    /// Part of the images whose class is among the best five, in 0..=1.
    top5: f32,
    /// Mean cross-entropy in nats.
    loss: f32,
    /// `val` or `test`.
    split: String,
    images: u64,
}

/// What a job says about the version that it adds.
#[derive(Clone, Debug, Default)]
pub struct NewVersion<'a> {
    /// The job that trained it; none for a model from elsewhere.
    pub job: Option<&'a str>,
    /// The report on held-out images.
    pub evaluation: Option<&'a Evaluation>,
    /// How it compared.
    pub verdict: Option<Verdict>,
}

/// `current`: what serves and what served.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Pointer {
    version: Option<String>,
    /// Oldest first.
    previous: Vec<String>,
}

/// The versions of one model.
pub struct Versions {
    dir: PathBuf,
    /// Held while `current` is read and replaced, or a version is added or deleted.
    writer: Mutex<()>,
}

impl Versions {
    /// Opens `models/NAME`; takes up model files that somebody laid there, or that a kill left without a record.
    pub(crate) fn open(dir: PathBuf) -> Result<Versions, StoreError> {
        fs::create_dir_all(&dir).map_err(StoreError::io(&dir))?;
        let versions = Versions { dir, writer: Mutex::new(()) };
        for path in versions.files()? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with('.') {
                // A file that was being written when the process ended.
                fs::remove_file(&path).map_err(StoreError::io(&path))?;
            } else if let Some(version) = name.strip_suffix(".ocelli")
                && !versions.record_path(version).is_file()
                && let Ok(file) = ModelFile::load(&path)
            {
                let added = versions.add(&file, &NewVersion::default())?;
                if added.version != version {
                    // It has its own name now.
                    fs::remove_file(&path).map_err(StoreError::io(&path))?;
                }
            }
        }
        Ok(versions)
    }

    fn files(&self) -> Result<Vec<PathBuf>, StoreError> {
        let entries = fs::read_dir(&self.dir).map_err(StoreError::io(&self.dir))?;
        let paths = entries.map(|entry| entry.map(|entry| entry.path()).map_err(StoreError::io(&self.dir)));
        paths.filter(|path| path.as_ref().is_ok_and(|path| path.is_file()) || path.is_err()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        // Everything it guards is on the disk, where a panic cannot leave it half done.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a version; one that is there already keeps its number, and gets what is new about it.
    ///
    /// # Errors
    /// [`StoreError::Io`], or the engine's for a model that cannot be written.
    pub fn add(&self, file: &ModelFile, about: &NewVersion<'_>) -> Result<VersionRecord, StoreError> {
        let _writer = self.lock();
        let version = version_id(&file.content_hash().map_err(engine)?);
        let path = self.path(&version);
        if !path.is_file() {
            file.save(&path).map_err(engine)?;
        }
        let known = self.all()?;
        let before = known.iter().find(|record| record.version == version);
        let highest = known.iter().map(|record| record.number).max().unwrap_or(0);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let (meta, input) = (&file.meta, &file.meta.preprocessing);
        let record = VersionRecord {
            number: before.map_or(highest + 1, |record| record.number),
            created: before.map_or(now, |record| record.created),
            origin: if about.job.is_some() { "trained" } else { "imported" }.to_owned(),
            job: about.job.map(str::to_owned),
            parent: meta.provenance.parent.clone(),
            classes: meta.classes.clone(),
            width: input.width,
            height: input.height,
            channels: input.channels,
            parameters: file.model.layout().count(),
            bytes: fs::metadata(&path).map_err(StoreError::io(&path))?.len(),
            data_name: meta.provenance.data_name.clone(),
            data_hash: hex(&meta.provenance.data_hash),
            metrics: meta.metrics.clone(),
            verdict: about.verdict.clone(),
            version,
        };
        if let Some(evaluation) = about.evaluation {
            write_json(&self.evaluation_path(&record.version), evaluation)?;
        }
        write_json(&self.record_path(&record.version), &record)?;
        Ok(record)
    }

    /// All versions, oldest first.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Damaged`].
    pub fn list(&self) -> Result<Vec<VersionRecord>, StoreError> {
        self.all()
    }

    fn all(&self) -> Result<Vec<VersionRecord>, StoreError> {
        let is_record = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.strip_suffix(".json").is_some_and(is_version)
        };
        let mut records = self
            .files()?
            .iter()
            .filter(|path| is_record(path))
            .map(|path| read_json(path))
            .collect::<Result<Vec<VersionRecord>, _>>()?;
        records.sort_by_key(|record| record.number);
        Ok(records)
    }

    /// What is known of a version.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], and those of [`Versions::list`].
    pub fn get(&self, version: &str) -> Result<VersionRecord, StoreError> {
        self.check(version)?;
        read_json(&self.record_path(version))
    }

    /// The report on held-out images of a version, as JSON; `None` where there is none.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Io`].
    pub fn evaluation(&self, version: &str) -> Result<Option<String>, StoreError> {
        self.check(version)?;
        let path = self.evaluation_path(version);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::io(&path)(error)),
        }
    }

    /// Reads a version, and checks that its content is what its name says.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::Damaged`] for a file that is not what was stored.
    pub fn load(&self, version: &str) -> Result<ModelFile, StoreError> {
        self.check(version)?;
        let path = self.path(version);
        let damaged = |reason: String| StoreError::Damaged { path: path.clone(), reason };
        let file = ModelFile::load(&path).map_err(|error| damaged(error.to_string()))?;
        let found = version_id(&file.content_hash().map_err(engine)?);
        if found != version {
            return Err(damaged(format!("its content is that of version {found}")));
        }
        Ok(file)
    }

    /// Where the file of a version is.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub fn file(&self, version: &str) -> Result<PathBuf, StoreError> {
        self.check(version)?;
        Ok(self.path(version))
    }

    /// The version that serves.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] for a `current` that was not written here.
    pub fn current(&self) -> Result<Option<String>, StoreError> {
        Ok(self.pointer()?.version)
    }

    /// The version that serves, then those that served before it, the last one first.
    ///
    /// # Errors
    /// As [`Versions::current`].
    pub fn history(&self) -> Result<Vec<String>, StoreError> {
        let pointer = self.pointer()?;
        Ok(pointer.version.into_iter().chain(pointer.previous.into_iter().rev()).collect())
    }

    /// The version that going back would serve.
    ///
    /// # Errors
    /// As [`Versions::current`].
    pub fn previous(&self) -> Result<Option<String>, StoreError> {
        Ok(self.pointer()?.previous.pop())
    }

    /// Makes a version the one that serves, from the next start on; says whether it was not before.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Io`].
    pub fn promote(&self, version: &str) -> Result<bool, StoreError> {
        let _writer = self.lock();
        self.check(version)?;
        let mut pointer = self.pointer()?;
        if pointer.version.as_deref() == Some(version) {
            return Ok(false);
        }
        pointer.previous.extend(pointer.version.replace(version.to_owned()));
        let surplus = pointer.previous.len().saturating_sub(MAX_HISTORY);
        pointer.previous.drain(..surplus);
        self.point(&pointer)?;
        Ok(true)
    }

    /// Goes back from `version` to `to`, which served before: both forget that `version` served.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when something else has been promoted meanwhile; [`StoreError::Io`].
    pub fn roll_back(&self, version: &str, to: &str) -> Result<(), StoreError> {
        let _writer = self.lock();
        self.check(to)?;
        let mut pointer = self.pointer()?;
        if pointer.version.as_deref() != Some(version) || pointer.previous.pop().as_deref() != Some(to) {
            let reason = "another version was promoted meanwhile: look again".to_owned();
            return Err(StoreError::Conflict { reason });
        }
        pointer.version = Some(to.to_owned());
        self.point(&pointer)
    }

    /// Deletes a version.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] for the one that serves; [`StoreError::NotFound`], [`StoreError::Io`].
    pub fn delete(&self, version: &str) -> Result<(), StoreError> {
        let _writer = self.lock();
        self.check(version)?;
        let mut pointer = self.pointer()?;
        if pointer.version.as_deref() == Some(version) {
            let reason = format!("version {version} serves: promote another one first");
            return Err(StoreError::Conflict { reason });
        }
        if pointer.previous.iter().any(|previous| previous == version) {
            pointer.previous.retain(|previous| previous != version);
            self.point(&pointer)?;
        }
        // The record goes first: without it there is no version, and what is left over is swept at the next start.
        for path in [self.record_path(version), self.evaluation_path(version), self.path(version)] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(StoreError::io(&path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn check(&self, version: &str) -> Result<(), StoreError> {
        if is_version(version) && self.record_path(version).is_file() {
            return Ok(());
        }
        let shown: String = version.chars().filter(|c| c.is_ascii_alphanumeric()).take(40).collect();
        Err(StoreError::NotFound { what: "model version", name: shown })
    }

    fn pointer(&self) -> Result<Pointer, StoreError> {
        let path = self.dir.join("current");
        if path.exists() { read_json(&path) } else { Ok(Pointer::default()) }
    }

    fn point(&self, pointer: &Pointer) -> Result<(), StoreError> {
        write_json(&self.dir.join("current"), pointer)
    }

    fn path(&self, version: &str) -> PathBuf {
        self.dir.join(format!("{version}.ocelli"))
    }

    fn record_path(&self, version: &str) -> PathBuf {
        self.dir.join(format!("{version}.json"))
    }

    fn evaluation_path(&self, version: &str) -> PathBuf {
        self.dir.join(format!("{version}.evaluation.json"))
    }
}

/// Whether a text can be a version: nothing else ever becomes part of a path here.
fn is_version(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

fn engine(error: ocelli_engine::EngineError) -> StoreError {
    crate::error::PipelineError::from(error).into()
}

pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), StoreError> {
    let text = serde_json::to_string_pretty(value).expect("plain values with text keys") + "\n";
    Ok(write_atomic(path, text.as_bytes())?)
}

pub(crate) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, StoreError> {
    let size = fs::metadata(path).map_err(StoreError::io(path))?.len();
    let damaged = |reason: String| StoreError::Damaged { path: path.to_owned(), reason };
    if size > MAX_RECORD {
        return Err(damaged(format!("{size} bytes are more than a service writes")));
    }
    let text = fs::read_to_string(path).map_err(StoreError::io(path))?;
    serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))
}

#[cfg(test)]
mod tests {
    use ocelli_engine::{Model, Shape, zoo};

    use super::*;
    use crate::predict::shipped_model;

    fn model(seed: u64) -> ModelFile {
        let mut file = shipped_model().unwrap();
        let graph = zoo::build("keras-cnn", Shape::new(28, 28, 1), 10).unwrap();
        file.model = Model::init(graph, seed).unwrap();
        file
    }

    fn opened(dir: &Path) -> Versions {
        Versions::open(dir.join("models/m")).unwrap()
    }

    #[test]
    fn versions_come_serve_go_back_and_go() {
        let dir = tempfile::tempdir().unwrap();
        let versions = opened(dir.path());
        assert_eq!(versions.current().unwrap(), None);
        let ids: Vec<String> =
            (0..3).map(|seed| versions.add(&model(seed), &NewVersion::default()).unwrap().version).collect();
        assert_eq!(versions.list().unwrap().iter().map(|r| r.number).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(versions.add(&model(1), &NewVersion::default()).unwrap().number, 2);
        for id in &ids {
            assert!(versions.promote(id).unwrap());
            assert!(!versions.promote(id).unwrap());
        }
        assert!(matches!(versions.delete(&ids[2]), Err(StoreError::Conflict { .. })));
        versions.delete(&ids[1]).unwrap();
        assert_eq!(versions.previous().unwrap().as_ref(), Some(&ids[0]));
        assert!(matches!(versions.roll_back(&ids[0], &ids[1]), Err(StoreError::NotFound { .. })));
        assert!(matches!(versions.roll_back(&ids[0], &ids[0]), Err(StoreError::Conflict { .. })));
        versions.roll_back(&ids[2], &ids[0]).unwrap();
        let again = opened(dir.path());
        assert_eq!((again.current().unwrap().as_ref(), again.previous().unwrap()), (Some(&ids[0]), None));
        assert_eq!(again.load(&ids[2]).unwrap().model.params(), model(2).model.params());
        for bad in ["", "..", "../../../../etc/passwd", &ids[1], "ABCDEF012345"] {
            assert!(matches!(again.get(bad), Err(StoreError::NotFound { .. })), "{bad}");
        }
    }

    #[test]
    fn what_a_kill_leaves_is_swept_or_taken_up() {
        let dir = tempfile::tempdir().unwrap();
        let versions = opened(dir.path());
        let kept = versions.add(&model(0), &NewVersion::default()).unwrap().version;
        let folder = dir.path().join("models/m");
        // Killed while the file was written, before its record was, and while the record was.
        fs::write(folder.join(format!(".{kept}.ocelli.tmp-1-0")), "half").unwrap();
        model(1).save(&folder.join("copied.ocelli")).unwrap();
        fs::write(folder.join(".abc.json.tmp-1"), "half").unwrap();
        fs::write(folder.join("0123456789ab.ocelli"), "no model").unwrap();
        let records = opened(dir.path()).list().unwrap();
        assert_eq!(records.len(), 2);
        assert_eq!(records[0].version, kept);
        let names: Vec<_> = fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(names.iter().all(|name| !name.to_string_lossy().starts_with('.')), "{names:?}");
    }

    #[test]
    fn a_file_that_was_changed_is_not_served() {
        let dir = tempfile::tempdir().unwrap();
        let versions = opened(dir.path());
        let [a, b] = [0, 1].map(|seed| versions.add(&model(seed), &NewVersion::default()).unwrap().version);
        fs::copy(versions.path(&a), versions.path(&b)).unwrap();
        assert!(matches!(versions.load(&b), Err(StoreError::Damaged { .. })));
        fs::write(versions.path(&a), "x").unwrap();
        assert!(matches!(versions.load(&a), Err(StoreError::Damaged { .. })));
        fs::write(versions.dir.join("current"), "{").unwrap();
        assert!(matches!(versions.current(), Err(StoreError::Damaged { .. })));
    }
}
