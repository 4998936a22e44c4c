//! `/v1/models/labels`: which versions of a model answer.
//!
//! `stable` answers, `canary` answers a share of the requests that name no version, `shadow` is asked, too, and answers
//! nobody: its answers are compared with those that were given. `?version=` takes a label as well as a version.

use hyper::Response;
use ocelli_pipeline::store::{Canary, VersionLabels};
use serde::{Deserialize, Serialize};

use crate::blocking::blocking;
use crate::context::Context;
use crate::description::{Description, Schemas};
use crate::http::body::RequestBody;
use crate::http::json::{self, Object};
use crate::http::payload;
use crate::http::problem::Problem;
use crate::http::response::{self, ResponseBody};
use crate::models::model::Model;
use crate::models::shadow::Agreement;
use crate::route::{Effect, Route, Tag, Verb};
use crate::scope::Scope;

/// See the module.
pub(super) const ROUTES: &[Route] = &[
    Route {
        id: "listLabels",
        method: Verb::Get,
        path: "/v1/models/labels",
        scope: Scope::Predict,
        effect: Effect::Reads,
        tag: Tag::Models,
        summary: "Show which versions answer, and how often the shadow agrees",
        handle: |context, _| Box::pin(list(context)),
        describe: |schemas| schemas.answer::<Labels>().of_model(),
    },
    Route {
        id: "setLabel",
        method: Verb::Post,
        path: "/v1/models/labels/{label}",
        scope: Scope::Admin,
        effect: Effect::Changes,
        tag: Tag::Models,
        summary: "Give a version a label: stable, canary or shadow",
        handle: |context, body| Box::pin(set(context, body)),
        describe: describe_set,
    },
    Route {
        id: "clearLabel",
        method: Verb::Delete,
        path: "/v1/models/labels/{label}",
        scope: Scope::Admin,
        effect: Effect::Changes,
        tag: Tag::Models,
        summary: "Take the label canary or shadow away",
        handle: |context, _| Box::pin(clear(context)),
        describe: |schemas| schemas.answer::<Labels>().of_model(),
    },
];

#[derive(Serialize, schemars::JsonSchema)]
#[schemars(rename = "ModelLabels")]
struct Labels {
    model: String,
    #[serde(flatten)]
    labels: VersionLabels,
    /// What was counted of the shadow.
    agreement: Option<Agreement>,
}

impl Labels {
    fn of(model: &Model) -> Labels {
        Labels {
            model: model.name().to_owned(),
            labels: model.labels(),
            agreement: model.shadow().agreement(),
        }
    }
}

/// Body of `POST /v1/models/labels/{label}`.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "SetLabelRequest")]
struct Request {
    version: String,
    /// Percent of the requests that a canary answers; of no other label.
    #[schemars(range(min = 1, max = 99))]
    share: Option<u8>,
}

fn describe_set(schemas: &mut Schemas<'_>) -> Description {
    let request = schemas.of::<Request>();
    schemas.answer::<Labels>().of_model().body("application/json", request)
}

/// `GET /v1/models/labels`.
async fn list(context: &Context<'_>) -> Result<Response<ResponseBody>, Problem> {
    Ok(response::json(&Labels::of(&*context.only_model()?)))
}

/// `POST /v1/models/labels/{label}`.
async fn set(context: &Context<'_>, body: &mut RequestBody) -> Result<Response<ResponseBody>, Problem> {
    let (model, label) = (context.only_model()?, context.parameter("label").to_owned());
    payload::check_content_encoding(context.headers())?;
    let bytes = context.read(body).await?.bytes;
    let Object(Request { version, share }) = json::parse(&bytes, context.config().json_depth)?;
    let by = context.actor();
    let labels = blocking(move || {
        match (label.as_str(), share) {
            ("stable", None) => drop(model.promote(&version, &by)?),
            ("canary", Some(share)) => model.set_canary(Some(Canary { version, share }), &by)?,
            ("shadow", None) => model.set_shadow(Some(&version), &by)?,
            ("canary", None) => {
                return Err(Problem::BadBody("a canary needs \"share\", 1 to 99 percent".into()));
            }
            ("stable" | "shadow", Some(_)) => {
                return Err(Problem::BadBody("\"share\" is for a canary alone".into()));
            }
            _ => return Err(unknown()),
        }
        Ok(Labels::of(&model))
    });
    Ok(response::json(&labels.await?))
}

/// `DELETE /v1/models/labels/{label}`.
async fn clear(context: &Context<'_>) -> Result<Response<ResponseBody>, Problem> {
    let (model, label) = (context.only_model()?, context.parameter("label").to_owned());
    let by = context.actor();
    let labels = blocking(move || {
        match label.as_str() {
            "canary" => model.set_canary(None, &by)?,
            "shadow" => model.set_shadow(None, &by)?,
            "stable" => {
                let reason = "a version always serves: give the label stable to another one";
                return Err(Problem::Conflict(reason.to_owned()));
            }
            _ => return Err(unknown()),
        }
        Ok(Labels::of(&model))
    });
    Ok(response::json(&labels.await?))
}

fn unknown() -> Problem {
    Problem::NotFound("there is no such label: stable, canary and shadow are the ones".to_owned())
}
