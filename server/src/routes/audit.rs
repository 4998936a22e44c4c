//! `GET /v1/audit`: who changed what, and when.

use hyper::Response;
use ocelli_pipeline::store::AuditEntry;
use serde::Serialize;
use serde_json::json;

use crate::blocking::blocking;
use crate::context::Context;
use crate::description::{Description, Schemas, number_or};
use crate::http::problem::Problem;
use crate::http::response::{self, ResponseBody};
use crate::route::{Effect, Route, Tag, Verb};
use crate::routes::paging::MAX_PAGE;
use crate::scope::Scope;

/// See the module.
pub(super) const ROUTES: &[Route] = &[Route {
    id: "listAudit",
    method: Verb::Get,
    path: "/v1/audit",
    scope: Scope::Admin,
    effect: Effect::Reads,
    tag: Tag::Operations,
    summary: "Show who changed what, newest first",
    handle: |context, _| Box::pin(list(context)),
    describe,
}];

/// Entries of a page, where the request does not say.
const PAGE: usize = 100;

#[derive(Serialize, schemars::JsonSchema)]
#[schemars(rename = "AuditList")]
struct List {
    /// Newest first.
    audit: Vec<AuditEntry>,
    /// `?before=` of the next page; none on the last one.
    next: Option<u64>,
}

fn describe(schemas: &mut Schemas<'_>) -> Description {
    schemas
        .answer::<List>()
        .query("before", json!({ "type": "integer", "minimum": 1 }), "Only entries before this number")
        .query("limit", number_or(PAGE, 1, MAX_PAGE as u64), "Most entries to list")
}

/// `GET /v1/audit?before=&limit=`.
async fn list(context: &Context<'_>) -> Result<Response<ResponseBody>, Problem> {
    let mut query = context.query()?;
    let before = query.number("before", 1..=usize::MAX)?.map(|number| number as u64);
    let limit = query.number("limit", 1..=MAX_PAGE)?.unwrap_or(PAGE);
    query.finish()?;
    let store = context.data()?.store.clone();
    let audit = blocking(move || Ok(store.audit().page(before, limit)?)).await?;
    let next = audit.last().map(|entry| entry.id).filter(|&id| audit.len() == limit && id > 1);
    Ok(response::json(&List { audit, next }))
}
