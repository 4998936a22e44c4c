//! `GET /openapi.json` and `GET /docs`: Swagger UI, from files inside the program.

use hyper::Response;
use serde_json::json;

use crate::context::Context;
use crate::description::Description;
use crate::http::asset::Asset;
use crate::http::problem::Problem;
use crate::http::response::{self, ResponseBody};
use crate::route::{Effect, Route, Tag, Verb};
use crate::scope::Scope;

/// See the module.
pub(super) const ROUTES: &[Route] = &[
    Route {
        id: "openapi",
        method: Verb::Get,
        path: "/openapi.json",
        scope: Scope::Public,
        effect: Effect::Reads,
        tag: Tag::Operations,
        summary: "This description",
        handle: |context, _| Box::pin(openapi(context)),
        describe: |_| Description::new(json!({ "type": "object" })),
    },
    Route {
        id: "docs",
        method: Verb::Get,
        path: "/docs",
        scope: Scope::Public,
        effect: Effect::Reads,
        tag: Tag::Operations,
        summary: "This description as a page",
        handle: |context, _| Box::pin(page(context)),
        describe: |_| Description::of_type("text/html"),
    },
    Route {
        id: "docsFile",
        method: Verb::Get,
        path: "/docs/{file}",
        scope: Scope::Public,
        effect: Effect::Reads,
        tag: Tag::Operations,
        summary: "Files of that page",
        handle: |context, _| Box::pin(file(context)),
        describe: |_| Description::of_type("text/*"),
    },
];

static PAGE: Asset =
    Asset::new("index.html", "text/html; charset=utf-8", include_bytes!("../../assets/docs/index.html"));

/// Files of Swagger UI (server/assets/swagger-ui/README.md) and the two of ours that start it.
static FILES: [Asset; 5] = [
    Asset::new("start.js", "text/javascript", include_bytes!("../../assets/docs/start.js")),
    Asset::new("style.css", "text/css", include_bytes!("../../assets/docs/style.css")),
    Asset::new(
        "swagger-ui-bundle.js",
        "text/javascript",
        include_bytes!("../../assets/swagger-ui/swagger-ui-bundle.js"),
    ),
    Asset::new("swagger-ui.css", "text/css", include_bytes!("../../assets/swagger-ui/swagger-ui.css")),
    Asset::new("LICENSE", "text/plain", include_bytes!("../../assets/swagger-ui/LICENSE")),
];

/// Only what this service sends itself; Swagger UI writes styles into its elements and draws images from data.
const POLICY: &str =
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'";

/// `GET /openapi.json`.
async fn openapi(context: &Context<'_>) -> Result<Response<ResponseBody>, Problem> {
    context.no_query()?;
    Ok(response::bytes("application/json", context.openapi()))
}

/// `GET /docs`.
async fn page(context: &Context<'_>) -> Result<Response<ResponseBody>, Problem> {
    context.no_query()?;
    Ok(PAGE.page(context.headers(), POLICY))
}

/// `GET /docs/{file}`.
async fn file(context: &Context<'_>) -> Result<Response<ResponseBody>, Problem> {
    context.no_query()?;
    Asset::named(&FILES, context.parameter("file"), context.headers(), "the documentation")
}
