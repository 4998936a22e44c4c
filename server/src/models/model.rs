//! A model: which of its versions answers, and how another one takes over.
//!
//! A promotion loads and warms the new version first, then writes down that it serves, then lets new requests have it.
//! Requests that began with the old one end with it. So a version that cannot be loaded changes nothing, no request is
//! dropped, and a restart serves what was written down last.
//!
//! The default model of a service is always loaded. Another one is loaded when it is asked, and goes when the
//! [memory for models](crate::models::budget) is needed for others.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use ocelli_common::text::chain;
use ocelli_pipeline::store::{
    Actor, Canary, Name, NewVersion, StoreError, VersionLabels, VersionRecord, Versions,
};
use ocelli_pipeline::{Compute, ModelFile, Predictor};
use tokio::sync::Semaphore;

use crate::config::Config;
use crate::error::ServerError;
use crate::http::problem::Problem;
use crate::http::text::shown;
use crate::metrics::Metrics;
use crate::models::budget::{Budget, Need, NoRoom, Unload};
use crate::models::first::{self, First, StandIn};
use crate::models::resources::Resources;
use crate::models::serving::Serving;
use crate::models::shadow::Shadow;
use crate::models::single_flight::SingleFlight;

/// One model of the service.
pub(crate) struct Model {
    name: Name,
    /// Asked where a request names none, and never unloaded.
    is_default: bool,
    current: RwLock<Current>,
    /// Versions that requests asked for by name, the one used last at the end.
    extra: Mutex<Vec<Arc<Serving>>>,
    /// Loads that requests wait for.
    loads: Arc<SingleFlight<Arc<Serving>>>,
    /// What was gone back from and to, the last ones last: whoever asks for the same again is told that it is done.
    undone: Mutex<Vec<Promotion>>,
    /// Held while the serving version or a label changes.
    promotion: Mutex<()>,
    /// Where versions are kept; none in a service without a data folder.
    versions: Option<Arc<Versions>>,
    /// Requests that named no version: every so many of them go to the canary.
    asked: AtomicU64,
    /// One slot for each of its images that is admitted.
    slots: Arc<Semaphore>,
    shadow: Shadow,
    resources: Arc<Resources>,
    /// The limits of this model.
    config: Arc<Config>,
}

/// What answers at a moment.
struct Current {
    /// The version that serves, loaded or not.
    version: String,
    /// It, while it is loaded.
    serving: Option<Arc<Serving>>,
    /// Why another version serves than the one that should, if so.
    stand_in: Option<StandIn>,
    canary: Option<Canary>,
    shadow: Option<String>,
}

/// Steps back that are remembered.
const MAX_UNDONE: usize = 64;

/// The key of the load of what serves, which no version has.
const CURRENT: &str = "";

/// What a promotion did.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Promotion {
    pub(crate) version: String,
    /// What served before; the same when nothing changed.
    pub(crate) before: String,
}

impl Model {
    /// A model whose version is loaded.
    pub(crate) fn loaded(
        first: First,
        versions: Option<Versions>,
        (is_default, config): (bool, &Config),
        resources: &Arc<Resources>,
    ) -> Result<Arc<Model>, ServerError> {
        let First { serving, stand_in } = first;
        let name = Name::nearest(&serving.info.name);
        let version = serving.info.version.clone();
        let current =
            Current { version, serving: Some(Arc::new(serving)), stand_in, canary: None, shadow: None };
        Model::assemble(name, current, versions, (is_default, config), resources)
    }

    /// A model that is loaded when it is asked; none where it has no version that could serve.
    pub(crate) fn unloaded(
        name: &Name,
        versions: Versions,
        config: &Config,
        resources: &Arc<Resources>,
    ) -> Result<Option<Arc<Model>>, ServerError> {
        let version = match versions.current()? {
            Some(version) => Some(version),
            None => versions.list()?.pop().map(|newest| newest.version),
        };
        let Some(version) = version else { return Ok(None) };
        let current = Current { version, serving: None, stand_in: None, canary: None, shadow: None };
        Model::assemble(name.clone(), current, Some(versions), (false, config), resources).map(Some)
    }

    fn assemble(
        name: Name,
        current: Current,
        versions: Option<Versions>,
        (is_default, config): (bool, &Config),
        resources: &Arc<Resources>,
    ) -> Result<Arc<Model>, ServerError> {
        let config = config.of_model(name.as_str());
        let model = Arc::new(Model {
            name,
            is_default,
            current: RwLock::new(current),
            extra: Mutex::new(Vec::new()),
            loads: Arc::default(),
            undone: Mutex::default(),
            promotion: Mutex::new(()),
            versions: versions.map(Arc::new),
            asked: AtomicU64::new(0),
            slots: Arc::new(Semaphore::new(config.queue)),
            shadow: Shadow::default(),
            resources: resources.clone(),
            config: Arc::new(config),
        });
        model.read_labels()?;
        resources.budget.watch(Arc::downgrade(&(model.clone() as Arc<dyn Unload>)));
        Ok(model)
    }

    /// Its name, which all versions share.
    pub(crate) fn name(&self) -> &str {
        self.name.as_str()
    }

    /// Its limits: those of the service where it has none of its own.
    pub(crate) fn config(&self) -> &Arc<Config> {
        &self.config
    }

    pub(crate) fn is_default(&self) -> bool {
        self.is_default
    }

    /// The slots of its images.
    pub(crate) fn slots(&self) -> &Arc<Semaphore> {
        &self.slots
    }

    /// Where answers are compared with those of the shadow.
    pub(crate) fn shadow(&self) -> &Shadow {
        &self.shadow
    }

    /// The version that serves, loaded or not.
    pub(crate) fn version(&self) -> String {
        self.current_now().version.clone()
    }

    /// What serves, if it is loaded: of the default model, always. Waits for nothing but the exchange of a pointer.
    pub(crate) fn serving(&self) -> Option<Arc<Serving>> {
        self.current_now().serving.clone()
    }

    /// Why another version serves than the one that should, if so.
    pub(crate) fn stand_in(&self) -> Option<StandIn> {
        self.current_now().stand_in.clone()
    }

    /// Which versions answer.
    pub(crate) fn labels(&self) -> VersionLabels {
        let Current { version, canary, shadow, .. } = &*self.current_now();
        VersionLabels { stable: Some(version.clone()), canary: canary.clone(), shadow: shadow.clone() }
    }

    /// The shadow, if there is one; costs nothing where there is none.
    pub(crate) fn shadow_version(&self) -> Option<String> {
        self.current_now().shadow.clone()
    }

    fn current_now(&self) -> std::sync::RwLockReadGuard<'_, Current> {
        self.current.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self) -> std::sync::RwLockWriteGuard<'_, Current> {
        self.current.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The versions on the disk.
    pub(crate) fn versions(&self) -> Result<&Arc<Versions>, Problem> {
        self.versions.as_ref().ok_or_else(Problem::no_data_folder)
    }

    /// A version that is in memory already.
    pub(crate) fn in_memory(&self, version: &str) -> Option<Arc<Serving>> {
        if let Some(serving) = self.serving().filter(|serving| serving.info.version == version) {
            return Some(self.used(serving));
        }
        let mut extra = self.extra();
        let at = extra.iter().position(|own| own.info.version == version)?;
        let found = extra.remove(at);
        extra.push(found.clone());
        Some(self.used(found))
    }

    /// All versions in memory, the serving one first.
    pub(crate) fn all_in_memory(&self) -> Vec<Arc<Serving>> {
        let mut all: Vec<_> = self.serving().into_iter().collect();
        all.extend(self.extra().iter().rev().cloned());
        all
    }

    /// Notes a use of a version.
    fn used(&self, serving: Arc<Serving>) -> Arc<Serving> {
        serving.used.store(self.resources.budget.tick(), Ordering::Relaxed);
        serving
    }

    /// What answers a request that names no version: its share of them goes to the canary. Loads what is not loaded.
    pub(crate) async fn answering(self: &Arc<Self>) -> Result<Arc<Serving>, Problem> {
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        let (serving, canary) = {
            let Current { serving, canary, .. } = &*self.current_now();
            (serving.clone(), canary.as_ref().filter(|canary| is_for_canary(asked, canary.share)).cloned())
        };
        if let Some(Canary { version, .. }) = canary {
            match self.get(&version).await {
                Ok(found) => return Ok(found),
                // Whoever asks wants an answer, and what serves has one.
                Err(error) => {
                    tracing::error!(model = self.name(), %version, "the canary cannot answer: {error}")
                }
            }
        }
        match serving {
            Some(serving) => Ok(self.used(serving)),
            None => self.wake().await,
        }
    }

    /// Loads what serves, once for all who ask for it meanwhile.
    async fn wake(self: &Arc<Self>) -> Result<Arc<Serving>, Problem> {
        let model = self.clone();
        self.loads.run(CURRENT, move || model.load_current()).await
    }

    /// What serves, loaded where it is not. Takes the time of a load: not for a thread that serves connections.
    pub(crate) fn load_current(self: &Arc<Self>) -> Result<Arc<Serving>, Problem> {
        let _promotion = self.promotion();
        if let Some(serving) = self.serving() {
            return Ok(self.used(serving));
        }
        let (model, versions) = (self.clone(), self.versions()?.clone());
        let load = move || first::choose(&versions, None, |file| model.start(file, Need::Evicting));
        let First { serving, stand_in } = self
            .resources
            .loader
            .run(load)
            .unwrap_or_else(|| Err(ServerError::LoadPanicked))
            .map_err(|error| self.problem(error))?;
        let serving = Arc::new(serving);
        self.used(serving.clone());
        let mut current = self.change();
        *current = Current {
            version: serving.info.version.clone(),
            serving: Some(serving.clone()),
            stand_in,
            canary: current.canary.take(),
            shadow: current.shadow.take(),
        };
        drop(current);
        self.resources.metrics.loaded(self.name());
        Ok(serving)
    }

    /// A version by its name or by its label, loaded once for all who ask for it meanwhile where it is not in memory.
    pub(crate) async fn get(self: &Arc<Self>, version: &str) -> Result<Arc<Serving>, Problem> {
        let labels = self.labels();
        let version = match version {
            "stable" => labels.stable,
            "canary" => {
                Some(labels.canary.map(|canary| canary.version).ok_or_else(|| self.no_label("canary"))?)
            }
            "shadow" => Some(labels.shadow.ok_or_else(|| self.no_label("shadow"))?),
            version => Some(version.to_owned()),
        };
        let version = version.expect("a version always serves");
        if let Some(found) = self.in_memory(&version) {
            return Ok(found);
        }
        let (model, name) = (self.clone(), version.clone());
        self.loads.run(&version, move || model.load(&name, Need::Evicting)).await
    }

    fn no_label(&self, label: &str) -> Problem {
        Problem::NotFound(format!("no version of model \"{}\" is the {label}", self.name))
    }

    /// As [`Model::get`], alone. Takes the time of a load: not for a thread that serves connections.
    pub(crate) fn load(self: &Arc<Self>, version: &str, need: Need) -> Result<Arc<Serving>, Problem> {
        if let Some(found) = self.in_memory(version) {
            return Ok(found);
        }
        if self.version() == version && self.versions.is_some() {
            return self.load_current();
        }
        let loaded = Arc::new(self.read(version, need)?);
        self.keep(loaded.clone());
        // Whoever deletes it looks into memory after that: it goes, whichever of the two was first.
        if let Err(gone @ StoreError::NotFound { .. }) = self.versions()?.get(version) {
            self.forget(version);
            return Err(gone.into());
        }
        Ok(loaded)
    }

    /// Keeps a version that is loaded, in place of the one that was used least recently.
    fn keep(&self, loaded: Arc<Serving>) {
        self.used(loaded.clone());
        let VersionLabels { canary, shadow, .. } = self.labels();
        let labelled = [canary.map(|canary| canary.version), shadow];
        let has_label = |own: &Serving| labelled.iter().flatten().any(|version| *version == own.info.version);
        let mut extra = self.extra();
        extra.retain(|own| own.info.version != loaded.info.version);
        extra.push(loaded);
        // Those with a label are asked all the time.
        let others = extra.iter().filter(|own| !has_label(own)).count();
        let mut surplus = others.saturating_sub(self.config.extra_versions);
        extra.retain(|own| {
            let goes = surplus > 0 && !has_label(own);
            surplus -= usize::from(goes);
            !goes
        });
    }

    fn forget(&self, version: &str) {
        self.extra().retain(|own| own.info.version != version);
    }

    /// Lets all its versions go.
    ///
    /// # Errors
    /// [`Problem::Unsupported`] for the default model.
    pub(crate) fn unload_all(&self) -> Result<(), Problem> {
        if self.is_default {
            return Err(Problem::Unsupported(
                "this is the default model of the service, which is always loaded",
            ));
        }
        for serving in self.all_in_memory() {
            self.unload(&serving.info.version);
        }
        Ok(())
    }

    /// Makes a version the one that serves. Takes the time of a load.
    pub(crate) fn promote(self: &Arc<Self>, version: &str, by: &Actor) -> Result<Promotion, Problem> {
        let _promotion = self.promotion();
        self.take_over(version, by)
    }

    /// As [`Model::promote`], if `over` serves, or already the version itself; none where another one does.
    pub(crate) fn promote_over(
        self: &Arc<Self>,
        version: &str,
        over: &str,
        by: &Actor,
    ) -> Result<Option<Promotion>, Problem> {
        let _promotion = self.promotion();
        let serving = self.version();
        if serving != over && serving != version {
            return Ok(None);
        }
        self.take_over(version, by).map(Some)
    }

    /// Makes a version the one that serves; the caller has the turn.
    fn take_over(self: &Arc<Self>, version: &str, by: &Actor) -> Result<Promotion, Problem> {
        // A version in memory may have lost its file, and the next start would not find it.
        self.versions()?.load(version).map_err(|error| cannot_serve(version, error))?;
        let next = self.ready(version)?;
        self.versions()?.promote(version, by)?;
        Ok(self.exchange(next))
    }

    /// Serves the version that served before; where `from` is given, only if that serves now. If it was gone back from
    /// already, and what was gone back to serves, nothing is left to do. Takes the time of a load.
    pub(crate) fn roll_back(self: &Arc<Self>, from: Option<&str>, by: &Actor) -> Result<Promotion, Problem> {
        let _promotion = self.promotion();
        let versions = self.versions()?;
        let history = versions.history()?;
        let now = history.first().cloned().unwrap_or_else(|| self.version());
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
    pub(crate) fn reload(self: &Arc<Self>) -> Result<Promotion, Problem> {
        let _promotion = self.promotion();
        let version = match self.versions()?.current()? {
            Some(version) => version,
            None => self.version(),
        };
        let next = self.ready(&version)?;
        self.read_labels().map_err(|error| self.problem(error))?;
        Ok(self.exchange(next))
    }

    /// Takes a model that somebody brings: verified and warmed before it becomes a version. The first version of a model
    /// serves. Takes the time of a load.
    pub(crate) fn add(self: &Arc<Self>, file: ModelFile, by: &Actor) -> Result<VersionRecord, Problem> {
        let _promotion = self.promotion();
        let versions = self.versions()?;
        let file = ModelFile { training: None, ..file };
        let (model, tried) = (self.clone(), file.clone());
        let start = move || model.start(tried, Need::Evicting);
        let loaded = self.resources.loader.run(start).unwrap_or_else(|| Err(ServerError::LoadPanicked));
        let loaded = Arc::new(loaded.map_err(|error| self.problem(error))?);
        let record = versions.add(&file, &NewVersion::default())?;
        tracing::info!(model = self.name(), version = %record.version, by = %by.key, "added");
        if self.version() == record.version {
            // It serves already; if it was damaged, it is whole again.
            self.exchange(loaded);
        } else {
            self.keep(loaded);
        }
        self.resources.changed();
        Ok(record)
    }

    /// Makes a version the canary, or none.
    pub(crate) fn set_canary(&self, canary: Option<Canary>, by: &Actor) -> Result<(), Problem> {
        let _promotion = self.promotion();
        self.versions()?.set_canary(canary.as_ref(), by)?;
        self.change().canary = canary;
        self.resources.changed();
        Ok(())
    }

    /// Makes a version the shadow, or none. What was counted of another one is forgotten.
    pub(crate) fn set_shadow(&self, version: Option<&str>, by: &Actor) -> Result<(), Problem> {
        let _promotion = self.promotion();
        self.versions()?.set_shadow(version, by)?;
        self.change().shadow = version.map(str::to_owned);
        self.shadow.start(version);
        self.resources.changed();
        Ok(())
    }

    /// Takes the labels that were written down.
    fn read_labels(&self) -> Result<(), ServerError> {
        let Some(versions) = &self.versions else { return Ok(()) };
        let VersionLabels { canary, shadow, .. } = versions.labels()?;
        self.shadow.start(shadow.as_deref());
        let mut current = self.change();
        (current.canary, current.shadow) = (canary, shadow);
        Ok(())
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
        if self.version() == version {
            return Err(Problem::Conflict(format!("version {version} serves: promote another one first")));
        }
        if let Some(job) = needs(version) {
            let version = shown(version);
            return Err(Problem::Conflict(format!(
                "version {version} is needed for job {job}; wait for its end or cancel it first"
            )));
        }
        self.versions()?.delete(version, by)?;
        self.forget(version);
        self.resources.changed();
        Ok(())
    }

    /// Deletes the oldest versions beyond those that are kept, but none that is in use.
    pub(crate) fn prune(&self, needed: &[String]) -> Result<(), Problem> {
        let _promotion = self.promotion();
        let mut needed = needed.to_vec();
        needed.push(self.version());
        for version in self.versions()?.prune(self.config.keep_versions, &needed)? {
            self.forget(&version);
            tracing::info!(model = self.name(), %version, "deleted: keep_versions");
        }
        Ok(())
    }

    /// What is known of a version.
    pub(crate) fn record(&self, version: &str) -> Result<VersionRecord, Problem> {
        Ok(self.versions()?.get(version)?)
    }

    fn ready(self: &Arc<Self>, version: &str) -> Result<Arc<Serving>, Problem> {
        match self.in_memory(version) {
            Some(found) => Ok(found),
            None => self.read(version, self.need()).map(Arc::new),
        }
    }

    /// How much what serves needs its memory.
    fn need(&self) -> Need {
        if self.is_default { Need::Always } else { Need::Evicting }
    }

    /// Reads the file of a version when it is called, which takes the time of reading and of a hash.
    pub(crate) fn reader(&self, version: &str) -> Box<dyn FnOnce() -> Result<ModelFile, Problem> + Send> {
        let (versions, version) = (self.versions.clone(), version.to_owned());
        Box::new(move || {
            let versions = versions.ok_or_else(Problem::no_data_folder)?;
            versions.load(&version).map_err(|error| cannot_serve(&version, error))
        })
    }

    /// Loads a version on the thread that loads.
    fn read(self: &Arc<Self>, version: &str, need: Need) -> Result<Serving, Problem> {
        let versions = self.versions()?.clone();
        let (model, version) = (self.clone(), version.to_owned());
        let load = move || {
            let file = versions.load(&version).map_err(|error| match versions.get(&version) {
                // Its file went after its row was read: it was deleted, and is not damaged.
                Err(gone @ StoreError::NotFound { .. }) => gone.into(),
                _ => cannot_serve(&version, error),
            })?;
            model.start(file, need).map_err(|error| match error {
                ServerError::WarmUp(source) => {
                    let reason = chain(&source);
                    if let Err(error) = versions.set_damaged(&version, Some(&reason)) {
                        tracing::warn!(%version, "the damage cannot be recorded: {}", chain(&error));
                    }
                    Problem::Conflict(format!("version {version} cannot serve: {reason}"))
                }
                error => model.problem(error),
            })
        };
        let loaded = self.resources.loader.run(load);
        loaded
            .unwrap_or_else(|| Err(self.problem(ServerError::LoadPanicked)))
            .inspect(|_| self.resources.metrics.loaded(self.name()))
    }

    /// Loads a model that is in memory, once there is room for it.
    pub(crate) fn start(&self, file: ModelFile, need: Need) -> Result<Serving, ServerError> {
        let Resources { compute, budget, metrics, .. } = &*self.resources;
        start_in(file, (self.name(), *compute), (&self.config, metrics), (budget, need))
    }

    fn exchange(&self, next: Arc<Serving>) -> Promotion {
        let version = next.info.version.clone();
        self.forget(&version);
        // It serves again: going back from it is something new.
        self.undone().retain(|step| step.before != version);
        self.used(next.clone());
        let mut current = self.change();
        // What serves answers all requests: it is no canary of itself.
        let canary = current.canary.take().filter(|canary| canary.version != version);
        let shadow = current.shadow.take().filter(|shadow| *shadow != version);
        let shadow_ended = shadow.is_none();
        let next = Current { version: version.clone(), serving: Some(next), stand_in: None, canary, shadow };
        let Current { version: before, serving, .. } = std::mem::replace(&mut *current, next);
        drop(current);
        drop(serving);
        if shadow_ended {
            self.shadow.start(None);
        }
        self.resources.metrics.swapped();
        self.resources.changed();
        tracing::info!(model = self.name(), %version, %before, "serving");
        Promotion { version, before }
    }

    fn problem(&self, error: ServerError) -> Problem {
        Problem::of_load(self.name(), error)
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

impl Unload for Model {
    fn name(&self) -> &str {
        self.name()
    }

    fn oldest(&self) -> Option<(u64, String)> {
        let serving = self.serving().filter(|_| !self.is_default && self.versions.is_some());
        let all = self.extra().iter().cloned().chain(serving).collect::<Vec<_>>();
        let ages = all.iter().map(|own| (own.used.load(Ordering::Relaxed), own.info.version.clone()));
        ages.min()
    }

    fn unload(&self, version: &str) -> bool {
        let mut gone: Vec<Arc<Serving>> = Vec::new();
        self.extra().retain(|own| {
            let stays = own.info.version != version;
            if !stays {
                gone.push(own.clone());
            }
            stays
        });
        if !self.is_default && self.versions.is_some() {
            let mut current = self.change();
            if current.serving.as_ref().is_some_and(|serving| serving.info.version == version) {
                gone.extend(current.serving.take());
            }
        }
        gone.iter()
            .filter_map(|serving| serving.lease)
            .for_each(|lease| self.resources.budget.is_leaving(lease));
        !gone.is_empty()
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

/// Whether the request of this number goes to a canary: so many of each hundred, spread evenly.
fn is_for_canary(number: u64, share: u8) -> bool {
    let share = u64::from(share);
    (number % 100 * share) % 100 < share
}

/// Loads a model that is in memory, once there is room for it, and warms it.
pub(crate) fn start_in(
    file: ModelFile,
    (name, compute): (&str, Compute),
    (config, metrics): (&Config, &Metrics),
    (budget, need): (&Arc<Budget>, Need),
) -> Result<Serving, ServerError> {
    let needed = Predictor::memory_needed(&file, compute, config.max_batch).map_err(ServerError::WarmUp)?;
    // The file is in memory until the network has its own copy of the parameters.
    let of_file = (file.model.layout().total() * size_of::<f32>()) as u64;
    let full = |no_room| ServerError::NoRoom {
        model: name.to_owned(),
        needed,
        limit: budget.load().1,
        later: no_room == NoRoom::Now,
    };
    let lease = budget.take(needed + of_file, need).map_err(full)?;
    let predictor = Predictor::with_batch(file, compute, config.max_batch).map_err(ServerError::WarmUp)?;
    lease.resize(predictor.memory());
    Serving::start(predictor, Some(lease), name, config, metrics)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_canary_gets_its_share_of_each_hundred_requests() {
        for share in 1..=99 {
            let of_hundred = (300..400).filter(|&number| is_for_canary(number, share)).count();
            assert_eq!(of_hundred, usize::from(share));
            // Spread over them, and not all at once.
            let of_half = (300..350).filter(|&number| is_for_canary(number, share)).count();
            assert!((2 * of_half).abs_diff(usize::from(share)) <= 2, "{share}: {of_half}");
        }
    }
}
