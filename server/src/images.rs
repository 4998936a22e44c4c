//! What a request for predictions brings: images, and perhaps the version that it wants.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;

use crate::context::Context;
use crate::description::{Description, IMAGES, Schemas, base64, binary};
use crate::http::body::{Buffered, RequestBody};
use crate::http::payload::{self, Declared, Encoding};
use crate::http::problem::Problem;
use crate::model::serving::Serving;

/// Adds the bodies that bring images: a file, a form of files, or JSON.
pub(crate) fn describe(description: Description, schemas: &Schemas<'_>) -> Description {
    describe_up_to(description, schemas, schemas.config.images_per_request)
}

/// As [`describe`], for at most `most` images.
pub(crate) fn describe_up_to(description: Description, schemas: &Schemas<'_>, most: usize) -> Description {
    let files = json!({ "type": "array", "items": binary(), "minItems": 1, "maxItems": most });
    let form = json!({ "type": "object", "required": ["file"], "properties": { "file": files },
        "additionalProperties": false });
    let images = json!({ "type": "array", "items": base64(), "minItems": 1, "maxItems": most });
    let base64 = json!({ "oneOf": [
        { "type": "object", "required": ["image"], "additionalProperties": false,
          "properties": { "image": base64() } },
        { "type": "object", "required": ["images"], "additionalProperties": false,
          "properties": { "images": images } } ] });
    let limits = schemas.image_limits(most);
    description
        .body("multipart/form-data", form)
        .body("application/json", base64)
        .body("image/*", binary())
        .body("application/octet-stream", binary())
        .about_body(format!("{IMAGES} {limits}"))
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

/// The version that a request asks for; the one that serves where it asks for none.
pub(crate) async fn version(context: &Context<'_>, version: Option<String>) -> Result<Arc<Serving>, Problem> {
    let models = &context.models();
    match version {
        None => Ok(models.serving()),
        Some(version) => models.get(&version).await,
    }
}
