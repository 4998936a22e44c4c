//! What can be wrong with one request, and the one place where it becomes an HTTP answer.

use std::fmt;

use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};
use ocelli_common::text::chain;
use ocelli_pipeline::PipelineError;
use ocelli_pipeline::store::StoreError;
use serde::Serialize;

use crate::error::ServerError;
use crate::http::response::ResponseBody;
use crate::scope::Scope;

/// Seconds a refused client is asked to wait where nothing better is known: a full queue of images empties in well under
/// one.
const RETRY_AFTER_S: u64 = 1;

/// The longest wait that a client is asked for, in seconds: estimates of more than an hour are not worth much.
pub(crate) const MAX_RETRY_AFTER_S: u64 = 3600;

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Problem {
    /// No such path.
    NoRoute,
    /// The path exists, the method does not.
    MethodNotAllowed { allow: String },
    /// No key, or one that nobody knows.
    Unauthorized { scope: Scope },
    /// A known key of a lower scope.
    Forbidden { scope: Scope },
    /// This would change something, and the service changes nothing.
    ReadOnly,
    /// A browser sent this on behalf of a page of another origin.
    CrossSite,
    /// The request names a host that is not this one.
    UnknownHost,
    /// No host, several hosts, or none that could be one.
    BadHost(&'static str),
    /// The client expects something that this service does not do.
    UnknownExpectation,
    /// A name in the path or in the body that cannot be one.
    BadName(String),
    /// There is nothing of this name.
    NotFound(String),
    /// What is asked for does not fit the state of things.
    Conflict(String),
    /// What was sent is well formed and is refused as a whole.
    Refused(String),
    /// The protocol has this, and this service does not do it.
    Unsupported(&'static str),
    /// The query string does not say what this route understands.
    BadQuery(String),
    /// The body is not what its content type says.
    BadBody(String),
    /// The body is well formed and holds no image.
    NoImage,
    /// The connection failed inside the body.
    BodyBroken,
    /// The body took too long.
    BodyTimeout { seconds: f64 },
    /// The body comes too slowly.
    BodyTooSlow { bytes_per_second: u64 },
    /// The body is larger than the limit in bytes.
    BodyTooLarge { limit: u64 },
    /// What is in the body passes a limit.
    TooLarge(String),
    /// More images than one request may hold.
    TooManyImages { limit: usize },
    /// A content type or content encoding this route does not read.
    UnsupportedMediaType(&'static str),
    /// An image cannot be decoded; `reason` is our decoder's own text.
    Undecodable { index: usize, images: usize, reason: String },
    /// All slots for images or all memory for bodies is taken.
    Busy {
        what: &'static str,
        /// Seconds until there should be room.
        retry_after_s: u64,
    },
    /// No more connections may be open.
    TooManyConnections,
    /// The service is shutting down.
    NotReady,
    /// A replica has no model yet, or has not compared it with its shared store.
    Starting,
    /// A model is larger than the memory for models.
    NoModelMemory(String),
    /// The disk is full.
    DiskFull,
    /// The data folder may not grow any more.
    DataFull(String),
    /// A fault of the service; `reason` is a text of our own.
    Internal { reason: String },
}

#[derive(Serialize, schemars::JsonSchema)]
#[schemars(rename = "Problem")]
pub(crate) struct Report<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    code: &'static str,
    detail: &'a str,
    /// The same text once more, under the key that Open Inference clients read.
    error: &'a str,
    request_id: &'a str,
}

impl Problem {
    /// Status and the stable, machine-readable name of the problem.
    pub(crate) fn class(&self) -> (StatusCode, &'static str) {
        match self {
            Problem::NoRoute => (StatusCode::NOT_FOUND, "no_route"),
            Problem::MethodNotAllowed { .. } => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Problem::Unauthorized { .. } => (StatusCode::UNAUTHORIZED, "unauthorized"),
            Problem::Forbidden { .. } => (StatusCode::FORBIDDEN, "forbidden"),
            Problem::ReadOnly => (StatusCode::FORBIDDEN, "read_only"),
            Problem::CrossSite => (StatusCode::FORBIDDEN, "cross_site"),
            Problem::UnknownHost => (StatusCode::FORBIDDEN, "unknown_host"),
            Problem::BadHost(_) => (StatusCode::BAD_REQUEST, "bad_host"),
            Problem::UnknownExpectation => (StatusCode::EXPECTATION_FAILED, "unknown_expectation"),
            Problem::BadName(_) => (StatusCode::BAD_REQUEST, "bad_name"),
            Problem::NotFound(_) => (StatusCode::NOT_FOUND, "not_found"),
            Problem::Conflict(_) => (StatusCode::CONFLICT, "conflict"),
            Problem::Refused(_) => (StatusCode::UNPROCESSABLE_ENTITY, "refused"),
            Problem::Unsupported(_) => (StatusCode::BAD_REQUEST, "unsupported"),
            Problem::BadQuery(_) => (StatusCode::BAD_REQUEST, "bad_query"),
            Problem::BadBody(_) => (StatusCode::BAD_REQUEST, "bad_body"),
            Problem::NoImage => (StatusCode::BAD_REQUEST, "no_image"),
            Problem::BodyBroken => (StatusCode::BAD_REQUEST, "body_broken"),
            Problem::BodyTimeout { .. } => (StatusCode::REQUEST_TIMEOUT, "body_timeout"),
            Problem::BodyTooSlow { .. } => (StatusCode::REQUEST_TIMEOUT, "body_too_slow"),
            Problem::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
            Problem::BodyTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"),
            Problem::TooManyImages { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "too_many_images"),
            Problem::UnsupportedMediaType(_) => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type")
            }
            Problem::Undecodable { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "undecodable_image"),
            Problem::Busy { .. } => (StatusCode::TOO_MANY_REQUESTS, "busy"),
            Problem::TooManyConnections => (StatusCode::SERVICE_UNAVAILABLE, "too_many_connections"),
            Problem::NotReady => (StatusCode::SERVICE_UNAVAILABLE, "not_ready"),
            Problem::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting"),
            Problem::NoModelMemory(_) => (StatusCode::INSUFFICIENT_STORAGE, "no_model_memory"),
            Problem::DiskFull => (StatusCode::INSUFFICIENT_STORAGE, "disk_full"),
            Problem::DataFull(_) => (StatusCode::INSUFFICIENT_STORAGE, "data_full"),
            Problem::Internal { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        }
    }

    /// Something is full that is free again in a moment.
    pub(crate) fn busy(what: &'static str) -> Problem {
        Problem::Busy { what, retry_after_s: RETRY_AFTER_S }
    }

    /// Something is full for about `seconds`.
    pub(crate) fn busy_for(what: &'static str, seconds: f64) -> Problem {
        // Also for what is no number: the conversion saturates.
        Problem::Busy { what, retry_after_s: (seconds.ceil() as u64).clamp(RETRY_AFTER_S, MAX_RETRY_AFTER_S) }
    }

    /// The work for a request panicked.
    pub(crate) fn panicked() -> Problem {
        Problem::Internal { reason: "this request failed inside the service; the service goes on".into() }
    }

    pub(crate) fn no_data_folder() -> Problem {
        Problem::Conflict("this service has no data folder: it keeps no images, versions or jobs".to_owned())
    }

    /// Why a model could not be loaded.
    pub(crate) fn of_load(model: &str, error: ServerError) -> Problem {
        match error {
            ServerError::NoRoom { later: true, .. } => Problem::busy("requests hold the memory for models"),
            ServerError::NoRoom { .. } => Problem::NoModelMemory(error.to_string()),
            ServerError::Store(StoreError::Damaged { reason, .. }) => {
                Problem::Conflict(format!("model \"{model}\" is damaged and cannot serve: {reason}"))
            }
            ServerError::Store(error) => error.into(),
            ServerError::WarmUp(source) => {
                Problem::Refused(format!("model \"{model}\" cannot serve: {}", chain(&source)))
            }
            error => Problem::Internal { reason: chain(&error) },
        }
    }

    /// The answer: `application/problem+json` (RFC 9457) with the headers that belong to the status.
    pub(crate) fn into_response(self, request_id: &str) -> Response<ResponseBody> {
        let (status, code) = self.class();
        let detail = self.to_string();
        let report = Report {
            r#type: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            code,
            detail: &detail,
            error: &detail,
            request_id,
        };
        let body = serde_json::to_vec(&report).expect("a struct of strings and numbers is always JSON");
        let mut response = Response::new(ResponseBody::Whole(body.into()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        match self {
            Problem::MethodNotAllowed { allow } => {
                let allow = HeaderValue::from_str(&allow).expect("methods are words");
                headers.insert(ALLOW, allow);
            }
            Problem::Unauthorized { .. } => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"ocelli\""));
            }
            Problem::Busy { retry_after_s, .. } => {
                headers.insert(RETRY_AFTER, HeaderValue::from(retry_after_s));
            }
            Problem::TooManyConnections | Problem::NotReady | Problem::Starting => {
                headers.insert(RETRY_AFTER, HeaderValue::from(RETRY_AFTER_S));
            }
            _ => {}
        }
        response
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::NoRoute => {
                f.write_str("no such path: GET /openapi.json lists them, POST /predict is the one for images")
            }
            Problem::Unauthorized { scope } => {
                write!(f, "send a key for the scope {scope} as `Authorization: Bearer KEY`")
            }
            Problem::Forbidden { scope } => write!(f, "this key does not allow the scope {scope}"),
            Problem::ReadOnly => f.write_str(
                "this service is read-only: it answers and changes nothing",
            ),
            Problem::CrossSite => {
                f.write_str("requests from pages of other origins are refused; send this one from your own program")
            }
            Problem::UnknownHost => f.write_str(
                "the Host header is no address of this service; use its IP address or localhost, or give the service keys",
            ),
            Problem::BadName(reason)
            | Problem::NotFound(reason)
            | Problem::Conflict(reason)
            | Problem::Refused(reason)
            | Problem::DataFull(reason)
            | Problem::NoModelMemory(reason)
            | Problem::TooLarge(reason) => f.write_str(reason),
            Problem::MethodNotAllowed { allow } => write!(f, "this path answers {allow} only"),
            Problem::BadQuery(reason) | Problem::BadBody(reason) => f.write_str(reason),
            Problem::NoImage => write!(
                f,
                "the request holds no image: send it as the body, as the form field \"file\", or as base64 in {{\"image\": ..}}"
            ),
            Problem::BodyBroken => write!(f, "the body ended early or its framing is broken"),
            Problem::BodyTimeout { seconds } => write!(f, "the body did not arrive within {seconds} s"),
            Problem::BodyTooSlow { bytes_per_second } => {
                write!(f, "the body comes at less than {bytes_per_second} bytes a second")
            }
            Problem::BodyTooLarge { limit } => {
                write!(f, "the body is larger than the limit of {limit} bytes")
            }
            Problem::TooManyImages { limit } => write!(f, "the limit is {limit} images in one request"),
            Problem::Unsupported(reason)
            | Problem::UnsupportedMediaType(reason)
            | Problem::BadHost(reason) => f.write_str(reason),
            Problem::UnknownExpectation => {
                f.write_str("the only expectation that is understood is `Expect: 100-continue`")
            }
            Problem::Undecodable { images: 1, reason, .. } => write!(f, "the image cannot be read: {reason}"),
            Problem::Undecodable { index, images, reason } => {
                write!(f, "image {} of {images} cannot be read: {reason}", index + 1)
            }
            Problem::Busy { what, retry_after_s } => write!(f, "{what}: try again in {retry_after_s} s"),
            Problem::TooManyConnections => write!(
                f,
                "too many connections are open: close some, or try again in {RETRY_AFTER_S} s"
            ),
            Problem::NotReady => write!(f, "the service is shutting down"),
            Problem::Starting => f.write_str("this replica is starting: it waits for its shared store"),
            Problem::DiskFull => f.write_str("the disk of the service is full: nothing was stored"),
            Problem::Internal { reason } => f.write_str(reason),
        }
    }
}

impl std::error::Error for Problem {}

/// What clients may know of a failure of the data folder: no paths, no error texts of the operating system.
impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let text = chain(&error);
        match error {
            StoreError::Name { .. } => Problem::BadName(text),
            StoreError::NotFound { .. } => Problem::NotFound(text),
            StoreError::Conflict { .. } => Problem::Conflict(text),
            StoreError::Refused { .. } => Problem::Refused(text),
            StoreError::TooLarge { .. } => Problem::TooLarge(text),
            StoreError::Full { reason } => Problem::DataFull(reason),
            StoreError::Stopped => Problem::NotReady,
            StoreError::Damaged { reason, .. } => {
                tracing::error!("{text}");
                Problem::Conflict(format!("the file is damaged: {reason}"))
            }
            StoreError::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                Problem::DiskFull
            }
            StoreError::Pipeline(PipelineError::Decode(_)) => Problem::Refused(text),
            StoreError::Io { path, source } => {
                tracing::error!("{}: {source}", path.display());
                let reason = format!("the data folder cannot be read or written ({:?})", source.kind());
                Problem::Internal { reason }
            }
            error @ (StoreError::Locked { .. } | StoreError::Database { .. } | StoreError::Pipeline(_)) => {
                tracing::error!("{}", chain(&error));
                let reason = "a file of the data folder cannot be used; the log of the service says which";
                Problem::Internal { reason: reason.into() }
            }
        }
    }
}
