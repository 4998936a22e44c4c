//! `POST /v1/models`: a model file that somebody brings.
//!
//! It is checked, answers its probe images and runs once before anything of it is kept. The first version of a model serves,
//! a later one waits until it is promoted or gets a label.

use hyper::{Response, StatusCode};
use ocelli_common::text::chain;
use ocelli_pipeline::store::{Canary, Name, VersionRecord};
use ocelli_pipeline::{ModelFile, PipelineError};
use serde::Serialize;
use serde_json::json;

use crate::archive;
use crate::blocking::blocking;
use crate::context::Context;
use crate::description::{Description, Schemas, binary, name, number};
use crate::http::body::RequestBody;
use crate::http::payload;
use crate::http::problem::Problem;
use crate::http::query::Query;
use crate::http::response::{self, ResponseBody};
use crate::route::{Effect, Route, Tag, Verb};
use crate::scope::Scope;

/// See the module.
pub(super) const ROUTES: &[Route] = &[Route {
    id: "pushModel",
    method: Verb::Post,
    path: "/v1/models",
    scope: Scope::Admin,
    effect: Effect::Changes,
    tag: Tag::Models,
    summary: "Add a model file: a new model, or a version of one",
    handle: |context, body| Box::pin(post(context, body)),
    describe,
}];

#[derive(Serialize, schemars::JsonSchema)]
#[schemars(rename = "PushedModel")]
struct Pushed {
    model: String,
    /// Whether it answers already: the first version of a model does.
    serving: bool,
    #[serde(flatten)]
    record: VersionRecord,
}

/// What the version that is pushed is to be.
enum Label {
    Stable,
    Canary(u8),
    Shadow,
}

fn describe(schemas: &mut Schemas<'_>) -> Description {
    let most = schemas.config.max_model_bytes;
    schemas
        .answer::<Pushed>()
        .status(201)
        .query("model", name(), "Name of the model; the file's own if left out")
        .query(
            "label",
            json!({ "enum": ["stable", "canary", "shadow"] }),
            "What the version is to be, at once",
        )
        .query("share", number(1, 99), "Percent of the requests that a canary answers")
        .body("application/octet-stream", binary())
        .about_body(format!(
            "A file as `ocelli train` writes it, `weights/best.ocelli`. At most {most} bytes."
        ))
        .busy("The maximum number of uploads is under way, or requests hold the memory for models")
}

/// See the module.
async fn post(context: &Context<'_>, body: &mut RequestBody) -> Result<Response<ResponseBody>, Problem> {
    let (data, config) = (context.data()?, context.config());
    let mut query = context.query()?;
    let named = query.text("model")?.map(|name| Name::new("model", &name)).transpose()?;
    let label = label(&mut query)?;
    query.finish()?;
    payload::check_content_encoding(context.headers())?;
    let permit = data.uploads.begin(body.declared())?;
    let staging = archive::staging_for(context, config.max_model_bytes).await?;
    let path = staging.path().join("model.ocelli");
    if archive::receive_file(body, (config, config.max_model_bytes), permit.upload(), &path).await? == 0 {
        return Err(Problem::BadBody("the request holds no model: send the file as the body".into()));
    }
    let (models, by) = (context.models().clone(), context.actor());
    let pushed = blocking(move || {
        // Held to the end of the work, whether the client waits for it or not.
        let (_permit, _staging) = (permit, staging);
        let file = ModelFile::load(&path).map_err(|error| {
            Problem::Refused(format!(
                "this is no model that could be read: {}",
                chain(&PipelineError::from(error))
            ))
        })?;
        let name = named.unwrap_or_else(|| Name::nearest(&file.meta.name));
        let record = models.add(&name, file, &by)?;
        let model = models.asked(Some(name.as_str()))?;
        let version = record.version.clone();
        match label {
            None => {}
            Some(Label::Stable) => drop(model.promote(&version, &by)?),
            Some(Label::Canary(share)) => model.set_canary(Some(Canary { version, share }), &by)?,
            Some(Label::Shadow) => model.set_shadow(Some(&version), &by)?,
        }
        Ok(Pushed { model: name.to_string(), serving: model.version() == record.version, record })
    });
    let mut response = response::json(&pushed.await?);
    *response.status_mut() = StatusCode::CREATED;
    Ok(response)
}

fn label(query: &mut Query) -> Result<Option<Label>, Problem> {
    let (label, share) = (query.text("label")?, query.number("share", 1..=99)?);
    match (label.as_deref(), share) {
        (None, None) => Ok(None),
        (Some("stable"), None) => Ok(Some(Label::Stable)),
        (Some("shadow"), None) => Ok(Some(Label::Shadow)),
        (Some("canary"), Some(share)) => Ok(Some(Label::Canary(share as u8))),
        (Some("canary"), None) => {
            Err(Problem::BadQuery("a canary needs share, percent of the requests that it answers".to_owned()))
        }
        (Some("stable" | "shadow") | None, Some(_)) => {
            Err(Problem::BadQuery("share is for label=canary alone".to_owned()))
        }
        (Some(_), _) => Err(Problem::BadQuery("label must be one of stable, canary, shadow".to_owned())),
    }
}
