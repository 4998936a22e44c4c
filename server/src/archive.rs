//! An archive or another large file that somebody sends: where it goes while it comes, and how an archive is told from other
//! bodies.

use std::path::Path;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt, TryStreamExt};
use hyper::HeaderMap;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE};
use multer::{Constraints, Multipart, SizeLimit};
use ocelli_pipeline::store::{Name, Staging, StoreError};
use tokio::fs::File;
use tokio::io::AsyncWriteExt;

use crate::blocking::blocking;
use crate::config::Config;
use crate::context::Context;
use crate::http::body::RequestBody;
use crate::http::payload::{self, Declared, bad_form};
use crate::http::problem::Problem;
use crate::http::text::shown;
use crate::uploads::Upload;

const ACCEPTED: &str =
    "send the ZIP as application/zip, or as the field \"file\" of a multipart/form-data form";

/// Longest name of a data set in a form, in bytes, and what surrounds the fields of one.
const MAX_FORM_EXTRA: u64 = 4096;

/// What a description says of such a body.
pub(crate) fn about(config: &Config) -> String {
    let Config { max_upload, zip_entries, zip_bytes, zip_ratio, .. } = config;
    format!(
        "Any other media type, or none, is taken too where the body begins like a ZIP. The field may also be called \
        `files`, or one of these with brackets. At most {max_upload} bytes, {zip_entries} entries, {zip_bytes} inflated \
        bytes, and {zip_ratio} inflated bytes for a packed one."
    )
}

/// A folder of its own for an archive, where there is room for one of the declared length.
///
/// # Errors
/// [`Problem`] for a service without a data folder, or a disk that is full.
pub(crate) async fn staging(context: &Context<'_>) -> Result<Staging, Problem> {
    staging_for(context, context.config().max_upload).await
}

/// As [`staging`], for something of at most `limit` bytes.
pub(crate) async fn staging_for(context: &Context<'_>, limit: u64) -> Result<Staging, Problem> {
    let store = context.data()?.store.clone();
    let announced = content_length(context.headers());
    blocking(move || {
        // One that is too large anyway is refused for that.
        if announced <= limit {
            store.check_room(announced)?;
        }
        Ok(store.datasets().staging()?)
    })
    .await
}

/// The length that a request declares; 0 where it declares none.
fn content_length(headers: &HeaderMap) -> u64 {
    let value = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    value.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The name of a data set.
///
/// # Errors
/// [`Problem`] for one that cannot be.
pub(crate) fn dataset_name(name: &str) -> Result<Name, Problem> {
    Ok(Name::new("data set", name)?)
}

/// Writes the archive to `path`, and gives the name of the data set that a form holds.
pub(crate) async fn receive(
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

/// Writes a body that is one file to `path`, whatever its type says; gives its length in bytes.
pub(crate) async fn receive_file(
    body: &mut RequestBody,
    (config, limit): (&Config, u64),
    upload: &Upload,
    path: &Path,
) -> Result<u64, Problem> {
    let pieces = body.pieces(config, limit)?;
    write(pieces.inspect_ok(|piece| upload.count(piece.len())), path).await
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
