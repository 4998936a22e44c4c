//! One connection: a request goes out, an answer or a fault comes back. The only file that knows hyper's client.

use std::borrow::Cow;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{HeaderMap, HeaderName};
use hyper::{Method, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::task::spawn_local;
use tokio::time::timeout;

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
/// Bytes of a body that are kept to be read; the rest is only counted.
const MAX_KEPT: usize = 1 << 20;
/// Characters of a code or text of the service that are kept.
const MAX_TEXT: usize = 200;
/// Longest code that is taken for one.
const MAX_CODE: usize = 40;

/// A request that is sent many times.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) path: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// Numbers of the images in the body; equal images have equal numbers.
    pub(crate) images: Vec<usize>,
}

/// An answer, read as far as it is needed.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// Milliseconds of the service's own steps.
    pub(crate) steps: Steps,
    /// The start of the body where the caller wanted it or the status is not 2xx, else empty.
    pub(crate) body: Bytes,
    /// Bytes of the body.
    pub(crate) length: u64,
}

/// Names of the service's steps in `Server-Timing`, in the order of [`Steps`].
pub(crate) const STEPS: [&str; 4] = ["decode", "queue", "compute", "total"];

/// Milliseconds of the service's steps, in the order of [`STEPS`].
pub(crate) type Steps = [Option<f64>; STEPS.len()];

/// Why a request has no good answer.
#[derive(Debug)]
pub(crate) struct Fault {
    /// What it is counted under: `timeout`, `429 busy`.
    pub(crate) kind: Cow<'static, str>,
    /// The whole story of this one.
    pub(crate) text: String,
}

impl Fault {
    pub(crate) fn new(kind: &'static str, text: impl Into<String>) -> Fault {
        Fault { kind: kind.into(), text: text.into() }
    }

    pub(crate) fn timeout(limit: Duration) -> Fault {
        Fault::new("timeout", format!("no whole answer within {} s", limit.as_secs_f64()))
    }

    /// What an answer that is not 2xx says, by the `code` of a problem document where there is one.
    pub(crate) fn refused(answer: &Answer) -> Fault {
        #[derive(Deserialize)]
        struct Problem {
            code: Option<String>,
            detail: Option<String>,
        }
        let status = answer.status.as_u16();
        let problem: Option<Problem> = serde_json::from_slice(&answer.body).ok();
        let code = problem.as_ref().and_then(|problem| problem.code.as_deref());
        let plain = |code: &&str| {
            let word = code.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
            word && (1..=MAX_CODE).contains(&code.len())
        };
        let kind = match code.filter(plain) {
            Some(code) => format!("{status} {code}"),
            None => status.to_string(),
        };
        let detail = problem.and_then(|problem| problem.detail).unwrap_or_default();
        Fault { kind: kind.into(), text: detail.chars().take(MAX_TEXT).collect() }
    }
}

/// A connection that is kept alive.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
}

impl Connection {
    /// Connects; must be called within a `LocalSet`, on which the connection lives.
    pub(crate) async fn open(addr: SocketAddr) -> Result<Connection, Fault> {
        let refused = |error: io::Error| Fault::new("connect", error.to_string());
        let stream = TcpStream::connect(addr).await.map_err(refused)?;
        // A request is written whole: waiting for more to send would only delay it.
        stream.set_nodelay(true).map_err(refused)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| fault(&error))?;
        // Its errors reach the request that is on its way.
        spawn_local(async { drop(connection.await) });
        Ok(Connection { sender })
    }

    /// Whether another request may be sent.
    pub(crate) fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Sends one request and reads its answer. After a fault the connection is of no use.
    pub(crate) async fn send(&mut self, request: &Request, keep_body: bool) -> Result<Answer, Fault> {
        self.sender.ready().await.map_err(|error| fault(&error))?;
        let mut message = hyper::Request::new(Full::new(request.body.clone()));
        *message.method_mut() = request.method.clone();
        *message.uri_mut() = request.path.clone();
        *message.headers_mut() = request.headers.clone();
        let answer = self.sender.send_request(message).await.map_err(|error| fault(&error))?;
        let (head, body) = answer.into_parts();
        let keep = keep_body || !head.status.is_success();
        let (body, length) = read(body, keep).await.map_err(|error| fault(&error))?;
        let timing = head.headers.get(SERVER_TIMING).and_then(|value| value.to_str().ok());
        Ok(Answer { status: head.status, steps: steps(timing.unwrap_or_default()), body, length })
    }
}

/// One request on a connection of its own, for which no `LocalSet` is needed.
pub(crate) async fn once(addr: SocketAddr, request: &Request, limit: Duration) -> Result<Answer, Fault> {
    let local = tokio::task::LocalSet::new();
    let exchange = local.run_until(async { Connection::open(addr).await?.send(request, true).await });
    timeout(limit, exchange).await.unwrap_or_else(|_| Err(Fault::timeout(limit)))
}

/// Reads a body to its end.
async fn read(mut body: Incoming, keep: bool) -> Result<(Bytes, u64), hyper::Error> {
    let (mut kept, mut length) = (BytesMut::new(), 0);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        length += data.len() as u64;
        if keep && kept.len() + data.len() <= MAX_KEPT {
            kept.extend_from_slice(&data);
        }
    }
    Ok((kept.freeze(), length))
}

/// Reads `Server-Timing` (W3C, 2023): `decode;dur=0.1, queue;dur=0`; what is not understood is left out.
fn steps(header: &str) -> Steps {
    let mut steps = Steps::default();
    for metric in header.split(',') {
        let mut parts = metric.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let Some(step) = STEPS.iter().position(|step| *step == name) else { continue };
        let duration = parts.find_map(|part| part.strip_prefix("dur=")?.parse::<f64>().ok());
        steps[step] = duration.filter(|ms| ms.is_finite() && *ms >= 0.0);
    }
    steps
}

/// What became of a request whose answer did not come.
fn fault(error: &hyper::Error) -> Fault {
    let mut cause: Option<&(dyn Error + 'static)> = error.source();
    while let Some(inner) = cause {
        if let Some(error) = inner.downcast_ref::<io::Error>() {
            let kind = match error.kind() {
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => "reset",
                _ => "closed",
            };
            return Fault::new(kind, error.to_string());
        }
        cause = inner.source();
    }
    if error.is_parse() {
        return Fault::new("bad answer", format!("not an answer of HTTP/1.1: {error}"));
    }
    Fault::new("closed", "the service closed the connection before its answer was whole")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_services_own_times_are_read() {
        let read = steps("decode;dur=0.125, queue;dur=0, compute;desc=\"x\";dur=1.5,total;dur=2");
        assert_eq!(read, [Some(0.125), Some(0.0), Some(1.5), Some(2.0)]);
        for odd in ["", "decode", "decode;dur=", "decode;dur=NaN", "decode;dur=-1", ";;,,", "other;dur=1"] {
            assert_eq!(steps(odd), Steps::default(), "{odd}");
        }
    }

    #[test]
    fn refusals_are_counted_under_their_code() {
        let kind = |status: u16, body: &'static str| {
            let status = StatusCode::from_u16(status).unwrap();
            let body = Bytes::from_static(body.as_bytes());
            Fault::refused(&Answer { status, steps: Steps::default(), length: 0, body }).kind
        };
        assert_eq!(kind(429, r#"{"code":"busy","detail":"x"}"#), "429 busy");
        for body in ["", "<html>", "[]", r#"{"code":""}"#, r#"{"code":"a b\u001b"}"#, r#"{"code":7}"#] {
            assert_eq!(kind(503, body), "503", "{body}");
        }
    }
}
