//! `/v1/jobs`: what is being trained and what was.

use std::time::Duration;

use bytes::Bytes;
use hyper::Response;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use serde::Serialize;
use tokio::select;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use crate::jobs::{Job, JobRecord, Line};
use crate::problem::Problem;
use crate::response::{self, ResponseBody};
use crate::router::Context;
use crate::routes::blocking;

/// Without news, followers get a comment this often: proxies close connections that are silent for a minute.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

#[derive(Serialize, schemars::JsonSchema)]
pub(crate) struct List {
    jobs: Vec<JobRecord>,
}

/// `GET /v1/jobs`: newest first.
pub(crate) fn list(context: &Context<'_>) -> Result<Response<ResponseBody>, Problem> {
    context.query()?.finish()?;
    Ok(response::json(&List { jobs: context.state.data()?.jobs.all() }))
}

/// `GET /v1/jobs/{id}`.
pub(crate) fn show(context: &Context<'_>, id: &str) -> Result<Response<ResponseBody>, Problem> {
    context.query()?.finish()?;
    let job = context.state.data()?.jobs.get(id)?;
    let record = job.record().clone();
    Ok(response::json(&record))
}

/// `DELETE /v1/jobs/{id}`: ends it.
pub(crate) async fn cancel(context: &Context<'_>, id: &str) -> Result<Response<ResponseBody>, Problem> {
    context.query()?.finish()?;
    context.state.data()?;
    let (state, id, by) = (context.state.clone(), id.to_owned(), context.actor());
    let record = blocking(move || state.data()?.jobs.cancel(&id, &by)).await?;
    Ok(response::json(&record))
}

/// `GET /v1/jobs/{id}/events`: server-sent events (HTML standard, section 9.2) until the job ends: `state`, `epoch` and
/// `note` with ids, from after `Last-Event-ID` on; `progress` without. 204 when nothing is left to tell.
pub(crate) fn events(context: &Context<'_>, id: &str) -> Result<Response<ResponseBody>, Problem> {
    context.query()?.finish()?;
    let state = context.state;
    let job = state.data()?.jobs.get(id)?;
    let last =
        context.parts.headers.get("last-event-id").map(|id| id.to_str().ok().and_then(|id| id.parse().ok()));
    let last: usize = match last {
        None => 0,
        Some(Some(number)) => number,
        Some(None) => {
            return Err(Problem::BadQuery("Last-Event-ID is not a number this service gave".into()));
        }
    };
    let (unseen, _, ended) = job.log.since(last);
    if ended && unseen.is_empty() {
        // Whoever has seen all of it would else ask again for ever: 204 tells an EventSource to stop.
        return Ok(response::no_content());
    }
    let (sender, pieces) = mpsc::channel(16);
    let stopping = state.stopping.subscribe();
    tokio::spawn(async move {
        let followed = follow(&job, last, &sender);
        ends(followed, stopping).await;
    });
    let mut response = Response::new(ResponseBody::Stream { pieces, length: None });
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    Ok(response)
}

/// Waits for the end of `followed` or of the service.
async fn ends(followed: impl Future<Output = ()>, mut stopping: watch::Receiver<bool>) {
    select! {
        () = followed => {}
        _ = stopping.wait_for(|&stopping| stopping) => {}
    }
}

/// Sends events until the job ends or the client leaves.
async fn follow(job: &Job, mut next: usize, sender: &mpsc::Sender<Bytes>) {
    let mut changes = job.log.follow();
    let mut told = None;
    loop {
        let (lines, progress, ended) = job.log.since(next);
        let mut text = String::new();
        for Line { event, data } in &lines {
            next += 1;
            text += &format!("id: {next}\nevent: {event}\ndata: {data}\n\n");
        }
        if !ended && progress != told {
            if let Some(data) = &progress {
                text += &format!("event: progress\ndata: {data}\n\n");
            }
            told = progress;
        }
        if !text.is_empty() && sender.send(text.into()).await.is_err() {
            return;
        }
        if ended {
            return;
        }
        select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = sender.closed() => return,
            () = sleep(KEEP_ALIVE) => if sender.send(Bytes::from_static(b": still here\n\n")).await.is_err() { return },
        }
    }
}
