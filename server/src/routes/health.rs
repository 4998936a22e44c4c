//! `GET /health/live` and `GET /health/ready`.

use hyper::Response;
use serde::Serialize;

use crate::problem::Problem;
use crate::router::Context;
use crate::routes::{ResponseBody, json};

#[derive(Serialize)]
struct Live {
    live: bool,
}

#[derive(Serialize)]
struct Ready {
    ready: bool,
}

/// 200 for as long as the process can answer at all.
pub(crate) fn live() -> Response<ResponseBody> {
    json(&Live { live: true })
}

/// 200 while new work is welcome, 503 once shutdown has begun.
pub(crate) fn ready(context: &Context<'_>) -> Result<Response<ResponseBody>, Problem> {
    if context.state.is_ready() { Ok(json(&Ready { ready: true })) } else { Err(Problem::NotReady) }
}
