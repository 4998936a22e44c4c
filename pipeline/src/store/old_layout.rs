//! Takes over a data folder of the layout that had a list for each data set, a record for each version and job, and a
//! `current` for each model. Image files move to `images/`, what the lists said becomes rows, and the lists are kept in
//! `old-layout/`.
//!
//! A kill in between is no harm: images are moved first, wherever they lie by then; rows are written in one transaction;
//! lists are put aside last.

use std::fs;
use std::path::Path;

use ocelli_common::atomic_file;
use ocelli_datasets::Split;
use ocelli_datasets::names::nfc;
use ocelli_engine::model_file::{ModelFile, version_id};
use serde_json::Value;

use crate::store::database::files::StoredFile;
use crate::store::database::images::NewImage;
use crate::store::database::{Fault, Tx, feedback, files, images, jobs, versions};
use crate::store::disk::{self, entries, text};
use crate::store::entries::FeedbackInput;
use crate::store::error::StoreError;
use crate::store::image::{IMAGES, Id, Origin, check_class, extension, id_of_file, image_path, original};
use crate::store::inner::{Inner, now};
use crate::store::jobs::describe;
use crate::store::name::Name;
use crate::store::splits::{Declared, draw};
use crate::store::versions::{MAX_HISTORY, VersionRecord, is_version, record_of};

/// Where old lists are kept.
pub(super) const ASIDE: &str = "old-layout";
/// Folders of which nothing is left.
const FOLDERS: [&str; 3] = ["datasets", "feedback", "jobs"];
/// The fact that the rows of an old folder are written: what was told of it, as JSON.
const NOTES: &str = "taken over";
const COLUMNS: [&str; 7] = ["path", "label", "split", "name", "added", "source", "bytes"];

/// A row of an old list.
struct OldImage {
    id: Id,
    extension: &'static str,
    class: String,
    split: Option<Split>,
    name: String,
    added: u64,
    origin: Origin,
    bytes: u64,
}

/// What a folder of the old layout says.
#[derive(Default)]
struct Found {
    datasets: Vec<(Name, Vec<OldImage>)>,
    feedback: Vec<(Id, &'static str, u64, u64, FeedbackInput)>,
    models: Vec<OldModel>,
    jobs: Vec<OldJob>,
    notes: Vec<String>,
    /// Files that are put aside, relative to the folder.
    lists: Vec<String>,
}

struct OldModel {
    name: Name,
    versions: Vec<(VersionRecord, Option<String>)>,
    /// Oldest first; the last one serves.
    served: Vec<String>,
}

struct OldJob {
    id: u64,
    dataset: String,
    ended: bool,
    record: Value,
    epochs: Vec<(u32, String)>,
    events: Vec<(String, String)>,
}

/// Whether a folder has lists of the old layout.
pub(super) fn is_there(dir: &Path) -> Result<bool, StoreError> {
    if dir.join("datasets").is_dir() || dir.join("jobs").is_dir() || dir.join("feedback").is_dir() {
        return Ok(true);
    }
    for model in entries(&dir.join("models"))? {
        let record = |name: String| name == "current" || name.strip_suffix(".json").is_some_and(is_version);
        if entries(&model.path())?.iter().any(|file| text(file).is_some_and(record)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a start that was cut short has written the rows of an old folder.
pub(super) fn has_begun(inner: &Inner) -> Result<bool, StoreError> {
    Ok(inner.database.read(|tx| files::fact(tx, NOTES))?.is_some())
}

/// Takes a folder over; gives what its owner should know.
pub(super) fn take_over(inner: &Inner) -> Result<Vec<String>, StoreError> {
    let dir = &inner.dir;
    let mut found = Found::read(dir)?;
    // With the rows stands what was told of them, so that a start that was cut short says the same when it is done.
    let notes = match inner.database.read(|tx| files::fact(tx, NOTES))? {
        Some(notes) => serde_json::from_str(&notes).unwrap_or_default(),
        None => {
            move_images(dir, &found)?;
            found.count_unnamed(dir)?;
            disk::sync(dir, &[])?;
            let notes = found.told();
            inner.database.write(|tx| {
                found.write(tx)?;
                files::set_fact(tx, NOTES, &Value::from(notes.clone()).to_string())
            })?;
            notes
        }
    };
    for list in &found.lists {
        put_aside(dir, list)?;
    }
    for folder in FOLDERS {
        for path in disk::walk(dir, folder)? {
            if is_half_written(&path) {
                disk::remove(&dir.join(&path))?;
            } else {
                disk::quarantine(dir, &path)?;
            }
        }
        // Empty by now, or holding what could not be moved.
        remove_empty(&dir.join(folder));
    }
    let kept = describe(dir, ASIDE)?;
    inner.database.write(|tx| files::set_kept(tx, &format!("{ASIDE}/"), &kept))?;
    Ok(notes)
}

/// Temporary files of the old layout; all else may be somebody's.
fn is_half_written(path: &str) -> bool {
    path.rsplit('/').next().is_some_and(atomic_file::is_temporary)
}

impl Found {
    fn read(dir: &Path) -> Result<Found, StoreError> {
        let mut found = Found::default();
        for entry in entries(&dir.join("datasets"))? {
            let Some(name) = text(&entry) else { continue };
            if name == ".staging" {
                fs::remove_dir_all(entry.path()).map_err(StoreError::io(&entry.path()))?;
            } else if let Ok(name) = name.parse::<Name>()
                && entry.path().is_dir()
            {
                found.dataset(dir, name)?;
            }
        }
        found.feedback(dir)?;
        for entry in entries(&dir.join("models"))? {
            if let Some(name) = text(&entry).and_then(|name| name.parse::<Name>().ok())
                && entry.path().is_dir()
            {
                found.model(dir, name)?;
            }
        }
        found.jobs(dir)?;
        Ok(found)
    }

    /// Notes the files that no list names: they go to quarantine.
    fn count_unnamed(&mut self, dir: &Path) -> Result<(), StoreError> {
        let lists: std::collections::HashSet<&str> = self.lists.iter().map(String::as_str).collect();
        let mut unnamed: std::collections::BTreeMap<String, usize> = std::collections::BTreeMap::new();
        for folder in FOLDERS {
            for path in disk::walk(dir, folder)? {
                if !is_half_written(&path) && !lists.contains(path.as_str()) {
                    let parts = if folder == "datasets" { 2 } else { 1 };
                    let whose: Vec<&str> = path.split('/').take(parts).collect();
                    *unnamed.entry(whose.join("/")).or_default() += 1;
                }
            }
        }
        for (folder, count) in unnamed {
            self.notes.push(format!(
                "{count} files in {folder} that no list names were moved to quarantine/{folder}: where they are images that should count, upload them again"
            ));
        }
        Ok(())
    }

    /// What the owner of the folder should know.
    fn told(&self) -> Vec<String> {
        let images: usize = self.datasets.iter().map(|(_, images)| images.len()).sum();
        let versions: usize = self.models.iter().map(|model| model.versions.len()).sum();
        let mut notes = vec![format!(
            "the data folder had the layout of an older version and was taken over: {images} images, {versions} versions, {} jobs, {} images that wait for a review; its lists are kept in {ASIDE}/",
            self.jobs.len(),
            self.feedback.len()
        )];
        notes.extend(self.notes.iter().cloned());
        notes
    }

    fn dataset(&mut self, dir: &Path, name: Name) -> Result<(), StoreError> {
        let folder = format!("datasets/{name}");
        for file in entries(&dir.join(&folder))? {
            if let Some(file) = text(&file).filter(|file| file.ends_with(".csv") && !file.starts_with('.')) {
                self.lists.push(format!("{folder}/{file}"));
            }
        }
        let path = dir.join(&folder).join("images.csv");
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                self.notes.push(format!(
                    "{folder}/images.csv is missing: which images the data set had, and of which classes, is not known"
                ));
                return Ok(());
            }
            Err(error) => return Err(StoreError::io(&path)(error)),
        };
        let list = String::from_utf8_lossy(&bytes);
        let mut reader = ::csv::ReaderBuilder::new().flexible(true).from_reader(list.as_bytes());
        let sound = reader.headers().is_ok_and(|header| header.iter().eq(COLUMNS));
        let (mut rows, mut bad) = (Vec::new(), usize::from(!sound));
        for record in reader.records() {
            match record.ok().filter(|_| sound).and_then(|record| image_of(&record)) {
                Some(row) => rows.push(row),
                None => bad += 1,
            }
        }
        if bad > 0 {
            self.notes.push(format!(
                "{folder}/images.csv is damaged: {} images of it were taken over, {bad} rows could not be read",
                rows.len()
            ));
        }
        if !rows.is_empty() {
            self.datasets.push((name, rows));
        }
        Ok(())
    }

    fn feedback(&mut self, dir: &Path) -> Result<(), StoreError> {
        for entry in entries(&dir.join("feedback"))? {
            let Some(name) = text(&entry).filter(|name| name.ends_with(".json") && !name.starts_with('.'))
            else {
                continue;
            };
            let parsed = read_json(&entry.path()).and_then(|value| {
                let id = Id::parse(value["id"].as_str()?)?;
                let ending = extension(value["extension"].as_str()?)?;
                let (added, bytes) = (value["added"].as_u64()?, value["bytes"].as_u64()?);
                Some((id, ending, added, bytes, serde_json::from_value(value).ok()?))
            });
            match parsed {
                Some(entry) => {
                    self.lists.push(format!("feedback/{name}"));
                    self.feedback.push(entry);
                }
                None => self.notes.push(format!("feedback/{name} is damaged and was not taken over")),
            }
        }
        Ok(())
    }

    fn model(&mut self, dir: &Path, name: Name) -> Result<(), StoreError> {
        let folder = format!("models/{name}");
        let mut model = OldModel { name, versions: Vec::new(), served: Vec::new() };
        let mut lost = Vec::new();
        for entry in entries(&dir.join(&folder))? {
            let Some(file) = text(&entry) else { continue };
            if file
                .strip_suffix(".json")
                .is_some_and(|name| is_version(name.split('.').next().unwrap_or_default()))
            {
                self.lists.push(format!("{folder}/{file}"));
            }
            let Some(version) = file.strip_suffix(".json").or(file.strip_suffix(".ocelli")) else { continue };
            let known = model.versions.iter().any(|(record, _)| record.version == version);
            if !is_version(version) || known || lost.iter().any(|name| name == version) {
                continue;
            }
            let record: Option<VersionRecord> = read_json(&dir.join(&folder).join(format!("{version}.json")))
                .and_then(|value| serde_json::from_value(value).ok());
            match record.filter(|record| record.version == version) {
                Some(record) => {
                    let evaluation = dir.join(&folder).join(format!("{version}.evaluation.json"));
                    let evaluation = read_json(&evaluation).map(|value| value.to_string());
                    model.versions.push((record, evaluation));
                }
                None => lost.push(version.to_owned()),
            }
        }
        // The model file says what it is, but not where it came from and how it compared.
        for version in lost {
            let path = dir.join(&folder).join(format!("{version}.ocelli"));
            let bytes = fs::metadata(&path).map_or(0, |meta| meta.len());
            let whole = ModelFile::load(&path)
                .ok()
                .filter(|file| file.content_hash().is_ok_and(|hash| version_id(&hash) == version));
            let kept = match whole {
                Some(file) => {
                    model.versions.push((record_of(version.clone(), &file, bytes), None));
                    "the version is taken up from its model file"
                }
                None => "and its model file is none that could be taken up",
            };
            self.notes.push(format!("{folder}/{version}.json is damaged or missing: {kept}"));
        }
        model.versions.sort_by_key(|(record, _)| (record.number == 0, record.number));
        let mut last = 0;
        for (record, _) in &mut model.versions {
            // Each number once, whatever the records say.
            record.number = record.number.max(last + 1);
            last = record.number;
        }
        let current = format!("{folder}/current");
        if dir.join(&current).exists() {
            self.lists.push(current.clone());
        }
        let pointer = read_json(&dir.join(&current)).and_then(|value| {
            let mut served: Vec<String> = serde_json::from_value(value["previous"].clone()).ok()?;
            served.push(value["version"].as_str()?.to_owned());
            Some(served)
        });
        model.served = pointer.unwrap_or_else(|| {
            // The newest one that came to serve, by what is known of it.
            let served = promoted(dir, &folder, &model.versions);
            if let Some(last) = served.last() {
                self.notes.push(format!(
                    "{current} is damaged or missing: version {last} serves, the newest that was not refused and whose file is there"
                ));
            }
            served
        });
        if !model.versions.is_empty() {
            self.models.push(model);
        }
        Ok(())
    }

    fn jobs(&mut self, dir: &Path) -> Result<(), StoreError> {
        for entry in entries(&dir.join("jobs"))? {
            let Some(id) = text(&entry).and_then(|name| name.parse::<u64>().ok()).filter(|id| *id > 0) else {
                continue;
            };
            for file in ["job.json", "events.jsonl"] {
                if entry.path().join(file).exists() {
                    self.lists.push(format!("jobs/{id}/{file}"));
                }
            }
            let Some(record) =
                read_json(&entry.path().join("job.json")).filter(|value| value["state"].is_string())
            else {
                self.notes.push(format!("jobs/{id}/job.json is damaged and was not taken over"));
                continue;
            };
            let events = fs::read_to_string(entry.path().join("events.jsonl")).unwrap_or_default();
            let event = |line: &str| {
                let value: Value = serde_json::from_str(line).ok()?;
                Some((value["event"].as_str()?.to_owned(), value["data"].to_string()))
            };
            self.jobs.push(old_job(id, record, events.lines().filter_map(event).collect()));
        }
        self.jobs.sort_by_key(|job| job.id);
        Ok(())
    }

    fn write(&self, tx: &Tx<'_>) -> Result<(), Fault> {
        for (name, rows) in &self.datasets {
            write_dataset(tx, name, rows)?;
        }
        for (id, extension, added, bytes, input) in &self.feedback {
            let file = take_up(tx, *id, extension, *bytes)?;
            feedback::put(tx, file, *added, input)?;
        }
        for model in &self.models {
            let name = model.name.as_str();
            for (record, evaluation) in &model.versions {
                let json = serde_json::to_string(record).expect("plain values with text keys");
                versions::put(tx, name, (&record.version, record.number), &json, evaluation.as_deref())?;
            }
            for version in &model.served {
                if let Some(row) = versions::find(tx, name, version)? {
                    versions::serve(tx, name, row.key, now(), MAX_HISTORY)?;
                }
            }
        }
        let model = match self.models.as_slice() {
            [only] => only.name.as_str(),
            _ => "",
        };
        for job in &self.jobs {
            let mut record = job.record.clone();
            record["model"] = model.into();
            if !job.ended && model.is_empty() {
                record["state"] = "failed".into();
                record["error"] =
                    "it was asked for by an older version, which did not say for which model".into();
            }
            let ended = job.ended || model.is_empty();
            jobs::put(tx, job.id, model, &job.dataset)?;
            jobs::set_record(tx, job.id, &record.to_string(), ended)?;
            for (epoch, metrics) in &job.epochs {
                jobs::set_epoch(tx, job.id, *epoch, metrics)?;
            }
            for (number, (event, data)) in (1..).zip(&job.events) {
                jobs::add_event(tx, job.id, number, event, data)?;
            }
        }
        Ok(())
    }
}

/// Versions that may have served, oldest first: those that no verdict kept from it and whose file is there.
fn promoted(dir: &Path, folder: &str, versions: &[(VersionRecord, Option<String>)]) -> Vec<String> {
    let mut served = Vec::new();
    for (record, _) in versions {
        let path = dir.join(folder).join(format!("{}.ocelli", record.version));
        let there = fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() == record.bytes);
        if there && record.verdict.as_ref().is_none_or(|verdict| verdict.promote) {
            served.push(record.version.clone());
        }
    }
    served
}

/// A job whose epochs and events have tables of their own. One that was under way begins anew: its run names the old list.
fn old_job(id: u64, mut record: Value, events: Vec<(String, String)>) -> OldJob {
    let state = record["state"].as_str().unwrap_or_default();
    let ended = !matches!(state, "queued" | "running" | "cancelling");
    let epochs = record["epochs"].as_array().cloned().unwrap_or_default();
    let epochs = epochs.iter().filter_map(|epoch| Some((epoch["epoch"].as_u64()? as u32, epoch.to_string())));
    let epochs = if ended { epochs.collect() } else { Vec::new() };
    record["epochs"] = Value::Array(Vec::new());
    if !ended {
        record["run"] = Value::Null;
    }
    let dataset = record["request"]["dataset"].as_str().unwrap_or("default").to_owned();
    OldJob { id, dataset, ended, record, epochs, events }
}

fn image_of(record: &::csv::StringRecord) -> Option<OldImage> {
    let (id, extension) = id_of_file(record.get(0)?.rsplit('/').next()?)?;
    let class = record.get(1)?.to_owned();
    check_class(&class).ok()?;
    let split = match record.get(2)? {
        "" => None,
        word => Some(word.parse().ok()?),
    };
    let (added, bytes) = (record.get(4)?.parse().ok()?, record.get(6)?.parse().ok()?);
    let origin = Origin::parse(record.get(5)?);
    Some(OldImage { id, extension, class, split, name: original(record.get(3)?), added, origin, bytes })
}

/// Writes a data set; images without a split get one, class by class.
fn write_dataset(tx: &Tx<'_>, name: &Name, rows: &[OldImage]) -> Result<(), Fault> {
    let dataset = images::find_or_make(tx, name.as_str(), now())?;
    let declared = Declared::of(rows.iter().map(|row| row.split));
    let mut classes: std::collections::BTreeMap<String, Vec<&OldImage>> = std::collections::BTreeMap::new();
    for row in rows {
        classes.entry(nfc(&row.class).into_owned()).or_default().push(row);
    }
    let mut splits = std::collections::HashMap::new();
    for images in classes.values() {
        let fresh: Vec<_> = images.iter().map(|row| (row.id, row.split)).collect();
        splits.extend(images.iter().map(|row| row.id).zip(draw([0; 3], &fresh, declared)));
    }
    for row in rows {
        let file = take_up(tx, row.id, row.extension, row.bytes)?;
        if images::image(tx, dataset, &row.id)?.is_some() {
            continue;
        }
        let class = images::class_key(tx, dataset, &row.class)?;
        let split = splits[&row.id];
        let image = NewImage { split, name: &row.name, added: row.added, origin: row.origin };
        images::add(tx, (dataset, class), file, &image)?;
    }
    Ok(())
}

/// Moves listed images from where they lay to `images/`; those that lie there already were moved before a kill, or came
/// from another data set.
fn move_images(dir: &Path, found: &Found) -> Result<(), StoreError> {
    disk::make_folder(&dir.join(IMAGES))?;
    let of_sets = found.datasets.iter().flat_map(|(name, rows)| {
        let folder = format!("datasets/{name}");
        rows.iter().map(move |row| {
            let path = image_path(&row.id, row.extension);
            (format!("{folder}/{path}"), path, row.id)
        })
    });
    let of_feedback = found.feedback.iter().map(|(id, extension, ..)| {
        let name = disk::file_name(id, extension);
        (format!("feedback/{name}"), image_path(id, extension), *id)
    });
    for (from, path, id) in of_sets.chain(of_feedback) {
        let (from, to) = (dir.join(from), dir.join(&path));
        if !from.is_file() {
            continue;
        }
        let is_whole = |path: &Path| disk::digest(path).is_ok_and(|(_, hash)| hash == *id.bytes());
        if to.exists() {
            // Of another data set. What is damaged stays where it is, and goes to quarantine with all else there.
            if is_whole(&to) {
                if is_whole(&from) {
                    disk::remove(&from)?;
                }
                continue;
            }
            disk::quarantine(dir, &path)?;
        }
        disk::make_folder(to.parent().expect("images lie in a folder"))?;
        fs::rename(&from, &to).map_err(StoreError::io(&to))?;
    }
    Ok(())
}

/// The row of a file whose content is compared when the folder is opened.
fn take_up(tx: &Tx<'_>, id: Id, extension: &'static str, bytes: u64) -> Result<i64, Fault> {
    files::put(tx, &StoredFile { id, extension, bytes, written: 0 })
}

fn put_aside(dir: &Path, path: &str) -> Result<(), StoreError> {
    let (from, to) = (dir.join(path), dir.join(ASIDE).join(path));
    let around = to.parent().expect("it lies in a folder");
    fs::create_dir_all(around).map_err(StoreError::io(around))?;
    match fs::rename(&from, &to) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(StoreError::io(&to)(error)),
        _ => Ok(()),
    }
}

/// Removes a folder and those in it, as far as they are empty.
fn remove_empty(folder: &Path) {
    for entry in entries(folder).unwrap_or_default() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_empty(&entry.path());
        }
    }
    // Refuses where there is something.
    let _ = fs::remove_dir(folder);
}

fn read_json(path: &Path) -> Option<Value> {
    /// Larger than any record of the old layout.
    const MAX: u64 = 64 << 20;
    if fs::metadata(path).ok()?.len() > MAX {
        return None;
    }
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}
