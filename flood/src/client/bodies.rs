//! Requests, built once and shared by all connections.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::Method;
use hyper::header::{CONTENT_TYPE, HeaderValue};

use super::connection::Request;
use super::images::{Images, Picture};
use super::target::Target;
use crate::error::FloodError;
use crate::settings::BodyKind;

/// Most bytes of all bodies together.
const MAX_BYTES: usize = 1 << 30;

/// All requests of a run; every image is in one of them.
pub(crate) struct Requests(Vec<Request>);

impl Requests {
    pub(crate) fn new(
        images: &Images,
        kind: BodyKind,
        batch: usize,
        target: &Target,
    ) -> Result<Requests, FloodError> {
        let files = images.files();
        let boundary = boundary(files);
        let (mut requests, mut total) = (Vec::new(), 0);
        for first in (0..files.len()).step_by(batch) {
            // The last one is filled up from the start.
            let group: Vec<&Picture> = (first..first + batch).map(|i| &files[i % files.len()]).collect();
            let (media_type, body) = match kind {
                BodyKind::Raw => (group[0].media_type.to_owned(), group[0].bytes.clone()),
                BodyKind::Multipart => {
                    (format!("multipart/form-data; boundary={boundary}"), form(&group, &boundary))
                }
                BodyKind::Json => ("application/json".to_owned(), json(&group)),
            };
            total += body.len();
            if total > MAX_BYTES {
                return Err(FloodError::Bodies { limit: MAX_BYTES >> 20 });
            }
            let mut headers = target.headers.clone();
            let media_type = HeaderValue::try_from(media_type).expect("words of our own are a valid header");
            headers.insert(CONTENT_TYPE, media_type);
            let images = group.iter().map(|picture| picture.number).collect();
            requests.push(Request { method: Method::POST, path: target.path.clone(), headers, body, images });
        }
        Ok(Requests(requests))
    }

    /// Request `i`, counted around.
    pub(crate) fn get(&self, i: usize) -> &Request {
        &self.0[i % self.0.len()]
    }
}

/// A line that no image contains (RFC 2046, section 5.1.1).
fn boundary(files: &[Picture]) -> String {
    let within = |word: &str| {
        files.iter().any(|picture| picture.bytes.windows(word.len()).any(|bytes| bytes == word.as_bytes()))
    };
    let all = (0..).map(|i| format!("ocelli-flood-{i:08}"));
    all.into_iter().find(|word| !within(word)).expect("images of finite size lack some number")
}

/// RFC 7578.
fn form(group: &[&Picture], boundary: &str) -> Bytes {
    let mut body = Vec::new();
    for picture in group {
        // A quoted string: what would end it or the line is left out.
        let name: String =
            picture.file_name.chars().filter(|c| !c.is_control() && !"\"\\".contains(*c)).collect();
        body.extend(format!("--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; ").as_bytes());
        body.extend(
            format!("filename=\"{name}\"\r\nContent-Type: {}\r\n\r\n", picture.media_type).as_bytes(),
        );
        body.extend(&picture.bytes);
        body.extend(b"\r\n");
    }
    body.extend(format!("--{boundary}--\r\n").as_bytes());
    body.into()
}

fn json(group: &[&Picture]) -> Bytes {
    let encoded: Vec<String> = group.iter().map(|picture| STANDARD.encode(&picture.bytes)).collect();
    let value = match encoded.as_slice() {
        [image] => serde_json::json!({ "image": image }),
        images => serde_json::json!({ "images": images }),
    };
    value.to_string().into()
}
