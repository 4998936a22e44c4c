//! What can be wrong with one request, and the one place where it becomes an HTTP answer.

use std::fmt;

use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde::Serialize;

use crate::routes::ResponseBody;

/// Seconds a refused client is asked to wait: a full queue empties in well under one.
const RETRY_AFTER_S: u64 = 1;

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Problem {
    /// No such path.
    NotFound,
    /// The path exists, the method does not.
    MethodNotAllowed { allow: &'static str },
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
    /// The body is larger than the limit in bytes.
    BodyTooLarge { limit: usize },
    /// More images than one request may hold.
    TooManyImages { limit: usize },
    /// A content type or content encoding this route does not read.
    UnsupportedMediaType(&'static str),
    /// An image cannot be decoded; `reason` is our decoder's own text.
    Undecodable { index: usize, images: usize, reason: String },
    /// All slots for images or all memory for bodies is taken.
    Busy { what: &'static str },
    /// The service is shutting down.
    NotReady,
    /// Our fault; `reason` is a text of our own.
    Internal { reason: String },
}

#[derive(Serialize)]
struct Report<'a> {
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
            Problem::NotFound => (StatusCode::NOT_FOUND, "not_found"),
            Problem::MethodNotAllowed { .. } => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Problem::BadQuery(_) => (StatusCode::BAD_REQUEST, "bad_query"),
            Problem::BadBody(_) => (StatusCode::BAD_REQUEST, "bad_body"),
            Problem::NoImage => (StatusCode::BAD_REQUEST, "no_image"),
            Problem::BodyBroken => (StatusCode::BAD_REQUEST, "body_broken"),
            Problem::BodyTimeout { .. } => (StatusCode::REQUEST_TIMEOUT, "body_timeout"),
            Problem::BodyTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"),
            Problem::TooManyImages { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "too_many_images"),
            Problem::UnsupportedMediaType(_) => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type")
            }
            Problem::Undecodable { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "undecodable_image"),
            Problem::Busy { .. } => (StatusCode::TOO_MANY_REQUESTS, "busy"),
            Problem::NotReady => (StatusCode::SERVICE_UNAVAILABLE, "not_ready"),
            Problem::Internal { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
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
        let mut response = Response::new(ResponseBody::from(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        match self {
            Problem::MethodNotAllowed { allow } => {
                headers.insert(ALLOW, HeaderValue::from_static(allow));
            }
            Problem::Busy { .. } | Problem::NotReady => {
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
            Problem::NotFound => {
                write!(
                    f,
                    "no such path: there are POST /predict, GET /status, GET /health/live and GET /health/ready"
                )
            }
            Problem::MethodNotAllowed { allow } => write!(f, "this path answers {allow} only"),
            Problem::BadQuery(reason) | Problem::BadBody(reason) => f.write_str(reason),
            Problem::NoImage => write!(
                f,
                "the request holds no image: send it as the body, as the form field \"file\", or as base64 in {{\"image\": ..}}"
            ),
            Problem::BodyBroken => write!(f, "the body ended early or its framing is broken"),
            Problem::BodyTimeout { seconds } => write!(f, "the body did not arrive within {seconds} s"),
            Problem::BodyTooLarge { limit } => {
                write!(f, "the body is larger than the limit of {limit} bytes")
            }
            Problem::TooManyImages { limit } => write!(f, "the limit is {limit} images in one request"),
            Problem::UnsupportedMediaType(reason) => f.write_str(reason),
            Problem::Undecodable { images: 1, reason, .. } => write!(f, "the image cannot be read: {reason}"),
            Problem::Undecodable { index, images, reason } => {
                write!(f, "image {} of {images} cannot be read: {reason}", index + 1)
            }
            Problem::Busy { what } => write!(f, "{what}: try again in {RETRY_AFTER_S} s"),
            Problem::NotReady => write!(f, "the service is shutting down"),
            Problem::Internal { reason } => f.write_str(reason),
        }
    }
}
