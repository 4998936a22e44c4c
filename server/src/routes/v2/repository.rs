//! `/v2/repository`: Triton's extension for the versions of models.

use hyper::Response;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::blocking::blocking;
use crate::context::Context;
use crate::description::{Description, Schemas};
use crate::http::body::{Buffered, RequestBody};
use crate::http::json::{self, Object};
use crate::http::payload;
use crate::http::problem::Problem;
use crate::http::response::{self, ResponseBody};
use crate::route::{Effect, Route, Tag, Verb};
use crate::routes::v2::model::{model, versions};
use crate::scope::Scope;
use crate::v2::metadata::{Indexed, Loaded};

/// See the module.
pub(crate) const ROUTES: &[Route] = &[
    Route {
        id: "v2Index",
        method: Verb::Post,
        path: "/v2/repository/index",
        scope: Scope::Predict,
        effect: Effect::Reads,
        tag: Tag::OpenInference,
        summary: "List the versions of all models",
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
        summary: "Unload a model that is not the default one, until it is asked again",
        handle: |context, _| Box::pin(unload(context)),
        describe: |schemas| schemas.answer::<Loaded<'static>>(),
    },
];

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

/// `POST /v2/repository/index`: every version. `{"ready": true}` leaves none out, as all of them answer.
async fn index(context: &Context<'_>, body: &mut RequestBody) -> Result<Response<ResponseBody>, Problem> {
    #[derive(Deserialize)]
    struct Request {
        #[serde(default, rename = "ready", deserialize_with = "json::present")]
        _ready: Option<bool>,
    }
    context.no_query()?;
    read_small::<Request>(context, body).await?;
    let models = context.models().all();
    let mut lines = Vec::new();
    for model in &models {
        let line = |version| Indexed { name: model.name(), version, state: "READY", reason: "" };
        lines.extend(versions(model).await?.into_iter().map(line));
    }
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
    let model = model(context)?;
    read_small::<Request>(context, body).await?;
    let own = model.clone();
    let promotion = blocking(move || own.reload()).await?;
    Ok(response::json(&Loaded { name: model.name(), version: promotion.version }))
}

/// `POST /v2/repository/models/{model}/unload`: the next request loads it again.
async fn unload(context: &Context<'_>) -> Result<Response<ResponseBody>, Problem> {
    context.no_query()?;
    let model = model(context)?;
    model.unload_all()?;
    Ok(response::json(&Loaded { name: model.name(), version: model.version() }))
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
