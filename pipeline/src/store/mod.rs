//! The data folder of a service: everything it needs after a restart, and nothing else.
//!
//! ```text
//! lock                          held by the one process that uses the folder
//! datasets/NAME/                images by content hash, and the list that says which of them count
//! feedback/                     corrected labels that wait for a review
//! models/NAME/VERSION.ocelli    every version that was made, by content hash
//! models/NAME/current           which of them serves, and which served before
//! jobs/ID/                      what is asked for, how far it is, what came of it
//! runs/NAME-NNN/                run folders of training
//! ```
//!
//! One small file decides: a data set's list, a model's `current`. It is replaced as a whole and comes last, so that a
//! kill at any moment leaves the old state or the new one; files that no list names are swept away at the next start.

mod datasets;
mod error;
mod feedback;
mod import;
mod info;
mod list;
mod name;
mod place;
mod versions;

#[cfg(test)]
#[path = "../../../datasets/tests/hostile/mod.rs"]
mod hostile;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

pub use datasets::{Datasets, Staging};
pub use error::StoreError;
pub use feedback::{
    Feedback, FeedbackEntry, FeedbackInput, MAX_FEEDBACK, MAX_FEEDBACK_BYTES, MAX_FEEDBACK_TOTAL,
};
pub use import::{ClassChange, ImportReport, MAX_SKIPPED};
pub use info::{AddedImage, ClassInfo, DatasetInfo, DatasetSummary, ImageInfo, ImagePage, StoredImage};
pub use list::{MAX_IMAGES, Origin};
pub use name::{MAX_NAME, Name};
pub use versions::{NewVersion, VersionRecord, Versions};

/// An open data folder; no other process can open it meanwhile.
pub struct Store {
    dir: PathBuf,
    datasets: Datasets,
    feedback: Feedback,
    _lock: File,
}

impl Store {
    /// Opens a data folder and makes it where it is missing.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when another process uses it, [`StoreError::Io`] when it cannot be written.
    pub fn open(dir: &Path) -> Result<Store, StoreError> {
        fs::create_dir_all(dir).map_err(StoreError::io(dir))?;
        // Run folders record where their data lies; a relative path would depend on where the program is started.
        let dir = fs::canonicalize(dir).map_err(StoreError::io(dir))?;
        let path = dir.join("lock");
        let lock = OpenOptions::new().create(true).append(true).open(&path).map_err(StoreError::io(&path))?;
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => return Err(StoreError::Locked { dir }),
            // File systems without locks lose the protection, not the service.
            Ok(()) | Err(TryLockError::Error(_)) => {}
        }
        let datasets = Datasets::open(dir.join("datasets"))?;
        let feedback = Feedback::open(dir.join("feedback"))?;
        // Uploads and feedback sync what lies in their folders; this is for the folders themselves.
        place::sync_folder(&dir)?;
        Ok(Store { dir, datasets, feedback, _lock: lock })
    }

    /// The folder, as an absolute path.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The versions of a model; once for each model.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn versions(&self, name: &Name) -> Result<Versions, StoreError> {
        Versions::open(self.dir.join("models").join(name.as_str()))
    }

    /// The models that the folder has versions of, sorted.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn models(&self) -> Result<Vec<Name>, StoreError> {
        let dir = self.dir.join("models");
        if !dir.is_dir() {
            return Ok(Vec::new());
        }
        let entries = fs::read_dir(&dir).map_err(StoreError::io(&dir))?;
        let name = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok();
        let mut names: Vec<Name> = entries.flatten().filter_map(name).collect();
        names.sort();
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

    /// Where training writes its run folders.
    pub fn runs_dir(&self) -> PathBuf {
        self.dir.join("runs")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_user_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let store = Store::open(&path).unwrap();
        assert!(store.dir().is_absolute() && store.dir().is_dir());
        assert!(matches!(Store::open(&path), Err(StoreError::Locked { .. })));
        drop(store);
        Store::open(&path).unwrap();
    }

    #[test]
    fn a_file_in_the_way_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "x").unwrap();
        assert!(matches!(Store::open(&path), Err(StoreError::Io { .. })));
    }
}
