//! `POST /upload-data`: a ZIP of class folders becomes part of a data set, as a whole or not at all.
//!
//! The body is the archive (`application/zip`, `application/octet-stream`, or any type but a form's and JSON's if it
//! begins like a ZIP) or a form with the archive as `file`;
//! `?dataset=` names the data set, `default` where it is left out. The archive goes to a folder of its own on the disk
//! while it comes, is checked, and is merged by the replacement of one file. Whoever leaves before the answer does not
//! know whether it was; sending it again adds nothing twice.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt, TryStreamExt};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE};
use hyper::{HeaderMap, Response};
use multer::{Constraints, Multipart, SizeLimit};
use ocelli_pipeline::UploadLimits;
use ocelli_pipeline::store::{Actor, ImportReport, Name, StoreError};
use serde::Serialize;
use serde_json::json;
use tokio::fs::File;
use tokio::io::AsyncWriteExt;
use tokio::sync::watch;

use crate::blocking::blocking;
use crate::config::Config;
use crate::context::Context;
use crate::description::{Description, Schemas, binary, name, text};
use crate::http::body::RequestBody;
use crate::http::payload::{self, Declared, bad_form};
use crate::http::problem::Problem;
use crate::http::response::{self, ResponseBody};
use crate::http::text::shown;
use crate::jobs::{Asked, Jobs, RetrainRequest, Trigger};
use crate::route::{Effect, Route, Tag, Verb};
use crate::scope::Scope;
use crate::uploads::Upload;

/// See the module.
pub(super) const ROUTES: &[Route] = &[Route {
    id: "uploadData",
    method: Verb::Post,
    path: "/upload-data",
    scope: Scope::Data,
    effect: Effect::Changes,
    tag: Tag::Service,
    summary: "Add a ZIP of class folders to a data set",
    handle: |context, body| Box::pin(post(context, body)),
    describe,
}];

const ACCEPTED: &str =
    "send the ZIP as application/zip, or as the field \"file\" of a multipart/form-data form";

/// Longest name of a data set in a form, in bytes, and what surrounds the fields of one.
const MAX_FORM_EXTRA: u64 = 4096;

#[derive(Serialize, schemars::JsonSchema)]
struct Uploaded {
    #[serde(flatten)]
    report: ImportReport,
    /// The training job that the new images started.
    job: Option<u64>,
}

fn describe(schemas: &mut Schemas<'_>) -> Description {
    let form = json!({ "type": "object", "required": ["file"], "properties": {
        "file": binary(), "dataset": name() }, "additionalProperties": false });
    let Config { max_upload, zip_entries, zip_bytes, zip_ratio, .. } = schemas.config;
    let about = format!(
        "Any other media type, or none, is taken too where the body begins like a ZIP. The field may also be called \
        `files`, or one of these with brackets. At most {max_upload} bytes, {zip_entries} entries, {zip_bytes} inflated \
        bytes, and {zip_ratio} inflated bytes for a packed one."
    );
    schemas
        .answer::<Uploaded>()
        .query("dataset", text(), "Name of the data set; `default` if left out")
        .body("multipart/form-data", form)
        .body("application/zip", binary())
        .about_body(about)
        .busy("The maximum number of uploads is under way")
}

/// See the module.
async fn post(context: &Context<'_>, body: &mut RequestBody) -> Result<Response<ResponseBody>, Problem> {
    context.one_class_each()?;
    let (data, config) = (context.data()?, context.config());
    let mut query = context.query()?;
    let named = query.text("dataset")?;
    query.finish()?;
    let named = named.map(|name| dataset_name(&name)).transpose()?;
    let permit = data.uploads.begin(body.declared())?;

    let store = data.store.clone();
    let (announced, limit) = (content_length(context.headers()), config.max_upload);
    let staging = blocking(move || {
        // One that is too large anyway is refused for that.
        if announced <= limit {
            store.check_room(announced)?;
        }
        Ok(store.datasets().staging()?)
    })
    .await?;
    let path = staging.path().join("upload.zip");
    let of_form = receive(context, body, permit.upload(), &path).await?;
    let name = match (named, of_form) {
        (Some(named), Some(of_form)) if named != of_form => {
            let reason = "the query and the field \"dataset\" name two data sets: name one";
            return Err(Problem::BadBody(reason.into()));
        }
        (Some(name), _) | (None, Some(name)) => name,
        (None, None) => dataset_name("default")?,
    };

    let (data, config, by) = (data.clone(), config.clone(), context.actor());
    let (stopping, pool) = (context.stopping(), context.models().pool().clone());
    let answer = blocking(move || {
        // Held to the end of the work, whether the client waits for it or not.
        let (_permit, staging) = (permit, staging);
        let limits = limits(&config);
        let stopper = Stopper::new(stopping);
        let archive = staging.path().join("upload.zip");
        let datasets = data.store.datasets();
        let report = datasets.import_zip(&name, &archive, (&limits, &pool), &stopper.stop, &by)?;
        tracing::info!(dataset = %name, accepted = report.accepted, skipped = report.skipped_total, "upload");
        let least = config.retrain_on_upload as u64;
        let enough = least > 0 && report.accepted > 0 && datasets.fresh(&name)? >= least;
        let job = if enough { start_job(&data.jobs, &config, &name, &by) } else { None };
        Ok(Uploaded { report, job })
    });
    Ok(response::json(&answer.await?))
}

/// The length that a request declares; 0 where it declares none.
fn content_length(headers: &HeaderMap) -> u64 {
    let value = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    value.and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn dataset_name(name: &str) -> Result<Name, Problem> {
    Ok(Name::new("data set", name)?)
}

fn limits(config: &Config) -> UploadLimits {
    UploadLimits {
        max_entries: config.zip_entries,
        max_total_bytes: config.zip_bytes,
        max_ratio: config.zip_ratio,
        image: config.upload_image_limits(),
        max_parallel: config.decode_threads,
        ..UploadLimits::default()
    }
}

/// Starts the job that enough uploads cause; the upload succeeds without one.
fn start_job(jobs: &Jobs, config: &Config, name: &Name, by: &Actor) -> Option<u64> {
    let request = RetrainRequest { dataset: name.to_string(), ..RetrainRequest::default() };
    // Whoever may upload images may not decide by them what everybody is answered with.
    let manual = (!config.upload_may_promote).then(|| {
        "an upload started it, so a person with an admin key promotes it (upload_may_promote is off)"
            .to_owned()
    });
    let asked = Asked { request, trigger: Trigger::Upload, manual };
    match jobs.submit(asked, by) {
        Ok(record) => Some(record.number),
        Err(problem) => {
            tracing::warn!(dataset = %name, "no training job: {problem}");
            None
        }
    }
}

/// Raises a flag once the service stops, so that an import does not hold up the end.
struct Stopper {
    stop: Arc<AtomicBool>,
    watch: tokio::task::JoinHandle<()>,
}

impl Stopper {
    fn new(mut stopping: watch::Receiver<bool>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let flag = stop.clone();
        let watch = tokio::spawn(async move {
            if stopping.wait_for(|&stopping| stopping).await.is_ok() {
                // Requests in flight have this long: an import that is nearly done may still finish.
                flag.store(true, Ordering::Relaxed);
            }
        });
        Stopper { stop, watch }
    }
}

impl Drop for Stopper {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

/// Writes the archive to `path`, and gives the name of the data set that a form holds.
async fn receive(
    context: &Context<'_>,
    body: &mut RequestBody,
    upload: &Upload,
    path: &Path,
) -> Result<Option<Name>, Problem> {
    let config = context.config();
    let headers = context.headers();
    match Declared::of(headers)? {
        Declared::Multipart { boundary } => {
            let stream = body.pieces(config, config.max_upload.saturating_add(MAX_FORM_EXTRA))?;
            let stream = stream.inspect_ok(|piece| upload.count(piece.len()));
            receive_form(stream, boundary, config.max_upload, path).await
        }
        Declared::Json => Err(Problem::UnsupportedMediaType(ACCEPTED)),
        declared => {
            // Of a type that promises no archive, the first bytes have to.
            let promised = declared != Declared::Other || names_zip(headers);
            let pieces = body.pieces(config, config.max_upload)?;
            let mut pieces = std::pin::pin!(pieces.inspect_ok(|piece| upload.count(piece.len())));
            let mut head = BytesMut::new();
            while head.len() < 4
                && let Some(piece) = pieces.try_next().await?
            {
                head.extend_from_slice(&piece);
            }
            if head.is_empty() {
                return Err(no_archive());
            }
            if !promised && !matches!(head[..], [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..]) {
                return Err(Problem::UnsupportedMediaType(ACCEPTED));
            }
            let first = futures_util::stream::once(async move { Ok(head.freeze()) });
            write(first.chain(pieces), path).await?;
            Ok(None)
        }
    }
}

/// `application/zip`, `application/x-zip-compressed`, `multipart/x-zip` and the like.
fn names_zip(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).map(|value| value.as_bytes().to_ascii_lowercase());
    value.is_some_and(|value| {
        let essence = value.split(|&byte| byte == b';').next().unwrap_or_default();
        essence.split(|&byte| byte == b'/' || byte == b'-').any(|word| word.trim_ascii() == b"zip")
    })
}

async fn receive_form(
    stream: impl Stream<Item = Result<Bytes, Problem>> + Send,
    boundary: String,
    limit: u64,
    path: &Path,
) -> Result<Option<Name>, Problem> {
    let sizes = SizeLimit::new().per_field(limit).for_field("dataset", MAX_FORM_EXTRA);
    let constraints = Constraints::new().size_limit(sizes);
    let mut form = Multipart::with_constraints(stream, boundary, constraints);
    let (mut name, mut files, mut received) = (None, 0, false);
    while let Some(field) = form.next_field().await.map_err(|error| bad_upload(error, limit))? {
        if field.name() == Some("dataset") {
            if name.is_some() {
                return Err(Problem::BadBody("the form has more than one field \"dataset\"".into()));
            }
            let text = field.text().await.map_err(|error| bad_upload(error, limit))?;
            name = Some(dataset_name(text.trim())?);
        } else if !payload::is_file_field(&field) {
            let name = shown(field.name().unwrap_or_default());
            return Err(Problem::BadBody(format!(
                "the form has a field \"{name}\"; the archive is sent as \"file\", the name of the data set as \"dataset\""
            )));
        } else if files > 0 {
            return Err(Problem::BadBody(
                "the form has more than one field \"file\": send one ZIP at a time".into(),
            ));
        } else {
            let pieces = field.map_err(|error| bad_upload(error, limit));
            files += 1;
            received = write(pieces, path).await? > 0;
        }
    }
    if received { Ok(name) } else { Err(no_archive()) }
}

fn no_archive() -> Problem {
    Problem::BadBody(
        "the request holds no archive: send a ZIP as the body, or as the form field \"file\"".into(),
    )
}

fn bad_upload(error: multer::Error, limit: u64) -> Problem {
    match error {
        multer::Error::FieldSizeExceeded { .. } | multer::Error::StreamSizeExceeded { .. } => {
            Problem::BodyTooLarge { limit }
        }
        // What ended the body says more than that the form is not whole.
        multer::Error::StreamReadFailed(source) => match source.downcast::<Problem>() {
            Ok(problem) => *problem,
            Err(_) => Problem::BodyBroken,
        },
        error => bad_form(error),
    }
}

/// Writes pieces to a new file as they come; gives their length in bytes.
async fn write(pieces: impl Stream<Item = Result<Bytes, Problem>>, path: &Path) -> Result<u64, Problem> {
    let io = |source| Problem::from(StoreError::Io { path: path.to_owned(), source });
    let mut file = File::create_new(path).await.map_err(io)?;
    let mut pieces = std::pin::pin!(pieces);
    let mut length = 0;
    while let Some(piece) = pieces.try_next().await? {
        length += piece.len() as u64;
        file.write_all(&piece).await.map_err(io)?;
    }
    file.flush().await.map_err(io)?;
    Ok(length)
}
