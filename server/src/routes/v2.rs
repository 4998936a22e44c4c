//! `/v2`: the Open Inference Protocol; `crate::v2` says what the model takes and gives there.

use std::sync::Arc;

use hyper::Response;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::blocking::blocking;
use crate::body::{Buffered, RequestBody};
use crate::context::Context;
use crate::description::{Description, QUEUE, Schemas, binary, number};
use crate::images;
use crate::json::{self, Object};
use crate::payload;
use crate::problem::{Problem, Report};
use crate::response::{self, ResponseBody};
use crate::route::{Effect, Route, Tag, Verb};
use crate::scope::Scope;
use crate::serving::Serving;
use crate::v2::codec::{self, Asked};
use crate::v2::expected::Expected;
use crate::v2::metadata::{
    Indexed, Live, Loaded, Model, ModelConfig, ModelReady, Ready, Server, Statistics, VersionStatistics,
};
use crate::v2::outputs::{self, Inferred};
use crate::v2::tensors::Images;

/// See the module.
pub(super) const ROUTES: &[Route] = &[
    Route {
        id: "v2Server",
        method: Verb::Get,
        path: "/v2",
        scope: Scope::Predict,
        effect: Effect::Reads,
        tag: Tag::OpenInference,
        summary: "Show the service and the extensions of the protocol it has",
        handle: |context, _| Box::pin(server(context)),
        describe: |schemas| schemas.answer::<Server>(),
    },
    Route {
        id: "v2ServerSlash",
        method: Verb::Get,
        path: "/v2/",
        scope: Scope::Predict,
        effect: Effect::Reads,
        tag: Tag::OpenInference,
        summary: "The same, as the protocol's own description writes it",
        handle: |context, _| Box::pin(server(context)),
        describe: |schemas| schemas.answer::<Server>(),
    },
    Route {
        id: "v2Live",
        method: Verb::Get,
        path: "/v2/health/live",
        scope: Scope::Public,
        effect: Effect::Reads,
        tag: Tag::OpenInference,
        summary: "Whether the process answers at all",
        handle: |_, _| Box::pin(async { Ok(live()) }),
        describe: |schemas| schemas.answer::<Live>(),
    },
    Route {
        id: "v2Ready",
        method: Verb::Get,
        path: "/v2/health/ready",
        scope: Scope::Public,
        effect: Effect::Reads,
        tag: Tag::OpenInference,
        summary: "Whether new work is welcome",
        handle: |context, _| Box::pin(ready(context)),
        describe: |schemas| schemas.answer::<Ready>(),
    },
    Route {
        id: "v2AllStatistics",
        method: Verb::Get,
        path: "/v2/models/stats",
        scope: Scope::Predict,
        effect: Effect::Reads,
        tag: Tag::OpenInference,
        summary: "Count the work of the versions in memory",
        handle: |context, _| Box::pin(all_statistics(context)),
        describe: |schemas| schemas.answer::<Statistics<'static>>(),
    },
    Route {
        id: "v2Model",
        method: Verb::Get,
        path: "/v2/models/{model}",
        scope: Scope::Predict,
        effect: Effect::Reads,
        tag: Tag::OpenInference,
        summary: "Show inputs and outputs of the model",
        handle: |context, _| Box::pin(model(context)),
        describe: |schemas| schemas.answer::<Model<'static>>(),
    },
    Route {
        id: "v2Version",
        method: Verb::Get,
        path: "/v2/models/{model}/versions/{version}",
        scope: Scope::Predict,
        effect: Effect::Reads,
        tag: Tag::OpenInference,
        summary: "Show inputs and outputs of a version",
        handle: |context, _| Box::pin(model(context)),
        describe: |schemas| schemas.answer::<Model<'static>>(),
    },
    Route {
        id: "v2ModelReady",
        method: Verb::Get,
        path: "/v2/models/{model}/ready",
        scope: Scope::Predict,
        effect: Effect::Reads,
        tag: Tag::OpenInference,
        summary: "Whether the model answers",
        handle: |context, _| Box::pin(model_ready(context)),
        describe: |schemas| schemas.answer::<ModelReady<'static>>(),
    },
    Route {
        id: "v2VersionReady",
        method: Verb::Get,
        path: "/v2/models/{model}/versions/{version}/ready",
        scope: Scope::Predict,
        effect: Effect::Reads,
        tag: Tag::OpenInference,
        summary: "Whether a version answers",
        handle: |context, _| Box::pin(model_ready(context)),
        describe: |schemas| schemas.answer::<ModelReady<'static>>(),
    },
    Route {
        id: "v2Config",
        method: Verb::Get,
        path: "/v2/models/{model}/config",
        scope: Scope::Predict,
        effect: Effect::Reads,
        tag: Tag::OpenInference,
        summary: "Show the configuration of the model",
        handle: |context, _| Box::pin(config(context)),
        describe: |schemas| schemas.answer::<ModelConfig<'static>>(),
    },
    Route {
        id: "v2VersionConfig",
        method: Verb::Get,
        path: "/v2/models/{model}/versions/{version}/config",
        scope: Scope::Predict,
        effect: Effect::Reads,
        tag: Tag::OpenInference,
        summary: "Show the configuration of a version",
        handle: |context, _| Box::pin(config(context)),
        describe: |schemas| schemas.answer::<ModelConfig<'static>>(),
    },
    Route {
        id: "v2Statistics",
        method: Verb::Get,
        path: "/v2/models/{model}/stats",
        scope: Scope::Predict,
        effect: Effect::Reads,
        tag: Tag::OpenInference,
        summary: "Count the work of the versions in memory",
        handle: |context, _| Box::pin(all_statistics(context)),
        describe: |schemas| schemas.answer::<Statistics<'static>>(),
    },
    Route {
        id: "v2VersionStatistics",
        method: Verb::Get,
        path: "/v2/models/{model}/versions/{version}/stats",
        scope: Scope::Predict,
        effect: Effect::Reads,
        tag: Tag::OpenInference,
        summary: "Count the work of a version",
        handle: |context, _| Box::pin(statistics(context)),
        describe: |schemas| schemas.answer::<Statistics<'static>>(),
    },
    Route {
        id: "v2Infer",
        method: Verb::Post,
        path: "/v2/models/{model}/infer",
        scope: Scope::Predict,
        effect: Effect::Reads,
        tag: Tag::OpenInference,
        summary: "Classify a tensor of images",
        handle: |context, body| Box::pin(infer(context, body)),
        describe: describe_infer,
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
        describe: describe_infer,
    },
    Route {
        id: "v2Index",
        method: Verb::Post,
        path: "/v2/repository/index",
        scope: Scope::Predict,
        effect: Effect::Reads,
        tag: Tag::OpenInference,
        summary: "List the versions of the model",
        handle: |context, body| Box::pin(index(context, body)),
        describe: describe_index,
    },
    Route {
        id: "v2Load",
        method: Verb::Post,
        path: "/v2/repository/models/{model}/load",
        scope: Scope::Admin,
        effect: Effect::Changes,
        tag: Tag::OpenInference,
        summary: "Serve what the data folder says",
        handle: |context, body| Box::pin(load(context, body)),
        describe: describe_load,
    },
    Route {
        id: "v2Unload",
        method: Verb::Post,
        path: "/v2/repository/models/{model}/unload",
        scope: Scope::Admin,
        effect: Effect::Changes,
        tag: Tag::OpenInference,
        summary: "Refused: this service always serves its model",
        handle: |context, _| Box::pin(unload(context)),
        describe: describe_unload,
    },
];

/// An inference request, as JSON or with raw tensors behind the JSON.
fn describe_infer(schemas: &mut Schemas<'_>) -> Description {
    let input = |name: &str, datatypes: Value, data: &str| {
        json!({ "type": "object", "required": ["name", "shape", "datatype", "data"], "properties": {
            "name": { "const": name },
            "shape": { "type": "array", "items": number(1, 4096), "minItems": 1, "maxItems": 4 },
            "datatype": { "enum": datatypes },
            "parameters": { "type": "object" },
            "data": { "type": "array", "description": data } } })
    };
    let input = json!({ "oneOf": [
        input("pixels", json!(["FP32", "UINT8"]), "Pixels of the network's size, 0 to 255; nested or flat"),
        input("image", json!(["BYTES"]), "Image files in base64, as /predict takes it") ] });
    let output = json!({ "type": "object", "required": ["name"], "properties": {
        "name": { "const": "probabilities" },
        "parameters": { "type": "object", "properties": {
            "binary_data": { "type": "boolean" },
            "classification": { "type": "integer", "minimum": 1,
                "description": "This many of the most likely classes as `probability:index:label`" } } } } });
    let request = json!({ "type": "object", "required": ["inputs"], "properties": {
        "id": { "type": "string" },
        "parameters": { "type": "object", "properties": { "binary_data_output": { "type": "boolean" } } },
        "inputs": { "type": "array", "items": input, "minItems": 1, "maxItems": 1 },
        "outputs": { "type": "array", "items": output, "maxItems": 1 } } });
    let limits = schemas.image_limits(schemas.config.images_per_request);
    schemas
        .answer::<Inferred<'static>>()
        .body("application/json", request)
        .body("application/octet-stream", binary())
        .about_body(limits)
        .header(
            "Inference-Header-Content-Length",
            json!({ "type": "integer" }),
            "Bytes of JSON in front of raw tensors, where there are some",
        )
        .busy(QUEUE)
}

fn describe_index(schemas: &mut Schemas<'_>) -> Description {
    let request = json!({ "type": "object", "properties": { "ready": { "type": "boolean" } } });
    let answer = json!({ "type": "array", "items": schemas.of::<Indexed<'static>>() });
    Description::new(answer).body("application/json", request).optional_body()
}

fn describe_load(schemas: &mut Schemas<'_>) -> Description {
    let none = json!({ "type": "object", "additionalProperties": false });
    let request = json!({ "type": "object", "properties": { "parameters": none } });
    schemas.answer::<Loaded<'static>>().body("application/json", request).optional_body()
}

/// Only ever refused, as its summary says.
fn describe_unload(schemas: &mut Schemas<'_>) -> Description {
    Description {
        answer: ("application/problem+json", schemas.of::<Report<'static>>()),
        ..Description::new(Value::Null).status(400)
    }
}

/// `GET /v2`.
async fn server(context: &Context<'_>) -> Result<Response<ResponseBody>, Problem> {
    context.no_query()?;
    Ok(response::json(&Server::SELF))
}

/// `GET /v2/health/live`.
fn live() -> Response<ResponseBody> {
    response::json(&Live { live: true })
}

/// `GET /v2/health/ready`: clients look at the status alone.
async fn ready(context: &Context<'_>) -> Result<Response<ResponseBody>, Problem> {
    check_ready(context)?;
    Ok(response::json(&Ready { live: true, ready: true }))
}

/// `GET /v2/models/{model}[/versions/{version}]/ready`.
async fn model_ready(context: &Context<'_>) -> Result<Response<ResponseBody>, Problem> {
    context.no_query()?;
    check_ready(context)?;
    let serving = find(context).await?;
    Ok(response::json(&ModelReady { name: &serving.info.name, ready: true }))
}

/// `GET /v2/models/{model}[/versions/{version}]`.
async fn model(context: &Context<'_>) -> Result<Response<ResponseBody>, Problem> {
    context.no_query()?;
    let serving = find(context).await?;
    let versions = versions(context).await?;
    Ok(response::json(&Model::new(&serving.info, versions)))
}

/// `GET /v2/models/{model}[/versions/{version}]/config`.
async fn config(context: &Context<'_>) -> Result<Response<ResponseBody>, Problem> {
    context.no_query()?;
    let serving = find(context).await?;
    Ok(response::json(&ModelConfig::new(&serving.info, context.config())))
}

/// `GET /v2/models/stats`, and of one model: the versions in memory.
async fn all_statistics(context: &Context<'_>) -> Result<Response<ResponseBody>, Problem> {
    context.no_query()?;
    check_name(context)?;
    let versions = context.models().in_memory();
    let model_stats = versions.iter().map(|serving| VersionStatistics::of(serving)).collect();
    Ok(response::json(&Statistics { model_stats }))
}

/// `GET /v2/models/{model}/versions/{version}/stats`.
async fn statistics(context: &Context<'_>) -> Result<Response<ResponseBody>, Problem> {
    context.no_query()?;
    let serving = find(context).await?;
    Ok(response::json(&Statistics { model_stats: vec![VersionStatistics::of(&serving)] }))
}

/// `POST /v2/models/{model}[/versions/{version}]/infer`.
async fn infer(context: &Context<'_>, body: &mut RequestBody) -> Result<Response<ResponseBody>, Problem> {
    let classifier = context.classifier();
    context.no_query()?;
    check_name(context)?;
    payload::check_content_encoding(context.headers())?;
    let header_length = codec::header_length(context.headers())?;
    if classifier.is_full() {
        // As in /predict: known before the body is read.
        return Err(Problem::busy("the queue is full"));
    }
    let serving = find(context).await?;
    let Buffered { bytes, share } = context.read(body).await?;
    let expected = Expected::new(serving.info.input, context.config());
    // The share goes along: the bytes are in memory for as long as they are read, even if the client leaves.
    let read = move || codec::read(&bytes, header_length, &expected).map(|asked| (asked, share));
    let (Asked { id, images, output }, share) = classifier.on_pool(read).await?;
    let top_k = output.top_k(&serving.info);
    let answers = match images {
        Images::Encoded(files) => classifier.classify(&serving, files, share, top_k).await?,
        Images::Prepared(pixels) => {
            drop(share);
            classifier.classify_prepared(&serving, pixels, top_k).await?
        }
    };
    context.metrics().classified(&answers);
    Ok(outputs::respond(&serving.info, id.as_deref(), output, &answers))
}

/// `POST /v2/repository/index`: every version. `{"ready": true}` leaves none out, as all of them answer.
async fn index(context: &Context<'_>, body: &mut RequestBody) -> Result<Response<ResponseBody>, Problem> {
    #[derive(Deserialize)]
    struct Request {
        #[serde(default, rename = "ready", deserialize_with = "json::present")]
        _ready: Option<bool>,
    }
    context.no_query()?;
    read_small::<Request>(context, body).await?;
    let name = context.models().name();
    let line = |version| Indexed { name, version, state: "READY", reason: "" };
    let lines: Vec<_> = versions(context).await?.into_iter().map(line).collect();
    Ok(response::json(&lines))
}

/// `POST /v2/repository/models/{model}/load`: serves what the data folder says.
async fn load(context: &Context<'_>, body: &mut RequestBody) -> Result<Response<ResponseBody>, Problem> {
    #[derive(Deserialize)]
    struct Request {
        #[serde(default, rename = "parameters", deserialize_with = "json::present")]
        _parameters: Option<Object<NoParameters>>,
    }
    /// Triton takes a configuration and files here; leaving them unread would be worse than refusing them.
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct NoParameters {}
    context.no_query()?;
    check_name(context)?;
    read_small::<Request>(context, body).await?;
    let models = context.models().clone();
    let promotion = blocking(move || models.reload()).await?;
    Ok(response::json(&Loaded { name: context.models().name(), version: promotion.version }))
}

/// `POST /v2/repository/models/{model}/unload`: refused.
async fn unload(context: &Context<'_>) -> Result<Response<ResponseBody>, Problem> {
    context.no_query()?;
    check_name(context)?;
    Err(Problem::Unsupported("this service always serves its model: it cannot be unloaded"))
}

fn check_ready(context: &Context<'_>) -> Result<(), Problem> {
    if context.is_ready() { Ok(()) } else { Err(Problem::NotReady) }
}

/// Refuses another model's name, where the path has one.
fn check_name(context: &Context<'_>) -> Result<(), Problem> {
    let name = context.models().name();
    if ["", name].contains(&context.parameter("model")) {
        return Ok(());
    }
    Err(Problem::NotFound(format!("there is no such model; this service has one, \"{name}\"")))
}

/// The version in the path, loaded where it is not; the one that serves where the path has none.
async fn find(context: &Context<'_>) -> Result<Arc<Serving>, Problem> {
    check_name(context)?;
    let models = context.models();
    let version = Some(context.parameter("version")).filter(|version| !version.is_empty());
    if let Some(version) = version
        && models.versions().is_err()
        && models.loaded(version).is_none()
    {
        let only = &models.serving().info.version;
        return Err(Problem::NotFound(format!("there is no such version; this service has one, {only}")));
    }
    images::version(context, version.map(str::to_owned)).await
}

/// All versions, oldest first; without a data folder, the one that serves.
async fn versions(context: &Context<'_>) -> Result<Vec<String>, Problem> {
    let models = context.models().clone();
    blocking(move || match models.versions() {
        Ok(versions) => Ok(versions.list()?.into_iter().map(|record| record.version).collect()),
        Err(_) => Ok(vec![models.serving().info.version.clone()]),
    })
    .await
}

/// The JSON of a request that may come without any.
async fn read_small<T: DeserializeOwned>(
    context: &Context<'_>,
    body: &mut RequestBody,
) -> Result<Option<T>, Problem> {
    payload::check_content_encoding(context.headers())?;
    let Buffered { bytes, share: _share } = context.read(body).await?;
    if bytes.is_empty() {
        Ok(None)
    } else {
        json::parse(&bytes, context.config().json_depth).map(|Object(request)| Some(request))
    }
}
