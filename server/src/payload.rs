//! From a request body to the encoded images in it: raw bytes, a multipart form, or base64 in JSON.

use std::fmt;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use http_body_util::{BodyDataStream, Full};
use hyper::HeaderMap;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE};
use multer::{Constraints, Multipart, SizeLimit};
use serde::de::{Deserialize, Deserializer, Error as _, SeqAccess, Visitor};

use crate::config::IMAGES_CEILING;
use crate::json::{self, Object};
use crate::problem::Problem;

/// Clients disagree on the padding; without it nothing is ambiguous.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

const ACCEPTED: &str =
    "send an image as image/* or application/octet-stream, a multipart/form-data form, or application/json";

/// How the images lie in the body.
#[derive(Debug, PartialEq)]
pub(crate) enum Encoding {
    /// The body is one image.
    Raw,
    /// A form whose `file` fields are the images.
    Multipart { boundary: String },
    /// `{"image": base64}` or `{"images": [base64, ..]}`.
    Json,
}

impl Encoding {
    /// Reads `Content-Type` and `Content-Encoding`.
    ///
    /// No type, and the form type that `curl --data-binary` sends unasked, mean raw: the image's own first
    /// bytes say what it is.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Encoding, Problem> {
        check_content_encoding(headers)?;
        let Some(value) = headers.get(CONTENT_TYPE) else { return Ok(Encoding::Raw) };
        let value = value.to_str().map_err(|_| Problem::UnsupportedMediaType(ACCEPTED))?;
        let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match essence.as_str() {
            "multipart/form-data" => match multer::parse_boundary(value) {
                Ok(boundary) => Ok(Encoding::Multipart { boundary }),
                Err(_) => Err(Problem::BadBody("the content type of the form names no boundary".into())),
            },
            "application/json" => Ok(Encoding::Json),
            "application/octet-stream" | "application/x-www-form-urlencoded" => Ok(Encoding::Raw),
            _ if essence.starts_with("image/") => Ok(Encoding::Raw),
            _ => Err(Problem::UnsupportedMediaType(ACCEPTED)),
        }
    }
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

/// The `file` fields of a form that lies in memory, without a copy of the rest.
pub(crate) async fn multipart(
    body: Bytes,
    boundary: String,
    max_images: usize,
) -> Result<Vec<Bytes>, Problem> {
    let whole = body.len() as u64;
    let constraints = Constraints::new()
        .allowed_fields(vec!["file"])
        .size_limit(SizeLimit::new().whole_stream(whole).per_field(whole));
    let stream = BodyDataStream::<Full<Bytes>>::new(Full::new(body));
    let mut form = Multipart::with_constraints(stream, boundary, constraints);
    let mut images = Vec::new();
    while let Some(field) = form.next_field().await.map_err(bad_form)? {
        if images.len() == max_images {
            return Err(Problem::TooManyImages { limit: max_images });
        }
        images.push(field.bytes().await.map_err(bad_form)?);
    }
    Ok(images)
}

pub(crate) fn bad_form(error: multer::Error) -> Problem {
    let reason = match error {
        multer::Error::UnknownField { .. } => "the form has a field that is not named \"file\"",
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
        base64(text).ok_or_else(|| Problem::BadBody(format!("image {} is not base64", index + 1)))
    };
    texts.iter().enumerate().map(decode).collect()
}

/// The bytes of a base64 text or of a `data:` URL; `None` if it is neither.
pub(crate) fn base64(text: &str) -> Option<Bytes> {
    BASE64.decode(without_data_url(text)).ok().map(Bytes::from)
}

/// The payload of a `data:image/png;base64,..` text, which is what browsers make of a file.
fn without_data_url(text: &str) -> &str {
    match text.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,")) {
        Some((_, payload)) => payload,
        None => text,
    }
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
