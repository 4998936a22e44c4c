//! `/v2` and `/v2/models`: what clients ask before they send a tensor.

use hyper::Response;

use crate::context::Context;
use crate::http::problem::Problem;
use crate::http::response::{self, ResponseBody};
use crate::route::{Effect, Route, Tag, Verb};
use crate::routes::v2::model::{find, model as named, versions};
use crate::scope::Scope;
use crate::v2::metadata::{
    Live, Model, ModelConfig, ModelReady, Ready, Server, Statistics, VersionStatistics,
};

/// See the module.
pub(crate) const ROUTES: &[Route] = &[
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
        summary: "Whether new requests are accepted",
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
];

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
    let asked = find(context).await?;
    Ok(response::json(&ModelReady { name: asked.model.name(), ready: true }))
}

/// `GET /v2/models/{model}[/versions/{version}]`.
async fn model(context: &Context<'_>) -> Result<Response<ResponseBody>, Problem> {
    context.no_query()?;
    let asked = find(context).await?;
    let versions = versions(&asked.model).await?;
    Ok(response::json(&Model::new(&asked.serving.info, versions)))
}

/// `GET /v2/models/{model}[/versions/{version}]/config`.
async fn config(context: &Context<'_>) -> Result<Response<ResponseBody>, Problem> {
    context.no_query()?;
    let asked = find(context).await?;
    Ok(response::json(&ModelConfig::new(&asked.serving.info, asked.model.config())))
}

/// `GET /v2/models/stats`, and of one model: the versions in memory.
async fn all_statistics(context: &Context<'_>) -> Result<Response<ResponseBody>, Problem> {
    context.no_query()?;
    let models = match context.parameter("model") {
        "" => context.models().all(),
        _ => vec![named(context)?],
    };
    let versions: Vec<_> = models.iter().flat_map(|model| model.all_in_memory()).collect();
    let model_stats = versions.iter().map(|serving| VersionStatistics::of(serving)).collect();
    Ok(response::json(&Statistics { model_stats }))
}

/// `GET /v2/models/{model}/versions/{version}/stats`.
async fn statistics(context: &Context<'_>) -> Result<Response<ResponseBody>, Problem> {
    context.no_query()?;
    let asked = find(context).await?;
    Ok(response::json(&Statistics { model_stats: vec![VersionStatistics::of(&asked.serving)] }))
}

fn check_ready(context: &Context<'_>) -> Result<(), Problem> {
    context.readiness()
}
