//! From a request body to the encoded images in it: raw bytes, a multipart form, or base64 in JSON.
//!
//! Every address that takes images decides here what a body is, from its content type and its first bytes:
//!
//! | content type | begins like an image | begins with `{` | anything else |
//! |---|---|---|---|
//! | `multipart/form-data` | a form | a form | a form |
//! | `application/json` | refused, with the reason | JSON | JSON |
//! | `image/*` | image | image | image |
//! | none, `application/octet-stream` and the like | image | JSON | image: the decoder says what it is not |
//! | `text/plain`, `application/x-www-form-urlencoded` | image | JSON | image, or 415 if it is a text |
//! | others | image | 415 | 415 |

mod base64;

use std::fmt;

use bytes::Bytes;
use http_body_util::{BodyDataStream, Full};
use hyper::HeaderMap;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE};
use multer::{Constraints, Field, Multipart, SizeLimit};
use ocelli_pipeline::file_format;
use serde::de::{Deserialize, Deserializer, Error as _, SeqAccess, Visitor};

pub(crate) use self::base64::decode as base64;

use crate::config::IMAGES_CEILING;
use crate::http::json::{self, Object};
use crate::http::problem::Problem;
use crate::http::text::shown;

const ACCEPTED: &str = "send an image as image/* or application/octet-stream, a multipart/form-data form with the field \"file\", or application/json with \"image\" or \"images\" in base64";

/// Bytes at the beginning of a body that tell a text from something else.
const TEXT_SAMPLE: usize = 64;

/// What the content type says of a body.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Declared {
    /// A form.
    Multipart { boundary: String },
    /// `application/json`, and types that are written in JSON.
    Json,
    /// `image/*`.
    Image,
    /// Bytes, or nothing.
    Bytes,
    /// What `curl -d` and browsers say of a text unasked.
    Text,
    /// Anything else.
    Other,
}

/// How the images lie in the body.
#[derive(Debug, PartialEq)]
pub(crate) enum Encoding {
    /// The body is one image.
    Raw,
    /// A form whose files are the images.
    Multipart { boundary: String },
    /// `{"image": base64}` or `{"images": [base64, ..]}`.
    Json,
}

impl Declared {
    /// Reads `Content-Type` and `Content-Encoding`.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Declared, Problem> {
        check_content_encoding(headers)?;
        let Some(value) = headers.get(CONTENT_TYPE) else { return Ok(Declared::Bytes) };
        // A type that is no text says as little as one that nobody knows.
        let Ok(value) = value.to_str() else { return Ok(Declared::Other) };
        let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        Ok(match essence.as_str() {
            "multipart/form-data" => match multer::parse_boundary(value) {
                Ok(boundary) => Declared::Multipart { boundary },
                Err(_) => {
                    let reason = "the content type of the form names no boundary; leave the header to the library that writes the form";
                    return Err(Problem::BadBody(reason.into()));
                }
            },
            "application/json" | "text/json" => Declared::Json,
            // Object stores call files by the second of these, proxies by the others.
            ""
            | "*/*"
            | "application/octet-stream"
            | "binary/octet-stream"
            | "application/binary"
            | "application/unknown"
            | "unknown/unknown"
            | "application/force-download" => Declared::Bytes,
            "text/plain" | "application/x-www-form-urlencoded" => Declared::Text,
            _ if essence.starts_with("image/") => Declared::Image,
            _ if essence.starts_with("application/") && essence.ends_with("+json") => Declared::Json,
            _ => Declared::Other,
        })
    }
}

impl Encoding {
    /// The table of this module.
    pub(crate) fn of(declared: Declared, body: &[u8]) -> Result<Encoding, Problem> {
        let begins_like_image = || file_format(body).is_some();
        match declared {
            Declared::Multipart { boundary } => Ok(Encoding::Multipart { boundary }),
            Declared::Json if begins_like_image() => Err(Problem::BadBody(
                "the content type is JSON and the body an image: send it as image/* or application/octet-stream".into(),
            )),
            Declared::Json => Ok(Encoding::Json),
            Declared::Image => Ok(Encoding::Raw),
            _ if begins_like_image() => Ok(Encoding::Raw),
            Declared::Bytes | Declared::Text if begins_like_object(body) => Ok(Encoding::Json),
            Declared::Bytes => Ok(Encoding::Raw),
            Declared::Text if !begins_like_text(body) => Ok(Encoding::Raw),
            Declared::Text | Declared::Other => Err(Problem::UnsupportedMediaType(ACCEPTED)),
        }
    }
}

fn begins_like_object(body: &[u8]) -> bool {
    json::without_bom(body).trim_ascii_start().starts_with(b"{")
}

/// Whether the beginning has no control characters, which image files have in their first bytes.
fn begins_like_text(body: &[u8]) -> bool {
    body.iter().take(TEXT_SAMPLE).all(|byte| byte.is_ascii_whitespace() || !byte.is_ascii_control())
}

/// Bodies are read as they are: what inflates would need limits of its own.
pub(crate) fn check_content_encoding(headers: &HeaderMap) -> Result<(), Problem> {
    match headers.get(CONTENT_ENCODING) {
        Some(value) if !value.as_bytes().eq_ignore_ascii_case(b"identity") => {
            Err(Problem::UnsupportedMediaType("send the body without content encoding"))
        }
        _ => Ok(()),
    }
}

/// The images of a form that lies in memory, without a copy of the rest.
pub(crate) async fn multipart(
    body: Bytes,
    boundary: String,
    max_images: usize,
) -> Result<Vec<Bytes>, Problem> {
    let whole = body.len() as u64;
    let constraints = Constraints::new().size_limit(SizeLimit::new().whole_stream(whole).per_field(whole));
    let stream = BodyDataStream::<Full<Bytes>>::new(Full::new(body));
    let mut form = Multipart::with_constraints(stream, boundary, constraints);
    let mut images = Vec::new();
    while let Some(field) = form.next_field().await.map_err(bad_form)? {
        let name = shown(field.name().unwrap_or_default());
        if !is_file_field(&field) && !has_name(&field, &["image", "images"]) {
            return Err(Problem::BadBody(format!(
                "the form has a field \"{name}\"; images are sent in fields named \"file\""
            )));
        }
        if images.len() == max_images {
            return Err(Problem::TooManyImages { limit: max_images });
        }
        let is_file = field.file_name().is_some();
        let bytes = field.bytes().await.map_err(bad_form)?;
        if !is_file && !bytes.is_empty() && begins_like_text(&bytes) && file_format(&bytes).is_none() {
            return Err(Problem::BadBody(format!(
                "the field \"{name}\" of the form holds a text and no file: send the file itself, as `curl -F file=@cat.jpg` does, or base64 as application/json"
            )));
        }
        images.push(bytes);
    }
    Ok(images)
}

/// Whether a field of a form is called `file`, or as libraries call one of several: `files`, `file[]`, `files[0]`.
pub(crate) fn is_file_field(field: &Field<'_>) -> bool {
    has_name(field, &["file", "files"])
}

/// Compares the name without a number in brackets at its end.
fn has_name(field: &Field<'_>, names: &[&str]) -> bool {
    let name = field.name().unwrap_or_default();
    let bare = match name.strip_suffix(']').and_then(|rest| rest.rsplit_once('[')) {
        Some((bare, number)) if number.bytes().all(|digit| digit.is_ascii_digit()) => bare,
        _ => name,
    };
    names.contains(&bare)
}

pub(crate) fn bad_form(error: multer::Error) -> Problem {
    let reason = match error {
        multer::Error::IncompleteStream | multer::Error::IncompleteFieldData { .. } => {
            "the form ends before its closing boundary"
        }
        _ => "the form is not well-formed multipart/form-data",
    };
    Problem::BadBody(reason.into())
}

/// The images of a JSON body. Costs time in proportion to the body: not for a thread that serves connections.
pub(crate) fn json(body: &[u8], max_images: usize, max_depth: usize) -> Result<Vec<Bytes>, Problem> {
    let Object(request): Object<JsonRequest> = json::parse(body, max_depth)?;
    let texts = match (request.image, request.images) {
        (Some(image), None) => vec![image],
        (None, Some(images)) => images.0,
        (None, None) => return Err(Problem::NoImage),
        (Some(_), Some(_)) => return Err(Problem::BadBody("give either \"image\" or \"images\"".into())),
    };
    if texts.len() > max_images {
        return Err(Problem::TooManyImages { limit: max_images });
    }
    let decode = |(index, text): (usize, &String)| {
        base64(text).map_err(|error| Problem::BadBody(format!("image {} is {error}", index + 1)))
    };
    texts.iter().enumerate().map(decode).collect()
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonRequest {
    image: Option<String>,
    images: Option<Texts>,
}

/// An array of strings that stops at the ceiling: `["","",..]` would else grow to many times its size.
struct Texts(Vec<String>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextsVisitor;
        impl<'de> Visitor<'de> for TextsVisitor {
            type Value = Texts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of base64 texts")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Texts, A::Error> {
                let mut texts = Vec::new();
                while let Some(text) = seq.next_element()? {
                    if texts.len() == IMAGES_CEILING {
                        return Err(A::Error::custom("too many images"));
                    }
                    texts.push(text);
                }
                Ok(Texts(texts))
            }
        }
        deserializer.deserialize_seq(TextsVisitor)
    }
}
