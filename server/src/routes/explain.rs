//! `POST /v1/explain`: a heat map of what in an image speaks for a class.
//!
//! The body is one image, in any form that [`predict`](super::predict) takes. `?class=` names the class that the map is about, the
//! likeliest one if left out; `?method=` how the map is made, `?version=` another version of the model than the one that
//! serves. Maps are computed one after the other by a thread of their own.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::Response;
use ocelli_common::text::chain;
use ocelli_pipeline::explain::{ExplainMethod, ExplainOptions, HeatMap, Picture, class_index};
use serde::Serialize;
use serde_json::json;

use crate::context::Context;
use crate::description::{Description, Schemas, text};
use crate::http::body::RequestBody;
use crate::http::problem::Problem;
use crate::http::response::{self, ResponseBody};
use crate::images;
use crate::models::explaining::{Explained, FULL, Question};
use crate::route::{Effect, Route, Tag, Verb};
use crate::scope::Scope;

/// See the module.
pub(super) const ROUTES: &[Route] = &[Route {
    id: "explain",
    method: Verb::Post,
    path: "/v1/explain",
    scope: Scope::Predict,
    effect: Effect::Reads,
    tag: Tag::Service,
    summary: "What in an image speaks for a class",
    handle: |context, body| Box::pin(post(context, body)),
    describe,
}];

/// Most places of a map along a side: what lies between the places of a layer is interpolated anyway.
const MAP_SIDE: usize = 64;

/// Values of a map that are told apart: a colour has 256 steps.
const STEPS: f32 = 1e4;

#[derive(Serialize, schemars::JsonSchema)]
struct Explanation<'a> {
    version: &'a str,
    method: ExplainMethod,
    /// The class that the map is about.
    class: &'a str,
    index: usize,
    /// Its probability in 0..=1.
    probability: f32,
    /// The layer that the map is made from; null for occlusion.
    layer: Option<&'a str>,
    input: Input,
    map: HeatMap,
    request_id: &'a str,
}

/// The image as the network sees it.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(rename = "ExplainedInput")]
struct Input {
    width: usize,
    height: usize,
    /// A PNG in base64.
    png: String,
}

fn describe(schemas: &mut Schemas<'_>) -> Description {
    let answer = schemas.answer::<Explanation<'static>>();
    let methods = json!({ "enum": ExplainMethod::ALL, "default": ExplainMethod::default() });
    images::describe_up_to(answer, schemas, 1)
        .query("class", text(), "Name of the class that the map is about; the likeliest one if left out")
        .query(
            "method",
            methods,
            "How the map is made; occlusion takes some hundred passes, and works with any network",
        )
        .of_model()
        .query("version", text(), "Version of the model, or its label; what serves if left out")
        .busy(FULL)
}

/// See the module.
async fn post(context: &Context<'_>, body: &mut RequestBody) -> Result<Response<ResponseBody>, Problem> {
    let (classifier, explaining) = (context.classifier(), context.explaining());
    let mut query = context.query()?;
    let class = query.text("class")?;
    let method = match query.text("method")? {
        None => ExplainMethod::default(),
        Some(word) => ExplainMethod::named(&word).ok_or_else(unknown_method)?,
    };
    let (model, version) = (context.model(&mut query)?, query.text("version")?);
    query.finish()?;
    // Known before the body is read, as for predictions. A client that sends slowly holds no place.
    drop(explaining.place()?);
    let asked = images::asked(model, version).await?;
    let model = &asked.serving;
    let index = |name: String| class_index(&model.info.classes, &name);
    let class = class.map(index).transpose().map_err(|error| Problem::BadQuery(chain(&error)))?;
    let (mut images, share) = images::read(context, body).await?;
    if images.len() > 1 {
        return Err(Problem::TooManyImages { limit: 1 });
    }
    let bytes = images.pop().ok_or(Problem::NoImage)?;
    let place = explaining.place()?;
    let decoder = model.decoder.clone();
    let decode = move || {
        let decoded = decoder.prepare(&bytes);
        drop(share);
        let undecodable = |reason| Problem::Undecodable { index: 0, images: 1, reason };
        let image = decoded.map_err(|error| undecodable(error.to_string()))?;
        let seen = Picture::of(&image, decoder.preprocessing());
        let png = STANDARD.encode(seen.png());
        Ok((image, Input { width: seen.width, height: seen.height, png }))
    };
    let (image, input) = classifier.on_pool(decode).await?;
    let question = Question {
        version: model.info.version.clone(),
        file: asked.model.reader(&model.info.version),
        options: ExplainOptions { method, layer: None },
        exact: model.info.exact,
        image,
        class,
    };
    let Explained { explanation, layer } = explaining.explain(place, question).await?;
    let mut map = explanation.map.for_image((input.width, input.height), MAP_SIDE);
    map.values.iter_mut().for_each(|value| *value = (*value * STEPS).round() / STEPS);
    Ok(response::json(&Explanation {
        version: &model.info.version,
        method,
        class: &explanation.class,
        index: explanation.index,
        probability: explanation.probability,
        layer: layer.as_deref(),
        input,
        map,
        request_id: context.ticket().id(),
    }))
}

fn unknown_method() -> Problem {
    let names: Vec<&str> = ExplainMethod::ALL.into_iter().map(ExplainMethod::name).collect();
    Problem::BadQuery(format!("method must be one of {}", names.join(", ")))
}
