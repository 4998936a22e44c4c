//! From a request to its route, and what every answer carries.

use std::borrow::Cow;
use std::hash::BuildHasher;
use std::hash::RandomState;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONNECTION, EXPECT, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Request, Response, Version};
use percent_encoding::percent_decode_str;

use crate::context::Context;
use crate::http::body::RequestBody;
use crate::http::host::host;
use crate::http::problem::Problem;
use crate::http::response::ResponseBody;
use crate::keys::Caller;
use crate::net::stream::Exchange;
use crate::route::{self, Effect};
use crate::routes;
use crate::server::Server;
use crate::ticket::Ticket;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest request id a client may choose, in bytes.
const MAX_REQUEST_ID: usize = 64;

/// Parts of a path that are looked at: no route has more.
const MAX_SEGMENTS: usize = 8;

/// Answers one request; never fails.
pub(crate) async fn answer(
    server: &Server,
    exchange: &Exchange,
    request: Request<Incoming>,
) -> Response<ResponseBody> {
    exchange.request();
    let (parts, incoming) = request.into_parts();
    let ticket = server.backend.requests.admit(request_id(&parts.headers));
    let mut called = Called { operation: "none", caller: Caller::nobody() };
    let expectation = expectation(&parts);
    let mut body = RequestBody::new(incoming, expectation != Ok(false));

    let routed = match host(&parts).and_then(|host| expectation.map(|_| host)) {
        Ok(host) => route(server, (&parts, host), &ticket, &mut body, &mut called).await,
        Err(problem) => Err(problem),
    };
    let is_ok = routed.is_ok();
    if !body.ended() {
        body.skip(&server.backend.config).await;
    }

    let mut response = routed.unwrap_or_else(|problem| {
        log(parts.uri.path(), ticket.id(), &problem);
        problem.into_response(ticket.id())
    });
    let headers = response.headers_mut();
    let id = HeaderValue::from_str(ticket.id()).expect("a request id is letters, digits and .-_ only");
    headers.insert(REQUEST_ID, id);
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if !body.ended() {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    let status = response.status().as_u16();
    ticket.answered(called.operation, status, is_ok);
    tracing::debug!(
        method = %parts.method,
        path = parts.uri.path(),
        status,
        ms = ticket.elapsed().as_secs_f64() * 1e3,
        caller = &*called.caller.name,
        scope = %called.caller.scope,
        request_id = ticket.id(),
        "request"
    );
    exchange.answered(!body.ended());
    response
}

/// What is known of a request for metrics and log, also where it is refused.
struct Called {
    operation: &'static str,
    caller: Caller,
}

/// What went wrong on our side is for the log; what clients get wrong is only for those who ask for it.
fn log(path: &str, request_id: &str, problem: &Problem) {
    let (status, code) = problem.class();
    if status.is_server_error() && !matches!(problem, Problem::NotReady) {
        tracing::error!(path, code, request_id, "{problem}");
    } else {
        tracing::debug!(path, code, request_id, "{problem}");
    }
}

/// Finds the route of a request, asks whether its sender may use it, and has it answered. The keys are those in force
/// when the request came: a reload concerns the requests after it.
async fn route(
    server: &Server,
    (parts, host): (&Parts, Option<&str>),
    ticket: &Ticket,
    body: &mut RequestBody,
    called: &mut Called,
) -> Result<Response<ResponseBody>, Problem> {
    let access = server.access.get();
    let segments = segments(parts.uri.path())?;
    let segments: Vec<&str> = segments.iter().map(AsRef::as_ref).collect();
    let (route, parameters) = route::find(routes::all(), &parts.method, &segments)?;
    called.operation = route.id;
    called.caller = access.check(route.scope, &parts.headers, host)?;
    if route.effect == Effect::Changes && server.backend.config.read_only {
        return Err(Problem::ReadOnly);
    }
    let context =
        Context::new(&server.backend, ticket, parts, parameters, (&called.caller, !access.keys.is_empty()));
    (route.handle)(&context, body).await
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
