//! `GET /sample.zip`: photos in class folders, to try an upload and a training with.

use hyper::Response;
use hyper::header::{CACHE_CONTROL, CONTENT_DISPOSITION, HeaderValue};
use ocelli_pipeline::SAMPLE_PHOTOS;

use crate::context::Context;
use crate::description::Description;
use crate::http::problem::Problem;
use crate::http::response::{self, ResponseBody};
use crate::route::{Effect, Route, Tag, Verb};
use crate::scope::Scope;

/// See the module.
pub(super) const ROUTES: &[Route] = &[Route {
    id: "getSample",
    method: Verb::Get,
    path: "/sample.zip",
    scope: Scope::Public,
    effect: Effect::Reads,
    tag: Tag::DataSets,
    summary: "Download photos of hands in class folders, to try an upload with",
    handle: |context, _| Box::pin(get(context)),
    describe: |_| Description::of_type("application/zip"),
}];

/// See the module.
async fn get(context: &Context<'_>) -> Result<Response<ResponseBody>, Problem> {
    context.no_query()?;
    let mut response = response::bytes("application/zip", SAMPLE_PHOTOS);
    let headers = response.headers_mut();
    headers.insert(CONTENT_DISPOSITION, HeaderValue::from_static("attachment; filename=\"hands.zip\""));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=86400"));
    Ok(response)
}
