//! The versions of a model, and which of them serves.
//!
//! A version is named by the first 12 hexadecimal digits of its content's SHA-256 and never changes. Its file is written
//! first; with its row the version is there, without it is not. A version whose file is missing or is not what was stored
//! stays listed as damaged, and is whole again when its file is.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, MutexGuard};

use ocelli_common::atomic_file;
use ocelli_common::text::chain;
use ocelli_engine::EngineError;
use ocelli_engine::model_file::{Metrics, ModelFile, version_id};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::gate::Verdict;
use crate::metrics::Evaluation;
use crate::run_folder::hex;
use crate::store::audit::note;
use crate::store::database::{Fault, Tx, VersionRow, files, versions};
use crate::store::disk::{self, Condition};
use crate::store::entries::Actor;
use crate::store::error::StoreError;
use crate::store::image::Id;
use crate::store::inner::{Inner, lock, now};
use crate::store::name::Name;

/// Versions that going back can reach.
pub(super) const MAX_HISTORY: usize = 100;

/// Names of the labels in the database.
const CANARY: &str = "canary";
const SHADOW: &str = "shadow";

/// Percent of the requests that a canary may answer.
const SHARES: std::ops::RangeInclusive<u8> = 1..=99;

/// Which versions answer requests that name none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct VersionLabels {
    /// The version that serves.
    pub stable: Option<String>,
    /// Another one that answers a share of the requests.
    pub canary: Option<Canary>,
    /// One that is asked, too, and answers nobody: its answers are counted where they differ.
    pub shadow: Option<String>,
}

/// A version that answers a share of the requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Canary {
    /// The version.
    pub version: String,
    /// Percent of the requests that name no version, 1 to 99.
    #[schemars(range(min = 1, max = 99))]
    pub share: u8,
}

/// What is known of a version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct VersionRecord {
    /// The first 12 hexadecimal digits of the content's SHA-256.
    pub version: String,
    /// Versions are numbered from 1 in the order they came.
    pub number: u32,
    /// Seconds since 1970-01-01 UTC at which it came into the store.
    pub created: u64,
    /// `imported`, or `trained` by a job of this service.
    pub origin: String,
    /// The job that trained it.
    pub job: Option<String>,
    /// Version of the model whose weights it started from.
    pub parent: Option<String>,
    /// Class names in the order of the logits.
    pub classes: Vec<String>,
    /// Width of the input in pixels.
    pub width: u32,
    /// Height of the input in pixels.
    pub height: u32,
    /// 1 for gray, 3 for RGB.
    pub channels: u8,
    /// Learnable numbers.
    pub parameters: usize,
    /// Size of the file in bytes.
    pub bytes: u64,
    /// Name of the data set it was trained on.
    pub data_name: String,
    /// SHA-256 of that data set in hexadecimal.
    pub data_hash: String,
    /// Quality on held-out images.
    #[schemars(with = "Option<MetricsSchema>")]
    pub metrics: Option<Metrics>,
    /// How it compared with the version that served when it was made.
    pub verdict: Option<Verdict>,
    /// Why its file cannot be used.
    #[serde(default)]
    pub damaged: Option<String>,
}

/// The JSON of [`Metrics`], which the engine defines without knowing of schemas.
#[derive(schemars::JsonSchema)]
#[schemars(rename = "Metrics")]
#[allow(dead_code, reason = "it is described, never made")]
struct MetricsSchema {
    /// Part of the images whose best class is right, in 0..=1.
    accuracy: f32,
    /// Part of the images whose class is among the best five, in 0..=1.
    top5: f32,
    /// Mean cross-entropy in nats.
    loss: f32,
    /// `val` or `test`.
    split: String,
    images: u64,
}

/// What a job says about the version that it adds.
#[derive(Clone, Debug, Default)]
pub struct NewVersion<'a> {
    /// The job that trained it; none for a model from elsewhere.
    pub job: Option<&'a str>,
    /// The report on held-out images.
    pub evaluation: Option<&'a Evaluation>,
    /// How it compared.
    pub verdict: Option<Verdict>,
    /// The images by which it was compared: SHA-256 and class.
    pub judged_on: Vec<([u8; 32], String)>,
}

/// The versions of one model.
pub struct Versions {
    inner: Arc<Inner>,
    model: Name,
    dir: PathBuf,
}

impl Versions {
    /// Opens `models/NAME`: removes what was being written, takes up model files that somebody laid there, puts what is no
    /// model into quarantine, and notes which files are missing.
    pub(super) fn open(inner: Arc<Inner>, model: Name) -> Result<Versions, StoreError> {
        let dir = inner.dir.join("models").join(model.as_str());
        let versions = Versions { inner, model, dir };
        let mut settled = lock(&versions.inner.settled);
        if !settled.contains(&versions.model) {
            versions.settle()?;
            settled.insert(versions.model.clone());
        }
        drop(settled);
        Ok(versions)
    }

    fn settle(&self) -> Result<(), StoreError> {
        let turn = self.turn();
        for entry in disk::entries(&self.dir)? {
            let Some(name) = disk::text(&entry).filter(|_| entry.path().is_file()) else { continue };
            if atomic_file::is_temporary(&name) {
                // A file that was being written when the process ended.
                disk::remove(&entry.path())?;
                continue;
            }
            let version = name.strip_suffix(".ocelli").unwrap_or_default();
            if self.inner.database.read(|tx| versions::find(tx, self.model.as_str(), version))?.is_some() {
                continue;
            }
            match ModelFile::load(&entry.path()) {
                Ok(file) => {
                    let added = self.add_in(&turn, &file, &NewVersion::default())?;
                    if added.version != version {
                        // It has its own name now.
                        disk::remove(&entry.path())?;
                    }
                }
                // It may be one; the next start looks again.
                Err(EngineError::Io { .. }) => {}
                Err(_) => drop(disk::quarantine(&self.inner.dir, &self.relative(&name))?),
            }
        }
        for row in self.inner.database.read(|tx| versions::all(tx, self.model.as_str()))? {
            self.look(&row)?;
        }
        Ok(())
    }

    /// Compares a version's file with its record by its size, and notes what is wrong with it.
    fn look(&self, row: &VersionRow) -> Result<(), StoreError> {
        let record = parse(&self.inner, row)?;
        let found = fs::metadata(self.path(&row.version));
        let damaged = match found.map_err(|error| disk::condition_of(&error)) {
            Ok(meta) if !meta.is_file() => Some("something else lies in its place".to_owned()),
            Ok(meta) if meta.len() != record.bytes => Some(disk::other_size(meta.len(), record.bytes)),
            // Of the right size: one that was written since it was last read is read again.
            Ok(meta) if row.damaged.is_none() && disk::written(&meta) == row.written => None,
            Ok(meta) => match self.load_file(&row.version) {
                Ok(_) => {
                    let written = disk::written(&meta);
                    self.inner.database.write(|tx| versions::set_written(tx, row.key, written))?;
                    None
                }
                Err(StoreError::Damaged { reason, .. }) => Some(reason),
                Err(_) => return Ok(()),
            },
            Err(Condition::Damaged(reason)) => Some(reason),
            Err(_) => return Ok(()),
        };
        if damaged != row.damaged {
            self.inner.database.write(|tx| versions::set_damaged(tx, row.key, damaged.as_deref()))?;
        }
        Ok(())
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        // One for all handles of all models: they come and go rarely.
        lock(&self.inner.models)
    }

    /// Adds a version; one that is there already keeps its number, and gets what is new about it.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Full`], or the engine's for a model that cannot be written.
    pub fn add(&self, file: &ModelFile, about: &NewVersion<'_>) -> Result<VersionRecord, StoreError> {
        self.add_in(&self.turn(), file, about)
    }

    fn add_in(
        &self,
        _turn: &MutexGuard<'_, ()>,
        file: &ModelFile,
        about: &NewVersion<'_>,
    ) -> Result<VersionRecord, StoreError> {
        let version = version_id(&file.content_hash().map_err(engine)?);
        let path = self.path(&version);
        let there = fs::symlink_metadata(&path).map_or(0, |meta| if meta.is_file() { meta.len() } else { 0 });
        let saved = self.load_file(&version).is_err();
        if saved {
            let bytes = 4 * file.model.layout().count() as u64;
            self.inner.room.check(&self.inner.dir, bytes.saturating_sub(there))?;
            fs::create_dir_all(&self.dir).map_err(StoreError::io(&self.dir))?;
            if fs::symlink_metadata(&path).is_ok_and(|meta| !meta.is_file()) {
                disk::quarantine(&self.inner.dir, &self.relative(&format!("{version}.ocelli")))?;
            }
            file.save(&path).map_err(engine)?;
            disk::sync_folder(&self.inner.dir.join("models"))?;
            disk::sync_folder(&self.inner.dir)?;
        }
        let meta = fs::metadata(&path).map_err(StoreError::io(&path))?;
        let bytes = meta.len();
        let mut record = record_of(version, file, bytes);
        if about.job.is_some() {
            record.origin = "trained".to_owned();
        }
        (record.job, record.verdict) = (about.job.map(str::to_owned), about.verdict.clone());
        let evaluation = about.evaluation.map(text);
        let written = self.inner.database.write(|tx| {
            // It may have been deleted before, and the removal of its file still be noted.
            files::clear_removed(tx, &[self.relative(&format!("{}.ocelli", record.version))])?;
            let before = versions::find(tx, self.model.as_str(), &record.version)?;
            if let Some(before) = &before {
                let known = parse(&self.inner, before)?;
                (record.number, record.created) = (known.number, known.created);
                if about.job.is_none() {
                    // Found again, not made again.
                    (record.origin, record.job, record.verdict) = (known.origin, known.job, known.verdict);
                }
            } else {
                record.number = versions::next_number(tx, self.model.as_str())?;
            }
            let key = self.put(tx, &record, evaluation.as_deref(), about)?;
            versions::set_written(tx, key, disk::written(&meta))
        });
        self.inner.room.models(bytes as i64 - there as i64);
        if let Err(error) = written {
            let known =
                self.inner.database.read(|tx| versions::find(tx, self.model.as_str(), &record.version));
            // Without a row the next start would take it for a file that somebody laid there.
            if saved && matches!(known, Ok(None)) {
                self.remove_file(&record.version);
            }
            return Err(error);
        }
        Ok(record)
    }

    fn put(
        &self,
        tx: &Tx<'_>,
        record: &VersionRecord,
        evaluation: Option<&str>,
        about: &NewVersion<'_>,
    ) -> Result<i64, Fault> {
        let name = (record.version.as_str(), record.number);
        let key = versions::put(tx, self.model.as_str(), name, &text(record), evaluation)?;
        if about.job.is_some() {
            let mut images = Vec::with_capacity(about.judged_on.len());
            for (hash, class) in &about.judged_on {
                if let Some(file) = files::find(tx, &Id::from(*hash))? {
                    images.push((file.key, class.clone()));
                }
            }
            versions::set_judged_on(tx, key, &images)?;
        }
        Ok(key)
    }

    /// All versions, oldest first, damaged ones among them.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Database`].
    pub fn list(&self) -> Result<Vec<VersionRecord>, StoreError> {
        let rows = self.inner.database.read(|tx| versions::all(tx, self.model.as_str()))?;
        rows.iter().map(|row| parse(&self.inner, row)).collect()
    }

    /// What is known of a version.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], and those of [`Versions::list`].
    pub fn get(&self, version: &str) -> Result<VersionRecord, StoreError> {
        parse(&self.inner, &self.inner.database.read(|tx| self.find(tx, version))?)
    }

    /// The report on held-out images of a version, as JSON; `None` where there is none.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Io`], [`StoreError::Database`].
    pub fn evaluation(&self, version: &str) -> Result<Option<String>, StoreError> {
        self.inner.database.read(|tx| versions::evaluation(tx, self.find(tx, version)?.key))
    }

    /// Reads a version, and checks that its content is what its name says. What is found out about its file is noted.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::Damaged`] for a file that is missing or is not what was stored;
    /// [`StoreError::Io`] for one that cannot be read just now, which says nothing about it.
    pub fn load(&self, version: &str) -> Result<ModelFile, StoreError> {
        let row = self.inner.database.read(|tx| self.find(tx, version))?;
        let loaded = self.load_file(version);
        match &loaded {
            Ok(_) => self.note_damage(&row, None)?,
            Err(StoreError::Damaged { reason, .. }) => self.note_damage(&row, Some(reason))?,
            Err(_) => {}
        }
        loaded
    }

    fn load_file(&self, version: &str) -> Result<ModelFile, StoreError> {
        let path = self.path(version);
        let damaged = |reason: String| StoreError::Damaged { path: path.clone(), reason };
        let file = ModelFile::load(&path).map_err(|error| match error {
            EngineError::Io { source, .. } => match disk::condition_of(&source) {
                Condition::Damaged(reason) => damaged(reason),
                _ => StoreError::Io { path: path.clone(), source },
            },
            error => damaged(chain(&error)),
        })?;
        let found = version_id(&file.content_hash().map_err(engine)?);
        if found != version {
            return Err(damaged(format!("its content is that of version {found}")));
        }
        Ok(file)
    }

    /// Refuses a version whose file is not what was stored.
    fn check_whole(&self, version: &str) -> Result<(), StoreError> {
        match self.load(version) {
            Err(StoreError::Damaged { reason, .. }) => {
                let reason = format!("version {version} is damaged and cannot serve: {reason}");
                Err(StoreError::Conflict { reason })
            }
            loaded => loaded.map(drop),
        }
    }

    /// Notes that a version cannot be used: `reason` says why, none that it can.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Io`], [`StoreError::Database`].
    pub fn set_damaged(&self, version: &str, reason: Option<&str>) -> Result<(), StoreError> {
        let row = self.inner.database.read(|tx| self.find(tx, version))?;
        self.note_damage(&row, reason)
    }

    fn note_damage(&self, row: &VersionRow, reason: Option<&str>) -> Result<(), StoreError> {
        if row.damaged.as_deref() == reason {
            return Ok(());
        }
        self.inner.database.write(|tx| versions::set_damaged(tx, row.key, reason))
    }

    /// Where the file of a version is.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub fn file(&self, version: &str) -> Result<PathBuf, StoreError> {
        self.inner.database.read(|tx| self.find(tx, version))?;
        Ok(self.path(version))
    }

    /// The version that is to serve.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Database`].
    pub fn current(&self) -> Result<Option<String>, StoreError> {
        Ok(self.history()?.into_iter().next())
    }

    /// The version that is to serve, then those that served before it, the last one first.
    ///
    /// # Errors
    /// As [`Versions::current`].
    pub fn history(&self) -> Result<Vec<String>, StoreError> {
        self.inner.database.read(|tx| versions::served(tx, self.model.as_str()))
    }

    /// The version that going back would serve.
    ///
    /// # Errors
    /// As [`Versions::current`].
    pub fn previous(&self) -> Result<Option<String>, StoreError> {
        Ok(self.history()?.into_iter().nth(1))
    }

    /// Makes a version the one that serves, from the next start on; says whether it was not before. Its file is read first.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Conflict`] for a damaged one, [`StoreError::Io`].
    pub fn promote(&self, version: &str, by: &Actor) -> Result<bool, StoreError> {
        self.check_whole(version)?;
        self.inner.database.write(|tx| {
            let row = self.find(tx, version)?;
            let served = versions::served(tx, self.model.as_str())?;
            if served.first().is_some_and(|current| current == version) {
                return Ok(false);
            }
            versions::serve(tx, self.model.as_str(), row.key, now(), MAX_HISTORY)?;
            // What serves answers all requests: it is no canary of itself.
            versions::clear_labels_of(tx, row.key)?;
            note(tx, by, ("promote", version), &json!({ "before": served.first() }))?;
            Ok(true)
        })
    }

    /// Goes back from `version` to `to`, which served before; versions between the two are passed over where they are
    /// damaged. That they served is forgotten.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when something else has been promoted meanwhile, or `to` is damaged;
    /// [`StoreError::NotFound`], [`StoreError::Io`].
    pub fn roll_back(&self, version: &str, to: &str, by: &Actor) -> Result<(), StoreError> {
        self.check_whole(to)?;
        self.inner.database.write(|tx| {
            self.find(tx, to)?;
            let served = versions::served(tx, self.model.as_str())?;
            let mut steps = None;
            for (at, before) in served.iter().enumerate().skip(1) {
                if before == to {
                    steps = Some(at);
                    break;
                }
                if self.find(tx, before)?.damaged.is_none() {
                    break;
                }
            }
            let steps = steps.filter(|_| served[0] == version).ok_or_else(|| StoreError::Conflict {
                reason: "another version was promoted meanwhile: look again".to_owned(),
            })?;
            for _ in 0..steps {
                versions::unserve(tx, self.model.as_str())?;
            }
            note(tx, by, ("roll back", to), &json!({ "before": version }))
        })
    }

    /// Which versions answer.
    ///
    /// # Errors
    /// As [`Versions::current`].
    pub fn labels(&self) -> Result<VersionLabels, StoreError> {
        self.inner.database.read(|tx| {
            let stable = versions::served(tx, self.model.as_str())?.into_iter().next();
            let mut labels = VersionLabels { stable, ..VersionLabels::default() };
            for (label, version, share) in versions::labels(tx, self.model.as_str())? {
                match label.as_str() {
                    CANARY => labels.canary = Some(Canary { version, share: share.unwrap_or(1) }),
                    _ => labels.shadow = Some(version),
                }
            }
            Ok(labels)
        })
    }

    /// Makes a version the canary, or none. Its file is read first.
    ///
    /// # Errors
    /// [`StoreError::Refused`] for a share that is not in 1..=99, [`StoreError::NotFound`], [`StoreError::Conflict`] for a
    /// damaged version and the one that serves, [`StoreError::Io`].
    pub fn set_canary(&self, canary: Option<&Canary>, by: &Actor) -> Result<(), StoreError> {
        if let Some(Canary { share, .. }) = canary
            && !SHARES.contains(share)
        {
            let (least, most) = (SHARES.start(), SHARES.end());
            let reason =
                format!("the share of a canary is {least} to {most} percent of the requests, not {share}");
            return Err(StoreError::Refused { reason });
        }
        let labelled = canary.map(|canary| (canary.version.as_str(), Some(canary.share)));
        self.set_label(CANARY, labelled, by)
    }

    /// Makes a version the shadow, or none. Its file is read first.
    ///
    /// # Errors
    /// As [`Versions::set_canary`].
    pub fn set_shadow(&self, version: Option<&str>, by: &Actor) -> Result<(), StoreError> {
        self.set_label(SHADOW, version.map(|version| (version, None)), by)
    }

    fn set_label(
        &self,
        label: &str,
        labelled: Option<(&str, Option<u8>)>,
        by: &Actor,
    ) -> Result<(), StoreError> {
        if let Some((version, _)) = labelled {
            self.check_whole(version)?;
        }
        self.inner.database.write(|tx| {
            let Some((version, share)) = labelled else {
                if versions::clear_label(tx, self.model.as_str(), label)? {
                    note(tx, by, ("clear label", label), &json!({ "model": self.model.as_str() }))?;
                }
                return Ok(());
            };
            let row = self.find(tx, version)?;
            if versions::served(tx, self.model.as_str())?.first().is_some_and(|current| current == version) {
                let reason =
                    format!("version {version} serves, so it answers already: it cannot be the {label}");
                return Err(StoreError::Conflict { reason }.into());
            }
            versions::set_label(tx, self.model.as_str(), (label, row.key), share)?;
            let detail = json!({ "model": self.model.as_str(), "label": label, "share": share });
            note(tx, by, ("label", version), &detail)
        })
    }

    /// Deletes a version.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] for the one that serves; [`StoreError::NotFound`], [`StoreError::Io`].
    pub fn delete(&self, version: &str, by: &Actor) -> Result<(), StoreError> {
        let _turn = self.turn();
        self.inner.database.write(|tx| {
            let row = self.find(tx, version)?;
            if versions::served(tx, self.model.as_str())?.first().is_some_and(|current| current == version) {
                let reason = format!("version {version} serves: promote another one first");
                return Err(StoreError::Conflict { reason }.into());
            }
            let labels = versions::labels(tx, self.model.as_str())?;
            if let Some((label, ..)) = labels.iter().find(|(_, labelled, _)| labelled == version) {
                let reason = format!("version {version} is the {label}: take that label away first");
                return Err(StoreError::Conflict { reason }.into());
            }
            versions::delete(tx, row.key)?;
            // Or the next start would take the file for one that somebody laid there.
            files::note_removed(tx, &self.relative(&format!("{version}.ocelli")))?;
            note(tx, by, ("delete version", version), &json!({}))
        })?;
        self.remove_file(version);
        Ok(())
    }

    /// Deletes the oldest versions beyond the newest `keep`: never the one that serves, the one before it, its parent,
    /// nor any of `needed`.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Database`].
    pub fn prune(&self, keep: usize, needed: &[String]) -> Result<Vec<String>, StoreError> {
        let mut kept: Vec<String> = self.history()?.into_iter().take(2).collect();
        if let Some(current) = kept.first() {
            kept.extend(self.get(current)?.parent);
        }
        kept.extend_from_slice(needed);
        let VersionLabels { canary, shadow, .. } = self.labels()?;
        kept.extend(canary.map(|canary| canary.version).into_iter().chain(shadow));
        let all = self.list()?;
        let surplus = all.len().saturating_sub(keep);
        let old = all.into_iter().filter(|record| !kept.contains(&record.version)).take(surplus);
        let gone: Vec<String> = old.map(|record| record.version).collect();
        let by = Actor::service("keep_versions");
        let mut deleted = Vec::new();
        for version in gone {
            match self.delete(&version, &by) {
                Ok(()) => deleted.push(version),
                // It was promoted or deleted meanwhile.
                Err(StoreError::Conflict { .. } | StoreError::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(deleted)
    }

    fn remove_file(&self, version: &str) {
        let path = self.path(version);
        let bytes = fs::metadata(&path).map_or(0, |meta| meta.len());
        // What stays is removed at the next start.
        if disk::remove(&path).is_ok() {
            self.inner.room.models(-(bytes as i64));
        }
    }

    fn find(&self, tx: &Tx<'_>, version: &str) -> Result<VersionRow, Fault> {
        let found =
            if is_version(version) { versions::find(tx, self.model.as_str(), version)? } else { None };
        found.ok_or_else(|| {
            let shown: String = version.chars().filter(|c| c.is_ascii_alphanumeric()).take(40).collect();
            StoreError::NotFound { what: "model version", name: shown }.into()
        })
    }

    fn path(&self, version: &str) -> PathBuf {
        self.dir.join(format!("{version}.ocelli"))
    }

    /// A file of the model, relative to the data folder.
    fn relative(&self, name: &str) -> String {
        format!("models/{}/{name}", self.model)
    }
}

/// What a model file says of itself; its number in the order of versions is open.
pub(super) fn record_of(version: String, file: &ModelFile, bytes: u64) -> VersionRecord {
    let (meta, input) = (&file.meta, &file.meta.preprocessing);
    let trained = meta.trained();
    VersionRecord {
        version,
        number: 0,
        created: now(),
        origin: "imported".to_owned(),
        job: None,
        parent: trained.and_then(|trained| trained.parent.clone()),
        classes: meta.classes.clone(),
        width: input.width,
        height: input.height,
        channels: input.channels,
        parameters: file.model.layout().count(),
        bytes,
        // Of an imported model nobody knows its data.
        data_name: trained.map_or_else(String::new, |trained| trained.data_name.clone()),
        data_hash: trained.map_or_else(String::new, |trained| hex(&trained.data_hash)),
        metrics: meta.metrics.clone(),
        verdict: None,
        damaged: None,
    }
}

/// The record of a row, with what is known of its file.
fn parse(inner: &Inner, row: &VersionRow) -> Result<VersionRecord, StoreError> {
    let record: VersionRecord = serde_json::from_str(&row.record).map_err(|error| {
        StoreError::database(inner.database.path(), &format!("version {}: {error}", row.version))
    })?;
    Ok(VersionRecord { damaged: row.damaged.clone(), ..record })
}

fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("plain values with text keys")
}

/// Whether a text can be a version: nothing else ever becomes part of a path here.
pub(super) fn is_version(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

fn engine(error: EngineError) -> StoreError {
    crate::error::PipelineError::from(error).into()
}
