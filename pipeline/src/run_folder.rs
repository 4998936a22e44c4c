//! `runs/NAME-NNN/`: everything that a run leaves behind, in files that are whole at any moment.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use ocelli_common::atomic_file;
use ocelli_datasets::PHOTOS_KIND;
use serde::{Deserialize, Serialize};

use crate::data::Data;
use crate::error::PipelineError;
use crate::event::{Event, Observe};

/// Longest name in front of the number.
const MAX_NAME: usize = 64;
/// Folders that are tried before giving up.
const MAX_RUNS: u32 = 1_000_000;
/// Largest text file that is read back.
const MAX_TEXT: u64 = 64 << 20;

/// A run's folder.
#[derive(Clone, Debug)]
pub(crate) struct RunFolder {
    path: PathBuf,
    /// Whether it is another process that writes it.
    is_foreign: bool,
}

impl RunFolder {
    /// Makes the next free `NAME-NNN` in `runs`, and `runs` where it is missing.
    pub(crate) fn create(runs: &Path, name: &str) -> Result<Self, PipelineError> {
        let path = next_folder(runs, name)?;
        let weights = path.join("weights");
        fs::create_dir(&weights).map_err(PipelineError::io(&weights))?;
        Ok(RunFolder { path, is_foreign: false })
    }

    /// The folder of a run that another process writes: nothing is written to it.
    pub(crate) fn foreign(path: PathBuf) -> Self {
        RunFolder { path, is_foreign: true }
    }

    /// An existing run, given by its folder.
    pub(crate) fn open(path: &Path) -> Result<Self, PipelineError> {
        if !path.join("recipe.toml").is_file() {
            let reason = "not a run folder (no recipe.toml in it); give the folder that training named";
            return Err(PipelineError::run(path, reason));
        }
        Ok(RunFolder { path: path.to_owned(), is_foreign: false })
    }

    /// Removes a folder in which nothing was written yet.
    pub(crate) fn discard(self) {
        if self.is_foreign {
            return;
        }
        // Refuses where there are files; a folder left behind is harmless.
        let _ = fs::remove_dir(self.path.join("weights"));
        let _ = fs::remove_dir(&self.path);
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The best weights so far.
    pub(crate) fn best(&self) -> PathBuf {
        self.path.join("weights").join("best.ocelli")
    }

    /// The weights and training state after the last finished epoch.
    pub(crate) fn last(&self) -> PathBuf {
        self.path.join("weights").join("last.ocelli")
    }

    /// Writes a file of the run: a crash leaves the old one or the new one.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<(), PipelineError> {
        if self.is_foreign {
            return Ok(());
        }
        write_atomic(&self.file(name), text.as_bytes())
    }

    /// Reads a text file of the run, of at most 64 MiB.
    pub(crate) fn read(&self, name: &str) -> Result<String, PipelineError> {
        let path = self.file(name);
        let size = fs::metadata(&path).map_err(PipelineError::io(&path))?.len();
        if size > MAX_TEXT {
            return Err(PipelineError::run(&path, format!("{size} bytes are more than a run writes")));
        }
        fs::read_to_string(&path).map_err(PipelineError::io(&path))
    }
}

/// Makes the next free folder `NAME-NNN` in `runs`, and `runs` where it is missing.
pub(crate) fn next_folder(runs: &Path, name: &str) -> Result<PathBuf, PipelineError> {
    fs::create_dir_all(runs).map_err(PipelineError::io(runs))?;
    let name = clean(name);
    let first = last_number(runs, &name)?.unwrap_or(0) + 1;
    for number in first..first.saturating_add(MAX_RUNS) {
        let path = runs.join(format!("{name}-{number:03}"));
        // Making the folder is the claim: of two programs only one succeeds.
        match fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(PipelineError::io(&path)(error)),
        }
    }
    Err(PipelineError::run(runs, "too many runs of this name; choose another name"))
}

/// The folder `NAME-NNN` with the highest number.
pub(crate) fn last_folder(runs: &Path, name: &str) -> Result<Option<PathBuf>, PipelineError> {
    Ok(last_number(runs, name)?.map(|number| runs.join(format!("{name}-{number:03}"))))
}

fn last_number(runs: &Path, name: &str) -> Result<Option<u32>, PipelineError> {
    let entries = fs::read_dir(runs).map_err(PipelineError::io(runs))?;
    Ok(entries.filter_map(|entry| number_of(&entry.ok()?.file_name().into_string().ok()?, name)).max())
}

/// Writes a file so that a crash leaves the old one or the new one.
///
/// # Errors
/// [`PipelineError::Io`]; the old file is as it was then.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), PipelineError> {
    atomic_file::write(path, bytes).map_err(PipelineError::io(path))
}

/// Only `A-Z a-z 0-9 . _ -`, without a leading dot, never empty.
fn clean(name: &str) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let clean: String = name.chars().map(allowed).take(MAX_NAME).collect();
    let clean = clean.trim_matches(['.', '-']);
    if clean.is_empty() { "run".to_owned() } else { clean.to_owned() }
}

fn number_of(folder: &str, name: &str) -> Option<u32> {
    let digits = folder.strip_prefix(name)?.strip_prefix('-')?;
    let plain = digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|&n| plain && n < MAX_RUNS)
}

/// Hands events to the caller and keeps them in `events.jsonl`.
pub(crate) struct Reporter<'a> {
    observe: Observe<'a>,
    /// Held open and locked while a run is being trained.
    log: Option<(PathBuf, File)>,
    /// What was said before there was a file.
    early: String,
    last_step: Option<std::time::Instant>,
}

/// Time between two steps in the file, so that a week of training stays within some megabytes.
const LOG_STEP_EVERY: std::time::Duration = std::time::Duration::from_secs(1);

impl<'a> Reporter<'a> {
    pub(crate) fn new(observe: Observe<'a>) -> Self {
        Reporter { observe, log: None, early: String::new(), last_step: None }
    }

    /// From here on events go to the run's file, which nobody else may be writing.
    pub(crate) fn open(&mut self, folder: &RunFolder) -> Result<(), PipelineError> {
        let path = folder.file("events.jsonl");
        let file =
            OpenOptions::new().create(true).append(true).open(&path).map_err(PipelineError::io(&path))?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                let reason = "another process is training in this folder; wait for it or stop it first";
                return Err(PipelineError::run(folder.path(), reason));
            }
            // File systems without locks lose the protection, not the run.
            Ok(()) | Err(TryLockError::Error(_)) => {}
        }
        self.log = Some((path, file));
        let early = std::mem::take(&mut self.early);
        self.append(&early)
    }

    pub(crate) fn report(&mut self, event: &Event) -> Result<(), PipelineError> {
        (self.observe)(event);
        let now = std::time::Instant::now();
        match event {
            Event::Loading { .. }
            | Event::Features { .. }
            | Event::Evaluating { .. }
            | Event::Calibrating { .. }
            | Event::RangeTest { .. } => return Ok(()),
            Event::Step { .. } => {
                if self.last_step.is_some_and(|last| now - last < LOG_STEP_EVERY) {
                    return Ok(());
                }
                self.last_step = Some(now);
            }
            _ => {}
        }
        let line = event.to_json() + "\n";
        if self.log.is_none() {
            self.early.push_str(&line);
            return Ok(());
        }
        self.append(&line)
    }

    pub(crate) fn note(&mut self, text: impl Into<String>) -> Result<(), PipelineError> {
        self.report(&Event::note(text))
    }

    fn append(&mut self, lines: &str) -> Result<(), PipelineError> {
        let Some((path, file)) = &mut self.log else { return Ok(()) };
        file.write_all(lines.as_bytes()).map_err(PipelineError::io(path))
    }
}

/// `dataset.json`: which data a run was trained on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct DatasetRecord {
    pub(crate) schema: u32,
    /// The folder or file, from the run's folder on where it is relative; `None` for the bundled set.
    pub(crate) path: Option<String>,
    /// The table of labels that was given beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) labels: Option<String>,
    pub(crate) kind: String,
    pub(crate) name: String,
    /// SHA-256 over names, classes, splits and contents, in hexadecimal.
    pub(crate) digest: String,
    pub(crate) classes: Vec<ClassCount>,
    /// Images to train on, for validation and for the test, where they have several labels: those of the classes add up to
    /// other numbers then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) images: Option<[usize; 3]>,
    pub(crate) notes: Vec<String>,
    #[serde(default)]
    pub(crate) warnings: Vec<String>,
    pub(crate) skipped: Vec<crate::metrics::SkippedImage>,
}

/// Images of a class in each split.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ClassCount {
    pub(crate) name: String,
    pub(crate) train: usize,
    pub(crate) val: usize,
    pub(crate) test: usize,
}

impl DatasetRecord {
    /// The images of the run in `folder`.
    pub(crate) fn data(&self, folder: &Path) -> Data {
        match &self.path {
            Some(path) => match &self.labels {
                Some(table) => Data::Labelled { images: folder.join(path), table: folder.join(table) },
                None => Data::Path(folder.join(path)),
            },
            None if self.kind == PHOTOS_KIND => Data::BundledPhotos,
            None => Data::Bundled,
        }
    }

    /// Images of each split: train, val, test.
    pub(crate) fn totals(&self) -> [usize; 3] {
        let add =
            |[a, b, c]: [usize; 3], class: &ClassCount| [a + class.train, b + class.val, c + class.test];
        self.images.unwrap_or_else(|| self.classes.iter().fold([0; 3], add))
    }
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_up_and_names_are_clean() {
        let dir = tempfile::tempdir().unwrap();
        let runs = dir.path().join("a/b");
        let name = |n: &str| {
            let folder = RunFolder::create(&runs, n).unwrap();
            assert!(folder.path().join("weights").is_dir());
            folder.path().file_name().unwrap().to_str().unwrap().to_owned()
        };
        assert_eq!(name("cats"), "cats-001");
        assert_eq!(name("cats"), "cats-002");
        fs::create_dir(runs.join("cats-041")).unwrap();
        fs::create_dir(runs.join("cats-x99")).unwrap();
        assert_eq!(name("cats"), "cats-042");
        assert_eq!(name("../../et c/Ä"), "et-c-001");
        assert_eq!(name(".."), "run-001");
    }

    #[test]
    fn parallel_claims_differ() {
        let dir = tempfile::tempdir().unwrap();
        let paths: Vec<PathBuf> = std::thread::scope(|scope| {
            let spawn = |_| scope.spawn(|| RunFolder::create(dir.path(), "x").unwrap().path);
            let threads: Vec<_> = (0..16).map(spawn).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert_eq!(paths.iter().collect::<std::collections::BTreeSet<_>>().len(), 16);
    }

    #[test]
    fn writing_replaces_whole_files_and_leaves_no_others() {
        let dir = tempfile::tempdir().unwrap();
        let folder = RunFolder::create(dir.path(), "x").unwrap();
        for text in ["one", "two longer", ""] {
            folder.write("a.txt", text).unwrap();
            assert_eq!(folder.read("a.txt").unwrap(), text);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
        fs::create_dir(folder.file("dir")).unwrap();
        assert!(matches!(folder.write("dir", "x"), Err(PipelineError::Io { .. })));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
        folder.clone().discard();
        assert!(folder.path().is_dir(), "a folder with files in it stays");
    }

    #[test]
    fn a_run_is_trained_by_one_process_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let folder = RunFolder::create(dir.path(), "x").unwrap();
        let (mut a, mut b) = (|_: &Event| {}, |_: &Event| {});
        let mut first = Reporter::new(&mut a);
        first.note("early").unwrap();
        first.open(&folder).unwrap();
        first.note("late").unwrap();
        assert!(matches!(Reporter::new(&mut b).open(&folder), Err(PipelineError::Run { .. })));
        drop(first);
        Reporter::new(&mut b).open(&folder).unwrap();
        assert_eq!(folder.read("events.jsonl").unwrap().lines().count(), 2);
    }
}
