//! `GET /health/live`, `GET /health/ready` and `GET /metrics`: for supervisors, balancers and monitors.

use hyper::Response;
use serde::Serialize;

use crate::context::Context;
use crate::description::Description;
use crate::http::problem::Problem;
use crate::http::response::{self, ResponseBody, json};
use crate::metrics;
use crate::models::first::StandIn;
use crate::route::{Effect, Route, Tag, Verb};
use crate::scope::Scope;

/// See the module.
pub(super) const ROUTES: &[Route] = &[
    Route {
        id: "healthLive",
        method: Verb::Get,
        path: "/health/live",
        scope: Scope::Public,
        effect: Effect::Reads,
        tag: Tag::Operations,
        summary: "Whether the process answers at all",
        handle: |_, _| Box::pin(async { Ok(live()) }),
        describe: |schemas| schemas.answer::<Live>(),
    },
    Route {
        id: "healthReady",
        method: Verb::Get,
        path: "/health/ready",
        scope: Scope::Public,
        effect: Effect::Reads,
        tag: Tag::Operations,
        summary: "Whether new requests are accepted",
        handle: |context, _| Box::pin(ready(context)),
        describe: |schemas| schemas.answer::<Ready>(),
    },
    Route {
        id: "metrics",
        method: Verb::Get,
        path: "/metrics",
        scope: Scope::Predict,
        effect: Effect::Reads,
        tag: Tag::Operations,
        summary: "Counters for Prometheus",
        handle: |context, _| Box::pin(metrics(context)),
        describe: |_| Description::of_type("application/openmetrics-text"),
    },
];

#[derive(Serialize, schemars::JsonSchema)]
struct Live {
    live: bool,
}

#[derive(Serialize, schemars::JsonSchema)]
struct Ready {
    ready: bool,
    /// Why another version serves than the one that should, if so.
    stand_in: Option<StandIn>,
}

/// `GET /metrics`: the counters as text.
async fn metrics(context: &Context<'_>) -> Result<Response<ResponseBody>, Problem> {
    context.no_query()?;
    let now = context.snapshot();
    Ok(response::bytes(metrics::CONTENT_TYPE, context.metrics().text(&now.gauges())))
}

/// 200 for as long as the process can answer at all.
fn live() -> Response<ResponseBody> {
    json(&Live { live: true })
}

/// 200 while new requests are accepted; 503 before a replica knows what it should serve, and once shutdown has begun.
async fn ready(context: &Context<'_>) -> Result<Response<ResponseBody>, Problem> {
    context.readiness()?;
    Ok(json(&Ready { ready: true, stand_in: context.models().default().stand_in() }))
}
