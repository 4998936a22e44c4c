//! `/v1/models`: the versions of a model, and which of them serves. `?model=` names another model than the default one.

use std::fs::File;
use std::io::Read;

use bytes::Bytes;
use hyper::Response;
use hyper::header::{CONTENT_DISPOSITION, CONTENT_TYPE, HeaderValue};
use ocelli_pipeline::store::{StoreError, VersionLabels, VersionRecord};
use serde::Serialize;
use serde_json::json;
use tokio::sync::mpsc;

use crate::blocking::blocking;
use crate::context::Context;
use crate::description::{Description, Schemas, text};
use crate::http::problem::Problem;
use crate::http::response::{self, ResponseBody};
use crate::models::first::StandIn;
use crate::models::model::{Model, Promotion};
use crate::route::{Effect, Route, Tag, Verb};
use crate::scope::Scope;

/// See the module.
pub(super) const ROUTES: &[Route] = &[
    Route {
        id: "listModels",
        method: Verb::Get,
        path: "/v1/models",
        scope: Scope::Predict,
        effect: Effect::Reads,
        tag: Tag::Models,
        summary: "List the versions of a model, and all models",
        handle: |context, _| Box::pin(list(context)),
        describe: |schemas| schemas.answer::<List>().of_model(),
    },
    Route {
        id: "rollback",
        method: Verb::Post,
        path: "/v1/models/rollback",
        scope: Scope::Admin,
        effect: Effect::Changes,
        tag: Tag::Models,
        summary: "Serve the version that served before",
        handle: |context, _| Box::pin(roll_back(context)),
        describe: describe_rollback,
    },
    Route {
        id: "showModel",
        method: Verb::Get,
        path: "/v1/models/{version}",
        scope: Scope::Predict,
        effect: Effect::Reads,
        tag: Tag::Models,
        summary: "Show a version of a model",
        handle: |context, _| Box::pin(show(context)),
        describe: |schemas| schemas.answer::<Version>().of_model(),
    },
    Route {
        id: "deleteModel",
        method: Verb::Delete,
        path: "/v1/models/{version}",
        scope: Scope::Admin,
        effect: Effect::Changes,
        tag: Tag::Models,
        summary: "Delete a version that does not serve",
        handle: |context, _| Box::pin(delete(context)),
        describe: |schemas| schemas.answer::<Deleted>().of_model(),
    },
    Route {
        id: "getEvaluation",
        method: Verb::Get,
        path: "/v1/models/{version}/evaluation",
        scope: Scope::Predict,
        effect: Effect::Reads,
        tag: Tag::Models,
        summary: "Show how well a version does",
        handle: |context, _| Box::pin(evaluation(context)),
        describe: |_| Description::new(json!({ "type": "object" })).of_model(),
    },
    Route {
        id: "downloadModel",
        method: Verb::Get,
        path: "/v1/models/{version}/file",
        scope: Scope::Data,
        effect: Effect::Reads,
        tag: Tag::Models,
        summary: "Download a version as a model file",
        handle: |context, _| Box::pin(download(context)),
        describe: |_| Description::of_type("application/octet-stream").of_model(),
    },
    Route {
        id: "promote",
        method: Verb::Post,
        path: "/v1/models/{version}/promote",
        scope: Scope::Admin,
        effect: Effect::Changes,
        tag: Tag::Models,
        summary: "Serve a version",
        handle: |context, _| Box::pin(promote(context)),
        describe: |schemas| schemas.answer::<Changed>().of_model(),
    },
];

/// Pieces in which a file is sent.
const PIECE: usize = 64 << 10;

#[derive(Serialize, schemars::JsonSchema)]
#[schemars(rename = "ModelList")]
struct List {
    /// The model whose versions these are.
    model: String,
    serving: String,
    labels: VersionLabels,
    /// What going back would serve.
    previous: Option<String>,
    versions: Vec<Version>,
    /// All models of the service.
    models: Vec<Summary>,
}

/// A model in a list of models.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(rename = "ModelSummary")]
struct Summary {
    name: String,
    /// Whether it is asked where a request names no model.
    default: bool,
    serving: String,
    /// Why another version serves than the one that should, if so.
    stand_in: Option<StandIn>,
    /// Whether it is in memory; else it is loaded when it is asked.
    loaded: bool,
    /// Bytes that its versions in memory take.
    memory: u64,
    labels: VersionLabels,
}

impl Summary {
    fn of(model: &Model) -> Summary {
        Summary {
            name: model.name().to_owned(),
            default: model.is_default(),
            serving: model.version(),
            stand_in: model.stand_in(),
            loaded: model.serving().is_some(),
            memory: model.all_in_memory().iter().map(|serving| serving.bytes).sum(),
            labels: model.labels(),
        }
    }
}

#[derive(Serialize, schemars::JsonSchema)]
#[schemars(rename = "ModelVersion")]
struct Version {
    serving: bool,
    #[serde(flatten)]
    record: VersionRecord,
}

/// What a promotion did.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(rename = "ModelChanged")]
struct Changed {
    serving: String,
    before: String,
}

#[derive(Serialize, schemars::JsonSchema)]
#[schemars(rename = "ModelDeleted")]
struct Deleted {
    deleted: String,
}

impl From<Promotion> for Changed {
    fn from(Promotion { version, before }: Promotion) -> Self {
        Changed { serving: version, before }
    }
}

fn describe_rollback(schemas: &mut Schemas<'_>) -> Description {
    schemas.answer::<Changed>().of_model().query(
        "from",
        text(),
        "The version to go back from: asking again when that is done does nothing more",
    )
}

/// `GET /v1/models`: oldest first.
async fn list(context: &Context<'_>) -> Result<Response<ResponseBody>, Problem> {
    let model = context.only_model()?;
    let all = context.models().clone();
    let list = blocking(move || {
        let versions = model.versions()?;
        let serving = model.version();
        let mark = |record: VersionRecord| Version { serving: record.version == serving, record };
        let records = versions.list()?.into_iter().map(mark).collect();
        Ok(List {
            model: model.name().to_owned(),
            labels: model.labels(),
            models: all.all().iter().map(|model| Summary::of(model)).collect(),
            previous: versions.previous()?,
            versions: records,
            serving,
        })
    });
    Ok(response::json(&list.await?))
}

/// `GET /v1/models/{version}`.
async fn show(context: &Context<'_>) -> Result<Response<ResponseBody>, Problem> {
    let (model, version) = (context.only_model()?, context.parameter("version").to_owned());
    let shown = blocking(move || {
        let record = model.record(&version)?;
        Ok(Version { serving: model.version() == version, record })
    });
    Ok(response::json(&shown.await?))
}

/// `GET /v1/models/{version}/evaluation`: the report on held-out images.
async fn evaluation(context: &Context<'_>) -> Result<Response<ResponseBody>, Problem> {
    let (model, version) = (context.only_model()?, context.parameter("version").to_owned());
    let text = blocking(move || match model.versions()?.evaluation(&version)? {
        Some(text) => Ok(text),
        None => Err(Problem::NotFound(format!("version {version} was not evaluated by this service"))),
    });
    Ok(response::bytes("application/json", text.await?))
}

/// `GET /v1/models/{version}/file`: the model file.
async fn download(context: &Context<'_>) -> Result<Response<ResponseBody>, Problem> {
    let (model, version) = (context.only_model()?, context.parameter("version").to_owned());
    let name = format!("attachment; filename=\"{}-{version}.ocelli\"", model.name());
    let opened = blocking(move || {
        let path = model.versions()?.file(&version)?;
        let io = |source| Problem::from(StoreError::Io { path: path.clone(), source });
        let file = File::open(&path).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        Ok((file, length))
    });
    let (file, length) = opened.await?;
    let (sender, pieces) = mpsc::channel(4);
    tokio::task::spawn_blocking(move || send(file, &sender));
    let mut response = Response::new(ResponseBody::Stream { pieces, length: Some(length) });
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(CONTENT_DISPOSITION, HeaderValue::from_str(&name).expect("names are plain"));
    Ok(response)
}

/// Sends a file to its end; stops early when it cannot be read or nobody listens, which breaks the connection.
fn send(mut file: File, sender: &mpsc::Sender<Bytes>) {
    loop {
        let mut piece = vec![0; PIECE];
        match file.read(&mut piece) {
            Ok(0) | Err(_) => return,
            Ok(length) => {
                piece.truncate(length);
                if sender.blocking_send(piece.into()).is_err() {
                    return;
                }
            }
        }
    }
}

/// `POST /v1/models/{version}/promote`.
async fn promote(context: &Context<'_>) -> Result<Response<ResponseBody>, Problem> {
    let (model, version) = (context.only_model()?, context.parameter("version").to_owned());
    let by = context.actor();
    let promotion = blocking(move || model.promote(&version, &by)).await?;
    Ok(response::json(&Changed::from(promotion)))
}

/// `POST /v1/models/rollback?from=`: with the version that the client wants to leave, a repetition does nothing more.
async fn roll_back(context: &Context<'_>) -> Result<Response<ResponseBody>, Problem> {
    let mut query = context.query()?;
    let (model, from) = (context.model(&mut query)?, query.text("from")?);
    query.finish()?;
    let by = context.actor();
    let promotion = blocking(move || model.roll_back(from.as_deref(), &by)).await?;
    Ok(response::json(&Changed::from(promotion)))
}

/// `DELETE /v1/models/{version}`.
async fn delete(context: &Context<'_>) -> Result<Response<ResponseBody>, Problem> {
    let (model, data) = (context.only_model()?, context.data().ok().cloned());
    let version = context.parameter("version").to_owned();
    let by = context.actor();
    let deleted = blocking(move || {
        let needs = |version: &str| data.as_ref()?.jobs.needs(version);
        model.delete(&version, needs, &by)?;
        Ok(Deleted { deleted: version })
    });
    Ok(response::json(&deleted.await?))
}
