//! Data sets: images that users sent, their classes and splits.
//!
//! Images lie in `images/` by content hash, once however many data sets have them; rows say which data set has which,
//! under which class and in which split. Readers see the last commit and wait for nobody.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ocelli_common::text::chain;
use ocelli_datasets::names::nfc;
use ocelli_datasets::{DecodeError, DecodeLimits, Split, decode, file_format};
use serde_json::json;

use crate::error::PipelineError;
use crate::store::audit::note;
use crate::store::database::files::{FileRow, StoredFile};
use crate::store::database::images::NewImage;
use crate::store::database::{Fault, Tx, changes, files, images, jobs};
use crate::store::disk::{self, Condition};
use crate::store::entries::Actor;
use crate::store::error::StoreError;
use crate::store::image::{IMAGES, Id, Origin, check_class, check_counts, original};
use crate::store::info::{AddedImage, DatasetInfo, DatasetSummary, ImageInfo, ImagePage, StoredImage};
use crate::store::inner::{Inner, now};
use crate::store::name::Name;
use crate::store::splits::{Declared, draw};

const WHAT: &str = "data set";

/// The data sets of a store.
pub struct Datasets {
    pub(super) inner: Arc<Inner>,
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
        // What is left is removed when the store is opened.
        let _ = fs::remove_dir_all(&self.path);
    }
}

impl Datasets {
    pub(super) fn new(inner: Arc<Inner>) -> Datasets {
        Datasets { inner }
    }

    /// A fresh folder, on the disk of the data sets, for an upload in transit.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn staging(&self) -> Result<Staging, StoreError> {
        self.inner.staging()
    }

    /// All data sets by name.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Database`].
    pub fn list(&self) -> Result<Vec<DatasetSummary>, StoreError> {
        self.inner.database.read(images::summaries)
    }

    /// Classes, totals and times of a data set.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Io`], [`StoreError::Database`].
    pub fn inspect(&self, name: &Name) -> Result<DatasetInfo, StoreError> {
        self.inner.database.read(|tx| {
            let dataset = key(tx, name)?;
            let (images, bytes) = images::totals(tx, dataset)?;
            let (created, changed) = images::times(tx, dataset)?;
            Ok(DatasetInfo {
                name: name.to_string(),
                images,
                bytes,
                classes: images::classes(tx, dataset)?,
                created,
                changed,
                jobs: jobs::open_on(tx, name.as_str())?.into_iter().collect(),
                fresh: images::fresh(tx, name.as_str())?,
            })
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
        self.inner.database.read(|tx| {
            let dataset = key(tx, name)?;
            let (total, images) = images::page(tx, dataset, class, (offset, limit))?;
            Ok(ImagePage { total, images })
        })
    }

    /// The file of an image.
    ///
    /// # Errors
    /// As [`Datasets::inspect`]; an id that is not there is not found; [`StoreError::Damaged`] for a file that is not what
    /// was sent, which is noted.
    pub fn image(&self, name: &Name, id: &str) -> Result<StoredImage, StoreError> {
        let look = || self.inner.database.read(|tx| find(tx, key(tx, name)?, id));
        let (file, _) = look()?;
        // One that was deleted meanwhile is not damaged.
        self.inner.read_image(&file).or_else(|error| look().and(Err(error)))
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
    /// image is there under another class, [`StoreError::TooLarge`], [`StoreError::Full`], [`StoreError::Io`].
    pub fn add_image(
        &self,
        name: &Name,
        class: &str,
        bytes: &[u8],
        by: &Actor,
    ) -> Result<AddedImage, StoreError> {
        check_class(class).map_err(|reason| StoreError::Refused { reason })?;
        let staging = self.staging()?;
        let (id, extension) = disk::examine(bytes, &DecodeLimits::default()).map_err(refusal)?;
        self.inner.room.check(&self.inner.dir, bytes.len() as u64)?;
        let stored = disk::put(staging.path(), (id, extension), bytes)?;
        let _turn = self.inner.files();
        let mut moved = Vec::new();
        let added = self.inner.store_file(staging.path(), &stored, &mut moved).and_then(|stored| {
            self.inner.database.write(|tx| {
                let file = files::put(tx, &stored)?;
                let added = add(tx, name, class, (file, &id), Origin::Upload)?;
                note(
                    tx,
                    by,
                    ("add image", name.as_str()),
                    &json!({ "image": added.id, "class": added.class }),
                )?;
                Ok(added)
            })
        });
        added.inspect_err(|_| self.inner.undo(&moved))
    }

    /// Takes an image out of a data set for good. Its file goes too, unless another data set, feedback or a job has it.
    ///
    /// # Errors
    /// As [`Datasets::image`].
    pub fn delete_image(&self, name: &Name, id: &str, by: &Actor) -> Result<(), StoreError> {
        let _turn = self.inner.files();
        let gone = self.inner.database.write(|tx| {
            let dataset = key(tx, name)?;
            let (file, info) = find(tx, dataset, id)?;
            images::delete_image(tx, dataset, file.key)?;
            changes::forget(tx, dataset, file.key)?;
            images::touch(tx, dataset, now(), 0)?;
            note(tx, by, ("delete image", name.as_str()), &json!({ "image": info.id, "class": info.class }))?;
            files::release(tx, &[file.key])
        })?;
        self.inner.remove(&gone);
        Ok(())
    }

    /// Deletes a data set with all that is in it.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::Conflict`] while a job needs it; [`StoreError::Io`].
    pub fn delete(&self, name: &Name, by: &Actor) -> Result<(), StoreError> {
        let _turn = self.inner.files();
        let gone = self.inner.database.write(|tx| {
            let dataset = key(tx, name)?;
            if let Some(job) = jobs::open_on(tx, name.as_str())? {
                let reason = format!(
                    "the data set {name} is needed for job {job}; wait for its end or cancel it first"
                );
                return Err(StoreError::Conflict { reason }.into());
            }
            let (count, _) = images::totals(tx, dataset)?;
            let keys = images::delete(tx, dataset)?;
            note(tx, by, ("delete data set", name.as_str()), &json!({ "images": count }))?;
            files::release(tx, &keys)
        })?;
        self.inner.remove(&gone);
        Ok(())
    }

    /// Images that came since a job was last asked for.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Database`].
    pub fn fresh(&self, name: &Name) -> Result<u64, StoreError> {
        self.inner.database.read(|tx| images::fresh(tx, name.as_str()))
    }
}

impl Inner {
    /// A fresh folder for what is in transit.
    pub(super) fn staging(&self) -> Result<Staging, StoreError> {
        let number = self.stagings.fetch_add(1, Ordering::Relaxed);
        let path = self.dir.join(disk::INCOMING).join(number.to_string());
        fs::create_dir_all(&path).map_err(StoreError::io(&path))?;
        Ok(Staging { path })
    }

    /// Moves a staged image in, unless the same one lies there whole, and brings it to the disk. Gives the file that lies
    /// there then. The caller has the turn.
    pub(super) fn store_file(
        &self,
        staging: &Path,
        stored: &StoredFile,
        moved: &mut Vec<PathBuf>,
    ) -> Result<StoredFile, StoreError> {
        let known = self.database.read(|tx| files::find(tx, &stored.id))?;
        if let Some(file) = known
            && disk::inspect_image(&self.dir, &file).0 == Condition::Whole
        {
            return Ok(StoredFile { written: file.written, ..*stored });
        }
        let staged = disk::staged_path(staging, &stored.id, stored.extension);
        fs::File::open(&staged).and_then(|file| file.sync_all()).map_err(StoreError::io(&staged))?;
        disk::move_in(&self.dir, staging, std::slice::from_ref(stored), moved)?;
        self.room.images(stored.bytes as i64);
        let folder = moved[0].parent().expect("images lie in a folder");
        disk::sync_folder(folder)?;
        disk::sync_folder(&self.dir.join(IMAGES))?;
        disk::sync_folder(&self.dir)?;
        Ok(*stored)
    }

    /// Whether a file of the right size lies where a row says.
    pub(super) fn lies_there(&self, file: &FileRow) -> bool {
        fs::metadata(self.dir.join(file.path())).is_ok_and(|meta| meta.is_file() && meta.len() == file.bytes)
    }

    /// Takes files away again that were moved in for rows which were not written. The caller has the turn.
    pub(super) fn undo(&self, moved: &[PathBuf]) {
        for path in moved {
            let id = path.file_name().and_then(|name| crate::store::image::id_of_file(name.to_str()?));
            // A commit whose error came after it was made, and a file that was restored, have rows that name it.
            let named = match id {
                Some((id, _)) => !matches!(self.database.read(|tx| files::find(tx, &id)), Ok(None)),
                None => true,
            };
            if !named {
                let bytes = fs::metadata(path).map_or(0, |meta| meta.len());
                if fs::remove_file(path).is_ok() {
                    self.room.images(-(bytes as i64));
                }
            }
        }
    }

    /// Notes what files are like, of those that rows still name. It is looked once more in a turn of its own: since the
    /// first look they may have been deleted or restored.
    pub(super) fn look_again(&self, rows: &[FileRow]) -> Result<(), StoreError> {
        let _turn = self.files();
        let mut found = Vec::new();
        for row in rows {
            let Some(row) = self.database.read(|tx| files::find(tx, &row.id))? else { continue };
            match disk::inspect_image(&self.dir, &row).0 {
                Condition::Whole if row.damaged.is_some() => found.push((row.key, None)),
                Condition::Damaged(reason) if row.damaged.as_ref() != Some(&reason) => {
                    found.push((row.key, Some(reason)));
                }
                _ => {}
            }
        }
        if found.is_empty() {
            return Ok(());
        }
        self.database.write(|tx| {
            found.iter().try_for_each(|(key, reason)| files::set_damaged(tx, *key, reason.as_deref()))
        })
    }

    /// Reads an image; one that is not what was sent is noted as damaged.
    pub(super) fn read_image(&self, file: &FileRow) -> Result<StoredImage, StoreError> {
        let path = self.dir.join(file.path());
        let (condition, bytes) = disk::inspect_image(&self.dir, file);
        match condition {
            Condition::Whole => {
                if file.damaged.is_some() {
                    self.look_again(std::slice::from_ref(file))?;
                }
                let media_type =
                    file_format(&bytes).map_or("application/octet-stream", |format| format.media_type);
                Ok(StoredImage { bytes, media_type })
            }
            Condition::Damaged(reason) => {
                if file.damaged.as_deref() != Some(&reason) {
                    self.look_again(std::slice::from_ref(file))?;
                }
                let reason = format!("{reason}; send the image again to restore it");
                Err(StoreError::Damaged { path, reason })
            }
            Condition::Unreadable(reason) => {
                Err(StoreError::Io { path, source: std::io::Error::other(reason) })
            }
        }
    }
}

/// Adds an image whose file has a row to a data set; one that is there already stays as it is.
pub(super) fn add(
    tx: &Tx<'_>,
    name: &Name,
    class: &str,
    (file, id): (i64, &Id),
    origin: Origin,
) -> Result<AddedImage, Fault> {
    let dataset = images::find_or_make(tx, name.as_str(), now())?;
    let known = images::split_counts(tx, dataset)?;
    let found = known.get(&*nfc(class));
    let class = found.map_or(class, |(name, _)| name);
    if let Some((_, there)) = images::image(tx, dataset, id)? {
        if there.class != class {
            let reason = format!("this image is already in class {:?}; delete it there first", there.class);
            return Err(StoreError::Conflict { reason }.into());
        }
        return Ok(AddedImage { id: there.id, class: there.class, split: there.split, duplicate: true });
    }
    let counts = found.map_or([0; 3], |(_, counts)| *counts);
    let split = draw(counts, &[(*id, None)], Declared::default())[0];
    let images: usize = known.values().map(|(_, counts)| counts.iter().sum::<usize>()).sum();
    check_counts(images + 1, known.len() + usize::from(found.is_none()))?;
    let class_key = images::class_key(tx, dataset, class)?;
    images::add(tx, (dataset, class_key), file, &NewImage { split, name: "", added: now(), origin })?;
    images::touch(tx, dataset, now(), 1)?;
    Ok(AddedImage { id: id.to_string(), class: class.to_owned(), split, duplicate: false })
}

/// The key of a data set; an error that says which names there are.
pub(super) fn key(tx: &Tx<'_>, name: &Name) -> Result<i64, Fault> {
    const SHOWN: usize = 10;
    if let Some(key) = images::find(tx, name.as_str())? {
        return Ok(key);
    }
    let mut there = images::names(tx)?;
    if there.len() > SHOWN {
        there.truncate(SHOWN);
        there.push("...".to_owned());
    }
    let there = if there.is_empty() {
        "there are none".to_owned()
    } else {
        format!("there are: {}", there.join(", "))
    };
    Err(StoreError::NotFound { what: WHAT, name: format!("{name} ({there})") }.into())
}

/// An image of a data set; an error where it is not there.
pub(super) fn find(tx: &Tx<'_>, dataset: i64, id: &str) -> Result<(FileRow, ImageInfo), Fault> {
    let found = match Id::parse(id) {
        Some(id) => images::image(tx, dataset, &id)?,
        None => None,
    };
    found.ok_or_else(|| StoreError::NotFound { what: "image", name: original(id) }.into())
}

/// Of an image that is all that was sent.
pub(super) fn refusal(error: DecodeError) -> StoreError {
    let reason = format!("the image is not taken: {}", chain(&error));
    match error {
        DecodeError::TooManyBytes { .. } => StoreError::TooLarge { reason },
        _ => StoreError::Refused { reason },
    }
}

/// How many images of each split, in words.
pub(super) fn in_words(splits: &[Split]) -> String {
    let count = |split: Split| (split, splits.iter().filter(|own| **own == split).count());
    let counted = [Split::Train, Split::Val, Split::Test].map(count);
    let words: Vec<String> =
        counted.iter().filter(|(_, n)| *n > 0).map(|(split, n)| format!("{n} {split}")).collect();
    words.join(", ")
}
