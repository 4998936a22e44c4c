//! `GET /status`: what runs here and how busy it is.

use std::sync::atomic::Ordering;

use hyper::Response;
use serde::Serialize;

use crate::router::Context;
use crate::routes::{ResponseBody, json};
use crate::state::ModelInfo;

#[derive(Serialize)]
struct Status<'a> {
    status: &'static str,
    version: &'static str,
    model: &'a ModelInfo,
    uptime_s: f64,
    requests: Requests,
    queue: Queue,
    connections: usize,
}

/// Requests that are in `total` alone are running now or were given up by their client.
#[derive(Serialize)]
struct Requests {
    total: u64,
    ok: u64,
    error: u64,
}

/// Images admitted and not answered, and how many there may be.
#[derive(Serialize)]
struct Queue {
    length: usize,
    capacity: usize,
}

/// Reads counters only: answers at once however long the queue is.
pub(crate) fn get(context: &Context<'_>) -> Response<ResponseBody> {
    let state = context.state;
    let (length, capacity) = state.classifier.load();
    let count = &state.requests;
    json(&Status {
        status: if state.is_ready() { "ready" } else { "stopping" },
        version: env!("CARGO_PKG_VERSION"),
        model: &state.model,
        uptime_s: state.started.elapsed().as_secs_f64(),
        requests: Requests {
            total: count.total.load(Ordering::Relaxed),
            ok: count.ok.load(Ordering::Relaxed),
            error: count.error.load(Ordering::Relaxed),
        },
        queue: Queue { length, capacity },
        connections: state.open_connections(),
    })
}
