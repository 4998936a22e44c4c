//! `GET /openapi.json`, `GET /`, and `GET /docs`: Swagger UI, from files inside the program.

use hyper::header::{CONTENT_SECURITY_POLICY, HeaderValue, LOCATION};
use hyper::{Response, StatusCode};

use crate::openapi;
use crate::problem::Problem;
use crate::response::{self, ResponseBody};
use crate::router::Context;

/// Files of Swagger UI (server/assets/swagger-ui/README.md) and the two of ours that start it.
const FILES: [(&str, &str, &[u8]); 5] = [
    ("start.js", "text/javascript", include_bytes!("../../assets/docs/start.js")),
    ("style.css", "text/css", include_bytes!("../../assets/docs/style.css")),
    (
        "swagger-ui-bundle.js",
        "text/javascript",
        include_bytes!("../../assets/swagger-ui/swagger-ui-bundle.js"),
    ),
    ("swagger-ui.css", "text/css", include_bytes!("../../assets/swagger-ui/swagger-ui.css")),
    ("LICENSE", "text/plain", include_bytes!("../../assets/swagger-ui/LICENSE")),
];

/// Only what this service sends itself; Swagger UI writes styles into its elements and draws images from data.
const POLICY: &str =
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'";

/// `GET /openapi.json`.
pub(crate) fn openapi(context: &Context<'_>) -> Result<Response<ResponseBody>, Problem> {
    context.query()?.finish()?;
    let state = context.state;
    let text = state.openapi.get_or_init(|| openapi::text(&state.config));
    Ok(response::bytes("application/json", text.clone()))
}

/// `GET /`: whoever comes with a browser looks for a page.
pub(crate) fn index(context: &Context<'_>) -> Result<Response<ResponseBody>, Problem> {
    context.query()?.finish()?;
    let mut response = response::bytes("text/html; charset=utf-8", "<a href=\"/docs\">/docs</a>\n");
    *response.status_mut() = StatusCode::SEE_OTHER;
    response.headers_mut().insert(LOCATION, HeaderValue::from_static("/docs"));
    Ok(response)
}

/// `GET /docs`.
pub(crate) fn page(context: &Context<'_>) -> Result<Response<ResponseBody>, Problem> {
    context.query()?.finish()?;
    let mut response =
        response::bytes("text/html; charset=utf-8", &include_bytes!("../../assets/docs/index.html")[..]);
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    Ok(response)
}

/// `GET /docs/{file}`.
pub(crate) fn file(context: &Context<'_>, name: &str) -> Result<Response<ResponseBody>, Problem> {
    context.query()?.finish()?;
    match FILES.iter().find(|(own, ..)| *own == name) {
        Some(&(_, media_type, bytes)) => Ok(response::bytes(media_type, bytes)),
        None => Err(Problem::NotFound("the documentation has no such file".into())),
    }
}
