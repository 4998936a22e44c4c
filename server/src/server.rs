//! The service without its sockets: its parts, put together.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use ocelli_common::text::chain;
use ocelli_pipeline::store::{Name, Store};
use ocelli_pipeline::{Compute, ModelFile, Predictor};
use tokio::sync::Semaphore;

use crate::access::{Access, CurrentAccess};
use crate::backend::{Backend, Data};
use crate::config::Config;
use crate::error::ServerError;
use crate::jobs::{Jobs, Worker};
use crate::lifecycle::Lifecycle;
use crate::metrics::Metrics;
use crate::models::budget::Need;
use crate::models::catalog::Catalog;
use crate::models::classifier::Classifier;
use crate::models::explaining::Explaining;
use crate::models::first;
use crate::models::folder::Folder;
use crate::models::model::{Model, start_in};
use crate::models::resources::Resources;
use crate::models::serving::Serving;
use crate::net::awake::Awake;
use crate::net::connections::Connections;
use crate::net::refuse::Refusals;
use crate::openapi;
use crate::routes;
use crate::shared_store::{Shared, Sharing};
use crate::ticket::Requests;
use crate::uploads::Uploads;

/// A model and all that is known to the service; [`run`](crate::run()) connects it to a socket.
pub struct Server {
    pub(crate) backend: Backend,
    pub(crate) access: CurrentAccess,
    pub(crate) refusals: Arc<Refusals>,
    pub(crate) awake: Arc<Awake>,
}

impl Server {
    /// Takes a model and warms it up. Without a data folder it is served as it is: nothing can be uploaded or trained.
    ///
    /// # Errors
    /// A setting out of range, a model that fails on a blank image, or no thread.
    pub fn new(predictor: Predictor, config: Config, access: Access) -> Result<Server, ServerError> {
        config.validate()?;
        let config = Arc::new(config);
        let exec = predictor.exec();
        let compute = Compute { threads: exec.threads(), exact: exec.exact, precision: exec.precision };
        let name = Name::nearest(&predictor.meta().name);
        let metrics = Metrics::default();
        let resources = Resources::new(compute, &config, metrics.clone())?;
        let serving = Serving::start(predictor, None, name.as_str(), &config, &metrics)?;
        let models = Catalog::only(serving, &config, resources)?;
        Server::assemble(models, None, config, access, metrics)
    }

    /// Serves all models of a data folder, by default that of this name, and goes on with the jobs that were under way. A file
    /// that is given becomes one of its versions, and serves where none does yet. `worker` trains.
    ///
    /// # Errors
    /// Those of [`Server::new`], and [`ServerError::Store`].
    pub fn with_data(
        store: Store,
        model: (&Name, Option<ModelFile>),
        compute: Compute,
        config: Config,
        access: Access,
        worker: Worker,
    ) -> Result<Server, ServerError> {
        config.validate()?;
        let config = Arc::new(config);
        let (name, seed) = model;
        for note in store.notes() {
            tracing::warn!("{note}");
        }
        store.set_max_bytes(config.max_data_bytes);
        let versions = store.versions(name)?;
        let metrics = Metrics::default();
        let resources = Resources::new(compute, &config, metrics.clone())?;
        let added = seed.map(|seed| first::add_seed(&versions, seed)).transpose()?;
        let of_model = config.of_model(name.as_str());
        let start = |file| {
            let (owner, limits) = ((name.as_str(), compute), (&of_model, &metrics));
            start_in(file, owner, limits, (&resources.budget, Need::Always))
        };
        let first = first::choose(&versions, added, start)?;
        if let Some(stand_in) = &first.stand_in {
            let (serving, wanted) = (&first.serving.info.version, &stand_in.wanted);
            tracing::error!(%serving, %wanted, "another version serves than the one that should: {}", stand_in.reason);
        }
        if let Err(error) = store.copy_database() {
            tracing::warn!("the database cannot be copied: {}", chain(&error));
        }
        let store = Arc::new(store);
        let default = Model::loaded(first, Some(versions), (true, &config), &resources)?;
        let models = Catalog::open(default, store.clone(), &config, resources)?;
        Server::assemble(models, Some((store, worker)), config, access, metrics)
    }

    /// Puts the parts together.
    pub(crate) fn assemble(
        models: Catalog,
        store: Option<(Arc<Store>, Worker)>,
        config: Arc<Config>,
        access: Access,
        metrics: Metrics,
    ) -> Result<Server, ServerError> {
        let models = Arc::new(models);
        let data = match store {
            Some((store, worker)) => {
                let jobs = Jobs::open(store.clone(), models.clone(), &config, worker)?;
                Some(Data { store, jobs: Arc::new(jobs), uploads: Uploads::new(config.uploads) })
            }
            None => None,
        };
        let for_openapi = config.clone();
        let backend = Backend {
            classifier: Arc::new(Classifier::new(&config, models.pool().clone())),
            explaining: Explaining::start().map_err(ServerError::Thread)?,
            models,
            folder: None,
            shared: None,
            data,
            body_memory: Arc::new(Semaphore::new(config.body_memory)),
            requests: Requests::new(metrics.clone()),
            connections: Connections::new(&config),
            lifecycle: Lifecycle::begin(),
            openapi: LazyLock::new(Box::new(move || openapi::text(routes::all(), &for_openapi))),
            metrics: metrics.clone(),
            config,
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let (access, awake) = (CurrentAccess::new(access), Arc::new(Awake::new(cores)));
        Ok(Server { backend, access, refusals: Refusals::new(metrics), awake })
    }

    /// Takes the model files of a folder, now and whenever one comes.
    ///
    /// # Errors
    /// [`ServerError::ModelsFolder`] for one that cannot be read.
    pub fn watch_folder(&mut self, dir: &Path) -> Result<(), ServerError> {
        let backend = &mut self.backend;
        let folder = Folder::new(dir.to_owned(), backend.config.max_model_bytes);
        let failed = |source| ServerError::ModelsFolder { path: dir.to_owned(), source };
        folder.look(&backend.models).map_err(failed)?;
        backend.folder = Some(Arc::new(folder));
        Ok(())
    }

    /// Publishes to a shared store, or follows it; `data_dir` is the folder that this was opened with.
    ///
    /// # Errors
    /// [`ServerError::SharedStore`] for an address that this program cannot open.
    pub fn share(&mut self, sharing: &Sharing, data_dir: &Path) -> Result<(), ServerError> {
        let backend = &mut self.backend;
        let shared = Shared::new(sharing, backend.models.clone(), &backend.config, data_dir)?;
        backend.shared = Some(Arc::new(shared));
        Ok(())
    }

    /// How many models it has.
    pub fn models(&self) -> usize {
        self.backend.models.all().len()
    }

    /// The version that serves.
    pub fn version(&self) -> String {
        self.backend.models.serving().info.version.clone()
    }

    /// How many classes it knows.
    pub fn classes(&self) -> usize {
        self.backend.models.serving().info.classes.len()
    }

    /// Takes this access for the requests and connections from now on, and serves what the data folder says now; gives
    /// the version. Takes the time of a load.
    ///
    /// # Errors
    /// A text for people that says what stays as it was: both, where the last key would go, and the version alone, where
    /// the other one cannot be served.
    pub fn reload(&self, access: Access) -> Result<String, String> {
        self.access.replace(access).map_err(|_| {
            "keys and certificate stay as they were: the new ones hold no key, which would open the service to everybody"
        })?;
        if self.backend.data.is_none() {
            return Ok(self.version());
        }
        let reloaded = self.backend.models.default().reload().map(|promotion| promotion.version);
        reloaded.map_err(|problem| {
            format!("keys and certificate are the new ones, the old version goes on: {problem}")
        })
    }
}
