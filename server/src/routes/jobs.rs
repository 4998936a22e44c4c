//! `/v1/jobs`: what is being trained and what was.

use std::time::Duration;

use bytes::Bytes;
use hyper::Response;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use ocelli_pipeline::store::Actor;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::select;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use crate::blocking::blocking;
use crate::context::Context;
use crate::description::{Description, Schemas, number};
use crate::http::problem::Problem;
use crate::http::response::{self, ResponseBody};
use crate::jobs::{Brief, EpochMetrics, Job, JobRecord, Jobs, Line, Progress};
use crate::route::{Effect, Route, Tag, Verb};
use crate::scope::Scope;

/// See the module.
pub(super) const ROUTES: &[Route] = &[
    Route {
        id: "listJobs",
        method: Verb::Get,
        path: "/v1/jobs",
        scope: Scope::Predict,
        effect: Effect::Reads,
        tag: Tag::Jobs,
        summary: "List the training jobs",
        handle: |context, _| Box::pin(list(context)),
        describe: |schemas| schemas.answer::<List>(),
    },
    Route {
        id: "showJob",
        method: Verb::Get,
        path: "/v1/jobs/{id}",
        scope: Scope::Predict,
        effect: Effect::Reads,
        tag: Tag::Jobs,
        summary: "Show a job: state, progress, result",
        handle: |context, _| Box::pin(show(context)),
        describe: |schemas| schemas.answer::<JobRecord>(),
    },
    Route {
        id: "cancelJob",
        method: Verb::Delete,
        path: "/v1/jobs/{id}",
        scope: Scope::Admin,
        effect: Effect::Changes,
        tag: Tag::Jobs,
        summary: "Cancel a job",
        handle: |context, _| Box::pin(cancel(context)),
        describe: |schemas| schemas.answer::<JobRecord>(),
    },
    Route {
        id: "finishJob",
        method: Verb::Post,
        path: "/v1/jobs/{id}/finish",
        scope: Scope::Admin,
        effect: Effect::Changes,
        tag: Tag::Jobs,
        summary: "End the training of a job and take the best epoch so far",
        handle: |context, _| Box::pin(finish(context)),
        describe: |schemas| schemas.answer::<JobRecord>(),
    },
    Route {
        id: "jobEvents",
        method: Verb::Get,
        path: "/v1/jobs/{id}/events",
        scope: Scope::Predict,
        effect: Effect::Reads,
        tag: Tag::Jobs,
        summary: "Follow a job as server-sent events",
        handle: |context, _| Box::pin(events(context)),
        describe: describe_events,
    },
];

/// Without news, followers get a comment this often: proxies close connections that are silent for a minute.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

#[derive(Serialize, schemars::JsonSchema)]
#[schemars(rename = "JobList")]
struct List {
    jobs: Vec<JobRecord>,
}

fn describe_events(schemas: &mut Schemas<'_>) -> Description {
    Description {
        answer: ("text/event-stream", events_schema(schemas)),
        nothing: Some("The job has ended, and there is no event after the last one that was seen"),
        ..Description::new(Value::Null)
    }
    .request_header(
        "Last-Event-ID",
        number(0, u64::from(u32::MAX)),
        "The last event that was seen; those after it are sent",
    )
}

/// One of the server-sent events of a job: before version 3.2, OpenAPI has the schema of a stream describe each of its
/// events.
fn events_schema(schemas: &mut Schemas<'_>) -> Value {
    let event = |name: &str, about: &str, data: Value| {
        let mut event = json!({ "type": "object", "required": ["event", "data"], "description": about, "properties": {
            "event": { "const": name },
            "data": { "type": "string", "contentMediaType": "application/json", "contentSchema": data } } });
        if name != "progress" {
            event["required"] = json!(["id", "event", "data"]);
            event["properties"]["id"] =
                json!({ "type": "string", "pattern": "^[1-9][0-9]*$", "description": "For `Last-Event-ID`" });
        }
        event
    };
    let note =
        json!({ "type": "object", "required": ["text"], "properties": { "text": { "type": "string" } } });
    json!({ "description": "Each event of the stream", "oneOf": [
        event("state", "The job is in another state", schemas.of::<Brief<'static>>()),
        event("epoch", "An epoch is done", schemas.of::<EpochMetrics>()),
        event("note", "A note for people", note),
        event("progress", "The progress at this moment; not sent again after a reconnect", schemas.of::<Progress>()),
    ] })
}

/// `GET /v1/jobs`: newest first.
async fn list(context: &Context<'_>) -> Result<Response<ResponseBody>, Problem> {
    context.no_query()?;
    Ok(response::json(&List { jobs: context.data()?.jobs.all() }))
}

/// `GET /v1/jobs/{id}`.
async fn show(context: &Context<'_>) -> Result<Response<ResponseBody>, Problem> {
    context.no_query()?;
    let job = context.data()?.jobs.get(context.parameter("id"))?;
    let record = job.record().clone();
    Ok(response::json(&record))
}

/// `DELETE /v1/jobs/{id}`: ends it.
async fn cancel(context: &Context<'_>) -> Result<Response<ResponseBody>, Problem> {
    change(context, Jobs::cancel).await
}

/// `POST /v1/jobs/{id}/finish`: what follows the training, evaluation and comparison, is done with the best epoch so far.
async fn finish(context: &Context<'_>) -> Result<Response<ResponseBody>, Problem> {
    change(context, Jobs::finish).await
}

/// Changes the job in the path, and answers with what it is then.
async fn change(
    context: &Context<'_>,
    change: fn(&Jobs, &str, &Actor) -> Result<JobRecord, Problem>,
) -> Result<Response<ResponseBody>, Problem> {
    context.no_query()?;
    let (jobs, by) = (context.data()?.jobs.clone(), context.actor());
    let id = context.parameter("id").to_owned();
    let record = blocking(move || change(&jobs, &id, &by)).await?;
    Ok(response::json(&record))
}

/// `GET /v1/jobs/{id}/events`: server-sent events (HTML standard, section 9.2) until the job ends: `state`, `epoch` and
/// `note` with ids, from after `Last-Event-ID` on; `progress` without. 204 when nothing is left to tell.
async fn events(context: &Context<'_>) -> Result<Response<ResponseBody>, Problem> {
    context.no_query()?;
    let job = context.data()?.jobs.get(context.parameter("id"))?;
    let last =
        context.headers().get("last-event-id").map(|id| id.to_str().ok().and_then(|id| id.parse().ok()));
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
    let stopping = context.stopping();
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
