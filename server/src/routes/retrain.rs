//! `POST /retrain`: asks for a training job. The answer comes at once (202); the job tells how it goes.

use hyper::header::{HeaderValue, LOCATION};
use hyper::{Response, StatusCode};

use crate::blocking::blocking;
use crate::context::Context;
use crate::description::{Description, Schemas, text};
use crate::http::body::RequestBody;
use crate::http::json::{self, Object};
use crate::http::payload;
use crate::http::problem::Problem;
use crate::http::response::{self, ResponseBody};
use crate::jobs::{Asked, JobRecord, RetrainRequest, Trigger};
use crate::route::{Effect, Route, Tag, Verb};
use crate::scope::Scope;

/// See the module.
pub(super) const ROUTES: &[Route] = &[Route {
    id: "retrain",
    method: Verb::Post,
    path: "/retrain",
    scope: Scope::Admin,
    effect: Effect::Changes,
    tag: Tag::Service,
    summary: "Train a model on a data set, and serve it if it is no worse",
    handle: |context, body| Box::pin(post(context, body)),
    describe,
}];

fn describe(schemas: &mut Schemas<'_>) -> Description {
    let request = schemas.of::<RetrainRequest>();
    schemas
        .answer::<JobRecord>()
        .status(202)
        .of_model()
        .body("application/json", request)
        .optional_body()
        .header("Location", text(), "Where the job is shown")
        .busy("The queue of training jobs is full")
}

/// The body is JSON; without one, the defaults are taken.
async fn post(context: &Context<'_>, body: &mut RequestBody) -> Result<Response<ResponseBody>, Problem> {
    let model = context.only_model()?;
    context.one_class_each(&model)?;
    let (data, config) = (context.data()?, context.config());
    payload::check_content_encoding(context.headers())?;
    data.jobs.check_room()?;
    let bytes = context.read(body).await?.bytes;
    let request: RetrainRequest = match bytes.trim_ascii() {
        [] => RetrainRequest::default(),
        text => json::parse::<Object<_>>(text, config.json_depth)?.0,
    };
    let (data, config, by) = (data.clone(), config.clone(), context.actor());
    let record = blocking(move || {
        request.recipe(config.job_threads)?;
        data.store.datasets().inspect(&request.dataset()?)?;
        data.jobs.check_memory(&model, &request)?;
        data.jobs.submit(&model, Asked { request, trigger: Trigger::Request, manual: None }, &by)
    })
    .await?;
    let mut response = response::json(&record);
    *response.status_mut() = StatusCode::ACCEPTED;
    let location = format!("/v1/jobs/{}", record.number);
    let location = HeaderValue::from_str(&location).expect("a number is a valid header");
    response.headers_mut().insert(LOCATION, location);
    Ok(response)
}
