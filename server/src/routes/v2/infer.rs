//! `POST /v2/models/{model}[/versions/{version}]/infer`.

use hyper::Response;
use ocelli_pipeline::Ask;
use serde_json::{Value, json};

use crate::context::Context;
use crate::description::{Description, QUEUE, Schemas, binary, number};
use crate::http::body::{Buffered, RequestBody};
use crate::http::payload;
use crate::http::problem::Problem;
use crate::http::response::ResponseBody;
use crate::images;
use crate::route::{Effect, Route, Tag, Verb};
use crate::routes::v2::model::find;
use crate::scope::Scope;
use crate::v2::codec;
use crate::v2::expected::Expected;
use crate::v2::outputs::{self, Inferred};
use crate::v2::tensors::Images;

/// See the module.
pub(crate) const ROUTES: &[Route] = &[
    Route {
        id: "v2Infer",
        method: Verb::Post,
        path: "/v2/models/{model}/infer",
        scope: Scope::Predict,
        effect: Effect::Reads,
        tag: Tag::OpenInference,
        summary: "Classify a tensor of images",
        handle: |context, body| Box::pin(infer(context, body)),
        describe,
    },
    Route {
        id: "v2VersionInfer",
        method: Verb::Post,
        path: "/v2/models/{model}/versions/{version}/infer",
        scope: Scope::Predict,
        effect: Effect::Reads,
        tag: Tag::OpenInference,
        summary: "Classify a tensor of images with a version",
        handle: |context, body| Box::pin(infer(context, body)),
        describe,
    },
];

const HEADER: &str = "Inference-Header-Content-Length";
const HEADER_MEANING: &str = "Bytes of JSON in front of raw tensors, where there are some";

/// An inference request, as JSON or with raw tensors behind the JSON.
fn describe(schemas: &mut Schemas<'_>) -> Description {
    let input = |name: &str, datatypes: Value, data: &str| {
        json!({ "type": "object", "required": ["name", "shape", "datatype", "data"], "properties": {
            "name": { "const": name },
            "shape": { "type": "array", "items": number(1, 4096), "minItems": 1, "maxItems": 4 },
            "datatype": { "type": "string", "enum": datatypes },
            "parameters": { "type": "object" },
            "data": { "type": "array", "items": {}, "description": data } } })
    };
    let pixels =
        input("pixels", json!(["FP32", "UINT8"]), "Pixels of the network's size, 0 to 255; nested or flat");
    let image = input("image", json!(["BYTES"]), "Image files in base64, as /predict takes it");
    let input =
        json!({ "oneOf": [schemas.define("V2PixelsInput", pixels), schemas.define("V2ImageInput", image)] });
    let output = json!({ "type": "object", "required": ["name"], "properties": {
        "name": { "type": "string", "enum": ["probabilities", "known", "score"] },
        "parameters": { "type": "object", "properties": {
            "binary_data": { "type": "boolean" },
            "classification": { "type": "integer", "minimum": 1,
                "description": "This many of the most likely classes as `probability:index:label`" } } } } });
    let output = schemas.define("V2RequestedOutput", output);
    let request = json!({ "type": "object", "required": ["inputs"], "properties": {
        "id": { "type": "string" },
        "parameters": { "type": "object", "properties": { "binary_data_output": { "type": "boolean" } } },
        "inputs": { "type": "array", "items": input, "minItems": 1, "maxItems": 1 },
        "outputs": { "type": "array", "items": output, "maxItems": 3 } } });
    let request = schemas.define("V2InferRequest", request);
    let limits = schemas.image_limits(schemas.config.images_per_request);
    schemas
        .answer::<Inferred<'static>>()
        .body("application/json", request)
        .body("application/octet-stream", binary())
        .about_body(limits)
        .request_header(HEADER, json!({ "type": "integer", "minimum": 0 }), HEADER_MEANING)
        .header(HEADER, json!({ "type": "integer" }), HEADER_MEANING)
        .busy(QUEUE)
}

/// See the module.
async fn infer(context: &Context<'_>, body: &mut RequestBody) -> Result<Response<ResponseBody>, Problem> {
    let classifier = context.classifier();
    context.no_query()?;
    payload::check_content_encoding(context.headers())?;
    let header_length = codec::header_length(context.headers())?;
    if classifier.is_full() {
        // As in /predict: known before the body is read.
        return Err(Problem::busy("the queue is full"));
    }
    let asked = find(context).await?;
    let serving = &asked.serving;
    let Buffered { bytes, share } = context.read(body).await?;
    let expected = Expected::new(serving.info.input, context.config());
    // The share goes along: the bytes are in memory for as long as they are read, even if the client leaves.
    let read = move || codec::read(&bytes, header_length, &expected).map(|asked| (asked, share));
    let (codec::Asked { id, images, outputs }, share) = classifier.on_pool(read).await?;
    outputs::check(&outputs, &serving.info)?;
    let named = !context.parameter("version").is_empty();
    let ask = Ask { top_k: outputs::top_k(&outputs, &serving.info), features: false };
    let answers = match images {
        Images::Encoded(files) => {
            let shadow = if named { None } else { images::for_shadow(context, &asked, &files) };
            let answers = classifier.classify(&asked, files, share, ask).await?;
            images::ask_shadow(context, shadow, &answers);
            answers
        }
        Images::Prepared(pixels) => {
            drop(share);
            classifier.classify_prepared(&asked, pixels, ask).await?
        }
    };
    context.metrics().classified(&answers);
    Ok(outputs::respond(&serving.info, id.as_deref(), &outputs, &answers))
}
