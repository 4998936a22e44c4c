//! From a request to its route, and what every answer carries.

use std::borrow::Cow;
use std::hash::BuildHasher;
use std::hash::RandomState;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONNECTION, EXPECT, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Request, Response, Version};
use ocelli_pipeline::store::Actor;
use percent_encoding::percent_decode_str;

use crate::access::{Access, Caller};
use crate::body::RequestBody;
use crate::endpoint::{Effect, Endpoint, Operation};
use crate::host::host;
use crate::problem::Problem;
use crate::query::Query;
use crate::response::ResponseBody;
use crate::routes::{
    audit, datasets, docs, feedback, health, jobs, models, predict, retrain, status, upload, v2,
};
use crate::state::State;
use crate::stream::Exchange;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest request id a client may choose, in bytes.
const MAX_REQUEST_ID: usize = 64;

/// Parts of a path that are looked at: no route has more.
const MAX_SEGMENTS: usize = 8;

/// One request on its way through its route.
pub(crate) struct Context<'a> {
    pub(crate) state: &'a Arc<State>,
    pub(crate) request_id: &'a str,
    pub(crate) parts: &'a Parts,
    /// Keys and certificate as they were when the request came: a reload concerns the requests after it.
    pub(crate) access: Arc<Access>,
    /// Who asks; nobody until that is known.
    pub(crate) caller: Caller,
    /// When the header was complete.
    pub(crate) started: Instant,
}

impl Context<'_> {
    /// Who asks, for the audit log.
    pub(crate) fn actor(&self) -> Actor {
        Actor { scope: self.caller.scope.to_string(), key: self.caller.name.to_string() }
    }

    /// The query string of the request.
    pub(crate) fn query(&self) -> Result<Query, Problem> {
        Query::parse(self.parts.uri.query())
    }
}

/// Answers one request; never fails.
pub(crate) async fn answer(
    state: &Arc<State>,
    exchange: &Exchange,
    request: Request<Incoming>,
) -> Response<ResponseBody> {
    let started = Instant::now();
    exchange.request();
    state.requests.total.fetch_add(1, Ordering::Relaxed);
    let (parts, incoming) = request.into_parts();
    let expectation = expectation(&parts);
    let mut body = RequestBody::new(incoming, expectation != Ok(false));
    let request_id = request_id(&parts.headers);
    let (access, caller) = (state.access(), Caller::nobody());
    let mut context = Context { state, request_id: &request_id, parts: &parts, access, caller, started };

    let mut operation = "none";
    let routed = match host(&parts).and_then(|host| expectation.map(|_| host)) {
        Ok(host) => route(&mut context, host, &mut body, &mut operation).await,
        Err(problem) => Err(problem),
    };
    let count = if routed.is_ok() { &state.requests.ok } else { &state.requests.error };
    count.fetch_add(1, Ordering::Relaxed);
    if !body.ended() {
        body.skip(&state.config).await;
    }

    let mut response = routed.unwrap_or_else(|problem| {
        log(&context, &problem);
        problem.into_response(&request_id)
    });
    let headers = response.headers_mut();
    let id = HeaderValue::from_str(&request_id).expect("a request id is letters, digits and .-_ only");
    headers.insert(REQUEST_ID, id);
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if !body.ended() {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    state.metrics.answered(operation, response.status().as_u16(), started.elapsed());
    tracing::debug!(
        method = %parts.method,
        path = parts.uri.path(),
        status = response.status().as_u16(),
        ms = started.elapsed().as_secs_f64() * 1e3,
        caller = &*context.caller.name,
        scope = %context.caller.scope,
        request_id,
        "request"
    );
    exchange.answered(!body.ended());
    response
}

/// What went wrong on our side is for the log; what clients get wrong is only for those who ask for it.
fn log(context: &Context<'_>, problem: &Problem) {
    let (status, code) = problem.class();
    let (path, request_id) = (context.parts.uri.path(), context.request_id);
    if status.is_server_error() && !matches!(problem, Problem::NotReady) {
        tracing::error!(path, code, request_id, "{problem}");
    } else {
        tracing::debug!(path, code, request_id, "{problem}");
    }
}

/// `operation` becomes the name of the endpoint once it is known.
async fn route(
    context: &mut Context<'_>,
    host: Option<&str>,
    body: &mut RequestBody,
    operation: &mut &'static str,
) -> Result<Response<ResponseBody>, Problem> {
    let segments = segments(context.parts.uri.path())?;
    let segments: Vec<&str> = segments.iter().map(AsRef::as_ref).collect();
    let endpoint = Endpoint::find(&context.parts.method, &segments)?;
    *operation = endpoint.operation().id;
    let &Operation { scope, effect, .. } = endpoint.operation();
    context.caller = context.access.check(scope, &context.parts.headers, host)?;
    if effect == Effect::Changes && context.state.config.read_only {
        return Err(Problem::ReadOnly);
    }
    let context = &*context;
    match endpoint {
        Endpoint::Predict => predict::post(context, body).await,
        Endpoint::UploadData => upload::post(context, body).await,
        Endpoint::Retrain => retrain::post(context, body).await,
        Endpoint::Status => status::get(context),
        Endpoint::Live => Ok(health::live()),
        Endpoint::Ready => health::ready(context),
        Endpoint::Metrics => health::metrics(context),
        Endpoint::OpenApi => docs::openapi(context),
        Endpoint::Index => docs::index(context),
        Endpoint::Docs => docs::page(context),
        Endpoint::DocsFile { file } => docs::file(context, file),
        Endpoint::Datasets => datasets::list(context).await,
        Endpoint::Dataset { name } => datasets::inspect(context, name).await,
        Endpoint::DeleteDataset { name } => datasets::delete(context, name).await,
        Endpoint::Images { name } => datasets::images(context, name).await,
        Endpoint::Image { name, id } => datasets::image(context, name, id).await,
        Endpoint::DeleteImage { name, id } => datasets::delete_image(context, name, id).await,
        Endpoint::Thumbnail { name, id } => datasets::thumbnail(context, name, id).await,
        Endpoint::Jobs => jobs::list(context),
        Endpoint::Job { id } => jobs::show(context, id),
        Endpoint::CancelJob { id } => jobs::cancel(context, id).await,
        Endpoint::JobEvents { id } => jobs::events(context, id),
        Endpoint::Models => models::list(context).await,
        Endpoint::ModelVersion { version } => models::show(context, version).await,
        Endpoint::Evaluation { version } => models::evaluation(context, version).await,
        Endpoint::ModelBytes { version } => models::download(context, version).await,
        Endpoint::Promote { version } => models::promote(context, version).await,
        Endpoint::Rollback => models::roll_back(context).await,
        Endpoint::DeleteModel { version } => models::delete(context, version).await,
        Endpoint::Audit => audit::list(context).await,
        Endpoint::Feedback => feedback::list(context).await,
        Endpoint::AddFeedback => feedback::add(context, body).await,
        Endpoint::FeedbackImage { id } => feedback::image(context, id).await,
        Endpoint::ApproveFeedback { id } => feedback::approve(context, id).await,
        Endpoint::RejectFeedback { id } => feedback::reject(context, id).await,
        Endpoint::V2Server | Endpoint::V2ServerSlash => v2::server(context),
        Endpoint::V2Live => Ok(v2::live()),
        Endpoint::V2Ready => v2::ready(context),
        Endpoint::V2Model { model } => v2::model(context, model, None).await,
        Endpoint::V2Version { model, version } => v2::model(context, model, Some(version)).await,
        Endpoint::V2ModelReady { model } => v2::model_ready(context, model, None).await,
        Endpoint::V2VersionReady { model, version } => v2::model_ready(context, model, Some(version)).await,
        Endpoint::V2Config { model } => v2::config(context, model, None).await,
        Endpoint::V2VersionConfig { model, version } => v2::config(context, model, Some(version)).await,
        Endpoint::V2AllStatistics => v2::all_statistics(context, None),
        Endpoint::V2Statistics { model } => v2::all_statistics(context, Some(model)),
        Endpoint::V2VersionStatistics { model, version } => v2::statistics(context, model, version).await,
        Endpoint::V2Infer { model } => v2::infer(context, body, model, None).await,
        Endpoint::V2VersionInfer { model, version } => v2::infer(context, body, model, Some(version)).await,
        Endpoint::V2Index => v2::index(context, body).await,
        Endpoint::V2Load { model } => v2::load(context, body, model).await,
        Endpoint::V2Unload { model } => v2::unload(context, model),
    }
}

/// Whether the client waits for `100 Continue` before it sends its body. Anything else that it may expect is refused
/// (RFC 9110, section 10.1.1); HTTP/1.0 has no expectations.
fn expectation(parts: &Parts) -> Result<bool, Problem> {
    let mut expected = false;
    for value in parts.headers.get_all(EXPECT).iter().filter(|_| parts.version >= Version::HTTP_11) {
        if !value.as_bytes().eq_ignore_ascii_case(b"100-continue") {
            return Err(Problem::UnknownExpectation);
        }
        expected = true;
    }
    Ok(expected)
}

/// The parts of a path, percent-decoded after it was cut: a `%2F` stays inside of its part.
fn segments(path: &str) -> Result<Vec<Cow<'_, str>>, Problem> {
    let parts = path.strip_prefix('/').unwrap_or(path).split('/');
    let decode = |part| percent_decode_str(part).decode_utf8();
    let decoded: Result<Vec<_>, _> = parts.take(MAX_SEGMENTS + 1).map(decode).collect();
    decoded.map_err(|_| Problem::BadName("the path is not UTF-8".to_owned()))
}

/// The client's own id if it is short and harmless in a log line, else one of ours: unique in this process,
/// and not to be guessed from outside.
fn request_id(headers: &HeaderMap) -> String {
    static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let harmless = |id: &&str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        (1..=MAX_REQUEST_ID).contains(&id.len()) && id.bytes().all(allowed)
    };
    match headers.get(REQUEST_ID).and_then(|value| value.to_str().ok()).filter(harmless) {
        Some(id) => id.to_owned(),
        None => format!("{:016x}", KEY.hash_one(COUNT.fetch_add(1, Ordering::Relaxed))),
    }
}
