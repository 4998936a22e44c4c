//! What the training of a version left: its report as a page, and what it said of its held-out images one by one, which are
//! the pictures behind a cell of the confusion matrix.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use hyper::Response;
use hyper::header::{CONTENT_SECURITY_POLICY, HeaderValue};
use ocelli_pipeline::store::image_id;
use ocelli_pipeline::{PipelineError, PredictionFilter, PredictionRow, read_predictions};
use serde::Serialize;
use serde_json::json;

use crate::backend::Data;
use crate::blocking::blocking;
use crate::context::Context;
use crate::description::{Description, Schemas, text};
use crate::http::problem::Problem;
use crate::http::response::{self, ResponseBody};
use crate::jobs::JobRecord;
use crate::models::model::Model;
use crate::route::{Effect, Route, Tag, Verb};
use crate::routes::paging::{describe_page, page};
use crate::scope::Scope;

/// See the module.
pub(super) const ROUTES: &[Route] = &[
    Route {
        id: "listPredictions",
        method: Verb::Get,
        path: "/v1/models/{version}/predictions",
        scope: Scope::Data,
        effect: Effect::Reads,
        tag: Tag::Models,
        summary: "List what a version said of its held-out images",
        handle: |context, _| Box::pin(list(context)),
        describe,
    },
    Route {
        id: "getReport",
        method: Verb::Get,
        path: "/v1/models/{version}/report",
        scope: Scope::Data,
        effect: Effect::Reads,
        tag: Tag::Models,
        summary: "Show the report of a version as a page",
        handle: |context, _| Box::pin(report(context)),
        describe: |_| Description::of_type("text/html").of_model(),
    },
];

/// A report holds its styles and pictures; whatever is in it, nothing of it is run or fetched.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'; sandbox";

#[derive(Serialize, schemars::JsonSchema)]
#[schemars(rename = "PredictionList")]
struct List {
    /// The data set of its training, which may have changed since.
    dataset: String,
    /// How many there are in all.
    total: usize,
    /// Those that were asked for, the most surprising ones first.
    predictions: Vec<Entry>,
}

#[derive(Serialize, schemars::JsonSchema)]
#[schemars(rename = "PredictionEntry")]
struct Entry {
    /// Id of the image; it may have left the data set since.
    image: Option<String>,
    /// Its class.
    label: String,
    /// The likeliest class.
    predicted: String,
    /// Probability of that.
    probability: f32,
    /// Cross-entropy in nats: how surprising its class is to the model.
    loss: f32,
}

impl From<PredictionRow> for Entry {
    fn from(row: PredictionRow) -> Entry {
        Entry {
            image: image_id(&row.name),
            label: row.label,
            predicted: row.predicted,
            probability: row.probability,
            loss: row.loss,
        }
    }
}

fn describe(schemas: &mut Schemas<'_>) -> Description {
    let list = schemas
        .answer::<List>()
        .of_model()
        .query("label", text(), "Only images of this class")
        .query("predicted", text(), "Only images that are taken for this class")
        .query("wrong", json!({ "type": "boolean", "default": false }), "Only mistakes");
    describe_page(list, ["Images to leave out at the beginning", "Most images to list"])
}

/// The training of a version of this service: the job, and the folder of its run.
fn training(model: &Model, data: &Data, version: &str) -> Result<(JobRecord, PathBuf), Problem> {
    let job = model.record(version)?.job.ok_or_else(|| gone(version))?;
    let record = data.jobs.get(&job).map_err(|_| gone(version))?.record().clone();
    let run = data.store.runs_dir().join(record.run.as_deref().ok_or_else(|| gone(version))?);
    Ok((record, run))
}

/// Of a version that was not trained here, or whose run was removed.
fn gone(version: &str) -> Problem {
    let reason = "it was not trained here, or its run is older than those that are kept";
    Problem::NotFound(format!("no training of version {version}: {reason}"))
}

/// `GET /v1/models/{version}/report`.
async fn report(context: &Context<'_>) -> Result<Response<ResponseBody>, Problem> {
    let (model, data) = (context.only_model()?, context.data()?.clone());
    let version = context.parameter("version").to_owned();
    let page = blocking(move || {
        let (_, run) = training(&model, &data, &version)?;
        fs::read(run.join("report.html")).map_err(|error| match error.kind() {
            ErrorKind::NotFound => gone(&version),
            kind => Problem::Internal { reason: format!("the report cannot be read ({kind:?})") },
        })
    });
    let mut response = response::bytes("text/html; charset=utf-8", page.await?);
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    Ok(response)
}

/// `GET /v1/models/{version}/predictions`.
async fn list(context: &Context<'_>) -> Result<Response<ResponseBody>, Problem> {
    let mut query = context.query()?;
    let (label, predicted) = (query.text("label")?, query.text("predicted")?);
    let wrong = match query.text("wrong")?.as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(Problem::BadQuery("wrong must be true or false".to_owned())),
    };
    let (offset, limit) = page(&mut query)?;
    let model = context.model(&mut query)?;
    query.finish()?;
    let filter = PredictionFilter { label, predicted, wrong };
    let data = context.data()?.clone();
    let version = context.parameter("version").to_owned();
    let listed = blocking(move || {
        let (record, run) = training(&model, &data, &version)?;
        let mut rows = read_predictions(&run, &filter).map_err(|error| match error {
            PipelineError::Io { source, .. } if source.kind() == ErrorKind::NotFound => gone(&version),
            error => Problem::Internal { reason: error.to_string() },
        })?;
        rows.sort_by(|a, b| b.loss.total_cmp(&a.loss));
        let total = rows.len();
        let predictions = rows.into_iter().skip(offset).take(limit).map(Entry::from).collect();
        Ok(List { dataset: record.request.dataset, total, predictions })
    });
    Ok(response::json(&listed.await?))
}
