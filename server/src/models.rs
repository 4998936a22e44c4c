//! Which version answers, and how another one takes over.
//!
//! A promotion loads and warms the new version first, then writes down that it serves, then lets new requests have it.
//! Requests that began with the old one end with it. So a version that cannot be loaded changes nothing, no request is
//! dropped, and a restart serves what was written down last.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use ocelli_pipeline::store::{NewVersion, VersionRecord, Versions};
use ocelli_pipeline::{Compute, ModelFile, PipelineError, version_id};

use crate::config::Config;
use crate::error::ServerError;
use crate::loader::Loader;
use crate::metrics::Metrics;
use crate::payload::shown;
use crate::problem::Problem;
use crate::serving::Serving;
use crate::single_flight::Flights;

/// The versions of the model that this service answers with.
pub(crate) struct Models {
    name: String,
    serving: RwLock<Arc<Serving>>,
    /// Versions that requests asked for by name, the one used last at the end.
    extra: Mutex<Vec<Arc<Serving>>>,
    /// Loads that requests wait for.
    loads: Arc<Flights<Arc<Serving>>>,
    /// What was gone back from and to, the last ones last: whoever asks for the same again is told that it is done.
    undone: Mutex<Vec<Promotion>>,
    /// Held while the serving version changes.
    promotion: Mutex<()>,
    /// Where versions are kept; none in a service without a data folder.
    versions: Option<Arc<Versions>>,
    loader: Loader,
    compute: Compute,
    config: Config,
    metrics: Metrics,
}

/// Steps back that are remembered.
const MAX_UNDONE: usize = 64;

/// What a promotion did.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Promotion {
    pub(crate) version: String,
    /// What served before; the same when nothing changed.
    pub(crate) before: String,
}

impl Models {
    pub(crate) fn new(
        serving: Serving,
        versions: Option<Versions>,
        compute: Compute,
        config: Config,
        metrics: Metrics,
    ) -> Result<Models, ServerError> {
        Ok(Models {
            name: serving.info.name.clone(),
            serving: RwLock::new(Arc::new(serving)),
            extra: Mutex::new(Vec::new()),
            loads: Arc::default(),
            undone: Mutex::default(),
            promotion: Mutex::new(()),
            versions: versions.map(Arc::new),
            loader: Loader::start().map_err(ServerError::Thread)?,
            compute,
            config,
            metrics,
        })
    }

    /// The model's name, which all versions share.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The version that serves. Waits for nothing but the exchange of a pointer.
    pub(crate) fn serving(&self) -> Arc<Serving> {
        self.serving.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The versions on the disk.
    pub(crate) fn versions(&self) -> Result<&Arc<Versions>, Problem> {
        self.versions.as_ref().ok_or_else(Problem::no_data_folder)
    }

    /// A version that is in memory already.
    pub(crate) fn loaded(&self, version: &str) -> Option<Arc<Serving>> {
        let serving = self.serving();
        if serving.info.version == version {
            return Some(serving);
        }
        let mut extra = self.extra();
        let at = extra.iter().position(|own| own.info.version == version)?;
        let found = extra.remove(at);
        extra.push(found.clone());
        Some(found)
    }

    /// All versions in memory, the serving one first.
    pub(crate) fn in_memory(&self) -> Vec<Arc<Serving>> {
        let mut all = vec![self.serving()];
        all.extend(self.extra().iter().rev().cloned());
        all
    }

    /// A version by name, loaded once for all who ask for it meanwhile where it is not in memory.
    pub(crate) async fn get(self: &Arc<Self>, version: &str) -> Result<Arc<Serving>, Problem> {
        if let Some(found) = self.loaded(version) {
            return Ok(found);
        }
        let (models, name) = (self.clone(), version.to_owned());
        self.loads.run(version, move || models.load(&name)).await
    }

    /// As [`Models::get`], alone. Takes the time of a load: not for a thread that serves connections.
    fn load(&self, version: &str) -> Result<Arc<Serving>, Problem> {
        if let Some(found) = self.loaded(version) {
            return Ok(found);
        }
        let loaded = Arc::new(self.read(version)?);
        let mut extra = self.extra();
        extra.retain(|own| own.info.version != version);
        extra.push(loaded.clone());
        let surplus = extra.len().saturating_sub(self.config.extra_versions);
        extra.drain(..surplus);
        Ok(loaded)
    }

    /// Makes a version the one that serves. Takes the time of a load.
    pub(crate) fn promote(&self, version: &str) -> Result<Promotion, Problem> {
        let _promotion = self.promotion();
        let next = self.ready(version)?;
        self.versions()?.promote(version)?;
        Ok(self.exchange(next))
    }

    /// Serves the version that served before; where `from` is given, only if that serves now. If it was gone back from
    /// already, and what was gone back to serves, nothing is left to do. Takes the time of a load.
    pub(crate) fn roll_back(&self, from: Option<&str>) -> Result<Promotion, Problem> {
        let _promotion = self.promotion();
        let versions = self.versions()?;
        let now = self.serving().info.version.clone();
        if let Some(from) = from.filter(|from| *from != now) {
            let undone = self.undone();
            let done = undone.iter().rev().find(|step| step.before == from);
            return done.filter(|step| step.version == now).cloned().ok_or_else(|| {
                Problem::Conflict(format!(
                    "the version that serves is {now}, and not \"{}\": look again",
                    shown(from)
                ))
            });
        }
        let Some(before) = versions.previous()? else {
            return Err(Problem::Conflict(format!("no version served before {now}")));
        };
        let next = self.ready(&before)?;
        versions.roll_back(&now, &before)?;
        let step = self.exchange(next);
        let mut undone = self.undone();
        undone.retain(|own| own.before != step.before);
        undone.push(step.clone());
        let surplus = undone.len().saturating_sub(MAX_UNDONE);
        undone.drain(..surplus);
        Ok(step)
    }

    /// Serves what the data folder says, which somebody else may have changed.
    pub(crate) fn reload(&self) -> Result<Promotion, Problem> {
        let _promotion = self.promotion();
        let version = match self.versions()?.current()? {
            Some(version) => version,
            None => self.serving().info.version.clone(),
        };
        Ok(self.exchange(self.ready(&version)?))
    }

    /// Deletes a version that does not serve, from memory too.
    pub(crate) fn delete(&self, version: &str) -> Result<(), Problem> {
        let _promotion = self.promotion();
        self.versions()?.delete(version)?;
        self.extra().retain(|own| own.info.version != version);
        Ok(())
    }

    /// What is known of a version.
    pub(crate) fn record(&self, version: &str) -> Result<VersionRecord, Problem> {
        Ok(self.versions()?.get(version)?)
    }

    fn ready(&self, version: &str) -> Result<Arc<Serving>, Problem> {
        match self.loaded(version) {
            Some(found) => Ok(found),
            None => self.read(version).map(Arc::new),
        }
    }

    fn read(&self, version: &str) -> Result<Serving, Problem> {
        let versions = self.versions()?.clone();
        let (name, compute, version) = (self.name.clone(), self.compute, version.to_owned());
        let (config, metrics) = (self.config.clone(), self.metrics.clone());
        let load = move || {
            let file = versions.load(&version)?;
            Serving::load(file, &name, compute, &config, &metrics).map_err(|error| match error {
                ServerError::WarmUp(source) => {
                    Problem::Conflict(format!("version {version} cannot serve: {source}"))
                }
                error => Problem::Internal { reason: error.to_string() },
            })
        };
        let failed =
            || Problem::Internal { reason: "loading this version failed; the service goes on".into() };
        self.loader.run(load).unwrap_or_else(|| Err(failed()))
    }

    fn exchange(&self, next: Arc<Serving>) -> Promotion {
        let version = next.info.version.clone();
        self.extra().retain(|own| own.info.version != version);
        // It serves again: going back from it is something new.
        self.undone().retain(|step| step.before != version);
        let mut serving = self.serving.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *serving, next);
        drop(serving);
        self.metrics.swapped();
        tracing::info!(%version, before = %before.info.version, "serving");
        Promotion { version, before: before.info.version.clone() }
    }

    fn extra(&self) -> MutexGuard<'_, Vec<Arc<Serving>>> {
        self.extra.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn undone(&self) -> MutexGuard<'_, Vec<Promotion>> {
        self.undone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn promotion(&self) -> MutexGuard<'_, ()> {
        self.promotion.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The model that a data folder serves. `seed` becomes a version, and serves where nothing does yet.
///
/// A version that cannot be read is passed over for the one that served before: an old model is better than none.
pub(crate) fn first(versions: &Versions, seed: Option<ModelFile>) -> Result<ModelFile, ServerError> {
    let mut added = None;
    if let Some(seed) = seed {
        // What only a resumed run needs is no part of a version.
        let seed = ModelFile { training: None, ..seed };
        let version = version_id(&seed.content_hash().map_err(PipelineError::from)?);
        if versions.get(&version).is_err() {
            versions.add(&seed, &NewVersion::default())?;
        }
        added = Some(version);
    }
    let mut candidates = versions.history()?;
    candidates.extend(added);
    let mut failure = None;
    for version in candidates {
        match versions.load(&version) {
            Ok(file) => {
                versions.promote(&version)?;
                return Ok(file);
            }
            Err(error) => {
                tracing::error!(%version, "cannot be served: {error}");
                failure.get_or_insert(error);
            }
        }
    }
    Err(failure.map_or(ServerError::NoModel, ServerError::from))
}
