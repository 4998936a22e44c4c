//! An open data folder as a whole.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::store::audit::Audit;
use crate::store::datasets::Datasets;
use crate::store::error::StoreError;
use crate::store::feedback::Feedback;
use crate::store::folder_lock::{Locked, lock_folder};
use crate::store::inner::Inner;
use crate::store::jobs::StoredJobs;
use crate::store::name::Name;
use crate::store::room::Usage;
use crate::store::versions::Versions;
use crate::store::{backup, database, disk, opening};

/// The fact that names the default model.
const DEFAULT_MODEL: &str = "default_model";

/// An open data folder; no other process can open it meanwhile.
pub struct Store {
    pub(super) inner: Arc<Inner>,
    datasets: Datasets,
    feedback: Feedback,
    jobs: StoredJobs,
    audit: Audit,
    notes: Vec<String>,
    _lock: File,
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
        for entry in disk::entries(&self.dir().join("models"))? {
            if let Some(name) = disk::text(&entry).and_then(|name| name.parse::<Name>().ok())
                && disk::entries(&entry.path())?
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

    /// The model that a service of this folder answered by default when it last ran.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn default_model(&self) -> Result<Option<Name>, StoreError> {
        let name = self.inner.database.read(|tx| database::files::fact(tx, DEFAULT_MODEL))?;
        Ok(name.and_then(|name| name.parse().ok()))
    }

    /// Notes the model that answers by default.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn set_default_model(&self, name: &Name) -> Result<(), StoreError> {
        if self.default_model()?.as_ref() == Some(name) {
            return Ok(());
        }
        self.inner.database.write(|tx| database::files::set_fact(tx, DEFAULT_MODEL, name.as_str()))
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
