//! `GET /v1/audit`: who changed what, and when.

use hyper::Response;
use ocelli_pipeline::store::AuditEntry;
use serde::Serialize;

use crate::problem::Problem;
use crate::response::{self, ResponseBody};
use crate::router::Context;
use crate::routes::blocking;
use crate::routes::datasets::MAX_PAGE;

/// Entries of a page, where the request does not say.
const PAGE: usize = 100;

#[derive(Serialize, schemars::JsonSchema)]
pub(crate) struct List {
    /// Newest first.
    audit: Vec<AuditEntry>,
    /// `?before=` of the next page; none on the last one.
    next: Option<u64>,
}

/// `GET /v1/audit?before=&limit=`.
pub(crate) async fn list(context: &Context<'_>) -> Result<Response<ResponseBody>, Problem> {
    let mut query = context.query()?;
    let before = query.number("before", 1..=usize::MAX)?.map(|number| number as u64);
    let limit = query.number("limit", 1..=MAX_PAGE)?.unwrap_or(PAGE);
    query.finish()?;
    let store = context.state.data()?.store.clone();
    let audit = blocking(move || Ok(store.audit().page(before, limit)?)).await?;
    let next = audit.last().map(|entry| entry.id).filter(|&id| audit.len() == limit && id > 1);
    Ok(response::json(&List { audit, next }))
}
