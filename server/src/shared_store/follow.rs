//! The replica: brings the models of this service to what the store says, every few seconds.
//!
//! Of each model the newest pointer counts that is whole and whose versions are what it says and give their stored
//! answers. Where the newest one is not, the one before it counts, but none that is older than the one in force: what
//! serves is never taken back by damage. What was refused is tried again when it changes, and otherwise less and less
//! often.
//!
//! A store that is away, and a model that is no longer in it, change nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ocelli_common::atomic_file;
use ocelli_common::text::chain;
use ocelli_pipeline::ModelFile;
use ocelli_pipeline::store::{Actor, Name};
use serde::{Deserialize, Serialize};

use crate::blocking::blocking;
use crate::http::problem::Problem;
use crate::shared_status::Status;
use crate::shared_store::fault::Fault;
use crate::shared_store::local::LocalModels;
use crate::shared_store::objects::{ObjectError, Objects};
use crate::shared_store::pointer::{self, Listed, MAX_BYTES, Pointer, Stored};
use crate::shared_store::publish::is_model;

/// What was refused and has not changed is tried again after this at the latest.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The file in the cache that says which pointers are in force.
const FILE: &str = "shared-store.json";

/// Largest such file in bytes.
const MAX_FILE: u64 = 1 << 20;

/// See the module.
pub(crate) struct Follower {
    objects: Objects,
    models: Arc<dyn LocalModels>,
    status: Arc<Status>,
    /// Largest model in bytes.
    max_model_bytes: u64,
    in_force: InForce,
    /// Models whose pointer in force was compared with the cache by this process.
    compared: BTreeSet<Name>,
    refusals: BTreeMap<Name, Refusal>,
}

/// The pointers in force, beside the versions and labels that they brought about: damage to the newest pointer must not
/// take a replica back that was restarted.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct InForce {
    /// Of another store, other numbers.
    url: String,
    numbers: BTreeMap<String, u64>,
    /// The model of requests that name none.
    default: Option<String>,
    #[serde(skip)]
    path: PathBuf,
}

impl InForce {
    /// What the cache says; nothing where it says nothing that can be read, which costs a comparison.
    fn read(cache: &Path, url: &str) -> InForce {
        let path = cache.join(FILE);
        let small = std::fs::metadata(&path).is_ok_and(|meta| meta.len() <= MAX_FILE);
        let text = if small { std::fs::read(&path).unwrap_or_default() } else { Vec::new() };
        let read = serde_json::from_slice(&text).ok().filter(|read: &InForce| read.url == url);
        let new = || InForce { url: url.to_owned(), ..InForce::default() };
        InForce { path, ..read.unwrap_or_else(new) }
    }

    fn of(&self, name: &Name) -> u64 {
        self.numbers.get(name.as_str()).copied().unwrap_or(0)
    }

    async fn set(&mut self, name: &Name, pointer: &Pointer) {
        let before = self.numbers.insert(name.to_string(), pointer.number);
        if pointer.default {
            self.default = Some(name.to_string());
        }
        if before == Some(pointer.number) {
            return;
        }
        let text = serde_json::to_vec(self).expect("plain values with text keys");
        let path = self.path.clone();
        let written = blocking(move || Ok(atomic_file::write(&path, &text))).await;
        if let Ok(Err(error)) = written {
            // A restart takes the newest pointer that is whole.
            tracing::warn!("the number of a pointer cannot be kept: {error}");
        }
    }
}

/// Pointers of a model that were refused.
struct Refusal {
    /// What the store had of the model.
    listed: Listed,
    pause: Duration,
    until: Instant,
}

impl Follower {
    /// `cache` is the data folder of this service.
    pub(crate) fn new(
        objects: Objects,
        models: Arc<dyn LocalModels>,
        status: Arc<Status>,
        max_model_bytes: u64,
        cache: &Path,
    ) -> Follower {
        let in_force = InForce::read(cache, objects.address());
        for (name, number) in &in_force.numbers {
            if let Ok(name) = name.parse() {
                status.in_force(&name, *number);
            }
        }
        let (compared, refusals) = (BTreeSet::new(), BTreeMap::new());
        Follower { objects, models, status, max_model_bytes, in_force, compared, refusals }
    }

    /// The model of requests that name none, as far as a pointer says so.
    pub(crate) fn default(&self) -> Option<Name> {
        self.in_force.default.as_ref()?.parse().ok()
    }

    /// Compares the models with the store once, and brings them up to date.
    pub(crate) async fn look(&mut self) {
        match self.try_look().await {
            Ok(()) => self.status.looked(),
            Err(error) => self.status.failed(error.to_string(), error.detail()),
        }
    }

    async fn try_look(&mut self) -> Result<(), ObjectError> {
        let listing = pointer::sort(self.objects.list("models").await?);
        for (name, listed) in &listing {
            self.follow(name, listed).await?;
        }
        Ok(())
    }

    /// Brings one model up to date.
    async fn follow(&mut self, name: &Name, listed: &Listed) -> Result<(), ObjectError> {
        let Some((&newest, _)) = listed.pointers.last_key_value() else { return Ok(()) };
        let in_force = self.in_force.of(name);
        if newest < in_force {
            let reason = format!(
                "its newest pointer is {newest}, and {in_force} is in force here: the store was emptied or put back; \
                 to follow it as it is, start this replica with an empty data folder"
            );
            self.status.problem(name, Some(reason));
            return Ok(());
        }
        if let Some(refusal) = self.refusals.get(name)
            && refusal.listed == *listed
            && Instant::now() < refusal.until
        {
            return Ok(());
        }
        // The pointer in force is compared once: its versions may be gone from the cache.
        let from = if self.compared.contains(name) { in_force + 1 } else { in_force.max(1) };
        let mut refused = None;
        for &number in listed.pointers.range(from..).map(|(number, _)| number).rev() {
            match self.apply(name, number, listed).await {
                Ok(pointer) => {
                    tracing::info!(model = %name, number, "the pointer is in force");
                    self.in_force.set(name, &pointer).await;
                    self.status.in_force(name, number);
                    self.compared.insert(name.clone());
                    break;
                }
                Err(Fault::Model(reason)) => {
                    refused.get_or_insert(format!("pointer {number} is refused: {reason}"));
                }
                Err(Fault::Store(error)) => return Err(error),
            }
        }
        match &refused {
            Some(_) => self.refuse(name, listed),
            None => drop(self.refusals.remove(name)),
        }
        if self.status.problem(name, refused) {
            self.status.refused();
        }
        Ok(())
    }

    fn refuse(&mut self, name: &Name, listed: &Listed) {
        let before = self.refusals.remove(name).filter(|before| before.listed == *listed);
        let pause = before.map_or(Duration::from_secs(2), |before| (before.pause * 2).min(LONGEST_PAUSE));
        let refusal = Refusal { listed: listed.clone(), pause, until: Instant::now() + pause };
        self.refusals.insert(name.clone(), refusal);
    }

    /// Takes a pointer: all of its versions, then its labels.
    async fn apply(&self, name: &Name, number: u64, listed: &Listed) -> Result<Pointer, Fault> {
        let bytes = self.get(&pointer::pointer_key(name, number), MAX_BYTES, "").await?;
        let pointer = Pointer::decode(&bytes, name, number).map_err(Fault::Model)?;
        let mut fetched = false;
        for stored in &pointer.versions {
            if !self.has(name, stored).await? {
                self.fetch(name, stored, listed).await?;
                fetched = true;
            }
        }
        let (models, name, labels) = (self.models.clone(), name.clone(), pointer.labels.clone());
        let by = Actor::service(format!("shared store, pointer {number}"));
        let labelled = blocking(move || match models.labels(&name) {
            Ok(own) if own == labels && !fetched => Ok(()),
            _ => models.set_labels(&name, &labels, &by),
        });
        labelled.await?;
        Ok(pointer)
    }

    /// Whether the cache has a version, whole.
    async fn has(&self, name: &Name, stored: &Stored) -> Result<bool, Fault> {
        let (models, name, stored) = (self.models.clone(), name.clone(), stored.clone());
        let has = move || {
            let file = models.file(&name, stored.version()).ok().and_then(|path| std::fs::read(path).ok());
            Ok(file.is_some_and(|bytes| is_model(&bytes, &stored)))
        };
        Ok(blocking(has).await?)
    }

    /// Gets a version from the store, verifies it and adds it.
    async fn fetch(&self, name: &Name, stored: &Stored, listed: &Listed) -> Result<(), Fault> {
        let version = stored.version().to_owned();
        let refused = |reason: &str| Fault::Model(format!("version {version}: {reason}"));
        if stored.bytes > self.max_model_bytes {
            return Err(refused(&format!(
                "it has {} bytes, and max_model_bytes is {}",
                stored.bytes, self.max_model_bytes
            )));
        }
        match listed.models.get(&stored.sha256) {
            Some(object) if object.bytes != stored.bytes => {
                return Err(refused(&format!("it has {} bytes in place of {}", object.bytes, stored.bytes)));
            }
            // Listed before it was uploaded: asking for it tells.
            _ => {}
        }
        let key = pointer::model_key(name, &stored.sha256);
        let bytes = self.get(&key, stored.bytes, &format!("version {version}: ")).await?;
        let (models, name, stored) = (self.models.clone(), name.clone(), stored.clone());
        let by = Actor::service("shared store");
        let added = blocking(move || {
            if !is_model(&bytes, &stored) {
                return Err(Problem::Refused("its content is not what its name says".to_owned()));
            }
            let file = ModelFile::from_bytes(&bytes).map_err(|error| Problem::Refused(chain(&error)))?;
            drop(bytes);
            models.add(&name, file, &by)
        });
        let added = added.await.map_err(|problem| refused(&problem.to_string()))?;
        if added.version == version { Ok(()) } else { Err(refused("it was added as another version")) }
    }

    /// The bytes of an object; `whose` begins the text of a refusal.
    async fn get(&self, key: &str, limit: u64, whose: &str) -> Result<Vec<u8>, Fault> {
        self.objects.get(key, limit).await.map_err(|error| match error {
            error @ (ObjectError::Missing | ObjectError::TooLarge { .. }) => {
                Fault::Model(format!("{whose}{error}"))
            }
            error => Fault::Store(error),
        })
    }
}
