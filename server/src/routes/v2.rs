//! `/v2`: the Open Inference Protocol; `crate::v2` says what the model takes and gives there.

use std::sync::Arc;

use hyper::Response;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::body::{Buffered, RequestBody};
use crate::json::{self, Object};
use crate::payload;
use crate::problem::Problem;
use crate::response::{self, ResponseBody};
use crate::router::Context;
use crate::routes::{blocking, predict};
use crate::serving::Serving;
use crate::v2::codec::{self, Asked};
use crate::v2::expected::Expected;
use crate::v2::metadata::{
    Indexed, Live, Loaded, Model, ModelConfig, ModelReady, Ready, Server, Statistics, VersionStatistics,
};
use crate::v2::outputs;
use crate::v2::tensors::Images;

/// `GET /v2`.
pub(crate) fn server(context: &Context<'_>) -> Result<Response<ResponseBody>, Problem> {
    context.query()?.finish()?;
    Ok(response::json(&Server::SELF))
}

/// `GET /v2/health/live`.
pub(crate) fn live() -> Response<ResponseBody> {
    response::json(&Live { live: true })
}

/// `GET /v2/health/ready`: clients look at the status alone.
pub(crate) fn ready(context: &Context<'_>) -> Result<Response<ResponseBody>, Problem> {
    check_ready(context)?;
    Ok(response::json(&Ready { live: true, ready: true }))
}

/// `GET /v2/models/{model}[/versions/{version}]/ready`.
pub(crate) async fn model_ready(
    context: &Context<'_>,
    model: &str,
    version: Option<&str>,
) -> Result<Response<ResponseBody>, Problem> {
    context.query()?.finish()?;
    check_ready(context)?;
    let serving = find(context, model, version).await?;
    Ok(response::json(&ModelReady { name: &serving.info.name, ready: true }))
}

/// `GET /v2/models/{model}[/versions/{version}]`.
pub(crate) async fn model(
    context: &Context<'_>,
    model: &str,
    version: Option<&str>,
) -> Result<Response<ResponseBody>, Problem> {
    context.query()?.finish()?;
    let serving = find(context, model, version).await?;
    let versions = versions(context).await?;
    Ok(response::json(&Model::new(&serving.info, versions)))
}

/// `GET /v2/models/{model}[/versions/{version}]/config`.
pub(crate) async fn config(
    context: &Context<'_>,
    model: &str,
    version: Option<&str>,
) -> Result<Response<ResponseBody>, Problem> {
    context.query()?.finish()?;
    let serving = find(context, model, version).await?;
    Ok(response::json(&ModelConfig::new(&serving.info, &context.state.config)))
}

/// `GET /v2/models/stats`, and of one model: the versions in memory.
pub(crate) fn all_statistics(
    context: &Context<'_>,
    model: Option<&str>,
) -> Result<Response<ResponseBody>, Problem> {
    context.query()?.finish()?;
    if let Some(model) = model {
        check_name(context, model)?;
    }
    let versions = context.state.models.in_memory();
    let model_stats = versions.iter().map(|serving| VersionStatistics::of(serving)).collect();
    Ok(response::json(&Statistics { model_stats }))
}

/// `GET /v2/models/{model}/versions/{version}/stats`.
pub(crate) async fn statistics(
    context: &Context<'_>,
    model: &str,
    version: &str,
) -> Result<Response<ResponseBody>, Problem> {
    context.query()?.finish()?;
    let serving = find(context, model, Some(version)).await?;
    Ok(response::json(&Statistics { model_stats: vec![VersionStatistics::of(&serving)] }))
}

/// `POST /v2/models/{model}[/versions/{version}]/infer`.
pub(crate) async fn infer(
    context: &Context<'_>,
    body: &mut RequestBody,
    model: &str,
    version: Option<&str>,
) -> Result<Response<ResponseBody>, Problem> {
    let state = context.state;
    context.query()?.finish()?;
    check_name(context, model)?;
    payload::check_content_encoding(&context.parts.headers)?;
    let header_length = codec::header_length(&context.parts.headers)?;
    if state.classifier.is_full() {
        // As in /predict: known before the body is read.
        return Err(Problem::busy("the queue is full"));
    }
    let serving = find(context, model, version).await?;
    let Buffered { bytes, share } = body.read(&state.config, &state.body_memory).await?;
    let expected = Expected::new(serving.info.input, &state.config);
    // The share goes along: the bytes are in memory for as long as they are read, even if the client leaves.
    let read = move || codec::read(&bytes, header_length, &expected).map(|asked| (asked, share));
    let (Asked { id, images, output }, share) = state.classifier.on_pool(read).await?;
    let top_k = output.top_k(&serving.info);
    let answers = match images {
        Images::Encoded(files) => state.classifier.classify(&serving, files, share, top_k).await?,
        Images::Prepared(pixels) => {
            drop(share);
            state.classifier.classify_prepared(&serving, pixels, top_k).await?
        }
    };
    state.metrics.classified(&answers);
    Ok(outputs::respond(&serving.info, id.as_deref(), output, &answers))
}

/// `POST /v2/repository/index`: every version. `{"ready": true}` leaves none out, as all of them answer.
pub(crate) async fn index(
    context: &Context<'_>,
    body: &mut RequestBody,
) -> Result<Response<ResponseBody>, Problem> {
    #[derive(Deserialize)]
    struct Request {
        #[serde(default, rename = "ready", deserialize_with = "json::present")]
        _ready: Option<bool>,
    }
    context.query()?.finish()?;
    read_small::<Request>(context, body).await?;
    let name = context.state.models.name();
    let line = |version| Indexed { name, version, state: "READY", reason: "" };
    let lines: Vec<_> = versions(context).await?.into_iter().map(line).collect();
    Ok(response::json(&lines))
}

/// `POST /v2/repository/models/{model}/load`: serves what the data folder says.
pub(crate) async fn load(
    context: &Context<'_>,
    body: &mut RequestBody,
    model: &str,
) -> Result<Response<ResponseBody>, Problem> {
    #[derive(Deserialize)]
    struct Request {
        #[serde(default, rename = "parameters", deserialize_with = "json::present")]
        _parameters: Option<Object<NoParameters>>,
    }
    /// Triton takes a configuration and files here; leaving them unread would be worse than refusing them.
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct NoParameters {}
    context.query()?.finish()?;
    check_name(context, model)?;
    read_small::<Request>(context, body).await?;
    let models = context.state.models.clone();
    let promotion = blocking(move || models.reload()).await?;
    Ok(response::json(&Loaded { name: context.state.models.name(), version: promotion.version }))
}

/// `POST /v2/repository/models/{model}/unload`: refused.
pub(crate) fn unload(context: &Context<'_>, model: &str) -> Result<Response<ResponseBody>, Problem> {
    context.query()?.finish()?;
    check_name(context, model)?;
    Err(Problem::Unsupported("this service always serves its model: it cannot be unloaded"))
}

fn check_ready(context: &Context<'_>) -> Result<(), Problem> {
    if context.state.is_ready() { Ok(()) } else { Err(Problem::NotReady) }
}

fn check_name(context: &Context<'_>, model: &str) -> Result<(), Problem> {
    let name = context.state.models.name();
    if model == name {
        return Ok(());
    }
    Err(Problem::NotFound(format!("there is no such model; this service has one, \"{name}\"")))
}

/// The version that is asked for, loaded where it is not.
async fn find(context: &Context<'_>, model: &str, version: Option<&str>) -> Result<Arc<Serving>, Problem> {
    check_name(context, model)?;
    let models = &context.state.models;
    if let Some(version) = version
        && models.versions().is_err()
        && models.loaded(version).is_none()
    {
        let only = &models.serving().info.version;
        return Err(Problem::NotFound(format!("there is no such version; this service has one, {only}")));
    }
    predict::model(context, version.map(str::to_owned)).await
}

/// All versions, oldest first; without a data folder, the one that serves.
async fn versions(context: &Context<'_>) -> Result<Vec<String>, Problem> {
    let models = context.state.models.clone();
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
    payload::check_content_encoding(&context.parts.headers)?;
    let state = context.state;
    let Buffered { bytes, share: _share } = body.read(&state.config, &state.body_memory).await?;
    if bytes.is_empty() {
        Ok(None)
    } else {
        json::parse(&bytes, state.config.json_depth).map(|Object(request)| Some(request))
    }
}
