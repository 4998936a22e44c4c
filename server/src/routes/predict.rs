//! `POST /predict`: labels of one or several images.
//!
//! The body is an image, a form with one or several `file` fields, or JSON with `image` or `images` in base64, as
//! [`payload`] tells them apart; `?top_k=` asks for more or fewer of the best classes, `?version=` for another version
//! of the model than the one that serves. Either every image gets its prediction, in order, or the request fails as a
//! whole and says which image is at fault.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::Response;
use hyper::header::{HeaderName, HeaderValue};
use ocelli_pipeline::Prediction;
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;

use crate::answer::Answer;
use crate::body::{Buffered, RequestBody};
use crate::payload::{self, Declared, Encoding};
use crate::problem::Problem;
use crate::response::{ResponseBody, json};
use crate::router::Context;
use crate::serving::Serving;

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

#[derive(Serialize, schemars::JsonSchema)]
pub(crate) struct Predictions<'a> {
    /// Label, index and probability at the top level when the request held one image.
    #[serde(flatten)]
    single: Option<Single<'a>>,
    predictions: Vec<&'a Prediction>,
    model: Model<'a>,
    timing_ms: Timing,
    request_id: &'a str,
}

#[derive(Serialize, schemars::JsonSchema)]
struct Single<'a> {
    label: &'a str,
    index: usize,
    probability: f32,
}

#[derive(Serialize, schemars::JsonSchema)]
struct Model<'a> {
    name: &'a str,
    version: &'a str,
}

/// Milliseconds; of several images the slowest one counts, step by step.
#[derive(Serialize, schemars::JsonSchema)]
struct Timing {
    decode: f64,
    queue: f64,
    compute: f64,
    /// From the end of the header to the answer: the body's way is in here, and in none of the others.
    total: f64,
}

/// See the module.
pub(crate) async fn post(
    context: &Context<'_>,
    body: &mut RequestBody,
) -> Result<Response<ResponseBody>, Problem> {
    let state = context.state;
    let config = &state.config;
    let mut query = context.query()?;
    let top_k = query.number("top_k", 1..=config.max_top_k)?.unwrap_or(config.default_top_k);
    let version = query.text("version")?;
    query.finish()?;
    if state.classifier.is_full() {
        // Known before the body is read and unpacked: turning a request away must cost less than answering it.
        return Err(Problem::busy("the queue is full"));
    }
    let model = model(context, version).await?;
    let (images, share) = images(context, body).await?;
    let answers = state.classifier.classify(&model, images, share, top_k).await?;
    state.metrics.classified(&answers);
    Ok(response(context, &model, &answers))
}

/// The encoded images of a body, at least one, with their share of the memory for bodies.
pub(crate) async fn images(
    context: &Context<'_>,
    body: &mut RequestBody,
) -> Result<(Vec<Bytes>, OwnedSemaphorePermit), Problem> {
    let (state, config) = (context.state, &context.state.config);
    let declared = Declared::of(&context.parts.headers)?;
    let Buffered { bytes, share } = body.read(config, &state.body_memory).await?;
    let (limit, depth) = (config.images_per_request, config.json_depth);
    if bytes.is_empty() {
        return Err(Problem::NoImage);
    }
    let images = match Encoding::of(declared, &bytes)? {
        Encoding::Raw => vec![bytes],
        Encoding::Multipart { boundary } => payload::multipart(bytes, boundary, limit).await?,
        Encoding::Json => state.classifier.on_pool(move || payload::json(&bytes, limit, depth)).await?,
    };
    if images.is_empty() { Err(Problem::NoImage) } else { Ok((images, share)) }
}

/// The version that a request asks for; the one that serves where it asks for none.
pub(crate) async fn model(context: &Context<'_>, version: Option<String>) -> Result<Arc<Serving>, Problem> {
    let models = &context.state.models;
    match version {
        None => Ok(models.serving()),
        Some(version) => models.get(&version).await,
    }
}

fn response(context: &Context<'_>, model: &Serving, answers: &[Answer]) -> Response<ResponseBody> {
    let slowest = |part: fn(&Answer) -> Duration| answers.iter().map(part).max().map_or(0.0, ms);
    let timing = Timing {
        decode: slowest(|answer| answer.decode),
        queue: slowest(|answer| answer.queue),
        compute: slowest(|answer| answer.compute),
        total: ms(context.started.elapsed()),
    };
    let header = format!(
        "decode;dur={}, queue;dur={}, compute;dur={}, total;dur={}",
        timing.decode, timing.queue, timing.compute, timing.total
    );
    let single = match answers {
        [Answer { prediction, .. }] => {
            let Prediction { label, index, probability, .. } = prediction;
            Some(Single { label, index: *index, probability: *probability })
        }
        _ => None,
    };
    let mut response = json(&Predictions {
        single,
        predictions: answers.iter().map(|answer| &answer.prediction).collect(),
        model: Model { name: &model.info.name, version: &model.info.version },
        timing_ms: timing,
        request_id: context.request_id,
    });
    let header = HeaderValue::from_str(&header).expect("words and numbers are a valid header");
    response.headers_mut().insert(SERVER_TIMING, header);
    response
}

/// Milliseconds to the microsecond: finer digits are noise.
fn ms(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}
