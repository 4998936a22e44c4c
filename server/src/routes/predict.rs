//! `POST /predict`: labels of one or several images.
//!
//! The body is an image, a form with one or several `file` fields, or JSON with `image` or `images` in base64, as
//! [`payload`](crate::http::payload) tells them apart; `?top_k=` asks for more or fewer of the best classes, `?version=` for another version
//! of the model than the one that serves. Of a model that says any number of labels, `labels` holds all of them with probability
//! and threshold, and `label` is the most likely one, whether the image has it or not. Either every image gets its prediction, in order, or the request fails as a
//! whole and says which image is at fault.

use std::time::Duration;

use hyper::Response;
use hyper::header::{HeaderName, HeaderValue};
use ocelli_pipeline::{Ask, LabelAnswer, Prediction};
use serde::Serialize;

use crate::answer::Answer;
use crate::context::Context;
use crate::description::{Description, QUEUE, Schemas, number_or, text};
use crate::http::body::RequestBody;
use crate::http::problem::Problem;
use crate::http::response::{self, ResponseBody};
use crate::images;
use crate::models::serving::Serving;
use crate::route::{Effect, Route, Tag, Verb};
use crate::scope::Scope;

/// See the module.
pub(super) const ROUTES: &[Route] = &[Route {
    id: "predict",
    method: Verb::Post,
    path: "/predict",
    scope: Scope::Predict,
    effect: Effect::Reads,
    tag: Tag::Service,
    summary: "Label one or several images",
    handle: |context, body| Box::pin(post(context, body)),
    describe,
}];

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

#[derive(Serialize, schemars::JsonSchema)]
#[schemars(rename = "PredictAnswer")]
struct Predictions<'a> {
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
    /// All labels, of a model that says any number of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    labels: Option<&'a [LabelAnswer]>,
}

#[derive(Serialize, schemars::JsonSchema)]
#[schemars(rename = "PredictModel")]
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

fn describe(schemas: &mut Schemas<'_>) -> Description {
    let config = schemas.config;
    let top_k = number_or(config.default_top_k, 1, config.max_top_k as u64);
    let answer = schemas.answer::<Predictions<'static>>();
    images::describe(answer, schemas)
        .query("top_k", top_k, "How many of the most likely classes to name")
        .of_model()
        .query("version", text(), "Version of the model, or its label; what serves if left out")
        .header("Server-Timing", text(), "decode, queue, compute, total in ms")
        .busy(QUEUE)
}

/// See the module.
async fn post(context: &Context<'_>, body: &mut RequestBody) -> Result<Response<ResponseBody>, Problem> {
    let (config, classifier) = (context.config(), context.classifier());
    let mut query = context.query()?;
    let top_k = query.number("top_k", 1..=config.max_top_k)?;
    let (model, version) = (context.model(&mut query)?, query.text("version")?);
    query.finish()?;
    if classifier.is_full() {
        // Known before the body is read and unpacked: turning a request away must cost less than answering it.
        return Err(Problem::busy("the queue is full"));
    }
    let named = version.is_some();
    let asked = images::asked(model, version).await?;
    let top_k = top_k.unwrap_or(asked.model.config().default_top_k);
    let (images, share) = images::read(context, body).await?;
    let shadow = if named { None } else { images::for_shadow(context, &asked, &images) };
    let answers = classifier.classify(&asked, images, share, Ask { top_k, features: false }).await?;
    images::ask_shadow(context, shadow, &answers);
    context.metrics().classified(&answers);
    Ok(respond(context, &asked.serving, &answers))
}

fn respond(context: &Context<'_>, model: &Serving, answers: &[Answer]) -> Response<ResponseBody> {
    let slowest = |part: fn(&Answer) -> Duration| answers.iter().map(part).max().map_or(0.0, ms);
    let timing = Timing {
        decode: slowest(|answer| answer.decode),
        queue: slowest(|answer| answer.queue),
        compute: slowest(|answer| answer.compute),
        total: ms(context.ticket().elapsed()),
    };
    let header = format!(
        "decode;dur={}, queue;dur={}, compute;dur={}, total;dur={}",
        timing.decode, timing.queue, timing.compute, timing.total
    );
    let single = match answers {
        [Answer { prediction, .. }] => {
            let Prediction { label, index, probability, labels, .. } = prediction;
            Some(Single { label, index: *index, probability: *probability, labels: labels.as_deref() })
        }
        _ => None,
    };
    let mut response = response::json(&Predictions {
        single,
        predictions: answers.iter().map(|answer| &answer.prediction).collect(),
        model: Model { name: &model.info.name, version: &model.info.version },
        timing_ms: timing,
        request_id: context.ticket().id(),
    });
    let header = HeaderValue::from_str(&header).expect("words and numbers are a valid header");
    response.headers_mut().insert(SERVER_TIMING, header);
    response
}

/// Milliseconds to the microsecond: finer digits are noise.
fn ms(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}
