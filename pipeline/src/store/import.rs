//! A ZIP of class folders becomes part of a data set: as a whole or not at all.
//!
//! Images are inflated, decoded and written to a staging folder while others may do the same; only then comes the turn
//! of this upload to change the data set, which is a rename for each image and one new list.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use ocelli_datasets::{Item, UploadError, UploadLimits, UploadZip};
use serde::Serialize;

use crate::balance::imbalance;
use crate::metrics::SkippedImage;
use crate::store::datasets::{Datasets, Writer, lock, now};
use crate::store::list::{Id, List, Origin, Row, check_class, original};
use crate::store::place::{examine, put};
use crate::store::{Name, StoreError};

/// Most skipped images that a report names.
pub const MAX_SKIPPED: usize = 1000;
/// Skipped images that an error names.
const SHOWN: usize = 3;

/// What an upload did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct ImportReport {
    /// The data set.
    pub dataset: String,
    /// New images.
    pub accepted: usize,
    /// Images that were there already, in the same class.
    pub duplicates: usize,
    /// The first [`MAX_SKIPPED`] images that were not taken, with reasons.
    pub skipped: Vec<SkippedImage>,
    /// How many were not taken.
    pub skipped_total: usize,
    /// All classes of the data set.
    pub classes: Vec<ClassChange>,
    /// What is wrong with the balance of the classes now.
    pub warning: Option<String>,
    /// What else its owner should know: files ignored and why.
    pub notes: Vec<String>,
    /// Images of the data set now.
    pub images: usize,
    /// Bytes of all its image files now.
    pub bytes: u64,
}

/// Images of a class before and after an upload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct ClassChange {
    /// Its name.
    pub name: String,
    /// Images before.
    pub before: usize,
    /// Images now.
    pub after: usize,
}

/// An image of an archive: staged, or why not.
type Staged = Result<(Id, &'static str, u64), String>;

impl Datasets {
    /// Adds the images of a ZIP of class folders to a data set, which is made where it is missing.
    ///
    /// The rules of layout are those of training: wrapping folders are stepped over, and folders `train`, `val` and
    /// `test` declare splits, which the data set keeps. Every image is decoded once; those that are damaged, there
    /// already or there under another class are left out and reported.
    ///
    /// # Errors
    /// [`StoreError::Refused`] or [`StoreError::TooLarge`] when the archive as a whole will not do or none of its images
    /// does, [`StoreError::Stopped`] when `stop` is raised, [`StoreError::Io`]. The data set is as it was then.
    pub fn import_zip(
        &self,
        name: &Name,
        zip: &Path,
        limits: &UploadLimits,
        stop: &AtomicBool,
    ) -> Result<ImportReport, StoreError> {
        let archive = UploadZip::open(zip, limits).map_err(|error| store_error(zip, error))?;
        for class in archive.classes() {
            check_class(class)
                .map_err(|reason| StoreError::Refused { reason: format!("{reason}; rename the folder") })?;
        }
        let staging = self.staging()?;
        let work = Work { archive: &archive, zip, staging: staging.path(), limits, stop };
        let staged = work.run()?;
        self.change(name, |writer| {
            let mut plan = Plan::new(writer, archive.classes());
            for (item, staged) in archive.items().iter().zip(staged) {
                plan.add(item, staged);
            }
            plan.finish(writer, staging.path(), archive.notes())
        })
        .map(|report| ImportReport { dataset: name.to_string(), ..report })
    }
}

/// Staging of all images of an archive, shared by threads.
struct Work<'a> {
    archive: &'a UploadZip,
    zip: &'a Path,
    staging: &'a Path,
    limits: &'a UploadLimits,
    stop: &'a AtomicBool,
}

impl Work<'_> {
    fn run(&self) -> Result<Vec<Staged>, StoreError> {
        let count = self.archive.items().len();
        let next = AtomicUsize::new(0);
        let failed: Mutex<Option<StoreError>> = Mutex::new(None);
        let staged: Mutex<Vec<Option<Staged>>> = Mutex::new(vec![None; count]);
        let work = || {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= count {
                    return;
                }
                match self.one(index) {
                    Ok(outcome) => lock(&staged)[index] = Some(outcome),
                    Err(error) => {
                        // Others find nothing left to do; the first error is the one to tell.
                        next.store(count, Ordering::Relaxed);
                        lock(&failed).get_or_insert(error);
                        return;
                    }
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..self.limits.max_parallel.clamp(1, count.max(1)) {
                scope.spawn(work);
            }
            work();
        });
        if let Some(error) = lock(&failed).take() {
            return Err(error);
        }
        let staged = std::mem::take(&mut *lock(&staged));
        Ok(staged
            .into_iter()
            .map(|outcome| outcome.expect("without an error every index was worked on"))
            .collect())
    }

    fn one(&self, index: usize) -> Result<Staged, StoreError> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(StoreError::Stopped);
        }
        let bytes = self.archive.bytes(index).map_err(|error| store_error(self.zip, error))?;
        match examine(&bytes, &self.limits.image) {
            Ok((id, extension)) => {
                put(self.staging, &id, extension, &bytes)?;
                Ok(Ok((id, extension, bytes.len() as u64)))
            }
            Err(error) => Ok(Err(error.to_string())),
        }
    }
}

fn store_error(zip: &Path, error: UploadError) -> StoreError {
    match error {
        UploadError::Refused { reason } => StoreError::Refused { reason },
        UploadError::TooLarge { reason } => StoreError::TooLarge { reason },
        UploadError::Io { source } => StoreError::io(zip)(source),
    }
}

/// What is to become of the list and what is to be told.
struct Plan {
    /// The classes of the archive.
    classes: Vec<String>,
    list: List,
    before: BTreeMap<Arc<str>, usize>,
    fresh: Vec<Row>,
    duplicates: usize,
    skipped: Vec<SkippedImage>,
    skipped_total: usize,
    added: u64,
}

impl Plan {
    fn new(writer: &Writer, classes: &[String]) -> Plan {
        Plan {
            classes: classes.to_vec(),
            list: List::clone(&writer.list),
            before: writer.list.counts(),
            fresh: Vec::new(),
            duplicates: 0,
            skipped: Vec::new(),
            skipped_total: 0,
            added: now(),
        }
    }

    fn add(&mut self, item: &Item, staged: Staged) {
        let class = self.list.class(&self.classes[item.class as usize]);
        let (id, extension, bytes) = match staged {
            Ok(staged) => staged,
            Err(reason) => return self.skip(item, reason),
        };
        if let Some(there) = self.list.get(&id) {
            if there.class == class {
                self.duplicates += 1;
            } else {
                let reason = format!("the same image is in class {:?}; the first counts", there.class);
                self.skip(item, reason);
            }
            return;
        }
        let name = original(&item.name);
        let row = Row {
            id,
            extension,
            class,
            split: item.split,
            name,
            added: self.added,
            origin: Origin::Upload,
            bytes,
        };
        self.list.push(row.clone());
        self.fresh.push(row);
    }

    fn skip(&mut self, item: &Item, reason: String) {
        self.skipped_total += 1;
        if self.skipped.len() < MAX_SKIPPED {
            self.skipped.push(SkippedImage { name: original(&item.name), reason });
        }
    }

    /// Changes the data set, if there is anything to change.
    fn finish(
        self,
        writer: &mut Writer,
        staging: &Path,
        notes: &[String],
    ) -> Result<ImportReport, StoreError> {
        if self.fresh.is_empty() && self.duplicates == 0 {
            return Err(StoreError::Refused { reason: self.refusal() });
        }
        self.list.check_size()?;
        let report = self.report(notes);
        if !self.fresh.is_empty() {
            writer.merge(staging, &self.fresh, self.list)?;
        }
        Ok(report)
    }

    fn refusal(&self) -> String {
        let first: Vec<String> =
            self.skipped.iter().take(SHOWN).map(|s| format!("{}: {}", s.name, s.reason)).collect();
        let more = match self.skipped_total.saturating_sub(SHOWN) {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        format!("none of the {} images can be taken: {}{more}", self.skipped_total, first.join("; "))
    }

    fn report(&self, notes: &[String]) -> ImportReport {
        let after = self.list.counts();
        let mut notes = notes.to_vec();
        if self.duplicates > 0 {
            notes.push(format!("{} images were there already", self.duplicates));
        }
        let change = |(class, &after): (&Arc<str>, &usize)| ClassChange {
            name: class.to_string(),
            before: self.before.get(class).copied().unwrap_or(0),
            after,
        };
        ImportReport {
            dataset: String::new(),
            accepted: self.fresh.len(),
            duplicates: self.duplicates,
            skipped: self.skipped.clone(),
            skipped_total: self.skipped_total,
            warning: warning(&after),
            classes: after.iter().map(change).collect(),
            notes,
            images: self.list.rows().len(),
            bytes: self.list.bytes(),
        }
    }
}

fn warning(counts: &BTreeMap<Arc<str>, usize>) -> Option<String> {
    if let (1, Some(class)) = (counts.len(), counts.keys().next()) {
        return Some(format!("there is only one class ({class}); training needs two"));
    }
    imbalance(counts.iter().map(|(class, &n)| (&**class, n)), "images")
}
