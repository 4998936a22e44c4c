//! From a request to its route, and what every answer carries.

use std::hash::BuildHasher;
use std::hash::RandomState;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONNECTION, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, Request, Response};

use crate::body::RequestBody;
use crate::problem::Problem;
use crate::routes::{ResponseBody, health, predict, status};
use crate::state::State;
use crate::stream::Exchange;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest request id a client may choose, in bytes.
const MAX_REQUEST_ID: usize = 64;

/// One request on its way through its route.
pub(crate) struct Context<'a> {
    pub(crate) state: &'a State,
    pub(crate) request_id: &'a str,
    pub(crate) parts: &'a Parts,
    /// When the header was complete.
    pub(crate) started: Instant,
}

/// Answers one request; never fails.
pub(crate) async fn answer(
    state: &State,
    exchange: &Exchange,
    request: Request<Incoming>,
) -> Response<ResponseBody> {
    let started = Instant::now();
    exchange.request();
    state.requests.total.fetch_add(1, Ordering::Relaxed);
    let (parts, incoming) = request.into_parts();
    let mut body = RequestBody::new(incoming);
    let request_id = request_id(&parts.headers);
    let context = Context { state, request_id: &request_id, parts: &parts, started };

    let routed = route(&context, &mut body).await;
    let count = if routed.is_ok() { &state.requests.ok } else { &state.requests.error };
    count.fetch_add(1, Ordering::Relaxed);

    let mut response = routed.unwrap_or_else(|problem| problem.into_response(&request_id));
    let headers = response.headers_mut();
    let id = HeaderValue::from_str(&request_id).expect("a request id is letters, digits and .-_ only");
    headers.insert(REQUEST_ID, id);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if !body.ended() {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    exchange.answered(!body.ended());
    response
}

async fn route(context: &Context<'_>, body: &mut RequestBody) -> Result<Response<ResponseBody>, Problem> {
    match (&context.parts.method, context.parts.uri.path()) {
        (&Method::POST, "/predict") => predict::post(context, body).await,
        (&Method::GET | &Method::HEAD, "/status") => Ok(status::get(context)),
        (&Method::GET | &Method::HEAD, "/health/live") => Ok(health::live()),
        (&Method::GET | &Method::HEAD, "/health/ready") => health::ready(context),
        (_, "/predict") => Err(Problem::MethodNotAllowed { allow: "POST" }),
        (_, "/status" | "/health/live" | "/health/ready") => {
            Err(Problem::MethodNotAllowed { allow: "GET, HEAD" })
        }
        _ => Err(Problem::NotFound),
    }
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
