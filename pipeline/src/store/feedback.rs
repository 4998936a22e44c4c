//! `feedback/`: images whose prediction somebody judged, waiting for a review.
//!
//! ```text
//! feedback/ID.json    what was predicted, what it should be; the entry exists when this file does
//! feedback/ID.png     the image; ID is the SHA-256 of its content
//! ```
//!
//! The same image sent again replaces its entry: the latest word counts. Approving adds the image to a data set first
//! and removes the entry after, so that a kill between the two leaves an entry that can be approved again, to the same
//! effect.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use ocelli_datasets::{DecodeLimits, file_format};
use serde::{Deserialize, Serialize};

use crate::run_folder::write_atomic;
use crate::store::datasets::{Datasets, lock, now, refusal};
use crate::store::info::{AddedImage, StoredImage};
use crate::store::list::{Id, Origin, check_class, id_of_file, original};
use crate::store::place::{entries, examine, file_name, make_folder, put, remove, sync_folder, text};
use crate::store::{Name, StoreError};

/// Most entries that wait.
pub const MAX_FEEDBACK: usize = 10_000;
/// Largest image in bytes.
pub const MAX_FEEDBACK_BYTES: u64 = 10 << 20;
/// Bytes of all images that wait: whoever may predict may send feedback, and must not be able to fill the disk.
pub const MAX_FEEDBACK_TOTAL: u64 = 1 << 30;
/// Longest note and longest model version in bytes.
const MAX_NOTE: usize = 2000;
/// Largest description that is read back: all texts at their longest, escaped.
const MAX_JSON: u64 = 64 << 10;

/// What somebody says about a prediction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct FeedbackInput {
    /// The class that was predicted.
    pub predicted: Option<String>,
    /// The class that it should be.
    pub label: Option<String>,
    /// The model version that predicted.
    pub version: Option<String>,
    /// Anything else.
    pub note: Option<String>,
}

/// An entry that waits for a review.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct FeedbackEntry {
    /// SHA-256 of the image, in hexadecimal.
    pub id: String,
    /// When it came, in seconds since 1970.
    pub added: u64,
    /// Size of the image file.
    pub bytes: u64,
    /// The extension of the image file, by content.
    extension: String,
    /// What was said.
    #[serde(flatten)]
    pub input: FeedbackInput,
}

/// The entries of a store.
pub struct Feedback {
    dir: PathBuf,
    entries: Mutex<BTreeMap<Id, FeedbackEntry>>,
}

impl Feedback {
    /// Opens the folder: reads the entries and removes images without one. A description that is not ours is left
    /// alone and does not count.
    pub(super) fn open(dir: PathBuf) -> Result<Feedback, StoreError> {
        make_folder(&dir)?;
        let mut found = BTreeMap::new();
        let files = entries(&dir)?;
        for file in &files {
            let id = text(file).and_then(|name| Id::parse(name.strip_suffix(".json")?));
            if let Some((id, entry)) = id.and_then(|id| Some((id, read(&file.path(), &id)?))) {
                found.insert(id, entry);
            }
        }
        for file in &files {
            let Some(name) = text(file) else { continue };
            let orphan = id_of_file(&name).is_some_and(|id| !dir.join(format!("{id}.json")).exists());
            if orphan || (name.starts_with('.') && name.contains(".tmp-")) {
                remove(&file.path())?;
            }
        }
        Ok(Feedback { dir, entries: Mutex::new(found) })
    }

    /// Keeps an image with what is said about it; gives its id. An image that waits already gets the new words.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when the image cannot be decoded or a text will not do, [`StoreError::TooLarge`] over
    /// [`MAX_FEEDBACK_BYTES`], [`MAX_FEEDBACK`] entries or [`MAX_FEEDBACK_TOTAL`] bytes in all, [`StoreError::Io`].
    pub fn add(&self, image: &[u8], input: FeedbackInput) -> Result<String, StoreError> {
        check(&input)?;
        let limits = DecodeLimits { max_bytes: MAX_FEEDBACK_BYTES, ..DecodeLimits::default() };
        let (id, extension) = examine(image, &limits).map_err(refusal)?;
        let mut waiting = lock(&self.entries);
        if waiting.len() >= MAX_FEEDBACK && !waiting.contains_key(&id) {
            let reason =
                format!("{MAX_FEEDBACK} images wait for a review already; approve or reject some first");
            return Err(StoreError::TooLarge { reason });
        }
        let others: u64 = waiting.iter().filter(|(own, _)| **own != id).map(|(_, entry)| entry.bytes).sum();
        if others + image.len() as u64 > MAX_FEEDBACK_TOTAL {
            let reason = format!(
                "the images that wait for a review would take more than {MAX_FEEDBACK_TOTAL} bytes; approve or reject some first"
            );
            return Err(StoreError::TooLarge { reason });
        }
        put(&self.dir, &id, extension, image)?;
        let entry = FeedbackEntry {
            id: id.to_string(),
            added: now(),
            bytes: image.len() as u64,
            extension: extension.to_owned(),
            input,
        };
        let json = serde_json::to_vec(&entry).expect("texts and numbers become JSON");
        write_atomic(&self.description(&id), &json)?;
        waiting.insert(id, entry);
        Ok(id.to_string())
    }

    /// All entries, oldest first.
    pub fn list(&self) -> Vec<FeedbackEntry> {
        let mut all: Vec<FeedbackEntry> = lock(&self.entries).values().cloned().collect();
        all.sort_by(|a, b| (a.added, &a.id).cmp(&(b.added, &b.id)));
        all
    }

    /// The image of an entry.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Io`].
    pub fn image(&self, id: &str) -> Result<StoredImage, StoreError> {
        let (id, entry) = self.find(id)?;
        let path = self.image_path(&id, &entry);
        let bytes = fs::read(&path).map_err(StoreError::io(&path))?;
        let media_type = file_format(&bytes).map_or("application/octet-stream", |format| format.media_type);
        Ok(StoredImage { bytes, media_type })
    }

    /// Adds the image of an entry to a data set, under its label or another one, and removes the entry.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::Refused`] where no label was given; those of [`Datasets::add_image`]. The
    /// entry stays then.
    pub fn approve(
        &self,
        id: &str,
        datasets: &Datasets,
        dataset: &Name,
        label: Option<&str>,
    ) -> Result<AddedImage, StoreError> {
        let (_, entry) = self.find(id)?;
        let Some(label) = label.or(entry.input.label.as_deref()) else {
            let reason = "this feedback has no label; say which class the image belongs to".to_owned();
            return Err(StoreError::Refused { reason });
        };
        let image = self.image(id)?;
        let added = datasets.add_image(dataset, label, &image.bytes, Origin::Feedback)?;
        match self.reject(id) {
            // Somebody else decided at the same time.
            Err(StoreError::NotFound { .. }) => {}
            result => result?,
        }
        Ok(added)
    }

    /// Removes an entry.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Io`].
    pub fn reject(&self, id: &str) -> Result<(), StoreError> {
        let mut waiting = lock(&self.entries);
        let id = parse(id)?;
        let Some(entry) = waiting.get(&id) else { return Err(not_found(&id.to_string())) };
        remove(&self.description(&id))?;
        sync_folder(&self.dir)?;
        let image = self.image_path(&id, entry);
        waiting.remove(&id);
        // The entry is gone; what is left is swept when the store is opened.
        let _ = remove(&image);
        Ok(())
    }

    fn find(&self, id: &str) -> Result<(Id, FeedbackEntry), StoreError> {
        let id = parse(id)?;
        let entry = lock(&self.entries).get(&id).cloned();
        entry.map(|entry| (id, entry)).ok_or_else(|| not_found(&id.to_string()))
    }

    fn description(&self, id: &Id) -> PathBuf {
        self.dir.join(format!("{id}.json"))
    }

    fn image_path(&self, id: &Id, entry: &FeedbackEntry) -> PathBuf {
        self.dir.join(file_name(id, &entry.extension))
    }
}

fn parse(id: &str) -> Result<Id, StoreError> {
    Id::parse(id).ok_or_else(|| not_found(&original(id)))
}

fn not_found(id: &str) -> StoreError {
    StoreError::NotFound { what: "feedback", name: id.to_owned() }
}

/// An entry that [`Feedback::add`] wrote.
fn read(path: &Path, id: &Id) -> Option<FeedbackEntry> {
    if fs::metadata(path).ok()?.len() > MAX_JSON {
        return None;
    }
    let entry: FeedbackEntry = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    let named = file_name(id, &entry.extension);
    (entry.id == id.to_string() && id_of_file(&named).is_some()).then_some(entry)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;
    use crate::store::hostile::images::{Fate, corpus, png};

    fn input(label: &str) -> FeedbackInput {
        FeedbackInput {
            predicted: Some("cat".to_owned()),
            label: Some(label.to_owned()),
            ..Default::default()
        }
    }

    fn files(store: &Store) -> Vec<String> {
        let mut names: Vec<String> =
            entries(&store.dir().join("feedback")).unwrap().iter().map(|file| text(file).unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn feedback_survives_a_restart_and_becomes_training_data() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let (one, two) = (png(8, 8, b"one"), png(8, 8, b"two"));
        let first = store.feedback().add(&one, input("dog")).unwrap();
        let second = store.feedback().add(&two, input("cat")).unwrap();
        assert_eq!(store.feedback().add(&one, input("fox")).unwrap(), first, "the latest word counts");
        drop(store);

        let store = Store::open(dir.path()).unwrap();
        let waiting = store.feedback().list();
        assert_eq!(waiting.len(), 2);
        assert_eq!(waiting.iter().find(|e| e.id == first).unwrap().input, input("fox"));
        assert_eq!(
            store.feedback().image(&first).unwrap(),
            StoredImage { bytes: one, media_type: "image/png" }
        );

        let pets = Name::new("data set", "pets").unwrap();
        let added = store.feedback().approve(&first, store.datasets(), &pets, None).unwrap();
        assert_eq!((added.class.as_str(), added.duplicate), ("fox", false));
        let added = store.feedback().approve(&second, store.datasets(), &pets, Some("dog")).unwrap();
        assert_eq!(added.class, "dog");
        let page = store.datasets().images(&pets, None, 0, 9).unwrap();
        assert!(page.total == 2 && page.images.iter().all(|image| image.source == Origin::Feedback));
        assert!(files(&store).is_empty(), "{:?}", files(&store));
        let gone = store.feedback().reject(&first);
        assert!(matches!(gone, Err(StoreError::NotFound { .. })));
    }

    #[test]
    fn approving_again_after_a_kill_adds_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let image = png(8, 8, b"x");
        let id = store.feedback().add(&image, input("dog")).unwrap();
        let pets = Name::new("data set", "pets").unwrap();
        // The image is in the data set and the entry still there: the state between the two steps.
        store.datasets().add_image(&pets, "dog", &image, Origin::Feedback).unwrap();
        let added = store.feedback().approve(&id, store.datasets(), &pets, None).unwrap();
        assert!(added.duplicate);
        assert_eq!(store.datasets().inspect(&pets).unwrap().images, 1);
        assert!(store.feedback().list().is_empty());
        // Another label is a conflict, and the entry stays.
        let id = store.feedback().add(&image, input("cat")).unwrap();
        let error = store.feedback().approve(&id, store.datasets(), &pets, None).unwrap_err();
        assert!(matches!(&error, StoreError::Conflict { reason } if reason.contains("\"dog\"")), "{error}");
        assert_eq!(store.feedback().list().len(), 1);
    }

    #[test]
    fn what_a_kill_leaves_is_swept_and_foreign_files_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let id = store.feedback().add(&png(8, 8, b"x"), input("dog")).unwrap();
        let folder = store.dir().join("feedback");
        drop(store);
        let orphan = "0".repeat(64);
        for (name, bytes) in [
            (format!("{orphan}.png"), &b"an image whose description was never written"[..]),
            (format!(".{id}.json.tmp-1"), b"half a descr"),
            (format!("{}.json", "1".repeat(64)), b"{}"),
            ("notes.txt".to_owned(), b"mine"),
        ] {
            fs::write(folder.join(name), bytes).unwrap();
        }
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(store.feedback().list().len(), 1);
        let foreign = format!("{}.json", "1".repeat(64));
        let mut kept = vec![foreign, format!("{id}.json"), format!("{id}.png"), "notes.txt".to_owned()];
        kept.sort();
        assert_eq!(files(&store), kept);
    }

    #[test]
    fn so_many_wait_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("feedback");
        fs::create_dir(&folder).unwrap();
        for i in 0..MAX_FEEDBACK - 1 {
            let id = format!("{i:064x}");
            let entry = format!(r#"{{"id":"{id}","added":1,"bytes":1,"extension":"png","label":"x"}}"#);
            fs::write(folder.join(format!("{id}.json")), entry).unwrap();
        }
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(store.feedback().list().len(), MAX_FEEDBACK - 1);
        let id = store.feedback().add(&png(8, 8, b"last"), input("dog")).unwrap();
        let error = store.feedback().add(&png(8, 8, b"more"), input("dog")).unwrap_err();
        assert!(
            matches!(&error, StoreError::TooLarge { reason } if reason.contains("10000 images")),
            "{error}"
        );
        store.feedback().add(&png(8, 8, b"last"), input("fox")).unwrap();
        store.feedback().reject(&id).unwrap();
        store.feedback().add(&png(8, 8, b"more"), input("dog")).unwrap();
    }

    #[test]
    fn so_many_bytes_wait_and_no_more() {
        let image = png(8, 8, b"last");
        for (taken, fits) in [(MAX_FEEDBACK_TOTAL - image.len() as u64, true), (MAX_FEEDBACK_TOTAL, false)] {
            let dir = tempfile::tempdir().unwrap();
            let folder = dir.path().join("feedback");
            fs::create_dir(&folder).unwrap();
            let id = format!("{:064x}", 1);
            let entry = format!(r#"{{"id":"{id}","added":1,"bytes":{taken},"extension":"png"}}"#);
            fs::write(folder.join(format!("{id}.json")), entry).unwrap();
            let store = Store::open(dir.path()).unwrap();
            assert_eq!(store.feedback().add(&image, input("dog")).is_ok(), fits);
        }
    }

    #[test]
    fn bad_feedback_is_refused_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let add = |bytes: &[u8], input| store.feedback().add(bytes, input);
        for (name, bytes, fate) in corpus() {
            if let Fate::Refused(_) = fate {
                assert!(matches!(add(&bytes, input("x")), Err(StoreError::Refused { .. })), "{name}");
            }
        }
        let large = vec![0; MAX_FEEDBACK_BYTES as usize + 1];
        let large = [png(8, 8, b"x"), large].concat();
        assert!(matches!(add(&large, input("x")), Err(StoreError::TooLarge { .. })));
        let image = png(8, 8, b"x");
        let note = FeedbackInput { note: Some("x".repeat(MAX_NOTE + 1)), ..FeedbackInput::default() };
        for bad in [input(""), input(" dog"), input("a\nb"), input(&"x".repeat(257)), note] {
            assert!(matches!(add(&image, bad), Err(StoreError::Refused { .. })));
        }
        assert!(files(&store).is_empty());
        let id = add(&image, FeedbackInput::default()).unwrap();
        let pets = Name::new("data set", "pets").unwrap();
        let error = store.feedback().approve(&id, store.datasets(), &pets, None).unwrap_err();
        assert!(error.to_string().contains("no label"), "{error}");
    }
}
