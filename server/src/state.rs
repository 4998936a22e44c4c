//! What all connections share.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Instant;

use bytes::Bytes;
use ocelli_pipeline::store::{Name, Store};
use ocelli_pipeline::{Compute, ModelFile, Predictor};
use tokio::sync::{Semaphore, watch};

use crate::access::Access;
use crate::classifier::Classifier;
use crate::config::Config;
use crate::error::ServerError;
use crate::jobs::{Jobs, Worker};
use crate::metrics::Metrics;
use crate::models::{self, Models};
use crate::problem::Problem;
use crate::refuse::Refusals;
use crate::serving::Serving;
use crate::uploads::Uploads;

/// The service without its sockets: model, limits, counters. Shared by every connection.
pub struct State {
    pub(crate) config: Config,
    pub(crate) models: Arc<Models>,
    pub(crate) classifier: Classifier,
    /// What is on the disk; a service without answers and keeps nothing.
    pub(crate) data: Option<Data>,
    /// One permit per byte of request bodies in memory.
    pub(crate) body_memory: Arc<Semaphore>,
    /// One permit per connection.
    pub(crate) connections: Arc<Semaphore>,
    /// Connections of each address that is not loopback.
    pub(crate) addresses: Mutex<HashMap<IpAddr, usize>>,
    pub(crate) refusals: Refusals,
    pub(crate) requests: Requests,
    pub(crate) metrics: Metrics,
    pub(crate) started: Instant,
    /// `/openapi.json`, written when it is first asked for.
    pub(crate) openapi: OnceLock<Bytes>,
    access: RwLock<Arc<Access>>,
    ready: AtomicBool,
    /// Told when answers that never end by themselves must.
    pub(crate) stopping: watch::Sender<bool>,
}

/// The data folder and what works in it.
pub(crate) struct Data {
    pub(crate) store: Arc<Store>,
    pub(crate) jobs: Jobs,
    pub(crate) uploads: Arc<Uploads>,
}

/// Requests since the start. Those that are running or were given up by their client are in `total` only.
#[derive(Default)]
pub(crate) struct Requests {
    pub(crate) total: AtomicU64,
    pub(crate) ok: AtomicU64,
    pub(crate) error: AtomicU64,
}

impl State {
    /// Takes a model and warms it up. Without a data folder it is served as it is: nothing can be uploaded or trained.
    ///
    /// # Errors
    /// A setting out of range, a model that fails on a blank image, or no thread.
    pub fn new(predictor: Predictor, config: Config, access: Access) -> Result<State, ServerError> {
        config.validate()?;
        let compute = Compute { threads: predictor.exec().threads(), exact: predictor.exec().exact };
        let name = Name::nearest(&predictor.meta().name);
        let metrics = Metrics::default();
        let serving = Serving::start(predictor, name.as_str(), &config, &metrics)?;
        let models = Models::new(serving, (None, None), compute, config.clone(), metrics.clone())?;
        State::assemble(models, None, config, access, metrics)
    }

    /// Serves what a data folder says for a model of this name, and goes on with the jobs that were under way. A file that
    /// is given becomes one of its versions, and serves where none does yet. `worker` trains.
    ///
    /// # Errors
    /// Those of [`State::new`], and [`ServerError::Store`].
    pub fn with_data(
        store: Store,
        model: (&Name, Option<ModelFile>),
        compute: Compute,
        config: Config,
        access: Access,
        worker: Worker,
    ) -> Result<State, ServerError> {
        config.validate()?;
        let (name, seed) = model;
        for note in store.notes() {
            tracing::warn!("{note}");
        }
        store.set_max_bytes(config.max_data_bytes);
        let versions = store.versions(name)?;
        let metrics = Metrics::default();
        let start = |file| Serving::load(file, name.as_str(), compute, &config, &metrics);
        let (serving, stand_in) = models::first(&versions, seed, start)?;
        if let Some(stand_in) = &stand_in {
            let (serving, wanted) = (&serving.info.version, &stand_in.wanted);
            tracing::error!(%serving, %wanted, "another version serves than the one that is to: {}", stand_in.reason);
        }
        if let Err(error) = store.copy_database() {
            tracing::warn!("the database cannot be copied: {error}");
        }
        let models =
            Models::new(serving, (Some(versions), stand_in), compute, config.clone(), metrics.clone())?;
        State::assemble(models, Some((Arc::new(store), worker)), config, access, metrics)
    }

    /// Puts the parts together.
    pub(crate) fn assemble(
        models: Models,
        store: Option<(Arc<Store>, Worker)>,
        config: Config,
        access: Access,
        metrics: Metrics,
    ) -> Result<State, ServerError> {
        let models = Arc::new(models);
        let data = match store {
            Some((store, worker)) => {
                let jobs = Jobs::open(store.clone(), models.clone(), &config, worker)?;
                Some(Data { store, jobs, uploads: Uploads::new(config.uploads) })
            }
            None => None,
        };
        Ok(State {
            classifier: Classifier::new(&config),
            models,
            data,
            body_memory: Arc::new(Semaphore::new(config.body_memory)),
            connections: Arc::new(Semaphore::new(config.max_connections)),
            addresses: Mutex::new(HashMap::new()),
            refusals: Refusals::default(),
            requests: Requests::default(),
            metrics,
            started: Instant::now(),
            openapi: OnceLock::new(),
            access: RwLock::new(Arc::new(access)),
            ready: AtomicBool::new(true),
            stopping: watch::channel(false).0,
            config,
        })
    }

    /// The version that serves.
    pub fn version(&self) -> String {
        self.models.serving().info.version.clone()
    }

    /// How many classes it knows.
    pub fn classes(&self) -> usize {
        self.models.serving().info.classes.len()
    }

    /// Takes this access for the requests and connections from now on, and serves what the data folder says now; gives
    /// the version. Takes the time of a load.
    ///
    /// # Errors
    /// A text for people that says what stays as it was: both, where the last key would go, and the version alone, where
    /// the other one cannot be served.
    pub fn reload(&self, access: Access) -> Result<String, String> {
        let mut own = self.access.write().unwrap_or_else(PoisonError::into_inner);
        if access.keys.is_empty() && !own.keys.is_empty() {
            return Err("keys and certificate stay as they were: the new ones hold no key, which would open the service to everybody".to_owned());
        }
        *own = Arc::new(access);
        drop(own);
        if self.data.is_none() {
            return Ok(self.version());
        }
        let reloaded = self.models.reload().map(|promotion| promotion.version);
        reloaded.map_err(|problem| {
            format!("keys and certificate are the new ones, the old version goes on: {problem}")
        })
    }

    /// Who may come in at this moment. What comes later is not changed in what is given: whoever decides several things
    /// for a request decides them by the same one.
    pub(crate) fn access(&self) -> Arc<Access> {
        self.access.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The data folder.
    pub(crate) fn data(&self) -> Result<&Data, Problem> {
        self.data.as_ref().ok_or_else(Problem::no_data_folder)
    }

    /// False once shutdown has begun.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    pub(crate) fn set_not_ready(&self) {
        self.ready.store(false, Ordering::Relaxed);
    }

    /// Connections that are open now.
    pub(crate) fn open_connections(&self) -> usize {
        self.config.max_connections - self.connections.available_permits()
    }
}
