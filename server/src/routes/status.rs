//! `GET /status`: what runs here and how busy it is.

use std::sync::atomic::Ordering;

use hyper::Response;
use ocelli_pipeline::store::Usage;
use serde::Serialize;

use crate::jobs::JobRecord;
use crate::models::StandIn;
use crate::problem::Problem;
use crate::response::{ResponseBody, json};
use crate::router::Context;
use crate::serving::ModelInfo;

#[derive(Serialize, schemars::JsonSchema)]
pub(crate) struct Status<'a> {
    status: &'static str,
    version: &'static str,
    model: &'a ModelInfo,
    /// Why another version serves than the one that is to, if so.
    stand_in: Option<StandIn>,
    uptime_s: f64,
    requests: Requests,
    queue: Queue,
    connections: usize,
    jobs: Jobs,
    /// Bytes in the data folder, by kind, and how many it may hold (0: as many as the disk takes).
    storage: Option<Storage>,
}

#[derive(Serialize, schemars::JsonSchema)]
struct Storage {
    #[serde(flatten)]
    used: Usage,
    total: u64,
    limit: u64,
}

/// Training jobs.
#[derive(Default, Serialize, schemars::JsonSchema)]
struct Jobs {
    running: Vec<JobRecord>,
    waiting: usize,
}

/// Requests that are in `total` alone are running now or were given up by their client.
#[derive(Serialize, schemars::JsonSchema)]
struct Requests {
    total: u64,
    ok: u64,
    error: u64,
}

/// Images admitted and not answered, and how many there may be.
#[derive(Serialize, schemars::JsonSchema)]
struct Queue {
    length: usize,
    capacity: usize,
}

/// Reads counters only: answers at once however long the queue is.
pub(crate) fn get(context: &Context<'_>) -> Result<Response<ResponseBody>, Problem> {
    context.query()?.finish()?;
    let state = context.state;
    let (length, capacity) = state.classifier.load();
    let count = &state.requests;
    let serving = state.models.serving();
    let jobs = state.data.as_ref().map(|data| data.jobs.load());
    let storage = state.data.as_ref().map(|data| {
        let used = data.store.usage();
        Storage { used, total: used.total(), limit: state.config.max_data_bytes }
    });
    Ok(json(&Status {
        status: if state.is_ready() { "ready" } else { "stopping" },
        version: env!("CARGO_PKG_VERSION"),
        model: &serving.info,
        stand_in: state.models.stand_in(),
        uptime_s: state.started.elapsed().as_secs_f64(),
        requests: Requests {
            total: count.total.load(Ordering::Relaxed),
            ok: count.ok.load(Ordering::Relaxed),
            error: count.error.load(Ordering::Relaxed),
        },
        queue: Queue { length, capacity },
        connections: state.open_connections(),
        jobs: jobs.map_or_else(Jobs::default, |(running, waiting)| Jobs { running, waiting }),
        storage,
    }))
}
