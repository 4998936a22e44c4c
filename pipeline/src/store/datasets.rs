//! `datasets/NAME/`: images that users sent, by content hash, and the list that says which of them count.
//!
//! ```text
//! datasets/NAME/images.csv              the list
//! datasets/NAME/images/ab/abcd...png    files; the name is the SHA-256 of the content
//! datasets/NAME/snapshot-ID.csv         a list as it was when training began
//! datasets/.staging/N/                  what is being received
//! ```
//!
//! A change writes and syncs the files first and replaces the list last, so a kill at any moment leaves the old data
//! set or the new one. Files that neither the list nor a snapshot names are swept when the store is opened.
//!
//! Writers of one data set wait for each other. Readers share the list in memory and never wait for a writer.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use ocelli_datasets::{DecodeError, DecodeLimits, Split, decode, file_format};

use crate::error::PipelineError;
use crate::store::info::{
    AddedImage, ClassInfo, DatasetInfo, DatasetSummary, ImageInfo, ImagePage, StoredImage,
};
use crate::store::list::{Id, List, Origin, Row, check_class, original};
use crate::store::place::{Place, make_folder, sync_folder};
use crate::store::{Name, StoreError, place};

const WHAT: &str = "data set";

/// The data sets of a store.
pub struct Datasets {
    dir: PathBuf,
    slots: Mutex<HashMap<Name, Arc<Slot>>>,
    stagings: AtomicU64,
}

/// What is kept in memory of a data set.
#[derive(Default)]
struct Slot {
    /// Held while the data set is changed.
    writer: Mutex<()>,
    list: Mutex<Option<Arc<List>>>,
}

/// A folder for something that is being received; removed with all that is in it when dropped.
pub struct Staging {
    path: PathBuf,
}

impl Staging {
    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // What is left is swept when the store is opened.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// A data set that one caller may change.
pub(super) struct Writer<'a> {
    pub(super) place: Place,
    pub(super) list: Arc<List>,
    slot: &'a Slot,
    _turn: MutexGuard<'a, ()>,
}

impl Writer<'_> {
    /// Moves the staged images `fresh` in and replaces the list by one that names them: all or nothing.
    pub(super) fn merge(&mut self, staging: &Path, fresh: &[Row], list: List) -> Result<(), StoreError> {
        let moved = self.place.take(staging, fresh)?;
        self.commit(list).inspect_err(|_| {
            // A list that was replaced and could not be synced may be there after all, and names them.
            let there = List::read(&self.place.list());
            if there
                .is_ok_and(|list| list.is_none_or(|list| fresh.iter().all(|row| list.get(&row.id).is_none())))
            {
                moved.undo();
            }
        })
    }

    /// Replaces the list: from here on the change is real.
    pub(super) fn commit(&mut self, list: List) -> Result<(), StoreError> {
        // After an error the file tells what became of it.
        list.write(&self.place.list()).inspect_err(|_| *lock(&self.slot.list) = None)?;
        self.list = Arc::new(list);
        *lock(&self.slot.list) = Some(self.list.clone());
        Ok(())
    }
}

impl Datasets {
    /// Opens the data sets below `dir` and sweeps away what no list names.
    pub(super) fn open(dir: PathBuf) -> Result<Datasets, StoreError> {
        make_folder(&dir)?;
        place::sweep(&dir)?;
        Ok(Datasets { dir, slots: Mutex::default(), stagings: AtomicU64::new(0) })
    }

    /// A fresh folder, on the disk of the data sets, for an upload in transit.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn staging(&self) -> Result<Staging, StoreError> {
        let number = self.stagings.fetch_add(1, Ordering::Relaxed);
        let path = place::staging(&self.dir).join(number.to_string());
        fs::create_dir_all(&path).map_err(StoreError::io(&path))?;
        Ok(Staging { path })
    }

    /// All data sets by name.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn list(&self) -> Result<Vec<DatasetSummary>, StoreError> {
        let summary = |name: Name| {
            let mut summary = DatasetSummary {
                name: name.to_string(),
                images: 0,
                classes: 0,
                bytes: 0,
                changed: self.place(&name).changed(),
                damaged: None,
            };
            match self.read(&name) {
                Ok(list) => {
                    summary.images = list.rows().len();
                    summary.classes = list.counts().len();
                    summary.bytes = list.bytes();
                }
                Err(StoreError::Damaged { reason, .. }) => summary.damaged = Some(reason),
                // Deleted since its name was read.
                Err(StoreError::NotFound { .. }) => return None,
                Err(error) => return Some(Err(error)),
            }
            Some(Ok(summary))
        };
        place::names(&self.dir)?.into_iter().filter_map(summary).collect()
    }

    /// Classes, totals and times of a data set.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Damaged`], [`StoreError::Io`].
    pub fn inspect(&self, name: &Name) -> Result<DatasetInfo, StoreError> {
        let list = self.read(name)?;
        let place = self.place(name);
        let mut classes: BTreeMap<Arc<str>, ClassInfo> = BTreeMap::new();
        for row in list.rows() {
            let class = classes.entry(row.class.clone()).or_default();
            class.images += 1;
            match row.split {
                Some(Split::Train) => class.train += 1,
                Some(Split::Val) => class.val += 1,
                Some(Split::Test) => class.test += 1,
                None => {}
            }
        }
        let named = |(name, class): (Arc<str>, ClassInfo)| ClassInfo { name: name.to_string(), ..class };
        Ok(DatasetInfo {
            name: name.to_string(),
            images: list.rows().len(),
            bytes: list.bytes(),
            classes: classes.into_iter().map(named).collect(),
            created: list.rows().iter().map(|row| row.added).min().unwrap_or_else(|| place.changed()),
            changed: place.changed(),
            snapshots: place.snapshots()?.iter().map(Name::to_string).collect(),
        })
    }

    /// Up to `limit` images from the `offset`th on, of one class or of all.
    ///
    /// # Errors
    /// As [`Datasets::inspect`].
    pub fn images(
        &self,
        name: &Name,
        class: Option<&str>,
        offset: usize,
        limit: usize,
    ) -> Result<ImagePage, StoreError> {
        let list = self.read(name)?;
        let class = class.map(|class| list.class(class));
        let matching =
            || list.rows().iter().filter(|row| class.as_ref().is_none_or(|class| row.class == *class));
        let images = matching().skip(offset).take(limit).map(info_of).collect();
        Ok(ImagePage { total: matching().count(), images })
    }

    /// The file of an image.
    ///
    /// # Errors
    /// As [`Datasets::inspect`]; an id that is not listed is not found.
    pub fn image(&self, name: &Name, id: &str) -> Result<StoredImage, StoreError> {
        let list = self.read(name)?;
        let row = row_of(&list, id)?;
        let path = self.place(name).dir().join(row.path());
        let bytes = fs::read(&path).map_err(StoreError::io(&path))?;
        let media_type = file_format(&bytes).map_or("application/octet-stream", |format| format.media_type);
        Ok(StoredImage { bytes, media_type })
    }

    /// A PNG of an image, scaled to fit a square of `side` pixels (1 to [`ocelli_datasets::MAX_THUMBNAIL_SIDE`]).
    ///
    /// # Errors
    /// As [`Datasets::image`]; [`StoreError::Refused`] for another side.
    pub fn thumbnail(&self, name: &Name, id: &str, side: u32) -> Result<Vec<u8>, StoreError> {
        let bytes = self.image(name, id)?.bytes;
        let made = decode(&bytes, &DecodeLimits::default())
            .and_then(|image| ocelli_datasets::thumbnail(&image, side));
        made.map_err(|error| match error {
            DecodeError::BadPreprocessing { what } => StoreError::Refused { reason: what },
            error => PipelineError::from(error).into(),
        })
    }

    /// Adds one image to a data set, which is made where it is missing.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when the class name or the image will not do, [`StoreError::Conflict`] when the same
    /// image is there under another class, [`StoreError::TooLarge`], [`StoreError::Io`].
    pub fn add_image(
        &self,
        name: &Name,
        class: &str,
        bytes: &[u8],
        origin: Origin,
    ) -> Result<AddedImage, StoreError> {
        check_class(class).map_err(|reason| StoreError::Refused { reason })?;
        let staging = self.staging()?;
        let (id, extension) = place::examine(bytes, &DecodeLimits::default()).map_err(refusal)?;
        place::put(staging.path(), &id, extension, bytes)?;
        let mut row = Row {
            id,
            extension,
            class: class.into(),
            split: None,
            name: String::new(),
            added: now(),
            origin,
            bytes: bytes.len() as u64,
        };
        self.change(name, |writer| {
            row.class = writer.list.class(class);
            let added =
                |duplicate| AddedImage { id: id.to_string(), class: row.class.to_string(), duplicate };
            if let Some(there) = writer.list.get(&id) {
                if there.class == row.class {
                    return Ok(added(true));
                }
                let there = &there.class;
                let reason = format!("this image is already in class {there:?}; delete it there first");
                return Err(StoreError::Conflict { reason });
            }
            let mut list = List::clone(&writer.list);
            list.push(row.clone());
            list.check_size()?;
            writer.merge(staging.path(), std::slice::from_ref(&row), list)?;
            Ok(added(false))
        })
    }

    /// Takes an image out of a data set. Its file goes too, unless a snapshot has it.
    ///
    /// # Errors
    /// As [`Datasets::image`].
    pub fn delete_image(&self, name: &Name, id: &str) -> Result<(), StoreError> {
        self.read(name)?;
        self.change(name, |writer| {
            let row = row_of(&writer.list, id)?.clone();
            writer.commit(writer.list.without(&row.id))?;
            writer.place.remove_unnamed(&writer.list, &[row])
        })
    }

    /// Deletes a data set with all that is in it.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::Conflict`] while a snapshot is in use; [`StoreError::Io`].
    pub fn delete(&self, name: &Name) -> Result<(), StoreError> {
        self.exists(name)?;
        let slot = self.slot(name);
        let _turn = lock(&slot.writer);
        self.exists(name)?;
        let place = self.place(name);
        if let Some(id) = place.snapshots()?.first() {
            let reason = format!("the data set {name} is in use ({id}); wait for its end or cancel it first");
            return Err(StoreError::Conflict { reason });
        }
        let staging = self.staging()?;
        let target = staging.path().join("deleted");
        fs::rename(place.dir(), &target).map_err(StoreError::io(place.dir()))?;
        *lock(&slot.list) = None;
        sync_folder(&self.dir)
    }

    /// Freezes the list of a data set under an id and gives the file, which [`ocelli_datasets::Source::open`] reads; an
    /// id that is there already keeps what it had. The images in it stay until [`Datasets::drop_snapshot`], across
    /// restarts.
    ///
    /// # Errors
    /// As [`Datasets::inspect`].
    pub fn snapshot(&self, name: &Name, id: &Name) -> Result<PathBuf, StoreError> {
        self.read(name)?;
        self.change(name, |writer| {
            let path = writer.place.snapshot(id);
            if !path.exists() {
                writer.list.write(&path)?;
            }
            Ok(path)
        })
    }

    /// Ends a snapshot and removes the files that only it named; one that is not there is fine.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn drop_snapshot(&self, name: &Name, id: &Name) -> Result<(), StoreError> {
        if !self.place(name).snapshot(id).exists() {
            return Ok(());
        }
        self.change(name, |writer| {
            let path = writer.place.snapshot(id);
            let Some(frozen) = List::read(&path)? else { return Ok(()) };
            fs::remove_file(&path).map_err(StoreError::io(&path))?;
            sync_folder(writer.place.dir())?;
            let gone: Vec<Row> =
                frozen.rows().iter().filter(|row| writer.list.get(&row.id).is_none()).cloned().collect();
            writer.place.remove_unnamed(&writer.list, &gone)
        })
    }

    /// The list of a data set as it is now.
    fn read(&self, name: &Name) -> Result<Arc<List>, StoreError> {
        self.exists(name)?;
        let slot = self.slot(name);
        load(&slot, &self.place(name))?.ok_or_else(|| self.not_found(name))
    }

    /// Runs `work` as the only writer of a data set; it starts empty where there is none.
    pub(super) fn change<T>(
        &self,
        name: &Name,
        work: impl FnOnce(&mut Writer) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let slot = self.slot(name);
        let turn = lock(&slot.writer);
        let place = self.place(name);
        let list = load(&slot, &place)?.unwrap_or_default();
        work(&mut Writer { place, list, slot: &slot, _turn: turn })
    }

    fn place(&self, name: &Name) -> Place {
        Place::new(&self.dir, name)
    }

    fn slot(&self, name: &Name) -> Arc<Slot> {
        lock(&self.slots).entry(name.clone()).or_default().clone()
    }

    fn exists(&self, name: &Name) -> Result<(), StoreError> {
        if self.place(name).list().is_file() { Ok(()) } else { Err(self.not_found(name)) }
    }

    /// Says which names there are.
    fn not_found(&self, name: &Name) -> StoreError {
        const SHOWN: usize = 10;
        let names = place::names(&self.dir).unwrap_or_default();
        let mut there: Vec<&str> = names.iter().take(SHOWN).map(Name::as_str).collect();
        if names.len() > SHOWN {
            there.push("...");
        }
        let there = if there.is_empty() {
            "there are none".to_owned()
        } else {
            format!("there are: {}", there.join(", "))
        };
        StoreError::NotFound { what: WHAT, name: format!("{name} ({there})") }
    }
}

/// Of an image that is all that was sent.
pub(super) fn refusal(error: DecodeError) -> StoreError {
    let reason = format!("the image is not taken: {error}");
    match error {
        DecodeError::TooManyBytes { .. } => StoreError::TooLarge { reason },
        _ => StoreError::Refused { reason },
    }
}

fn load(slot: &Slot, place: &Place) -> Result<Option<Arc<List>>, StoreError> {
    let mut list = lock(&slot.list);
    if list.is_none() {
        *list = List::read(&place.list())?.map(Arc::new);
    }
    Ok(list.clone())
}

fn row_of<'a>(list: &'a List, id: &str) -> Result<&'a Row, StoreError> {
    let row = Id::parse(id).and_then(|id| list.get(&id));
    row.ok_or_else(|| StoreError::NotFound { what: "image", name: original(id) })
}

fn info_of(row: &Row) -> ImageInfo {
    ImageInfo {
        id: row.id.to_string(),
        class: row.class.to_string(),
        split: row.split,
        name: row.name.clone(),
        added: row.added,
        source: row.origin,
        bytes: row.bytes,
    }
}

/// A panic elsewhere leaves these values whole: they are replaced, never edited.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs())
}

#[cfg(test)]
mod tests;
