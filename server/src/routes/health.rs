//! `GET /health/live`, `GET /health/ready` and `GET /metrics`: for supervisors, balancers and monitors.

use hyper::Response;
use serde::Serialize;

use crate::metrics;
use crate::models::StandIn;
use crate::problem::Problem;
use crate::response::{self, ResponseBody, json};
use crate::router::Context;

#[derive(Serialize, schemars::JsonSchema)]
pub(crate) struct Live {
    live: bool,
}

#[derive(Serialize, schemars::JsonSchema)]
pub(crate) struct Ready {
    ready: bool,
    /// Why another version serves than the one that is to, if so.
    stand_in: Option<StandIn>,
}

/// `GET /metrics`: the counters as text.
pub(crate) fn metrics(context: &Context<'_>) -> Result<Response<ResponseBody>, Problem> {
    context.query()?.finish()?;
    Ok(response::bytes(metrics::CONTENT_TYPE, context.state.metrics.text(context.state)))
}

/// 200 for as long as the process can answer at all.
pub(crate) fn live() -> Response<ResponseBody> {
    json(&Live { live: true })
}

/// 200 while new work is welcome, 503 once shutdown has begun.
pub(crate) fn ready(context: &Context<'_>) -> Result<Response<ResponseBody>, Problem> {
    if !context.state.is_ready() {
        return Err(Problem::NotReady);
    }
    Ok(json(&Ready { ready: true, stand_in: context.state.models.stand_in() }))
}
