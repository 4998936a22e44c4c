//! Images whose prediction somebody judged, waiting for a review.
//!
//! The same image sent again replaces what was said of it: the latest word counts. Approving makes the image one of a data
//! set and ends the waiting, in one transaction.

use std::sync::Arc;

use ocelli_datasets::DecodeLimits;
use serde_json::json;

use crate::store::audit::note;
use crate::store::database::files::FileRow;
use crate::store::database::{Fault, Tx, feedback, files};
use crate::store::datasets::{Datasets, add, refusal};
use crate::store::disk::{examine, put};
use crate::store::entries::{Actor, FeedbackEntry, FeedbackInput, FeedbackPage};
use crate::store::error::StoreError;
use crate::store::image::{Id, Origin, check_class, original};
use crate::store::info::{AddedImage, StoredImage};
use crate::store::inner::{Inner, now};
use crate::store::name::Name;

/// Most entries that wait.
pub const MAX_FEEDBACK: usize = 10_000;
/// Largest image in bytes.
pub const MAX_FEEDBACK_BYTES: u64 = 10 << 20;
/// Bytes of all images that wait: whoever may predict may send feedback, and must not be able to fill the disk.
pub const MAX_FEEDBACK_TOTAL: u64 = 1 << 30;
/// Longest note and longest model version in bytes.
const MAX_NOTE: usize = 2000;

/// The entries of a store.
pub struct Feedback {
    inner: Arc<Inner>,
}

impl Feedback {
    pub(super) fn new(inner: Arc<Inner>) -> Feedback {
        Feedback { inner }
    }

    /// Keeps an image with what is said about it; gives its id. An image that waits already gets the new words. `staging`
    /// is where images in transit lie.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when the image cannot be decoded or a text will not do, [`StoreError::TooLarge`] over
    /// [`MAX_FEEDBACK_BYTES`], [`MAX_FEEDBACK`] entries or [`MAX_FEEDBACK_TOTAL`] bytes in all, [`StoreError::Full`],
    /// [`StoreError::Io`].
    pub fn add(
        &self,
        image: &[u8],
        input: &FeedbackInput,
        datasets: &Datasets,
        by: &Actor,
    ) -> Result<String, StoreError> {
        check(input)?;
        let limits = DecodeLimits { max_bytes: MAX_FEEDBACK_BYTES, ..DecodeLimits::default() };
        let (id, extension) = examine(image, &limits).map_err(refusal)?;
        let bytes = image.len() as u64;
        self.inner.room.check(&self.inner.dir, bytes)?;
        let staging = datasets.staging()?;
        let stored = put(staging.path(), (id, extension), image)?;
        let _turn = self.inner.files();
        self.inner.database.read(|tx| within_limits(tx, &id, bytes))?;
        let mut moved = Vec::new();
        let added = self.inner.store_file(staging.path(), &stored, &mut moved).and_then(|stored| {
            self.inner.database.write(|tx| {
                let file = files::put(tx, &stored)?;
                feedback::put(tx, file, now(), input)?;
                note(tx, by, ("feedback", &id.to_string()), &json!({ "label": input.label }))
            })
        });
        added.inspect_err(|_| self.inner.undo(&moved))?;
        Ok(id.to_string())
    }

    /// Up to `limit` entries from the `offset`th on, oldest first.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Database`].
    pub fn page(&self, offset: usize, limit: usize) -> Result<FeedbackPage, StoreError> {
        let (total, feedback) = self.inner.database.read(|tx| feedback::page(tx, (offset, limit)))?;
        Ok(FeedbackPage { total, feedback })
    }

    /// The image of an entry.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Damaged`], [`StoreError::Io`].
    pub fn image(&self, id: &str) -> Result<StoredImage, StoreError> {
        let look = || self.inner.database.read(|tx| find(tx, id));
        let (file, _) = look()?;
        // One that is not there any more is not damaged.
        self.inner.read_image(&file).or_else(|error| look().and(Err(error)))
    }

    /// Makes the image of an entry one of a data set, under its label or another one, and ends its waiting.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::Refused`] where no label was given; [`StoreError::Damaged`] for an image
    /// that is not what was sent; those of [`Datasets::add_image`]. The entry stays then.
    pub fn approve(
        &self,
        id: &str,
        dataset: &Name,
        label: Option<&str>,
        by: &Actor,
    ) -> Result<AddedImage, StoreError> {
        self.image(id)?;
        let _turn = self.inner.files();
        self.inner.database.write(|tx| {
            let (file, entry) = find(tx, id)?;
            let Some(label) = label.or(entry.input.label.as_deref()) else {
                let reason = "this feedback has no label; say which class the image belongs to".to_owned();
                return Err(StoreError::Refused { reason }.into());
            };
            check_class(label).map_err(|reason| StoreError::Refused { reason })?;
            let added = add(tx, dataset, label, (file.key, &file.id), Origin::Feedback)?;
            feedback::delete(tx, file.key)?;
            let detail = json!({ "dataset": dataset.as_str(), "class": added.class });
            note(tx, by, ("approve feedback", &added.id), &detail)?;
            Ok(added)
        })
    }

    /// Removes an entry, and its image where nothing else has it.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Io`].
    pub fn reject(&self, id: &str, by: &Actor) -> Result<(), StoreError> {
        let _turn = self.inner.files();
        let gone = self.inner.database.write(|tx| {
            let (file, entry) = find(tx, id)?;
            feedback::delete(tx, file.key)?;
            note(tx, by, ("reject feedback", &entry.id), &json!({}))?;
            files::release(tx, &[file.key])
        })?;
        self.inner.remove(&gone);
        Ok(())
    }
}

fn find(tx: &Tx<'_>, id: &str) -> Result<(FileRow, FeedbackEntry), Fault> {
    let found = match Id::parse(id) {
        Some(id) => feedback::find(tx, &id)?,
        None => None,
    };
    found.ok_or_else(|| StoreError::NotFound { what: "feedback", name: original(id) }.into())
}

/// Refuses what would make too many wait.
fn within_limits(tx: &Tx<'_>, id: &Id, bytes: u64) -> Result<(), Fault> {
    let (others, taken) = feedback::others(tx, id)?;
    let reason = if others >= MAX_FEEDBACK {
        format!("{MAX_FEEDBACK} images wait for a review already; approve or reject some first")
    } else if taken + bytes > MAX_FEEDBACK_TOTAL {
        format!(
            "the images that wait for a review would take more than {MAX_FEEDBACK_TOTAL} bytes; approve or reject some first"
        )
    } else {
        return Ok(());
    };
    Err(StoreError::TooLarge { reason }.into())
}

impl FeedbackInput {
    /// Whether it will do, which can be known before there is an image.
    ///
    /// # Errors
    /// [`StoreError::Refused`] for a label that is none and a text that is too long.
    pub fn check(&self) -> Result<(), StoreError> {
        check(self)
    }
}

fn check(input: &FeedbackInput) -> Result<(), StoreError> {
    let refused = |reason: String| StoreError::Refused { reason };
    for class in [&input.predicted, &input.label].into_iter().flatten() {
        check_class(class).map_err(refused)?;
    }
    for (what, text) in [("model version", &input.version), ("note", &input.note)] {
        if let Some(text) = text
            && text.len() > MAX_NOTE
        {
            return Err(refused(format!("the {what} has {} bytes; at most {MAX_NOTE} are kept", text.len())));
        }
    }
    Ok(())
}
