//! `POST /upload-data`: a ZIP of class folders becomes part of a data set, as a whole or not at all.
//!
//! The body is the archive (`application/zip`, `application/octet-stream`) or a form with the archive as `file`;
//! `?dataset=` names the data set, `default` where it is left out. The archive goes to a folder of its own on the disk
//! while it comes, is checked, and is merged by the replacement of one file. Whoever leaves before the answer does not
//! know whether it was; sending it again adds nothing twice.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use hyper::Response;
use hyper::header::CONTENT_TYPE;
use multer::{Constraints, Multipart, SizeLimit};
use ocelli_pipeline::UploadLimits;
use ocelli_pipeline::store::{ImportReport, Name, StoreError};
use serde::Serialize;
use tokio::fs::File;
use tokio::io::AsyncWriteExt;

use crate::body::RequestBody;
use crate::config::Config;
use crate::jobs::{RetrainRequest, Trigger};
use crate::payload::{Encoding, bad_form};
use crate::problem::Problem;
use crate::response::{self, ResponseBody};
use crate::router::Context;
use crate::routes::blocking;

/// Longest name of a data set in a form, in bytes, and what surrounds the fields of one.
const MAX_FORM_EXTRA: u64 = 4096;

#[derive(Serialize, schemars::JsonSchema)]
pub(crate) struct Answer {
    #[serde(flatten)]
    report: ImportReport,
    /// The training job that the new images set off.
    job: Option<u64>,
}

/// See the module.
pub(crate) async fn post(
    context: &Context<'_>,
    body: &mut RequestBody,
) -> Result<Response<ResponseBody>, Problem> {
    let state = context.state;
    let data = state.data()?;
    let mut query = context.query()?;
    let named = query.text("dataset")?;
    query.finish()?;
    let named = named.map(|name| dataset_name(&name)).transpose()?;
    let place = data.uploads.clone().try_acquire_owned();
    let place = place.map_err(|_| Problem::Busy { what: "as many uploads as may be are under way" })?;

    let store = data.store.clone();
    let staging = blocking(move || Ok(store.datasets().staging()?)).await?;
    let path = staging.path().join("upload.zip");
    let of_form = receive(context, body, &path).await?;
    let name = match named.or(of_form) {
        Some(name) => name,
        None => dataset_name("default")?,
    };

    let state = state.clone();
    let answer = blocking(move || {
        // Held to the end of the work, whether the client waits for it or not.
        let (_place, staging) = (place, staging);
        let data = state.data()?;
        let limits = limits(&state.config);
        let ends = Stopper::new(&state);
        let report = data.store.datasets().import_zip(
            &name,
            &staging.path().join("upload.zip"),
            &limits,
            &ends.stop,
        )?;
        tracing::info!(dataset = %name, accepted = report.accepted, skipped = report.skipped_total, "upload");
        let enough = report.accepted > 0 && data.jobs.count_news(name.as_str(), report.accepted);
        let job = if enough { start_job(&state, &name) } else { None };
        Ok(Answer { report, job })
    });
    Ok(response::json(&answer.await?))
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

/// The job that uploads set off; the upload is good without one.
fn start_job(state: &crate::State, name: &Name) -> Option<u64> {
    let request = RetrainRequest { dataset: name.to_string(), ..RetrainRequest::default() };
    match state.data().and_then(|data| data.jobs.submit(request, Trigger::Upload)) {
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
    fn new(state: &crate::State) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (flag, mut stopping) = (stop.clone(), state.stopping.subscribe());
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
    path: &Path,
) -> Result<Option<Name>, Problem> {
    let config = &context.state.config;
    let zip = context.parts.headers.get(CONTENT_TYPE).is_some_and(|value| {
        let value = value.as_bytes();
        value.starts_with(b"application/zip") || value.starts_with(b"application/x-zip-compressed")
    });
    match if zip { Encoding::Raw } else { Encoding::of(&context.parts.headers)? } {
        Encoding::Raw => {
            let length = write(body.pieces(config, config.max_upload)?, path).await?;
            if length == 0 { Err(no_archive()) } else { Ok(None) }
        }
        Encoding::Multipart { boundary } => {
            let stream = body.pieces(config, config.max_upload.saturating_add(MAX_FORM_EXTRA))?;
            receive_form(stream, boundary, config.max_upload, path).await
        }
        Encoding::Json => Err(Problem::UnsupportedMediaType(
            "send the ZIP as application/zip, or as the field \"file\" of a multipart/form-data form",
        )),
    }
}

async fn receive_form(
    stream: impl Stream<Item = Result<Bytes, Problem>> + Send,
    boundary: String,
    limit: u64,
    path: &Path,
) -> Result<Option<Name>, Problem> {
    let sizes = SizeLimit::new().for_field("file", limit).for_field("dataset", MAX_FORM_EXTRA);
    let constraints = Constraints::new().allowed_fields(vec!["file", "dataset"]).size_limit(sizes);
    let mut form = Multipart::with_constraints(stream, boundary, constraints);
    let (mut name, mut received) = (None, false);
    while let Some(field) = form.next_field().await.map_err(|error| bad_upload(error, limit))? {
        if field.name() == Some("dataset") {
            let text = field.text().await.map_err(|error| bad_upload(error, limit))?;
            name = Some(dataset_name(text.trim())?);
        } else if received {
            return Err(Problem::BadBody(
                "the form has more than one field \"file\": send one ZIP at a time".into(),
            ));
        } else {
            let pieces = field.map_err(|error| bad_upload(error, limit));
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
        multer::Error::UnknownField { .. } => {
            Problem::BadBody("the form has a field that is neither \"file\" nor \"dataset\"".into())
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
