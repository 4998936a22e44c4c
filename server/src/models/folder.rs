//! A folder that people put model files into: `NAME.ocelli`, or versions of a model as `NAME/ANY.ocelli`.
//!
//! It is looked at every two seconds. A file that is whole becomes a version of the model of its name, as if it had been
//! pushed; what cannot be one is named in `/status` and tried again when it changes. Files are never changed here, and what
//! was taken stays when its file goes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use ocelli_common::text::{chain, printable};
use ocelli_pipeline::store::{Actor, Name};
use ocelli_pipeline::{ModelFile, PipelineError, version_id};
use tokio::sync::watch;

use crate::http::problem::Problem;
use crate::http::text::without_path;
use crate::model_load::RefusedFile;
use crate::models::catalog::Catalog;

/// Time between two looks.
const EVERY: Duration = Duration::from_secs(2);

/// A file that changed less than this ago may still be being written: that it is no model says nothing yet.
const SETTLED: Duration = Duration::from_secs(1);

/// Files that are looked at; more are left out.
const MAX_FILES: usize = 10_000;

/// Refused files that are named.
const MAX_NAMED: usize = 100;

/// See the module.
pub(crate) struct Folder {
    dir: PathBuf,
    max_bytes: u64,
    seen: Mutex<BTreeMap<PathBuf, Seen>>,
}

/// A file as it was when it was last tried.
struct Seen {
    len: u64,
    written: SystemTime,
    /// Why it is no version; none for one that is.
    refused: Option<String>,
}

impl Folder {
    /// A folder of which nothing has been looked at; no file may be larger than `max_bytes`.
    pub(crate) fn new(dir: PathBuf, max_bytes: u64) -> Folder {
        Folder { dir, max_bytes, seen: Mutex::default() }
    }

    /// The files that are no versions, by name.
    pub(crate) fn refused(&self) -> Vec<RefusedFile> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = seen.iter().filter_map(|(file, seen)| {
            Some(RefusedFile { file: self.shown(file), reason: seen.refused.clone()? })
        });
        refused.take(MAX_NAMED).collect()
    }

    fn shown(&self, file: &Path) -> String {
        printable(&file.strip_prefix(&self.dir).unwrap_or(file).display().to_string())
    }

    /// Takes what is new in the folder. Takes the time of a load for each file.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub(crate) fn look(&self, models: &Catalog) -> std::io::Result<()> {
        let files = files(&self.dir)?;
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).retain(|path, _| files.contains_key(path));
        for (path, (name, meta)) in files {
            let (len, written) = (meta.len(), meta.modified().unwrap_or(SystemTime::UNIX_EPOCH));
            let known = |seen: &Seen| seen.len == len && seen.written == written;
            let is_known = {
                let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
                seen.get(&path).is_some_and(known)
            };
            if is_known {
                continue;
            }
            let refused = self.take(models, (&path, len), &name).err();
            // A time in the future says nothing.
            let settled = written.elapsed().map_or(true, |age| age >= SETTLED);
            if refused.is_some() && !settled {
                continue;
            }
            if let Some(reason) = &refused {
                tracing::error!(file = self.shown(&path), "not taken: {reason}");
            }
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.insert(path, Seen { len, written, refused });
        }
        Ok(())
    }

    fn take(&self, models: &Catalog, (path, len): (&Path, u64), name: &str) -> Result<(), String> {
        if len > self.max_bytes {
            return Err(format!("it has {len} bytes, and max_model_bytes is {}", self.max_bytes));
        }
        let name = Name::new("model", name).map_err(|error| chain(&error))?;
        let unreadable = |error| without_path(&chain(&PipelineError::from(error)), path);
        let file = ModelFile::load(path).map_err(unreadable)?;
        let file = ModelFile { training: None, ..file };
        let version = version_id(&file.content_hash().map_err(|error| chain(&PipelineError::from(error)))?);
        let known = models.find(name.as_str()).and_then(|model| model.record(&version).ok());
        if known.is_some_and(|record| record.damaged.is_none()) {
            return Ok(());
        }
        let added = models.add(&name, file, &Actor::service("models folder"));
        added.map(drop).map_err(|problem: Problem| problem.to_string())
    }
}

/// The model files of a folder: names of models and paths, in the order of the paths.
///
/// # Errors
/// The folder cannot be read.
pub fn model_files(dir: &Path) -> std::io::Result<Vec<(String, PathBuf)>> {
    Ok(files(dir)?.into_iter().map(|(path, (name, _))| (name, path)).collect())
}

/// All model files of a folder, with the names of their models.
fn files(dir: &Path) -> std::io::Result<BTreeMap<PathBuf, (String, fs::Metadata)>> {
    let mut found = BTreeMap::new();
    let mut add = |path: PathBuf, name: String| {
        let is_model = path.extension().is_some_and(|extension| extension == "ocelli");
        // A link is followed: whoever may write here decides what is served anyway.
        if let Ok(meta) = fs::metadata(&path)
            && is_model
            && meta.is_file()
            && found.len() < MAX_FILES
        {
            found.insert(path, (name, meta));
        }
    };
    let text = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            // One that went meanwhile, or cannot be read, has no models for us.
            for inner in fs::read_dir(&path).into_iter().flatten().flatten() {
                add(inner.path(), text(path.file_name()));
            }
        } else {
            let name = text(path.file_stem());
            add(path, name);
        }
    }
    Ok(found)
}

/// Looks again and again, until the service stops.
pub(crate) async fn follow(folder: Arc<Folder>, models: Arc<Catalog>, mut stopping: watch::Receiver<bool>) {
    let mut told = false;
    loop {
        tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        let (own, catalog) = (folder.clone(), models.clone());
        match tokio::task::spawn_blocking(move || own.look(&catalog)).await {
            Ok(Ok(())) => told = false,
            Ok(Err(error)) if !told => {
                tracing::error!("the folder of models cannot be read, and is looked at again: {error}");
                told = true;
            }
            Ok(Err(_)) => {}
            Err(_) => tracing::error!("looking at the folder of models failed; the service goes on"),
        }
    }
}
