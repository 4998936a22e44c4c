//! `/v1/datasets/{name}/changes`: other classes for images, images taken out, and both undone.

use hyper::Response;
use ocelli_pipeline::store::{Change, KEPT_CHANGES, MAX_CHANGED, Name};
use serde::{Deserialize, Serialize};

use crate::blocking::blocking;
use crate::context::Context;
use crate::description::{Description, Schemas, number_or};
use crate::http::body::RequestBody;
use crate::http::json::{self, Object};
use crate::http::payload;
use crate::http::problem::Problem;
use crate::http::response::{self, ResponseBody};
use crate::route::{Effect, Route, Tag, Verb};
use crate::scope::Scope;

/// See the module.
pub(super) const ROUTES: &[Route] = &[
    Route {
        id: "listChanges",
        method: Verb::Get,
        path: "/v1/datasets/{name}/changes",
        scope: Scope::Data,
        effect: Effect::Reads,
        tag: Tag::DataSets,
        summary: "List the changes of images that can be undone, newest first",
        handle: |context, _| Box::pin(list(context)),
        describe: describe_list,
    },
    Route {
        id: "changeImages",
        method: Verb::Post,
        path: "/v1/datasets/{name}/changes",
        scope: Scope::Data,
        effect: Effect::Changes,
        tag: Tag::DataSets,
        summary: "Put images under another class, or take them out",
        handle: |context, body| Box::pin(change(context, body)),
        describe: describe_change,
    },
    Route {
        id: "undoChange",
        method: Verb::Post,
        path: "/v1/datasets/{name}/changes/{change}/undo",
        scope: Scope::Data,
        effect: Effect::Changes,
        tag: Tag::DataSets,
        summary: "Undo a change of images",
        handle: |context, _| Box::pin(undo(context)),
        describe: |schemas| schemas.answer::<Change>(),
    },
];

/// Body of `POST /v1/datasets/{name}/changes`: either a class or `remove`.
#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ChangeRequest")]
struct Asked {
    /// Ids of the images.
    #[schemars(length(min = 1, max = MAX_CHANGED))]
    images: Vec<String>,
    /// The class that they go to, which is made where it is missing.
    #[serde(default)]
    class: Option<String>,
    /// Take them out of the data set; their files stay for as long as that can be undone.
    #[serde(default)]
    remove: bool,
}

#[derive(Serialize, schemars::JsonSchema)]
#[schemars(rename = "ChangeList")]
struct List {
    /// Newest first.
    changes: Vec<Change>,
}

fn describe_list(schemas: &mut Schemas<'_>) -> Description {
    let limit = number_or(KEPT_CHANGES, 1, KEPT_CHANGES as u64);
    schemas.answer::<List>().query("limit", limit, "Most changes to list")
}

fn describe_change(schemas: &mut Schemas<'_>) -> Description {
    let asked = schemas.of::<Asked>();
    schemas.answer::<Change>().body("application/json", asked)
}

/// The data set in the path.
fn dataset(context: &Context<'_>) -> Result<Name, Problem> {
    Ok(Name::new("data set", context.parameter("name"))?)
}

/// `GET /v1/datasets/{name}/changes?limit=`.
async fn list(context: &Context<'_>) -> Result<Response<ResponseBody>, Problem> {
    let mut query = context.query()?;
    let limit = query.number("limit", 1..=KEPT_CHANGES)?.unwrap_or(KEPT_CHANGES);
    query.finish()?;
    let (store, name) = (context.data()?.store.clone(), dataset(context)?);
    let changes = blocking(move || Ok(store.datasets().changes(&name, limit)?)).await?;
    Ok(response::json(&List { changes }))
}

/// `POST /v1/datasets/{name}/changes`.
async fn change(context: &Context<'_>, body: &mut RequestBody) -> Result<Response<ResponseBody>, Problem> {
    context.no_query()?;
    payload::check_content_encoding(context.headers())?;
    let (store, name, by) = (context.data()?.store.clone(), dataset(context)?, context.actor());
    let bytes = context.read(body).await?.bytes;
    let asked = json::parse::<Object<Asked>>(&bytes, context.config().json_depth)?.0;
    if asked.remove == asked.class.is_some() {
        let reason = "say either \"class\" or \"remove\": true, and not both";
        return Err(Problem::BadBody(reason.to_owned()));
    }
    let changed =
        blocking(move || Ok(store.datasets().change(&name, &asked.images, asked.class.as_deref(), &by)?));
    Ok(response::json(&changed.await?))
}

/// `POST /v1/datasets/{name}/changes/{change}/undo`.
async fn undo(context: &Context<'_>) -> Result<Response<ResponseBody>, Problem> {
    context.no_query()?;
    let (store, name, by) = (context.data()?.store.clone(), dataset(context)?, context.actor());
    let number = context.parameter("change");
    let Ok(change) = number.parse() else {
        return Err(Problem::BadName(format!("{number:.40?} is not the number of a change")));
    };
    Ok(response::json(&blocking(move || Ok(store.datasets().undo(&name, change, &by)?)).await?))
}
