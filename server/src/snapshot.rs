//! The service at one moment: what `/status`, `/metrics` and `/health/ready` tell, each of it read once.

use std::sync::Arc;
use std::time::Duration;

use ocelli_pipeline::store::Usage;

use crate::backend::Backend;
use crate::jobs::JobLoad;
use crate::metrics::Gauges;
use crate::model::first::StandIn;
use crate::model::serving::Serving;
use crate::ticket::RequestCounts;

/// See the module.
pub(crate) struct Snapshot {
    pub(crate) ready: bool,
    pub(crate) uptime: Duration,
    pub(crate) requests: RequestCounts,
    /// Images admitted and not answered, and how many there may be.
    pub(crate) queue: (usize, usize),
    pub(crate) connections: usize,
    pub(crate) jobs: JobLoad,
    /// Bytes in the data folder; none in a service without.
    pub(crate) storage: Option<Usage>,
    pub(crate) serving: Arc<Serving>,
    pub(crate) stand_in: Option<StandIn>,
}

impl Snapshot {
    /// Waits for nothing but locks that are held for a copy in memory.
    pub(crate) fn take(backend: &Backend) -> Snapshot {
        let (serving, stand_in) = backend.models.current();
        let data = backend.data.as_ref();
        Snapshot {
            ready: backend.lifecycle.is_ready(),
            uptime: backend.lifecycle.uptime(),
            requests: backend.requests.counts(),
            queue: backend.classifier.load(),
            connections: backend.connections.open(),
            jobs: data.map(|data| data.jobs.load()).unwrap_or_default(),
            storage: data.map(|data| data.store.usage()),
            serving,
            stand_in,
        }
    }

    /// The numbers of it.
    pub(crate) fn gauges(&self) -> Gauges<'_> {
        let (queue_length, queue_capacity) = self.queue;
        Gauges {
            ready: self.ready,
            uptime: self.uptime,
            requests_in_flight: self.requests.in_flight,
            queue_length,
            queue_capacity,
            connections: self.connections,
            jobs_running: self.jobs.running.len(),
            jobs_waiting: self.jobs.waiting,
            stored: self.storage.unwrap_or_default(),
            stands_in: self.stand_in.is_some(),
            model: &self.serving.info.name,
            version: &self.serving.info.version,
        }
    }
}
