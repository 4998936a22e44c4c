//! What requests are answered with, whichever connection they come on. Handlers get at it through their
//! [`Context`](crate::context::Context) alone.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use ocelli_pipeline::store::Store;
use tokio::sync::Semaphore;

use crate::config::Config;
use crate::http::problem::Problem;
use crate::jobs::Jobs;
use crate::lifecycle::Lifecycle;
use crate::metrics::Metrics;
use crate::models::catalog::Catalog;
use crate::models::classifier::Classifier;
use crate::models::explaining::Explaining;
use crate::models::folder::Folder;
use crate::net::connections::Connections;
use crate::shared_store::Shared;
use crate::ticket::Requests;
use crate::uploads::Uploads;

/// See the module.
pub(crate) struct Backend {
    pub(crate) config: Arc<Config>,
    pub(crate) models: Arc<Catalog>,
    /// Where people put model files.
    pub(crate) folder: Option<Arc<Folder>>,
    /// Its part in a shared store.
    pub(crate) shared: Option<Arc<Shared>>,
    pub(crate) classifier: Arc<Classifier>,
    pub(crate) explaining: Explaining,
    /// None where the service keeps nothing.
    pub(crate) data: Option<Data>,
    /// One permit per byte of request bodies in memory.
    pub(crate) body_memory: Arc<Semaphore>,
    pub(crate) requests: Arc<Requests>,
    pub(crate) connections: Arc<Connections>,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) metrics: Metrics,
    /// `/openapi.json`, written when it is first asked for.
    pub(crate) openapi: LazyLock<Bytes, Box<dyn FnOnce() -> Bytes + Send>>,
}

impl Backend {
    /// Whether new requests are wanted: not before a replica knows what it should serve, nor once shutdown has begun.
    pub(crate) fn readiness(&self) -> Result<(), Problem> {
        if !self.lifecycle.is_ready() {
            return Err(Problem::NotReady);
        }
        match &self.shared {
            Some(shared) if !shared.is_ready() => Err(Problem::Starting),
            _ => Ok(()),
        }
    }
}

/// The data folder and what works in it.
#[derive(Clone)]
pub(crate) struct Data {
    pub(crate) store: Arc<Store>,
    pub(crate) jobs: Arc<Jobs>,
    pub(crate) uploads: Arc<Uploads>,
}
