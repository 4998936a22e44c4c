//! `POST /retrain`: asks for a training job. The answer comes at once (202); the job tells how it goes.

use hyper::header::{HeaderValue, LOCATION};
use hyper::{Response, StatusCode};

use crate::body::RequestBody;
use crate::jobs::{Asked, RetrainRequest, Trigger};
use crate::json::{self, Object};
use crate::payload;
use crate::problem::Problem;
use crate::response::{self, ResponseBody};
use crate::router::Context;
use crate::routes::blocking;

/// See the module. The body is JSON; without one, the defaults are taken.
pub(crate) async fn post(
    context: &Context<'_>,
    body: &mut RequestBody,
) -> Result<Response<ResponseBody>, Problem> {
    let state = context.state;
    let data = state.data()?;
    context.query()?.finish()?;
    payload::check_content_encoding(&context.parts.headers)?;
    data.jobs.check_room()?;
    let bytes = body.read(&state.config, &state.body_memory).await?.bytes;
    let request: RetrainRequest = match bytes.trim_ascii() {
        [] => RetrainRequest::default(),
        text => json::parse::<Object<_>>(text, state.config.json_depth)?.0,
    };
    let (state, by) = (state.clone(), context.actor());
    let record = blocking(move || {
        let data = state.data()?;
        request.recipe(state.config.job_threads)?;
        data.store.datasets().inspect(&request.dataset()?)?;
        data.jobs.check_memory(&request)?;
        data.jobs.submit(Asked { request, trigger: Trigger::Request, manual: None }, &by)
    })
    .await?;
    let mut response = response::json(&record);
    *response.status_mut() = StatusCode::ACCEPTED;
    let location = format!("/v1/jobs/{}", record.number);
    let location = HeaderValue::from_str(&location).expect("a number is a valid header");
    response.headers_mut().insert(LOCATION, location);
    Ok(response)
}
