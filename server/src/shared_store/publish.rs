//! The writer: brings the store to what the models of this service are, at every change and every few seconds.
//!
//! For each model it uploads what a label names and the store has not, then writes the next pointer, then removes what
//! the kept pointers no longer name. Each step can be the last one of a process: the next look finds what is missing.
//!
//! **Two writers** do not overwrite one another, as a number is written once, and do not take turns either: a process
//! that finds a pointer which another one wrote after this one first looked publishes this model no more. So the one
//! that was started last goes on, and the other one says so in its log and in `/status` until it is started anew.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ocelli_common::text::chain;
use ocelli_pipeline::ModelFile;
use ocelli_pipeline::store::{Name, VersionLabels};
use sha2::{Digest, Sha256};

use crate::blocking::blocking;
use crate::http::problem::Problem;
use crate::shared_status::{Status, now};
use crate::shared_store::fault::Fault;
use crate::shared_store::local::{LocalModels, labelled};
use crate::shared_store::objects::{Object, ObjectError, Objects};
use crate::shared_store::pointer::{self, Listed, MAX_BYTES, Pointer, Says, Stored, Writer};

/// Times that a number is found taken before the next look.
const ATTEMPTS: usize = 4;

/// A model that no pointer names is removed when it is older than this: another writer may have uploaded it and not yet
/// written its pointer.
const UNNAMED: Duration = Duration::from_secs(3600);

/// See the module.
pub(crate) struct Publisher {
    objects: Objects,
    models: Arc<dyn LocalModels>,
    status: Arc<Status>,
    limits: Limits,
    writer: Writer,
    known: BTreeMap<Name, Known>,
}

/// What a publisher keeps to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Largest model in bytes.
    pub(crate) max_model_bytes: u64,
    /// Pointers of a model that are kept.
    pub(crate) keep_pointers: usize,
}

/// What a process has seen of a model's pointers.
#[derive(Default)]
struct Known {
    /// The highest number at the first look: pointers after it are ours, or of a second writer.
    base: u64,
    /// The highest number so far, also where the store was emptied meanwhile.
    newest: u64,
    /// The newest pointer that is whole.
    pointer: Option<Pointer>,
    /// Bytes of versions, by version.
    stored: BTreeMap<String, Stored>,
    /// Objects whose content was compared.
    compared: BTreeSet<String>,
    /// Another writer took over.
    superseded: bool,
    /// When models that nothing names were last looked for.
    cleaned: Option<Instant>,
}

impl Publisher {
    pub(crate) fn new(
        objects: Objects,
        models: Arc<dyn LocalModels>,
        status: Arc<Status>,
        limits: Limits,
        writer: Writer,
    ) -> Publisher {
        objects.remove_left_over();
        Publisher { objects, models, status, limits, writer, known: BTreeMap::new() }
    }

    /// Compares the store with the models once, and brings it up to date.
    pub(crate) async fn look(&mut self) {
        match self.try_look().await {
            Ok(()) => self.status.looked(),
            Err(error) => self.status.failed(error.to_string(), error.detail()),
        }
    }

    async fn try_look(&mut self) -> Result<(), ObjectError> {
        let listing = pointer::sort(self.objects.list("models").await?);
        let nothing = Listed::default();
        for name in self.names().await {
            match self.publish(&name, listing.get(&name).unwrap_or(&nothing)).await {
                Ok(()) => {
                    self.status.problem(&name, None);
                }
                Err(Fault::Model(reason)) => {
                    self.status.problem(&name, Some(reason));
                }
                Err(Fault::Store(error)) => return Err(error),
            }
        }
        Ok(())
    }

    async fn names(&self) -> Vec<Name> {
        let models = self.models.clone();
        blocking(move || Ok(models.names())).await.unwrap_or_default()
    }

    /// Brings one model up to date.
    async fn publish(&mut self, name: &Name, listed: &Listed) -> Result<(), Fault> {
        let (models, of) = (self.models.clone(), name.clone());
        let (labels, default) = blocking(move || Ok((models.labels(&of)?, models.is_default(&of)))).await?;
        if labels.stable.is_none() {
            return Ok(());
        }
        let mut listed = listed.clone();
        for _ in 0..ATTEMPTS {
            self.read_newest(name, &listed).await?;
            let versions = self.upload(name, &labels, &listed).await?;
            let says = Says { versions, labels: labels.clone(), default };
            let known = self.known.entry(name.clone()).or_default();
            if let Some(pointer) = known.pointer.as_ref().filter(|pointer| pointer.says(&says))
                && listed.pointers.last_key_value().is_some_and(|(number, _)| *number == pointer.number)
            {
                self.status.in_force(name, pointer.number);
                return self.clean(name, &listed).await;
            }
            let number = known.newest + 1;
            let next = Pointer::new((name, number), says, &self.writer, now());
            match self.objects.create(&pointer::pointer_key(name, number), next.encode()).await {
                Ok(()) => {
                    tracing::info!(model = %name, number, "published");
                    (known.newest, known.pointer) = (number, Some(next));
                    self.status.in_force(name, number);
                    return Ok(());
                }
                // Somebody was faster: what they say decides.
                Err(ObjectError::Taken) => {
                    let mut again = pointer::sort(self.objects.list("models").await?);
                    listed = again.remove(name).unwrap_or_default();
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(Fault::Model("the next number of its pointers is taken by others again and again".to_owned()))
    }

    /// Reads the newest pointer that is whole, unless it is known, and finds out whether another writer took over.
    async fn read_newest(&mut self, name: &Name, listed: &Listed) -> Result<(), Fault> {
        let newest = listed.pointers.last_key_value().map_or(0, |(number, _)| *number);
        let first = !self.known.contains_key(name);
        let known = self.known.entry(name.clone()).or_default();
        if first {
            (known.base, known.newest) = (newest, newest);
        }
        let unknown_from = known.pointer.as_ref().map_or(0, |pointer| pointer.number) + 1;
        known.newest = known.newest.max(newest);
        for (&number, _) in listed.pointers.range(unknown_from..).rev() {
            let read = self.objects.get(&pointer::pointer_key(name, number), MAX_BYTES).await;
            let decoded = match read {
                Ok(bytes) => Pointer::decode(&bytes, name, number),
                Err(error @ (ObjectError::TooLarge { .. } | ObjectError::Missing)) => Err(error.to_string()),
                Err(error) => return Err(error.into()),
            };
            match decoded {
                Ok(pointer) => {
                    known.superseded |= number > known.base && pointer.writer != self.writer.id;
                    known.pointer = Some(pointer);
                    break;
                }
                // The next one of ours takes its place.
                Err(reason) => tracing::warn!(model = %name, number, "a pointer is damaged: {reason}"),
            }
        }
        match &known.pointer {
            Some(pointer) if known.superseded => Err(Fault::Model(format!(
                "another writer{} published pointer {}: this one publishes the model no more; \
                 stop one of the two, and start the other one anew",
                at_host(&pointer.host),
                pointer.number
            ))),
            _ => Ok(()),
        }
    }

    /// Sees to it that the store has every version with a label, whole; gives their bytes.
    async fn upload(
        &mut self,
        name: &Name,
        labels: &VersionLabels,
        listed: &Listed,
    ) -> Result<Vec<Stored>, Fault> {
        let mut versions = Vec::new();
        for version in labelled(labels) {
            let known = self.known.entry(name.clone()).or_default();
            let known_bytes = known.stored.get(version).cloned();
            let there = known_bytes.as_ref().and_then(|stored| {
                listed.models.get(&stored.sha256).filter(|object| object.bytes == stored.bytes)
            });
            if let (Some(stored), Some(_)) = (&known_bytes, there)
                && known.compared.contains(&stored.sha256)
            {
                versions.push(stored.clone());
                continue;
            }
            let (stored, bytes) = self.read(name, version).await?;
            if stored.bytes > self.limits.max_model_bytes {
                let limit = self.limits.max_model_bytes;
                return Err(Fault::Model(format!(
                    "version {version} has {} bytes, and max_model_bytes is {limit}",
                    stored.bytes
                )));
            }
            let key = pointer::model_key(name, &stored.sha256);
            if listed.models.contains_key(&stored.sha256) {
                if !self.is_whole(&key, &stored).await? {
                    tracing::warn!(model = %name, version, "its bytes in the store are damaged: written again");
                    self.objects.replace(&key, bytes).await?;
                }
            } else {
                match self.objects.create(&key, bytes).await {
                    // Written meanwhile: the next look compares it.
                    Ok(()) | Err(ObjectError::Taken) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            let known = self.known.entry(name.clone()).or_default();
            known.compared.insert(stored.sha256.clone());
            known.stored.insert(version.to_owned(), stored.clone());
            versions.push(stored);
        }
        Ok(versions)
    }

    /// Reads a version of this service, whose content must be what its name says.
    async fn read(&self, name: &Name, version: &str) -> Result<(Stored, Vec<u8>), Fault> {
        let (models, of, version) = (self.models.clone(), name.clone(), version.to_owned());
        let read = move || {
            let path = models.file(&of, &version)?;
            let unusable =
                |error: &str| Problem::Conflict(format!("version {version} cannot be read: {error}"));
            let file = ModelFile::load(&path).map_err(|error| {
                // With its path, which is for the log alone.
                tracing::error!(%version, "cannot be read: {}", chain(&error));
                unusable("its file is damaged or gone")
            })?;
            let hash = file.content_hash().map_err(|error| unusable(&chain(&error)))?;
            let bytes = file.to_bytes().map_err(|error| unusable(&chain(&error)))?;
            let stored = Stored { sha256: pointer::hex(&hash), bytes: bytes.len() as u64 };
            if stored.version() != version {
                return Err(unusable("its content is that of another version"));
            }
            Ok((stored, bytes))
        };
        Ok(blocking(read).await?)
    }

    /// Whether an object is what its name says.
    async fn is_whole(&self, key: &str, stored: &Stored) -> Result<bool, Fault> {
        match self.objects.get(key, stored.bytes).await {
            Ok(bytes) => {
                let expected = stored.clone();
                Ok(blocking(move || Ok(is_model(&bytes, &expected))).await?)
            }
            Err(ObjectError::TooLarge { .. } | ObjectError::Missing) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes pointers beyond those that are kept, and models that none of these names.
    async fn clean(&mut self, name: &Name, listed: &Listed) -> Result<(), Fault> {
        let surplus = listed.pointers.len().saturating_sub(self.limits.keep_pointers);
        let surplus: Vec<u64> = listed.pointers.keys().copied().take(surplus).collect();
        for number in &surplus {
            self.objects.remove(&pointer::pointer_key(name, *number)).await?;
        }
        let known = self.known.entry(name.clone()).or_default();
        let due = !surplus.is_empty() || known.cleaned.is_none_or(|at| at.elapsed() > UNNAMED);
        if !due {
            return Ok(());
        }
        known.cleaned = Some(Instant::now());
        let mut named = BTreeSet::new();
        for &number in listed.pointers.keys().filter(|number| !surplus.contains(number)) {
            match self.objects.get(&pointer::pointer_key(name, number), MAX_BYTES).await {
                Ok(bytes) => match Pointer::decode(&bytes, name, number) {
                    Ok(pointer) => named.extend(pointer.versions.into_iter().map(|stored| stored.sha256)),
                    // What it named nobody knows: everything stays.
                    Err(_) => return Ok(()),
                },
                Err(ObjectError::TooLarge { .. } | ObjectError::Missing) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        for (sha256, object) in &listed.models {
            if !named.contains(sha256) && is_older(object, UNNAMED) {
                self.objects.remove(&object.key).await?;
                let known = self.known.entry(name.clone()).or_default();
                known.compared.remove(sha256);
                tracing::info!(model = %name, sha256, "removed from the shared store: no pointer names it");
            }
        }
        Ok(())
    }
}

fn is_older(object: &Object, age: Duration) -> bool {
    object.modified.elapsed().is_ok_and(|own| own > age)
}

fn at_host(host: &str) -> String {
    if host.is_empty() { String::new() } else { format!(" on {host}") }
}

/// Bytes at the end of a model file: the SHA-256 of all before them.
const HASH_BYTES: usize = 32;

/// Whether bytes are a model file with this content.
pub(crate) fn is_model(bytes: &[u8], expected: &Stored) -> bool {
    let Some((content, hash)) = bytes.split_last_chunk::<HASH_BYTES>() else { return false };
    bytes.len() as u64 == expected.bytes
        && pointer::hex(hash) == expected.sha256
        && pointer::hex(&Sha256::digest(content)) == expected.sha256
}
