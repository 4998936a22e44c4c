//! A ZIP of class folders becomes part of a data set: as a whole or not at all.
//!
//! Images are inflated, decoded and written to a staging folder while others may do the same; only then comes the turn
//! of this upload: a rename for each new image, one sync for all of them, one transaction.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use ocelli_common::text::chain;
use ocelli_datasets::names::nfc;
use ocelli_datasets::{Item, Split, UploadLimits, UploadZip};
use ocelli_engine::Pool;
use serde::Serialize;
use serde_json::json;

use crate::balance::imbalance;
use crate::metrics::SkippedImage;
use crate::pool;
use crate::store::audit::note;
use crate::store::database::files::StoredFile;
use crate::store::database::images::{NewImage, SplitCounts};
use crate::store::database::{Fault, Tx, files, images};
use crate::store::datasets::{Datasets, in_words};
use crate::store::disk::{self, Condition, examine, put};
use crate::store::entries::Actor;
use crate::store::error::StoreError;
use crate::store::image::{Id, Origin, check_class, check_counts, original};
use crate::store::inner::{Inner, now};
use crate::store::name::Name;
use crate::store::splits::{Declared, draw};

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
    /// Images that were there already, in the same class. They keep the split that they have.
    pub duplicates: usize,
    /// Images that were there and damaged, and are whole again.
    pub restored: usize,
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
type Staged = Result<StoredFile, String>;

impl Datasets {
    /// Adds the images of a ZIP of class folders to a data set, which is made where it is missing.
    ///
    /// The rules of layout are those of training: wrapping folders are stepped over, and folders `train`, `val` and
    /// `test` declare splits. An image gets its split when it first comes (`splits.rs` has the rule) and keeps it. Every
    /// image is decoded once; those that are damaged, there already or there under another class are left out and reported.
    ///
    /// # Errors
    /// [`StoreError::Refused`] or [`StoreError::TooLarge`] when the archive as a whole will not do or none of its images
    /// does, [`StoreError::Stopped`] when `stop` is raised, [`StoreError::Full`], [`StoreError::Io`]. The data set is as it
    /// was then.
    pub fn import_zip(
        &self,
        name: &Name,
        zip: &Path,
        (limits, pool): (&UploadLimits, &Pool),
        stop: &AtomicBool,
        by: &Actor,
    ) -> Result<ImportReport, StoreError> {
        let archive = UploadZip::open(zip, limits).map_err(|error| StoreError::of_upload(zip, error))?;
        for class in archive.classes() {
            check_class(class)
                .map_err(|reason| StoreError::Refused { reason: format!("{reason}; rename the folder") })?;
        }
        let staging = self.staging()?;
        let work = Work { archive: &archive, zip, staging: staging.path(), limits, stop };
        let staged = work.run(pool)?;
        let _turn = self.inner.files();
        let mut plan =
            self.inner.database.read(|tx| Plan::new(&self.inner, tx, name, archive.classes(), &staged))?;
        for (item, staged) in archive.items().iter().zip(staged) {
            plan.add(item, staged);
        }
        plan.divide(archive.items());
        plan.check()?;
        let bytes: u64 = plan.files().iter().map(|file| file.bytes).sum();
        self.inner.room.check(&self.inner.dir, bytes)?;
        let mut moved = Vec::new();
        let done = self.inner.database.write(|tx| {
            // Rows are written while files are moved and synced; only the end of the transaction waits for both.
            std::thread::scope(|scope| {
                let files = scope.spawn(|| self.move_in(&plan, staging.path()));
                let rows = plan.write(tx, name).and_then(|()| {
                    let detail = json!({ "accepted": plan.fresh.len(), "restored": plan.restored.len() });
                    note(tx, by, ("upload", name.as_str()), &detail)?;
                    plan.report(tx, name, archive.notes())
                });
                let (paths, synced) = files.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                moved = paths;
                synced?;
                rows
            })
        });
        done.inspect_err(|_| self.inner.undo(&moved))
    }

    /// Moves the files in that are new or restore a damaged one, and brings them to the disk; gives those that were moved.
    fn move_in(&self, plan: &Plan, staging: &Path) -> (Vec<PathBuf>, Result<(), StoreError>) {
        let files = plan.files();
        let dir = &self.inner.dir;
        // What a rename takes is mostly the file system's work, which two threads do in half the time.
        let parts: Vec<_> = std::thread::scope(|scope| {
            let part = |files| {
                let mut moved = Vec::new();
                let result = disk::move_in(dir, staging, files, &mut moved);
                (moved, result)
            };
            let threads: Vec<_> = files
                .chunks(files.len().div_ceil(MOVERS).max(FEW))
                .map(|files| scope.spawn(move || part(files)))
                .collect();
            let joined = threads.into_iter().map(|thread| thread.join());
            joined.map(|part| part.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
        });
        let (mut moved, mut result) = (Vec::new(), Ok(()));
        for (paths, outcome) in parts {
            moved.extend(paths);
            result = result.and(outcome);
        }
        for path in &moved {
            let bytes = path.metadata().map_or(0, |meta| meta.len());
            self.inner.room.images(bytes as i64);
        }
        if !moved.is_empty() {
            result = result.and_then(|()| disk::sync(dir, &moved));
        }
        (moved, result)
    }
}

/// Threads that move files in, and fewer files than which are not worth another one.
const MOVERS: usize = 2;
const FEW: usize = 256;

/// Staging of all images of an archive, shared by threads.
struct Work<'a> {
    archive: &'a UploadZip,
    zip: &'a Path,
    staging: &'a Path,
    limits: &'a UploadLimits,
    stop: &'a AtomicBool,
}

impl Work<'_> {
    fn run(&self, pool: &Pool) -> Result<Vec<Staged>, StoreError> {
        let count = self.archive.items().len();
        pool::numbered(pool, (self.limits.max_parallel, count), |index| self.one(index))
    }

    fn one(&self, index: usize) -> Result<Staged, StoreError> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(StoreError::Stopped);
        }
        let bytes = self.archive.bytes(index).map_err(|error| StoreError::of_upload(self.zip, error))?;
        match examine(&bytes, &self.limits.image) {
            Ok(image) => Ok(Ok(put(self.staging, image, &bytes)?)),
            Err(error) => Ok(Err(chain(&error))),
        }
    }
}

/// An image that the data set is to get.
struct Fresh {
    file: StoredFile,
    /// Its class by its name after NFC.
    composed: String,
    class: String,
    declared: Option<Split>,
    split: Split,
    name: String,
}

/// An image as the data set has it.
struct There {
    class: String,
    split: Split,
}

/// What is to become of the data set and what is to be told.
struct Plan {
    /// The classes of the archive.
    classes: Vec<String>,
    /// Classes of the data set by their name after NFC: what it calls them and how many images they have.
    before: BTreeMap<String, (String, SplitCounts)>,
    /// Images of the archive that the data set has.
    there: HashMap<Id, There>,
    /// Images of the archive whose file lies there whole, for this data set or for something else, and when it was written.
    whole: HashMap<Id, i64>,
    /// Classes that are new, by their name after NFC: as their first image has them.
    new: HashMap<String, String>,
    fresh: Vec<Fresh>,
    /// Places in `fresh` by id.
    index: HashMap<Id, usize>,
    restored: Vec<StoredFile>,
    /// Splits of the images that were there already.
    duplicates: Vec<Split>,
    /// Of these, images that the archive declares for another split.
    elsewhere: usize,
    /// Images that the archive has more than once.
    twice: usize,
    skipped: Vec<SkippedImage>,
    skipped_total: usize,
}

impl Plan {
    /// What the data set has of the images that came.
    fn new(
        inner: &Inner,
        tx: &Tx<'_>,
        name: &Name,
        classes: &[String],
        staged: &[Staged],
    ) -> Result<Plan, Fault> {
        let dataset = images::find(tx, name.as_str())?;
        let before = match dataset {
            Some(dataset) => images::split_counts(tx, dataset)?,
            None => BTreeMap::new(),
        };
        let (mut there, mut whole) = (HashMap::new(), HashMap::new());
        for StoredFile { id, .. } in staged.iter().flatten() {
            let Some(file) = files::find(tx, id)? else { continue };
            // A file that was damaged since anybody looked is restored, too.
            if disk::inspect_image(&inner.dir, &file).0 == Condition::Whole {
                whole.insert(*id, file.written);
            }
            if let Some(dataset) = dataset
                && let Some((_, info)) = images::image(tx, dataset, id)?
            {
                there.insert(*id, There { class: info.class, split: info.split });
            }
        }
        Ok(Plan {
            classes: classes.to_vec(),
            before,
            there,
            whole,
            new: HashMap::new(),
            fresh: Vec::new(),
            index: HashMap::new(),
            restored: Vec::new(),
            duplicates: Vec::new(),
            elsewhere: 0,
            twice: 0,
            skipped: Vec::new(),
            skipped_total: 0,
        })
    }

    fn add(&mut self, item: &Item, staged: Staged) {
        let file = match staged {
            Ok(file) => file,
            Err(reason) => return self.skip(item, reason),
        };
        let id = file.id;
        let named = &self.classes[item.class() as usize];
        let composed = nfc(named).into_owned();
        let known = self.before.get(&composed).map(|(name, _)| name);
        let class =
            known.unwrap_or_else(|| self.new.entry(composed.clone()).or_insert(named.clone())).clone();
        let other = |there: &str| format!("the same image is in class {there:?}; the first counts");
        if let Some(there) = self.there.get(&id) {
            if there.class != class {
                return self.skip(item, other(&there.class.clone()));
            }
            self.duplicates.push(there.split);
            self.elsewhere += usize::from(item.split.is_some_and(|split| split != there.split));
            if let Entry::Vacant(place) = self.whole.entry(id) {
                place.insert(file.written);
                self.restored.push(file);
            }
            return;
        }
        if let Some(&at) = self.index.get(&id) {
            if self.fresh[at].class != class {
                return self.skip(item, other(&self.fresh[at].class.clone()));
            }
            return self.twice += 1;
        }
        self.index.insert(id, self.fresh.len());
        let (declared, split, name) = (item.split, Split::Train, original(&item.name));
        self.fresh.push(Fresh { file, composed, class, declared, split, name });
    }

    fn skip(&mut self, item: &Item, reason: String) {
        self.skipped_total += 1;
        if self.skipped.len() < MAX_SKIPPED {
            self.skipped.push(SkippedImage { name: original(&item.name), reason });
        }
    }

    /// Gives every new image its split.
    fn divide(&mut self, items: &[Item]) {
        let declared = Declared::of(items.iter().map(|item| item.split));
        let mut classes: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (at, fresh) in self.fresh.iter().enumerate() {
            classes.entry(&fresh.composed).or_default().push(at);
        }
        let mut splits = vec![Split::Train; self.fresh.len()];
        for (class, places) in classes {
            let there = self.before.get(class).map_or([0; 3], |(_, counts)| *counts);
            let images: Vec<_> =
                places.iter().map(|&at| (self.fresh[at].file.id, self.fresh[at].declared)).collect();
            for (at, split) in places.into_iter().zip(draw(there, &images, declared)) {
                splits[at] = split;
            }
        }
        self.fresh.iter_mut().zip(splits).for_each(|(fresh, split)| fresh.split = split);
    }

    /// Refuses what leaves nothing to take, or too much.
    fn check(&self) -> Result<(), StoreError> {
        if self.fresh.is_empty() && self.duplicates.is_empty() {
            return Err(StoreError::Refused { reason: self.refusal() });
        }
        let images: usize = self.before.values().map(|(_, counts)| counts.iter().sum::<usize>()).sum();
        let new: HashSet<&str> = self
            .fresh
            .iter()
            .map(|f| f.composed.as_str())
            .filter(|c| !self.before.contains_key(*c))
            .collect();
        check_counts(images + self.fresh.len(), self.before.len() + new.len())
    }

    /// Files that are to be moved in.
    fn files(&self) -> Vec<StoredFile> {
        let fresh =
            self.fresh.iter().map(|fresh| fresh.file).filter(|file| !self.whole.contains_key(&file.id));
        fresh.chain(self.restored.iter().copied()).collect()
    }

    fn write(&self, tx: &Tx<'_>, name: &Name) -> Result<(), Fault> {
        for file in &self.restored {
            files::put(tx, file)?;
        }
        if self.fresh.is_empty() {
            return Ok(());
        }
        let now = now();
        let dataset = images::find_or_make(tx, name.as_str(), now)?;
        let mut classes: HashMap<&str, i64> = HashMap::new();
        for fresh in &self.fresh {
            let class = match classes.get(fresh.composed.as_str()) {
                Some(&class) => class,
                None => {
                    let class = images::class_key(tx, dataset, &fresh.class)?;
                    classes.insert(&fresh.composed, class);
                    class
                }
            };
            let written = self.whole.get(&fresh.file.id).copied().unwrap_or(fresh.file.written);
            let file = files::put(tx, &StoredFile { written, ..fresh.file })?;
            let image =
                NewImage { split: fresh.split, name: &fresh.name, added: now, origin: Origin::Upload };
            images::add(tx, (dataset, class), file, &image)?;
        }
        images::touch(tx, dataset, now, self.fresh.len())
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

    fn report(&self, tx: &Tx<'_>, name: &Name, notes: &[String]) -> Result<ImportReport, Fault> {
        let (after, (count, bytes)) = match images::find(tx, name.as_str())? {
            Some(dataset) => (images::split_counts(tx, dataset)?, images::totals(tx, dataset)?),
            None => (BTreeMap::new(), (0, 0)),
        };
        let mut notes = notes.to_vec();
        if !self.fresh.is_empty() {
            let splits: Vec<Split> = self.fresh.iter().map(|fresh| fresh.split).collect();
            notes.push(format!("new images are divided once and for ever: {}", in_words(&splits)));
        }
        if !self.duplicates.is_empty() {
            let kept = in_words(&self.duplicates);
            let mut text =
                format!("{} images were there already and keep their split: {kept}", self.duplicates.len());
            if self.elsewhere > 0 {
                text += &format!(" ({} of them were declared for another one now)", self.elsewhere);
            }
            notes.push(text);
        }
        if !self.restored.is_empty() {
            notes.push(format!("{} damaged images are whole again", self.restored.len()));
        }
        let sum = |counts: &SplitCounts| counts.iter().sum::<usize>();
        let change = |(composed, (name, counts)): (&String, &(String, SplitCounts))| ClassChange {
            name: name.clone(),
            before: self.before.get(composed).map_or(0, |(_, counts)| sum(counts)),
            after: sum(counts),
        };
        let totals: BTreeMap<&str, usize> =
            after.values().map(|(name, counts)| (name.as_str(), sum(counts))).collect();
        Ok(ImportReport {
            dataset: name.to_string(),
            accepted: self.fresh.len(),
            duplicates: self.duplicates.len() + self.twice,
            restored: self.restored.len(),
            skipped: self.skipped.clone(),
            skipped_total: self.skipped_total,
            warning: warning(&totals),
            classes: after.iter().map(change).collect(),
            notes,
            images: count,
            bytes,
        })
    }
}

fn warning(counts: &BTreeMap<&str, usize>) -> Option<String> {
    if let (1, Some(class)) = (counts.len(), counts.keys().next()) {
        return Some(format!("there is only one class ({class}); training needs two"));
    }
    imbalance(counts.iter().map(|(class, &n)| (*class, n)), "images")
}
