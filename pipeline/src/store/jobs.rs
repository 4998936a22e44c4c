//! Training jobs as they stand on the disk. What a record says is the service's own; here it is text.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ocelli_datasets::Split;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::csv;
use crate::run_folder::write_atomic;
use crate::store::audit::note;
use crate::store::database::files::{FileRow, KeptFile};
use crate::store::database::images::SnapshotRow;
use crate::store::database::{audit, files, images, jobs, versions};
use crate::store::datasets::{Staging, key};
use crate::store::disk::{self, Condition};
use crate::store::entries::{Actor, StoredJob};
use crate::store::error::StoreError;
use crate::store::image::IMAGES;
use crate::store::inner::Inner;
use crate::store::name::Name;

/// What becomes of a job, in one transaction.
#[derive(Clone, Debug, Default)]
pub struct JobChange {
    /// The record, as JSON.
    pub record: String,
    /// The job has ended: its images are no longer kept for it.
    pub ended: bool,
    /// Figures of epochs, as JSON.
    pub epochs: Vec<(u32, String)>,
    /// Events with their numbers: name and JSON.
    pub events: Vec<(usize, String, String)>,
}

/// Figures of the epochs of a job as JSON, and its events: name and JSON.
pub type JobHistory = (Vec<String>, Vec<(String, String)>);

/// The images of a job.
#[derive(Clone, Debug, Default)]
pub struct JobData {
    /// A table of the whole images with classes and splits, which [`ocelli_datasets::Source::open`] reads.
    pub table: PathBuf,
    /// Held-out images: file, class, SHA-256.
    pub held_out: Vec<(PathBuf, String, [u8; 32])>,
    /// SHA-256 of the images to train on.
    pub trained_on: Vec<[u8; 32]>,
    /// Images that were left out, and why.
    pub left_out: Vec<String>,
}

/// A table of the images of a data set as they are now; removed when dropped.
pub struct Preview {
    staging: Staging,
    content: [u8; 32],
}

impl Preview {
    /// The table, which [`ocelli_datasets::Source::open`] reads.
    pub fn path(&self) -> PathBuf {
        self.staging.path().join("images.csv")
    }

    /// Whether another table lists the same images: files of those that were deleted meanwhile are gone.
    pub fn is_like(&self, other: &Preview) -> bool {
        self.content == other.content
    }
}

/// The jobs of a store.
pub struct StoredJobs {
    inner: Arc<Inner>,
}

impl StoredJobs {
    pub(super) fn new(inner: Arc<Inner>) -> StoredJobs {
        StoredJobs { inner }
    }

    /// All jobs, oldest first.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Database`].
    pub fn all(&self) -> Result<Vec<StoredJob>, StoreError> {
        self.inner.database.read(jobs::all)
    }

    /// Figures of the epochs of a job, and its events as pairs of name and JSON.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Database`].
    pub fn history(&self, id: u64) -> Result<JobHistory, StoreError> {
        self.inner.database.read(|tx| Ok((jobs::epochs(tx, id)?, jobs::events(tx, id)?)))
    }

    /// Writes down a job on a data set, with what `first` says of its number; the images of the data set count as
    /// seen from now on.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for the data set, [`StoreError::Io`], [`StoreError::Database`].
    pub fn create(
        &self,
        model: &Name,
        dataset: &Name,
        by: &Actor,
        first: impl FnOnce(u64) -> JobChange,
    ) -> Result<u64, StoreError> {
        self.inner.database.write(|tx| {
            key(tx, dataset)?;
            let id = jobs::create(tx, model.as_str(), dataset.as_str())?;
            let change = first(id);
            jobs::set_record(tx, id, &change.record, false)?;
            for (number, event, data) in &change.events {
                jobs::add_event(tx, id, *number, event, data)?;
            }
            images::clear_fresh(tx, dataset.as_str())?;
            note(tx, by, ("retrain", &id.to_string()), &json!({ "dataset": dataset.as_str() }))?;
            Ok(id)
        })
    }

    /// Writes down what became of a job. Of one that has ended, images are removed that were kept for it alone.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Database`]; nothing of it is written then.
    pub fn change(&self, id: u64, change: &JobChange) -> Result<(), StoreError> {
        let turn = change.ended.then(|| self.inner.files());
        let gone = self.inner.database.write(|tx| {
            jobs::set_record(tx, id, &change.record, change.ended)?;
            for (epoch, metrics) in &change.epochs {
                jobs::set_epoch(tx, id, *epoch, metrics)?;
            }
            for (number, event, data) in &change.events {
                jobs::add_event(tx, id, *number, event, data)?;
            }
            if !change.ended {
                return Ok(Vec::new());
            }
            let keys = images::thaw(tx, id)?;
            files::release(tx, &keys)
        })?;
        if change.ended {
            self.inner.remove(&gone);
            let _ = disk::remove(&self.table(id));
        }
        drop(turn);
        Ok(())
    }

    /// Deletes a job that has ended.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Database`].
    pub fn delete(&self, id: u64) -> Result<(), StoreError> {
        self.inner.database.write(|tx| jobs::delete(tx, id))
    }

    /// The images of a job: those of its data set when it first asks, the same ones ever after. Each is read and compared
    /// with its hash; those that are not what was sent are noted as damaged and left out, those that cannot be read just
    /// now are left out this time.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for the data set, [`StoreError::Io`], [`StoreError::Database`].
    pub fn data(&self, id: u64, dataset: &Name) -> Result<JobData, StoreError> {
        let mut rows = self.inner.database.read(|tx| images::frozen(tx, id))?;
        if rows.is_empty() {
            rows = self.inner.database.write(|tx| {
                let key = key(tx, dataset)?;
                images::freeze(tx, key, id)?;
                images::frozen(tx, id)
            })?;
        }
        let mut data = JobData { table: self.table(id), ..JobData::default() };
        let mut text = HEADER.to_owned();
        let mut changed = Vec::new();
        for row in rows {
            match disk::inspect_image(&self.inner.dir, &row.file).0 {
                Condition::Whole => {
                    if row.file.damaged.is_some() {
                        changed.push(row.file.clone());
                    }
                    // The table lies in `images/`.
                    line(&mut text, "../", &row);
                    let (hash, path) = (*row.file.id.bytes(), self.inner.dir.join(row.file.path()));
                    match row.split {
                        Split::Train => data.trained_on.push(hash),
                        _ => data.held_out.push((path, row.class, hash)),
                    }
                }
                Condition::Damaged(reason) => {
                    data.left_out.push(format!("{} ({}): {reason}", row.file.path(), row.class));
                    if row.file.damaged.as_ref() != Some(&reason) {
                        changed.push(row.file);
                    }
                }
                Condition::Unreadable(reason) => {
                    data.left_out.push(format!("{} ({}): {reason}", row.file.path(), row.class));
                }
            }
        }
        if !changed.is_empty() {
            self.inner.look_again(&changed)?;
        }
        disk::make_folder(&self.inner.dir.join(IMAGES))?;
        write_atomic(&data.table, text.as_bytes())?;
        Ok(data)
    }

    /// The images that a job on a data set would have now, none of them read.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for the data set, [`StoreError::Io`], [`StoreError::Database`].
    pub fn preview(&self, dataset: &Name) -> Result<Preview, StoreError> {
        let rows = self.inner.database.read(|tx| images::whole(tx, key(tx, dataset)?))?;
        let mut text = HEADER.to_owned();
        // A job leaves out what is missing, too.
        for row in rows.iter().filter(|row| self.inner.lies_there(&row.file)) {
            // The table lies two folders deep in the data folder.
            line(&mut text, "../../", row);
        }
        let preview = Preview { staging: self.inner.staging()?, content: Sha256::digest(&text).into() };
        let path = preview.path();
        fs::write(&path, text).map_err(StoreError::io(&path))?;
        Ok(preview)
    }

    /// The images by which a version was compared: file, class, SHA-256. Those that are missing are left out.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Database`].
    pub fn judged_on(
        &self,
        model: &Name,
        version: &str,
    ) -> Result<Vec<(PathBuf, String, [u8; 32])>, StoreError> {
        let rows = self.inner.database.read(|tx| versions::judged_on(tx, model.as_str(), version))?;
        let there = |file: &FileRow| file.damaged.is_none() && self.inner.lies_there(file);
        Ok(rows
            .into_iter()
            .filter(|(file, _)| there(file))
            .map(|(file, class)| (self.inner.dir.join(file.path()), class, *file.id.bytes()))
            .collect())
    }

    fn table(&self, id: u64) -> PathBuf {
        self.inner.dir.join(IMAGES).join(format!("job-{id}.csv"))
    }

    /// Notes size and content of the files of a run that is over, so that damage to them can be told.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Database`].
    pub fn keep_run(&self, run: &str) -> Result<(), StoreError> {
        let folder = format!("runs/{run}/");
        let kept = describe(&self.inner.dir, folder.trim_end_matches('/'))?;
        self.inner.database.write(|tx| files::set_kept(tx, &folder, &kept))?;
        self.inner.room.measure_runs(&self.inner.dir);
        Ok(())
    }

    /// Removes the oldest run folders beyond the newest `keep`, but none of `needed`; and the oldest events and entries of
    /// the audit log beyond the newest `events`.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Database`].
    pub fn prune(&self, keep: usize, events: u64, needed: &[String]) -> Result<(), StoreError> {
        let runs = self.inner.dir.join("runs");
        let mut folders = Vec::new();
        for entry in disk::entries(&runs)? {
            let Some(name) = disk::text(&entry).filter(|_| entry.path().is_dir()) else { continue };
            let changed =
                entry.metadata().and_then(|meta| meta.modified()).map_err(StoreError::io(&entry.path()))?;
            if !needed.contains(&name) {
                folders.push((changed, name));
            }
        }
        folders.sort();
        let surplus = folders.len().saturating_sub(keep);
        // Rows go first: files that rows describe are there.
        self.inner.database.write(|tx| {
            for (_, name) in &folders[..surplus] {
                files::set_kept(tx, &format!("runs/{name}/"), &[])?;
            }
            jobs::prune_events(tx, events)?;
            audit::prune(tx, events)
        })?;
        let mut failed = None;
        for (_, name) in &folders[..surplus] {
            let path = runs.join(name);
            if let Err(error) = fs::remove_dir_all(&path) {
                failed.get_or_insert(StoreError::io(&path)(error));
            }
        }
        self.inner.room.measure_runs(&self.inner.dir);
        failed.map_or(Ok(()), Err)
    }
}

const HEADER: &str = "path,label,split\n";

/// Adds an image to a table; `up` leads from the table's folder to the data folder.
fn line(text: &mut String, up: &str, row: &SnapshotRow) {
    text.push_str(up);
    text.push_str(&row.file.path());
    text.push(',');
    csv::field(text, &row.class);
    let _ = writeln!(text, ",{}", row.split);
}

/// Path, size and hash of all files below a folder of the data folder.
pub(super) fn describe(dir: &Path, folder: &str) -> Result<Vec<KeptFile>, StoreError> {
    let mut kept = Vec::new();
    for path in disk::walk(dir, folder)? {
        let full = dir.join(&path);
        let (bytes, hash) = disk::digest(&full).map_err(StoreError::io(&full))?;
        kept.push(KeptFile { path, bytes, hash });
    }
    Ok(kept)
}
