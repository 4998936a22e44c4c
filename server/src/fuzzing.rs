//! What reads the bodies of requests, for the checks under `fuzz/`; no part of the interface.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use hyper::HeaderMap;
use hyper::header::{CONTENT_TYPE, HeaderValue};

use crate::config::Config;
use crate::http::json::{self, Object};
use crate::http::payload::{self, Declared, Encoding};
use crate::http::problem::Problem;
use crate::jobs::RetrainRequest;
use crate::models::serving::Input;
use crate::v2::codec;
use crate::v2::expected::Expected;

/// The encoded images of a body for `POST /predict`.
///
/// # Errors
/// What the client is told.
pub fn images(content_type: &[u8], body: Vec<u8>, config: &Config) -> Result<Vec<Bytes>, String> {
    let mut headers = HeaderMap::new();
    let value = HeaderValue::from_bytes(content_type).map_err(|_| "no header can say this".to_owned())?;
    headers.insert(CONTENT_TYPE, value);
    let body = Bytes::from(body);
    let images = || match Encoding::of(Declared::of(&headers)?, &body)? {
        Encoding::Raw => Ok(vec![body.clone()]),
        Encoding::Multipart { boundary } => {
            at_once(payload::multipart(body.clone(), boundary, config.images_per_request))
        }
        Encoding::Json => payload::json(&body, config.images_per_request, config.json_depth),
    };
    images().map_err(|problem: Problem| problem.to_string())
}

/// Reads a body for `POST /v2/models/../infer` of a model for RGB images of 4x3; the first `header` bytes are its JSON.
///
/// # Errors
/// What the client is told.
pub fn infer(header: Option<usize>, body: Vec<u8>, config: &Config) -> Result<(), String> {
    let expected = Expected::new(Input { width: 4, height: 3, channels: 3 }, config);
    let read = codec::read(&Bytes::from(body), header, &expected);
    read.map(drop).map_err(|problem| problem.to_string())
}

/// Reads a body for `POST /retrain`, with its recipe.
///
/// # Errors
/// What the client is told.
pub fn retrain(body: &[u8], config: &Config) -> Result<(), String> {
    let read = || {
        let Object(request): Object<RetrainRequest> = json::parse(body, config.json_depth)?;
        request.dataset()?;
        request.recipe(1)
    };
    read().map(drop).map_err(|problem: Problem| problem.to_string())
}

/// Runs what reads from memory alone, and so waits for nothing.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    // A stream may ask to be polled again at once.
    for _ in 0..1_000_000 {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
    }
    panic!("a body in memory is waited for")
}
