//! `GET /status`: what runs here and how busy it is.

use hyper::Response;
use ocelli_pipeline::store::Usage;
use serde::Serialize;

use crate::context::Context;
use crate::http::problem::Problem;
use crate::http::response::{ResponseBody, json};
use crate::jobs::JobLoad;
use crate::model_load::ModelLoad;
use crate::models::first::StandIn;
use crate::models::serving::ModelInfo;
use crate::route::{Effect, Route, Tag, Verb};
use crate::scope::Scope;
use crate::shared_status::SharedStore;
use crate::ticket::RequestCounts;

/// See the module.
pub(super) const ROUTES: &[Route] = &[Route {
    id: "status",
    method: Verb::Get,
    path: "/status",
    scope: Scope::Predict,
    effect: Effect::Reads,
    tag: Tag::Service,
    summary: "What is served, and how busy it is",
    handle: |context, _| Box::pin(get(context)),
    describe: |schemas| schemas.answer::<Status<'static>>(),
}];

#[derive(Serialize, schemars::JsonSchema)]
struct Status<'a> {
    status: &'static str,
    version: &'static str,
    model: &'a ModelInfo,
    /// Why another version serves than the one that should, if so.
    stand_in: Option<StandIn>,
    /// All models, of which `model` is the default one.
    models: ModelLoad,
    uptime_s: f64,
    requests: RequestCounts,
    queue: Queue,
    connections: usize,
    jobs: JobLoad,
    /// Bytes in the data folder, by kind, and how many it may hold (0: as many as the disk takes).
    storage: Option<Storage>,
    /// The shared store that it publishes to or follows.
    shared_store: Option<SharedStore>,
}

#[derive(Serialize, schemars::JsonSchema)]
struct Storage {
    #[serde(flatten)]
    used: Usage,
    total: u64,
    limit: u64,
}

/// Images admitted and not answered, and how many there may be.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(rename = "QueueStatus")]
struct Queue {
    length: usize,
    capacity: usize,
}

/// Reads what is in memory: answers at once however long the queue is.
async fn get(context: &Context<'_>) -> Result<Response<ResponseBody>, Problem> {
    context.no_query()?;
    let now = context.snapshot();
    let (length, capacity) = now.queue;
    let storage = |used: Usage| Storage { used, total: used.total(), limit: context.config().max_data_bytes };
    Ok(json(&Status {
        status: match now.ready {
            Ok(()) => "ready",
            Err(Problem::Starting) => "starting",
            Err(_) => "stopping",
        },
        version: env!("CARGO_PKG_VERSION"),
        model: &now.serving.info,
        stand_in: now.stand_in,
        models: now.models,
        uptime_s: now.uptime.as_secs_f64(),
        requests: now.requests,
        queue: Queue { length, capacity },
        connections: now.connections,
        jobs: now.jobs,
        storage: now.storage.map(storage),
        shared_store: now.shared,
    }))
}
