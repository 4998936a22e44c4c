//! All models of a service, by name.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use ocelli_common::text::chain;
use ocelli_pipeline::store::{Actor, Name, NewVersion, Store, VersionLabels, VersionRecord};
use ocelli_pipeline::{ModelFile, Pool};
use tokio::sync::watch;

use crate::config::Config;
use crate::error::ServerError;
use crate::http::problem::Problem;
use crate::http::text::shown;
use crate::models::budget::{Budget, Need};
use crate::models::first::First;
use crate::models::model::{Model, start_in};
use crate::models::resources::Resources;
use crate::models::serving::Serving;

/// Models that a service may have.
const MAX_MODELS: usize = 10_000;

/// See the module.
pub(crate) struct Catalog {
    default: Arc<Model>,
    /// Also the default one.
    models: RwLock<BTreeMap<Name, Arc<Model>>>,
    /// Held while a model is added.
    adding: Mutex<()>,
    store: Option<Arc<Store>>,
    resources: Arc<Resources>,
    config: Arc<Config>,
}

impl Catalog {
    /// A service of one model that keeps nothing.
    pub(crate) fn only(
        serving: Serving,
        config: &Arc<Config>,
        resources: Arc<Resources>,
    ) -> Result<Catalog, ServerError> {
        let default = Model::loaded(First::only(serving), None, (true, config), &resources)?;
        Ok(Catalog::new(default, None, config.clone(), resources))
    }

    /// A default model and all others of a data folder, which are loaded when they are asked.
    pub(crate) fn open(
        default: Arc<Model>,
        store: Arc<Store>,
        config: &Arc<Config>,
        resources: Arc<Resources>,
    ) -> Result<Catalog, ServerError> {
        let catalog = Catalog::new(default, Some(store.clone()), config.clone(), resources);
        for name in store.models()? {
            if name.as_str() == catalog.default.name() {
                continue;
            }
            // A model that cannot be opened is no reason not to serve the others.
            let opened = store.versions(&name).map_err(ServerError::from);
            match opened.and_then(|versions| Model::unloaded(&name, versions, config, &catalog.resources)) {
                Ok(Some(model)) => catalog.insert(model),
                Ok(None) => tracing::warn!(model = %name, "left out: it has no version"),
                Err(error) => tracing::error!(model = %name, "left out: {}", chain(&error)),
            }
        }
        Ok(catalog)
    }

    fn new(
        default: Arc<Model>,
        store: Option<Arc<Store>>,
        config: Arc<Config>,
        resources: Arc<Resources>,
    ) -> Catalog {
        let models = RwLock::default();
        let catalog = Catalog { default, models, adding: Mutex::new(()), store, resources, config };
        catalog.insert(catalog.default.clone());
        catalog
    }

    fn insert(&self, model: Arc<Model>) {
        let name = Name::nearest(model.name());
        self.models.write().unwrap_or_else(PoisonError::into_inner).insert(name, model);
    }

    /// The model that is asked where a request names none.
    pub(crate) fn default(&self) -> &Arc<Model> {
        &self.default
    }

    /// What serves of the default model. Waits for nothing but the exchange of a pointer.
    pub(crate) fn serving(&self) -> Arc<Serving> {
        self.default.serving().expect("the default model is never unloaded")
    }

    /// The model that a request names, or the default one.
    pub(crate) fn asked(&self, name: Option<&str>) -> Result<Arc<Model>, Problem> {
        match name {
            None => Ok(self.default.clone()),
            Some(name) => self.find(name).ok_or_else(|| self.unknown(name)),
        }
    }

    /// A model by its name.
    pub(crate) fn find(&self, name: &str) -> Option<Arc<Model>> {
        if name == self.default.name() {
            return Some(self.default.clone());
        }
        let models = self.models.read().unwrap_or_else(PoisonError::into_inner);
        models.get(name).cloned()
    }

    fn unknown(&self, name: &str) -> Problem {
        let name = shown(name);
        let all = self.all();
        let known: Vec<&str> = all.iter().take(5).map(|model| model.name()).collect();
        let more = if all.len() > known.len() { ", ..." } else { "" };
        let known = known.join(", ");
        Problem::NotFound(format!("there is no model \"{name}\"; this service has {known}{more}"))
    }

    /// All models by name.
    pub(crate) fn all(&self) -> Vec<Arc<Model>> {
        self.models.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// The threads on which all versions compute, and images are decoded.
    pub(crate) fn pool(&self) -> &Pool {
        &self.resources.pool
    }

    /// The memory for models.
    pub(crate) fn budget(&self) -> &Arc<Budget> {
        &self.resources.budget
    }

    /// Becomes ready with every change of models, versions and labels.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.resources.changes()
    }

    /// Takes a model that somebody brings: verified and warmed before anything of it is kept. The first version of a model
    /// serves, a later one waits to be promoted. Takes the time of a load.
    pub(crate) fn add(&self, name: &Name, file: ModelFile, by: &Actor) -> Result<VersionRecord, Problem> {
        // One model at a time: two of one new name are two versions of it.
        let _adding = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(model) = self.find(name.as_str()) {
            return model.add(file, by);
        }
        let store = self.store.as_ref().ok_or_else(Problem::no_data_folder)?;
        if self.all().len() >= MAX_MODELS {
            return Err(Problem::Refused(format!("a service has at most {MAX_MODELS} models")));
        }
        let file = ModelFile { training: None, ..file };
        let of_model = Arc::new(self.config.of_model(name.as_str()));
        let (resources, tried, own) = (self.resources.clone(), file.clone(), name.clone());
        let start = move || {
            let Resources { compute, metrics, budget, .. } = &*resources;
            start_in(tried, (own.as_str(), *compute), (&of_model, metrics), (budget, Need::Evicting))
        };
        let started = self.resources.loader.run(start).unwrap_or(Err(ServerError::LoadPanicked));
        let serving = started.map_err(|error| Problem::of_load(name.as_str(), error))?;
        let versions = store.versions(name)?;
        let record = versions.add(&file, &NewVersion::default())?;
        versions.promote(&record.version, by)?;
        let model =
            Model::loaded(First::only(serving), Some(versions), (false, &self.config), &self.resources);
        self.insert(model.map_err(|error| Problem::of_load(name.as_str(), error))?);
        tracing::info!(model = %name, version = %record.version, by = %by.key, "a new model");
        self.resources.changed();
        Ok(record)
    }

    /// Lets these versions of a model answer, as far as they do not yet. Takes the time of a load.
    pub(crate) fn set_labels(&self, name: &Name, labels: &VersionLabels, by: &Actor) -> Result<(), Problem> {
        let model = self.asked(Some(name.as_str()))?;
        let now = model.labels();
        if let Some(stable) = &labels.stable
            && now.stable.as_ref() != Some(stable)
        {
            model.promote(stable, by)?;
        }
        let now = model.labels();
        if now.canary != labels.canary {
            model.set_canary(labels.canary.clone(), by)?;
        }
        if now.shadow != labels.shadow {
            model.set_shadow(labels.shadow.as_deref(), by)?;
        }
        Ok(())
    }

    /// The file of a version.
    pub(crate) fn file(&self, name: &Name, version: &str) -> Result<PathBuf, Problem> {
        Ok(self.asked(Some(name.as_str()))?.versions()?.file(version)?)
    }
}
