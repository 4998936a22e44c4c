//! What a request for predictions brings: images, and perhaps the version that it wants.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;

use crate::answer::Answer;
use crate::context::Context;
use crate::description::{Description, IMAGES, Schemas, base64, binary, image_body};
use crate::http::body::{Buffered, RequestBody};
use crate::http::payload::{self, Declared, Encoding};
use crate::http::problem::Problem;
use crate::models::ask_shadow::{self, Answered};
use crate::models::classifier::Asked;
use crate::models::model::Model;

/// Adds the bodies that bring images: a file, a form of files, or JSON.
pub(crate) fn describe(description: Description, schemas: &mut Schemas<'_>) -> Description {
    describe_up_to(description, schemas, schemas.config.images_per_request)
}

/// As [`describe`], for at most `most` images.
pub(crate) fn describe_up_to(
    description: Description,
    schemas: &mut Schemas<'_>,
    most: usize,
) -> Description {
    let files = json!({ "type": "array", "items": binary(), "minItems": 1, "maxItems": most });
    let form = json!({ "type": "object", "required": ["file"], "properties": { "file": files },
        "additionalProperties": false });
    let one = image_body(schemas);
    let encoded = if most > 1 { json!({ "oneOf": [one, images_body(schemas, most)] }) } else { one };
    let limits = schemas.image_limits(most);
    description
        .body("multipart/form-data", form)
        .body("application/json", encoded)
        .body("image/*", binary())
        .body("application/octet-stream", binary())
        .about_body(format!("{IMAGES} {limits}"))
}

/// A body in JSON with several images.
fn images_body(schemas: &mut Schemas<'_>, most: usize) -> Value {
    let images = json!({ "type": "array", "items": base64(), "minItems": 1, "maxItems": most });
    let body = json!({ "type": "object", "required": ["images"], "additionalProperties": false,
        "properties": { "images": images } });
    schemas.define("ImagesBody", body)
}

/// The encoded images of a body, at least one, with their share of the memory for bodies.
pub(crate) async fn read(
    context: &Context<'_>,
    body: &mut RequestBody,
) -> Result<(Vec<Bytes>, OwnedSemaphorePermit), Problem> {
    let config = context.config();
    let declared = Declared::of(context.headers())?;
    let Buffered { bytes, share } = context.read(body).await?;
    let (limit, depth) = (config.images_per_request, config.json_depth);
    if bytes.is_empty() {
        return Err(Problem::NoImage);
    }
    let images = match Encoding::of(declared, &bytes)? {
        Encoding::Raw => vec![bytes],
        Encoding::Multipart { boundary } => payload::multipart(bytes, boundary, limit).await?,
        Encoding::Json => context.classifier().on_pool(move || payload::json(&bytes, limit, depth)).await?,
    };
    if images.is_empty() { Err(Problem::NoImage) } else { Ok((images, share)) }
}

/// What a request asks: a version by its name or label; where it names none, what answers for the model.
pub(crate) async fn asked(model: Arc<Model>, version: Option<String>) -> Result<Asked, Problem> {
    let serving = match version {
        None => model.answering().await?,
        Some(version) => model.get(&version).await?,
    };
    Ok(Asked { model, serving })
}

/// Images of a request that the shadow of its model is to be asked about, too.
pub(crate) struct ForShadow {
    model: Arc<Model>,
    version: String,
    turn: OwnedSemaphorePermit,
    images: Vec<Bytes>,
    memory: OwnedSemaphorePermit,
}

/// Keeps the images of a request for the shadow, where the model has one that is free. Not of a request that names a version.
pub(crate) fn for_shadow(context: &Context<'_>, asked: &Asked, images: &[Bytes]) -> Option<ForShadow> {
    let model = &asked.model;
    let version = model.shadow_version().filter(|version| *version != asked.serving.info.version)?;
    let bytes = u32::try_from(images.iter().map(Bytes::len).sum::<usize>()).ok()?;
    let turn = model.shadow().turn(images.len())?;
    let Some(memory) = context.more_memory(bytes) else {
        model.shadow().left_out(images.len());
        return None;
    };
    Some(ForShadow { model: model.clone(), version, turn, images: images.to_vec(), memory })
}

/// Asks the shadow, which nobody waits for.
pub(crate) fn ask_shadow(context: &Context<'_>, shadow: Option<ForShadow>, answers: &[Answer]) {
    let Some(ForShadow { model, version, turn, images, memory }) = shadow else { return };
    let labels = answers.iter().map(|answer| answer.prediction.label.clone()).collect();
    let answered = Answered { images, memory, labels };
    tokio::spawn(ask_shadow::ask(context.classifier().clone(), model, version, (turn, answered)));
}
