//! The service at one moment: what `/status`, `/metrics` and `/health/ready` tell, each of it read once.

use std::sync::Arc;
use std::time::Duration;

use ocelli_pipeline::store::Usage;

use crate::backend::Backend;
use crate::http::problem::Problem;
use crate::jobs::JobLoad;
use crate::metrics::Gauges;
use crate::model_load::ModelLoad;
use crate::models::catalog::Catalog;
use crate::models::first::StandIn;
use crate::models::folder::Folder;
use crate::models::serving::Serving;
use crate::shared_status::SharedStore;
use crate::ticket::RequestCounts;

/// See the module.
pub(crate) struct Snapshot {
    /// Or why not.
    pub(crate) ready: Result<(), Problem>,
    pub(crate) uptime: Duration,
    pub(crate) requests: RequestCounts,
    /// Images admitted and not answered, and how many there may be.
    pub(crate) queue: (usize, usize),
    pub(crate) connections: usize,
    pub(crate) jobs: JobLoad,
    /// Bytes in the data folder; none in a service without.
    pub(crate) storage: Option<Usage>,
    pub(crate) models: ModelLoad,
    /// None in a service without.
    pub(crate) shared: Option<SharedStore>,
    pub(crate) serving: Arc<Serving>,
    pub(crate) stand_in: Option<StandIn>,
}

impl Snapshot {
    /// Waits for nothing but locks that are held for a copy in memory.
    pub(crate) fn take(backend: &Backend) -> Snapshot {
        let models = &backend.models;
        let (serving, stand_in) = (models.serving(), models.default().stand_in());
        let data = backend.data.as_ref();
        Snapshot {
            ready: backend.readiness(),
            uptime: backend.lifecycle.uptime(),
            requests: backend.requests.counts(),
            queue: backend.classifier.load(),
            connections: backend.connections.open(),
            jobs: data.map(|data| data.jobs.load()).unwrap_or_default(),
            storage: data.map(|data| data.store.usage()),
            models: load_of(models, backend.folder.as_ref()),
            shared: backend.shared.as_ref().map(|shared| shared.status()),
            serving,
            stand_in,
        }
    }

    /// The numbers of it.
    pub(crate) fn gauges(&self) -> Gauges<'_> {
        let (queue_length, queue_capacity) = self.queue;
        Gauges {
            ready: self.ready.is_ok(),
            uptime: self.uptime,
            requests_in_flight: self.requests.in_flight,
            queue_length,
            queue_capacity,
            connections: self.connections,
            jobs_running: self.jobs.running.len(),
            jobs_waiting: self.jobs.waiting,
            stored: self.storage.unwrap_or_default(),
            models: &self.models,
            shared: self.shared.as_ref(),
            stands_in: self.stand_in.is_some(),
            model: &self.serving.info.name,
            version: &self.serving.info.version,
        }
    }
}

/// What is told of the models.
fn load_of(models: &Catalog, folder: Option<&Arc<Folder>>) -> ModelLoad {
    let all = models.all();
    let (memory, memory_limit) = models.budget().load();
    let shadows = all.iter().filter(|model| model.shadow_version().is_some()).map(|model| {
        let (images, agree) = model.shadow().totals();
        (model.name().to_owned(), images, agree)
    });
    ModelLoad {
        count: all.len(),
        loaded: all.iter().map(|model| model.all_in_memory().len()).sum(),
        memory,
        memory_limit,
        evicted: models.budget().evicted(),
        refused: folder.map(|folder| folder.refused()).unwrap_or_default(),
        shadows: shadows.collect(),
    }
}
