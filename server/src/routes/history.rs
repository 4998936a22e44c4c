//! `GET /v1/history`: the last day in buckets of five minutes.

use hyper::Response;
use serde::Serialize;

use crate::context::Context;
use crate::history::{BUCKET_S, BucketSummary};
use crate::http::problem::Problem;
use crate::http::response::{self, ResponseBody};
use crate::route::{Effect, Route, Tag, Verb};
use crate::scope::Scope;

/// See the module.
pub(super) const ROUTES: &[Route] = &[Route {
    id: "showHistory",
    method: Verb::Get,
    path: "/v1/history",
    scope: Scope::Predict,
    effect: Effect::Reads,
    tag: Tag::Operations,
    summary: "Show requests, latency and predicted classes over the last day",
    handle: |context, _| Box::pin(get(context)),
    describe: |schemas| schemas.answer::<Day>(),
}];

#[derive(Serialize, schemars::JsonSchema)]
#[schemars(rename = "History")]
struct Day {
    /// Seconds of a bucket.
    bucket_s: u64,
    /// From the first bucket with a request to now, oldest first; at most a day.
    buckets: Vec<BucketSummary>,
}

/// See the module.
async fn get(context: &Context<'_>) -> Result<Response<ResponseBody>, Problem> {
    context.no_query()?;
    Ok(response::json(&Day { bucket_s: BUCKET_S, buckets: context.metrics().history().summaries() }))
}
