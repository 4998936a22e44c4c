//! `POST /upload-data`: a ZIP of class folders becomes part of a data set, as a whole or not at all.
//!
//! The body is the archive (`application/zip`, `application/octet-stream`, or any type but a form's and JSON's if it
//! begins like a ZIP) or a form with the archive as `file`;
//! `?dataset=` names the data set, `default` where it is left out. The archive goes to a folder of its own on the disk
//! while it comes, is checked, and is merged by the replacement of one file. Whoever leaves before the answer does not
//! know whether it was; sending it again adds nothing twice.

use hyper::Response;
use ocelli_pipeline::store::{Actor, ImportReport, Name};
use serde::Serialize;
use serde_json::json;

use crate::archive;
use crate::blocking::blocking;
use crate::context::Context;
use crate::description::{Description, Schemas, binary, name, text};
use crate::http::body::RequestBody;
use crate::http::problem::Problem;
use crate::http::response::{self, ResponseBody};
use crate::jobs::{Asked, Jobs, RetrainRequest, Trigger};
use crate::models::model::Model;
use crate::route::{Effect, Route, Tag, Verb};
use crate::scope::Scope;
use crate::stopper::Stopper;

/// See the module.
pub(super) const ROUTES: &[Route] = &[Route {
    id: "uploadData",
    method: Verb::Post,
    path: "/upload-data",
    scope: Scope::Data,
    effect: Effect::Changes,
    tag: Tag::Service,
    summary: "Add a ZIP of class folders to a data set",
    handle: |context, body| Box::pin(post(context, body)),
    describe,
}];

#[derive(Serialize, schemars::JsonSchema)]
struct Uploaded {
    #[serde(flatten)]
    report: ImportReport,
    /// The training job that the new images started.
    job: Option<u64>,
}

fn describe(schemas: &mut Schemas<'_>) -> Description {
    let form = json!({ "type": "object", "required": ["file"], "properties": {
        "file": binary(), "dataset": name() }, "additionalProperties": false });
    let about = archive::about(schemas.config);
    schemas
        .answer::<Uploaded>()
        .query("dataset", text(), "Name of the data set; `default` if left out")
        .query(
            "model",
            name(),
            "Name of the model that a job trains which this upload starts; the default one if left out",
        )
        .body("multipart/form-data", form)
        .body("application/zip", binary())
        .about_body(about)
        .busy("The maximum number of uploads is under way")
}

/// See the module.
async fn post(context: &Context<'_>, body: &mut RequestBody) -> Result<Response<ResponseBody>, Problem> {
    let mut query = context.query()?;
    let (model, named) = (context.model(&mut query)?, query.text("dataset")?);
    query.finish()?;
    context.one_class_each(&model)?;
    let (data, config) = (context.data()?, context.config());
    let named = named.map(|name| archive::dataset_name(&name)).transpose()?;
    let permit = data.uploads.begin(body.declared())?;

    let staging = archive::staging(context).await?;
    let path = staging.path().join("upload.zip");
    let of_form = archive::receive(context, body, permit.upload(), &path).await?;
    let name = match (named, of_form) {
        (Some(named), Some(of_form)) if named != of_form => {
            let reason = "the query and the field \"dataset\" name two data sets: name one";
            return Err(Problem::BadBody(reason.into()));
        }
        (Some(name), _) | (None, Some(name)) => name,
        (None, None) => archive::dataset_name("default")?,
    };

    let (data, config, by) = (data.clone(), config.clone(), context.actor());
    let (stopping, pool) = (context.stopping(), context.models().pool().clone());
    let answer = blocking(move || {
        // Held to the end of the work, whether the client waits for it or not.
        let (_permit, staging) = (permit, staging);
        let limits = config.upload_limits();
        let stopper = Stopper::new(stopping);
        let archive = staging.path().join("upload.zip");
        let datasets = data.store.datasets();
        let report = datasets.import_zip(&name, &archive, (&limits, &pool), &stopper.stop, &by)?;
        tracing::info!(dataset = %name, accepted = report.accepted, skipped = report.skipped_total, "upload");
        let least = config.retrain_on_upload as u64;
        let enough = least > 0 && report.accepted > 0 && datasets.fresh(&name)? >= least;
        let job = if enough { start_job(&data.jobs, &model, &name, &by) } else { None };
        Ok(Uploaded { report, job })
    });
    Ok(response::json(&answer.await?))
}

/// Starts the job that enough uploads cause; the upload succeeds without one.
fn start_job(jobs: &Jobs, model: &Model, name: &Name, by: &Actor) -> Option<u64> {
    let request = RetrainRequest { dataset: name.to_string(), ..RetrainRequest::default() };
    // Whoever may upload images may not decide by them what everybody is answered with.
    let manual = (!model.config().upload_may_promote).then(|| {
        "an upload started it, so a person with an admin key promotes it (upload_may_promote is off)"
            .to_owned()
    });
    let asked = Asked { request, trigger: Trigger::Upload, manual };
    match jobs.submit(model, asked, by) {
        Ok(record) => Some(record.number),
        Err(problem) => {
            tracing::warn!(dataset = %name, "no training job: {problem}");
            None
        }
    }
}
