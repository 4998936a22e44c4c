//! The data folder of a service: everything it needs after a restart, and nothing else.
//!
//! ```text
//! lock                          held by the one process that uses the folder
//! ocelli.db                     what is known: data sets, images, versions, which one serves, jobs, feedback, audit
//! images/AB/HASH.EXTENSION      images by the SHA-256 of their content, of all data sets and of feedback
//! models/NAME/VERSION.ocelli    every version of a model, by content hash
//! runs/NAME-NNN/                run folders of training
//! quarantine/                   files that nothing names; nothing is deleted that nobody asked to delete
//! copies/                       copies of the database, from which it can be restored
//! incoming/                     what is being received
//! ```
//!
//! Files come first, are synced at once, and are then named by one transaction; deletion goes the other way round. So a kill
//! or a power cut at any moment leaves the old state or the new one. Nothing in the folder holds an absolute path: it can
//! be moved.

mod audit;
mod backup;
mod check;
mod database;
mod datasets;
mod error;
mod feedback;
mod image;
mod import;
mod info;
mod jobs;
mod name;
mod old_layout;
mod opening;
mod place;
mod room;
mod splits;
mod versions;

#[cfg(test)]
#[path = "../../../datasets/tests/hostile/mod.rs"]
mod hostile;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use audit::{Actor, Audit, AuditEntry};
pub use backup::{Backup, backup};
pub use check::{CheckReport, Problem, check, repair};
pub use datasets::{Datasets, Staging};
pub use error::StoreError;
pub use feedback::{
    Feedback, FeedbackEntry, FeedbackInput, FeedbackPage, MAX_FEEDBACK, MAX_FEEDBACK_BYTES,
    MAX_FEEDBACK_TOTAL,
};
pub use image::{MAX_IMAGES, Origin};
pub use import::{ClassChange, ImportReport, MAX_SKIPPED};
pub use info::{AddedImage, ClassInfo, DatasetInfo, DatasetSummary, ImageInfo, ImagePage, StoredImage};
pub use jobs::{JobChange, JobData, JobHistory, Preview, StoredJob, StoredJobs};
pub use name::{MAX_NAME, Name};
pub use room::Usage;
pub use versions::{NewVersion, VersionRecord, Versions};

use database::Database;
use room::Room;

/// An open data folder; no other process can open it meanwhile.
pub struct Store {
    inner: Arc<Inner>,
    datasets: Datasets,
    feedback: Feedback,
    jobs: StoredJobs,
    audit: Audit,
    notes: Vec<String>,
    _lock: File,
}

/// What the parts of a store share.
struct Inner {
    dir: PathBuf,
    database: Database,
    /// Held from before image files come until rows name them, and from before rows go until their files are gone.
    files: Mutex<()>,
    /// Held while files of versions come or go.
    models: Mutex<()>,
    /// Models whose folder was put in order since the start.
    settled: Mutex<BTreeSet<Name>>,
    room: Room,
    /// Folders that were made for what is in transit.
    stagings: AtomicU64,
}

impl Inner {
    /// A turn of changing image files.
    fn files(&self) -> MutexGuard<'_, ()> {
        lock(&self.files)
    }

    /// Removes files that rows no longer name. What cannot be removed now is removed at the next start.
    fn remove(&self, paths: &[String]) {
        for path in paths {
            let full = self.dir.join(path);
            let bytes = fs::metadata(&full).map_or(0, |meta| meta.len());
            if place::remove(&full).is_ok() {
                self.room.images(-(bytes as i64));
            }
        }
    }
}

impl Store {
    /// Opens a data folder and makes it where it is missing. Takes over a folder of the layout that had lists in place of a
    /// database. Files that are missing or damaged are noted as such, files that nothing names go to `quarantine/`.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when another process uses it, [`StoreError::Database`] when the database is damaged or lost,
    /// [`StoreError::Io`] when the folder cannot be written.
    pub fn open(dir: &Path) -> Result<Store, StoreError> {
        let Locked { dir, lock, was_there } = lock_folder(dir)?;
        let (inner, notes) = opening::open(dir, was_there)?;
        let inner = Arc::new(inner);
        Ok(Store {
            datasets: Datasets::new(inner.clone()),
            feedback: Feedback::new(inner.clone()),
            jobs: StoredJobs::new(inner.clone()),
            audit: Audit::new(inner.clone()),
            inner,
            notes,
            _lock: lock,
        })
    }

    /// The folder, as an absolute path.
    pub fn dir(&self) -> &Path {
        &self.inner.dir
    }

    /// What opening found and did that its owner should know.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The versions of a model. The first time after the start its folder is put in order.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn versions(&self, name: &Name) -> Result<Versions, StoreError> {
        Versions::open(self.inner.clone(), name.clone())
    }

    /// The models that the folder has versions of, sorted.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Database`].
    pub fn models(&self) -> Result<Vec<Name>, StoreError> {
        let known = self.inner.database.read(database::versions::models)?;
        let mut names: Vec<Name> = known.iter().filter_map(|name| name.parse().ok()).collect();
        // Folders with model files that somebody laid there.
        for entry in place::entries(&self.dir().join("models"))? {
            if let Some(name) = place::text(&entry).and_then(|name| name.parse::<Name>().ok())
                && place::entries(&entry.path())?
                    .iter()
                    .any(|file| file.path().extension().is_some_and(|e| e == "ocelli"))
            {
                names.push(name);
            }
        }
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// Images that users sent.
    pub fn datasets(&self) -> &Datasets {
        &self.datasets
    }

    /// Predictions that users corrected.
    pub fn feedback(&self) -> &Feedback {
        &self.feedback
    }

    /// Training jobs.
    pub fn jobs(&self) -> &StoredJobs {
        &self.jobs
    }

    /// Who changed what.
    pub fn audit(&self) -> &Audit {
        &self.audit
    }

    /// Where training writes its run folders.
    pub fn runs_dir(&self) -> PathBuf {
        self.inner.dir.join("runs")
    }

    /// Bytes in use, by kind.
    pub fn usage(&self) -> Usage {
        self.inner.room.usage()
    }

    /// The most bytes that the folder may come to have; 0 for as many as the disk takes.
    pub fn set_max_bytes(&self, bytes: u64) {
        self.inner.room.set_limit(bytes);
    }

    /// Whether there is room for so many bytes more.
    ///
    /// # Errors
    /// [`StoreError::Full`].
    pub fn check_room(&self, bytes: u64) -> Result<(), StoreError> {
        self.inner.room.check(&self.inner.dir, bytes)
    }

    /// Makes a copy of the database where the last one is older than a day; the two newest are kept.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Database`].
    pub fn copy_database(&self) -> Result<(), StoreError> {
        backup::keep_daily_copy(&self.inner.dir, &self.inner.database)
    }

    /// As [`Store::copy_database`], however old the last copy is.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Database`].
    pub fn copy_database_now(&self) -> Result<(), StoreError> {
        backup::keep_copy(&self.inner.dir, &self.inner.database)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.inner.database.settle();
    }
}

/// A folder that no other process uses.
struct Locked {
    /// As an absolute path.
    dir: PathBuf,
    lock: File,
    /// The lock was there before: the folder was used already.
    was_there: bool,
}

/// How often, and after what time, a lock that somebody holds is tried again.
const LOCK_TRIES: usize = 40;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Makes a data folder where it is missing and takes its lock.
fn lock_folder(dir: &Path) -> Result<Locked, StoreError> {
    fs::create_dir_all(dir).map_err(StoreError::io(dir))?;
    let dir = fs::canonicalize(dir).map_err(StoreError::io(dir))?;
    let path = dir.join("lock");
    let was_there = path.symlink_metadata().is_ok();
    // Whatever made a folder of it, nobody holds that.
    let _ = fs::remove_dir(&path);
    let lock = OpenOptions::new().create(true).append(true).open(&path).map_err(StoreError::io(&path))?;
    let mut taken = lock.try_lock();
    // A process that is just ending, or a child of one between its start and its program, holds the lock for a moment.
    for _ in 0..LOCK_TRIES {
        if !matches!(taken, Err(TryLockError::WouldBlock)) {
            break;
        }
        std::thread::sleep(LOCK_PAUSE);
        taken = lock.try_lock();
    }
    match taken {
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked { dir }),
        // File systems without locks lose the protection, not the service.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(Locked { dir, lock, was_there }),
    }
}

/// A panic elsewhere leaves what these guard whole: it is replaced, never edited.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Seconds since 1970-01-01 UTC.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
