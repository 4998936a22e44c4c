//! Bodies of answers: whole, or piece by piece.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;
use tokio::sync::mpsc;

/// Body of every answer.
pub(crate) enum ResponseBody {
    /// All of it; empty once it is sent.
    Whole(Bytes),
    /// Pieces as they come; ends when the sender is dropped. With a length, that many bytes or a broken connection.
    Stream { pieces: mpsc::Receiver<Bytes>, length: Option<u64> },
}

impl ResponseBody {
    /// The bytes of an answer that is not sent piece by piece.
    pub(crate) fn into_whole(self) -> Bytes {
        match self {
            ResponseBody::Whole(bytes) => bytes,
            ResponseBody::Stream { .. } => Bytes::new(),
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            ResponseBody::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            ResponseBody::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            ResponseBody::Stream { pieces, length } => pieces.poll_recv(cx).map(|piece| {
                let piece = piece?;
                if let Some(length) = length {
                    *length = length.saturating_sub(piece.len() as u64);
                }
                Some(Ok(Frame::data(piece)))
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, ResponseBody::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            ResponseBody::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            ResponseBody::Stream { length: Some(length), .. } => SizeHint::with_exact(*length),
            ResponseBody::Stream { length: None, .. } => SizeHint::default(),
        }
    }
}

/// 200 with bytes of a media type.
pub(crate) fn bytes(content_type: &'static str, body: impl Into<Bytes>) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::Whole(body.into()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// 204: there is nothing to say.
pub(crate) fn no_content() -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::Whole(Bytes::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// 200 with `value` as JSON.
pub(crate) fn json(value: &impl Serialize) -> Response<ResponseBody> {
    let body =
        serde_json::to_vec(value).expect("answers are structs with string keys, which always are JSON");
    bytes("application/json", body)
}

/// An image of a client: never to be run as anything, and the same for ever, as its name is its content.
pub(crate) fn stored_image(media_type: &'static str, image: Vec<u8>) -> Response<ResponseBody> {
    let mut response = bytes(media_type, image);
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; sandbox"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, max-age=31536000, immutable"));
    response
}
