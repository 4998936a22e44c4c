//! A replica before its first model: alive, and not ready.
//!
//! There is nothing yet that could answer. Supervisors see that the process lives (`/health/live`), balancers that it is
//! not ready, and everybody else the reason.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::select;
use tokio::time::sleep;

use crate::access::Access;
use crate::config::Config;
use crate::http::problem::Problem;
use crate::http::response::{ResponseBody, json};
use crate::net::connections::Connections;
use crate::net::stream::{Exchange, Stream};

/// Largest header in bytes: nothing here reads one.
const MAX_HEADER_BYTES: usize = 16 << 10;

/// After a failed accept, and after one over the limits.
const PAUSE: Duration = Duration::from_millis(50);

/// Answers on the socket until `done` is, and gives what that gives. Each connection has one answer.
pub(crate) async fn serve_until<T>(
    listener: &TcpListener,
    access: &Access,
    config: &Config,
    done: impl Future<Output = T>,
) -> T {
    let connections = Connections::new(config);
    let mut done = pin!(done);
    loop {
        let accepted = select! {
            done = &mut done => return done,
            accepted = listener.accept() => accepted,
        };
        let Ok((tcp, peer)) = accepted else {
            sleep(PAUSE).await;
            continue;
        };
        let Ok(permit) = connections.admit(peer.ip()) else {
            sleep(PAUSE).await;
            continue;
        };
        let exchange = Arc::new(Exchange::new());
        let stream = Stream::new(tcp, exchange.clone(), config);
        let (tls, header_timeout) = (access.tls.clone(), config.header_timeout);
        tokio::spawn(async move {
            match tls {
                None => answer(stream, &exchange, header_timeout).await,
                // A client that breaks off the handshake is no event for the log.
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        answer(stream, &exchange, header_timeout).await;
                    }
                }
            }
            drop(permit);
        });
    }
}

/// One request and its answer.
async fn answer(stream: impl AsyncRead + AsyncWrite + Unpin, exchange: &Exchange, header_timeout: Duration) {
    let service = service_fn(|request: Request<hyper::body::Incoming>| async move {
        exchange.request();
        let answer = to(request.uri().path());
        exchange.answered(true);
        Ok::<_, Infallible>(answer)
    });
    // A client that breaks off is no event for the log.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_buf_size(MAX_HEADER_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

fn to(path: &str) -> Response<ResponseBody> {
    match path {
        "/health/live" | "/v2/health/live" => json(&serde_json::json!({ "live": true })),
        _ => Problem::Starting.into_response(""),
    }
}
