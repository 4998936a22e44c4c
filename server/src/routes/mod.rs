//! One file per route.

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use serde::Serialize;

pub(crate) mod health;
pub(crate) mod predict;
pub(crate) mod status;

/// Body of every answer.
pub(crate) type ResponseBody = Full<Bytes>;

/// 200 with `value` as JSON.
fn json(value: &impl Serialize) -> Response<ResponseBody> {
    let body =
        serde_json::to_vec(value).expect("answers are structs with string keys, which always are JSON");
    let mut response = Response::new(ResponseBody::from(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
