//! `GET /v1/me`: what the sender of a request may do, so that a page offers nothing else.

use hyper::Response;
use serde::Serialize;

use crate::context::Context;
use crate::http::problem::Problem;
use crate::http::response::{self, ResponseBody};
use crate::route::{Effect, Route, Tag, Verb};
use crate::scope::Scope;

/// See the module.
pub(super) const ROUTES: &[Route] = &[Route {
    id: "showCaller",
    method: Verb::Get,
    path: "/v1/me",
    scope: Scope::Public,
    effect: Effect::Reads,
    tag: Tag::Operations,
    summary: "Show what the sender of this request may do",
    handle: |context, _| Box::pin(get(context)),
    describe: |schemas| schemas.answer::<Me<'static>>(),
}];

#[derive(Serialize, schemars::JsonSchema)]
#[schemars(rename = "Caller")]
struct Me<'a> {
    /// Whether the service has keys.
    keys: bool,
    /// `none`, `predict`, `data` or `admin`; each may do what those before it may. `none`: no key, or one that nobody knows.
    scope: String,
    /// The name of the key; `anybody` in a service without keys and where no key is known.
    name: &'a str,
    /// The service changes nothing, whoever asks.
    read_only: bool,
    /// The service keeps data: it takes images and trains.
    data: bool,
}

/// See the module.
async fn get(context: &Context<'_>) -> Result<Response<ResponseBody>, Problem> {
    context.no_query()?;
    let caller = context.caller();
    let scope = match caller.scope {
        Scope::Public => "none".to_owned(),
        scope => scope.to_string(),
    };
    Ok(response::json(&Me {
        keys: context.has_keys(),
        scope,
        name: &caller.name,
        read_only: context.config().read_only,
        data: context.data().is_ok(),
    }))
}
