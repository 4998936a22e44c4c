//! Which version answers, and how another one takes over.
//!
//! A promotion loads and warms the new version first, then writes down that it serves, then lets new requests have it.
//! Requests that began with the old one end with it. So a version that cannot be loaded changes nothing, no request is
//! dropped, and a restart serves what was written down last.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use ocelli_common::text::chain;
use ocelli_pipeline::store::{Actor, StoreError, VersionRecord, Versions};
use ocelli_pipeline::{Compute, ModelFile, Pool};

use crate::config::Config;
use crate::error::ServerError;
use crate::http::problem::Problem;
use crate::http::text::shown;
use crate::metrics::Metrics;
use crate::model::first::{First, StandIn};
use crate::model::loader::Loader;
use crate::model::serving::Serving;
use crate::model::single_flight::SingleFlight;

/// The versions of the model that this service answers with.
pub(crate) struct Models {
    name: String,
    current: RwLock<Current>,
    /// Versions that requests asked for by name, the one used last at the end.
    extra: Mutex<Vec<Arc<Serving>>>,
    /// Loads that requests wait for.
    loads: Arc<SingleFlight<Arc<Serving>>>,
    /// What was gone back from and to, the last ones last: whoever asks for the same again is told that it is done.
    undone: Mutex<Vec<Promotion>>,
    /// Held while the serving version changes.
    promotion: Mutex<()>,
    /// Where versions are kept; none in a service without a data folder.
    versions: Option<Arc<Versions>>,
    loader: Loader,
    compute: Compute,
    /// What all versions compute on.
    pool: Pool,
    config: Arc<Config>,
    metrics: Metrics,
}

/// What answers at a moment.
struct Current {
    serving: Arc<Serving>,
    /// Why another version serves than the one that should, if so.
    stand_in: Option<StandIn>,
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
        first: First,
        compute: Compute,
        config: Arc<Config>,
        metrics: Metrics,
    ) -> Result<Models, ServerError> {
        let First { serving, stand_in, versions } = first;
        Ok(Models {
            name: serving.info.name.clone(),
            current: RwLock::new(Current { serving: Arc::new(serving), stand_in }),
            extra: Mutex::new(Vec::new()),
            loads: Arc::default(),
            undone: Mutex::default(),
            promotion: Mutex::new(()),
            versions: versions.map(Arc::new),
            loader: Loader::start().map_err(ServerError::Thread)?,
            compute,
            pool: compute.pool().map_err(ServerError::WarmUp)?,
            config,
            metrics,
        })
    }

    /// The threads on which all versions compute, and images are decoded.
    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The model's name, which all versions share.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The version that serves. Waits for nothing but the exchange of a pointer.
    pub(crate) fn serving(&self) -> Arc<Serving> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).serving.clone()
    }

    /// The version that serves, and why that is another one than should, if so.
    pub(crate) fn current(&self) -> (Arc<Serving>, Option<StandIn>) {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        (current.serving.clone(), current.stand_in.clone())
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
        drop(extra);
        // Whoever deletes it looks into memory after that: it goes, whichever of the two was first.
        if let Err(gone @ StoreError::NotFound { .. }) = self.versions()?.get(version) {
            self.extra().retain(|own| own.info.version != version);
            return Err(gone.into());
        }
        Ok(loaded)
    }

    /// Makes a version the one that serves. Takes the time of a load.
    pub(crate) fn promote(&self, version: &str, by: &Actor) -> Result<Promotion, Problem> {
        let _promotion = self.promotion();
        self.take_over(version, by)
    }

    /// As [`Models::promote`], if `over` serves, or already the version itself; none where another one does.
    pub(crate) fn promote_over(
        &self,
        version: &str,
        over: &str,
        by: &Actor,
    ) -> Result<Option<Promotion>, Problem> {
        let _promotion = self.promotion();
        let serving = self.serving().info.version.clone();
        if serving != over && serving != version {
            return Ok(None);
        }
        self.take_over(version, by).map(Some)
    }

    /// Makes a version the one that serves; the caller has the turn.
    fn take_over(&self, version: &str, by: &Actor) -> Result<Promotion, Problem> {
        // A version in memory may have lost its file, and the next start would not find it.
        self.versions()?.load(version).map_err(|error| cannot_serve(version, error))?;
        let next = self.ready(version)?;
        self.versions()?.promote(version, by)?;
        Ok(self.exchange(next))
    }

    /// Serves the version that served before; where `from` is given, only if that serves now. If it was gone back from
    /// already, and what was gone back to serves, nothing is left to do. Takes the time of a load.
    pub(crate) fn roll_back(&self, from: Option<&str>, by: &Actor) -> Result<Promotion, Problem> {
        let _promotion = self.promotion();
        let versions = self.versions()?;
        let history = versions.history()?;
        let now = history.first().cloned().unwrap_or_else(|| self.serving().info.version.clone());
        if let Some(from) = from.filter(|from| *from != now) {
            let undone = self.undone();
            let done = undone.iter().rev().find(|step| step.before == from);
            return done.filter(|step| step.version == now).cloned().ok_or_else(|| {
                Problem::Conflict(format!(
                    "the version that serves is {now}, and not \"{}\": list the versions again",
                    shown(from)
                ))
            });
        }
        let Some(before) = history.get(1) else {
            return Err(Problem::Conflict(format!("no version served before {now}")));
        };
        versions.load(before).map_err(|error| cannot_serve(before, error))?;
        let next = self.ready(before)?;
        versions.roll_back(&now, before, by)?;
        let step = self.exchange(next);
        let mut undone = self.undone();
        undone.retain(|own| own.before != step.before);
        undone.push(step.clone());
        let surplus = undone.len().saturating_sub(MAX_UNDONE);
        undone.drain(..surplus);
        Ok(step)
    }

    /// Serves the version that should, if another one had to stand in for it.
    pub(crate) fn reload(&self) -> Result<Promotion, Problem> {
        let _promotion = self.promotion();
        let version = match self.versions()?.current()? {
            Some(version) => version,
            None => self.serving().info.version.clone(),
        };
        Ok(self.exchange(self.ready(&version)?))
    }

    /// Deletes a version that neither serves nor is needed for a job, from memory too.
    pub(crate) fn delete(
        &self,
        version: &str,
        needs: impl FnOnce(&str) -> Option<u64>,
        by: &Actor,
    ) -> Result<(), Problem> {
        // A job takes what serves: while that cannot change, no other one comes to be needed.
        let _promotion = self.promotion();
        if self.serving().info.version == version {
            return Err(Problem::Conflict(format!("version {version} serves: promote another one first")));
        }
        if let Some(job) = needs(version) {
            let version = shown(version);
            return Err(Problem::Conflict(format!(
                "version {version} is needed for job {job}; wait for its end or cancel it first"
            )));
        }
        self.versions()?.delete(version, by)?;
        self.extra().retain(|own| own.info.version != version);
        Ok(())
    }

    /// Deletes the oldest versions beyond those that are kept, but none that is in use.
    pub(crate) fn prune(&self, keep: usize, needed: &[String]) -> Result<(), Problem> {
        let _promotion = self.promotion();
        let mut needed = needed.to_vec();
        needed.push(self.serving().info.version.clone());
        for version in self.versions()?.prune(keep, &needed)? {
            self.extra().retain(|own| own.info.version != version);
            tracing::info!(%version, "deleted: keep_versions");
        }
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

    /// Reads the file of a version when it is called, which takes the time of reading and of a hash.
    pub(crate) fn reader(&self, version: &str) -> Box<dyn FnOnce() -> Result<ModelFile, Problem> + Send> {
        let (versions, version) = (self.versions.clone(), version.to_owned());
        Box::new(move || {
            let versions = versions.ok_or_else(Problem::no_data_folder)?;
            versions.load(&version).map_err(|error| cannot_serve(&version, error))
        })
    }

    fn read(&self, version: &str) -> Result<Serving, Problem> {
        let versions = self.versions()?.clone();
        let (name, compute, version) = (self.name.clone(), self.compute, version.to_owned());
        let (config, metrics) = (self.config.clone(), self.metrics.clone());
        let load = move || {
            let file = versions.load(&version).map_err(|error| match versions.get(&version) {
                // Its file went after its row was read: it was deleted, and is not damaged.
                Err(gone @ StoreError::NotFound { .. }) => gone.into(),
                _ => cannot_serve(&version, error),
            })?;
            Serving::load(file, &name, compute, &config, &metrics).map_err(|error| match error {
                ServerError::WarmUp(source) => {
                    let reason = chain(&source);
                    if let Err(error) = versions.set_damaged(&version, Some(&reason)) {
                        tracing::warn!(%version, "the damage cannot be recorded: {}", chain(&error));
                    }
                    Problem::Conflict(format!("version {version} cannot serve: {reason}"))
                }
                error => Problem::Internal { reason: chain(&error) },
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
        let next = Current { serving: next, stand_in: None };
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *current, next).serving;
        drop(current);
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

/// What a version that cannot be read means to a client.
fn cannot_serve(version: &str, error: StoreError) -> Problem {
    match error {
        StoreError::Damaged { reason, .. } => {
            tracing::error!(version, "damaged: {reason}");
            Problem::Conflict(format!("version {version} is damaged and cannot serve: {reason}"))
        }
        error => error.into(),
    }
}
