//! `GET /` and `GET /assets/{file}`: the web page, from files inside the program.
//!
//! Plain HTML, CSS and modules of JavaScript, as they stand in `server/assets/page`. The page asks this service alone, and its
//! policy has the browser see to that.

use hyper::Response;

use crate::context::Context;
use crate::description::{Description, text};
use crate::http::asset::Asset;
use crate::http::problem::Problem;
use crate::http::response::ResponseBody;
use crate::route::{Effect, Route, Tag, Verb};
use crate::scope::Scope;

/// See the module.
pub(super) const ROUTES: &[Route] = &[
    Route {
        id: "index",
        method: Verb::Get,
        path: "/",
        scope: Scope::Public,
        effect: Effect::Reads,
        tag: Tag::Operations,
        summary: "The web page",
        handle: |context, _| Box::pin(index(context)),
        describe: |_| Description::of_type("text/html").header("ETag", text(), ETAG),
    },
    Route {
        id: "pageFile",
        method: Verb::Get,
        path: "/assets/{file}",
        scope: Scope::Public,
        effect: Effect::Reads,
        tag: Tag::Operations,
        summary: "Files of that page",
        handle: |context, _| Box::pin(file(context)),
        describe: |_| Description::of_type("*/*").header("ETag", text(), ETAG),
    },
];

const ETAG: &str = "Sent back as `If-None-Match`, the answer is 304 while the file is the same";

/// Nothing from elsewhere, no script or style within the markup, in no frame. Previews of chosen images are `blob:`, what the
/// network sees of them comes as `data:`.
const POLICY: &str = "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; \
    frame-ancestors 'none'; form-action 'self'";

const SCRIPT: &str = "text/javascript";
const STYLE: &str = "text/css";

static INDEX: Asset =
    Asset::new("index.html", "text/html; charset=utf-8", include_bytes!("../../assets/page/index.html"));

static FILES: [Asset; 32] = [
    Asset::new("answers.js", SCRIPT, include_bytes!("../../assets/page/answers.js")),
    Asset::new("camera.js", SCRIPT, include_bytes!("../../assets/page/camera.js")),
    Asset::new("charts.js", SCRIPT, include_bytes!("../../assets/page/charts.js")),
    Asset::new("classes.js", SCRIPT, include_bytes!("../../assets/page/classes.js")),
    Asset::new("compare.js", SCRIPT, include_bytes!("../../assets/page/compare.js")),
    Asset::new("correction.js", SCRIPT, include_bytes!("../../assets/page/correction.js")),
    Asset::new("data.js", SCRIPT, include_bytes!("../../assets/page/data.js")),
    Asset::new("dataset.js", SCRIPT, include_bytes!("../../assets/page/dataset.js")),
    Asset::new("dom.js", SCRIPT, include_bytes!("../../assets/page/dom.js")),
    Asset::new("evaluate.js", SCRIPT, include_bytes!("../../assets/page/evaluate.js")),
    Asset::new("findings.js", SCRIPT, include_bytes!("../../assets/page/findings.js")),
    Asset::new("frame.css", STYLE, include_bytes!("../../assets/page/frame.css")),
    Asset::new("gallery.js", SCRIPT, include_bytes!("../../assets/page/gallery.js")),
    Asset::new("http.js", SCRIPT, include_bytes!("../../assets/page/http.js")),
    Asset::new("icon.svg", "image/svg+xml", include_bytes!("../../assets/page/icon.svg")),
    Asset::new("job.js", SCRIPT, include_bytes!("../../assets/page/job.js")),
    Asset::new("main.js", SCRIPT, include_bytes!("../../assets/page/main.js")),
    Asset::new("matrix.js", SCRIPT, include_bytes!("../../assets/page/matrix.js")),
    Asset::new("model.js", SCRIPT, include_bytes!("../../assets/page/model.js")),
    Asset::new("models.js", SCRIPT, include_bytes!("../../assets/page/models.js")),
    Asset::new("picture.js", SCRIPT, include_bytes!("../../assets/page/picture.js")),
    Asset::new("predict.js", SCRIPT, include_bytes!("../../assets/page/predict.js")),
    Asset::new("review.js", SCRIPT, include_bytes!("../../assets/page/review.js")),
    Asset::new("session.js", SCRIPT, include_bytes!("../../assets/page/session.js")),
    Asset::new("snippets.js", SCRIPT, include_bytes!("../../assets/page/snippets.js")),
    Asset::new("status.js", SCRIPT, include_bytes!("../../assets/page/status.js")),
    Asset::new("style.css", STYLE, include_bytes!("../../assets/page/style.css")),
    Asset::new("train.js", SCRIPT, include_bytes!("../../assets/page/train.js")),
    Asset::new("upload.js", SCRIPT, include_bytes!("../../assets/page/upload.js")),
    Asset::new("verdict.js", SCRIPT, include_bytes!("../../assets/page/verdict.js")),
    Asset::new("words.js", SCRIPT, include_bytes!("../../assets/page/words.js")),
    Asset::new("zip.js", SCRIPT, include_bytes!("../../assets/page/zip.js")),
];

/// `GET /`.
async fn index(context: &Context<'_>) -> Result<Response<ResponseBody>, Problem> {
    context.no_query()?;
    Ok(INDEX.page(context.headers(), POLICY))
}

/// `GET /assets/{file}`.
async fn file(context: &Context<'_>) -> Result<Response<ResponseBody>, Problem> {
    context.no_query()?;
    Asset::named(&FILES, context.parameter("file"), context.headers(), "the page")
}
