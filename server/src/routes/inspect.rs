//! `POST /v1/inspect`: what is in an archive of class folders and what is wrong with it, before it is uploaded.
//!
//! The body is as for [`upload`](super::upload), without the name of a data set. The archive goes to a folder of its own on
//! the disk while it is looked at, and is gone before the answer. Counts as an upload: as many go on at a time.

use hyper::Response;
use ocelli_pipeline::Compute;
use ocelli_pipeline::inspect::{InspectOptions, Inspection, Suspects, inspect_upload};
use serde_json::json;

use crate::archive;
use crate::blocking::blocking;
use crate::context::Context;
use crate::description::{Description, Schemas, binary, number_or};
use crate::http::body::RequestBody;
use crate::http::problem::Problem;
use crate::http::response::{self, ResponseBody};
use crate::route::{Effect, Route, Tag, Verb};
use crate::scope::Scope;
use crate::stopper::Stopper;

/// See the module.
pub(super) const ROUTES: &[Route] = &[Route {
    id: "inspectArchive",
    method: Verb::Post,
    path: "/v1/inspect",
    scope: Scope::Data,
    effect: Effect::Reads,
    tag: Tag::DataSets,
    summary: "Look a ZIP of class folders over before it is uploaded",
    handle: |context, body| Box::pin(post(context, body)),
    describe,
}];

/// Pictures of a finding, at most.
const MAX_THUMBNAILS: usize = 24;
/// Files that a finding names, and at most.
const FILES: usize = 100;
const MAX_FILES: usize = 1000;
/// Images that may be searched for wrong labels: some seconds of computing.
const MAX_SUSPECTS: usize = 2000;

fn describe(schemas: &mut Schemas<'_>) -> Description {
    let form = json!({ "type": "object", "required": ["file"], "properties": { "file": binary() },
        "additionalProperties": false });
    let about = archive::about(schemas.config);
    let most = |most: usize| most as u64;
    schemas
        .answer::<Inspection>()
        .query(
            "thumbnails",
            number_or(0, 0, most(MAX_THUMBNAILS)),
            "How many files of each finding have their picture in the answer",
        )
        .query("files", number_or(FILES, 1, most(MAX_FILES)), "How many files each finding names")
        .query(
            "suspects",
            number_or(0, 0, most(MAX_SUSPECTS)),
            "How many images are searched for wrong labels, at some milliseconds each",
        )
        .body("multipart/form-data", form)
        .body("application/zip", binary())
        .about_body(about)
        .busy("The maximum number of uploads is under way")
}

/// See the module.
async fn post(context: &Context<'_>, body: &mut RequestBody) -> Result<Response<ResponseBody>, Problem> {
    context.one_class_each(context.models().default())?;
    let (data, config) = (context.data()?, context.config());
    let mut query = context.query()?;
    let thumbnails = query.number("thumbnails", 0..=MAX_THUMBNAILS)?.unwrap_or(0);
    let files = query.number("files", 1..=MAX_FILES)?.unwrap_or(FILES);
    let suspects = query.number("suspects", 0..=MAX_SUSPECTS)?.unwrap_or(0);
    query.finish()?;
    let permit = data.uploads.begin(body.declared())?;

    let staging = archive::staging(context).await?;
    let path = staging.path().join("upload.zip");
    if archive::receive(context, body, permit.upload(), &path).await?.is_some() {
        let reason =
            "nothing is kept of an inspection, so it has no data set: leave the field \"dataset\" out";
        return Err(Problem::BadBody(reason.into()));
    }
    let (config, stopping, pool) = (config.clone(), context.stopping(), context.models().pool().clone());
    let options = InspectOptions {
        // The pool of the service.
        compute: Compute::on(pool.threads()),
        suspects: if suspects == 0 { Suspects::None } else { Suspects::Most(suspects) },
        thumbnails: thumbnails.min(files),
        ..InspectOptions::default()
    };
    let answer = blocking(move || {
        // Held to the end of the work, whether the client waits for it or not.
        let (_permit, staging) = (permit, staging);
        let (limits, stopper) = (config.upload_limits(), Stopper::new(stopping));
        let archive = staging.path().join("upload.zip");
        let mut found = inspect_upload(&archive, (&limits, &pool), &options, &stopper.stop)?;
        found.findings.iter_mut().for_each(|finding| finding.files.truncate(files));
        Ok(found)
    });
    Ok(response::json(&answer.await?))
}
