//! `POST /v1/embed`: features of one or several images, what the last dense layer of the network reads.
//!
//! The body is as for [`predict`](super::predict), `?version=` asks another version of the model than the one that serves.
//! Features of different versions cannot be compared: whoever keeps some keeps the version that the answer names. Either
//! every image gets its features, in order, or the request fails as a whole and says which image is at fault.

use hyper::Response;
use ocelli_pipeline::Ask;
use serde::Serialize;

use crate::context::Context;
use crate::description::{Description, QUEUE, Schemas, text};
use crate::http::body::RequestBody;
use crate::http::problem::Problem;
use crate::http::response::{self, ResponseBody};
use crate::images;
use crate::route::{Effect, Route, Tag, Verb};
use crate::scope::Scope;

/// See the module.
pub(super) const ROUTES: &[Route] = &[Route {
    id: "embed",
    method: Verb::Post,
    path: "/v1/embed",
    scope: Scope::Predict,
    effect: Effect::Reads,
    tag: Tag::Service,
    summary: "Features of one or several images",
    handle: |context, body| Box::pin(post(context, body)),
    describe,
}];

#[derive(Serialize, schemars::JsonSchema)]
struct Embedded<'a> {
    /// A list for each image, all of one length.
    features: Vec<&'a [f32]>,
    model: Model<'a>,
    request_id: &'a str,
}

/// Features of different versions cannot be compared.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(rename = "EmbeddingModel")]
struct Model<'a> {
    name: &'a str,
    version: &'a str,
}

fn describe(schemas: &mut Schemas<'_>) -> Description {
    let answer = schemas.answer::<Embedded<'static>>();
    images::describe(answer, schemas)
        .of_model()
        .query("version", text(), "Version of the model, or its label; what serves if left out")
        .busy(QUEUE)
}

/// See the module.
async fn post(context: &Context<'_>, body: &mut RequestBody) -> Result<Response<ResponseBody>, Problem> {
    let classifier = context.classifier();
    let mut query = context.query()?;
    let (model, version) = (context.model(&mut query)?, query.text("version")?);
    query.finish()?;
    if classifier.is_full() {
        // Known before the body is read and unpacked, as for predictions.
        return Err(Problem::busy("the queue is full"));
    }
    let asked = images::asked(model, version).await?;
    let model = &asked.serving;
    if model.features.is_none() {
        return Err(Problem::Conflict(
            "this version has no dense layer, whose input would be the features".to_owned(),
        ));
    }
    let (images, share) = images::read(context, body).await?;
    let answers = classifier.classify(&asked, images, share, Ask { top_k: 1, features: true }).await?;
    context.metrics().classified(&answers);
    let features = answers.iter().map(|answer| answer.features.as_deref().expect("it was asked for"));
    Ok(response::json(&Embedded {
        features: features.collect(),
        model: Model { name: &model.info.name, version: &model.info.version },
        request_id: context.ticket().id(),
    }))
}
