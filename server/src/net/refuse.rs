//! Connections over the limit: a short answer, a count, and a line in the log at most once a second.
//!
//! Whoever is over a limit may be one client too many or a flood. So each refusal takes one small task for two seconds
//! at most, there are few of them at a time, and past these a connection is closed without an answer. So are connections
//! that would begin with a handshake of TLS, which costs more than the request that is refused.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use crate::http::problem::Problem;
use crate::metrics::{Metrics, Refused};

/// Refusals that are written at a time.
const MAX_ANSWERS: usize = 64;

/// For the client to send something and to take the answer, and again for it to close.
const STEP: Duration = Duration::from_secs(1);

/// Bytes of the request that are read and thrown away: with unread ones left, closing would take the answer back.
const SKIPPED: usize = 64 << 10;

/// Time for which refusals are counted together in a line of the log.
const LOG_EVERY: Duration = Duration::from_secs(1);

/// Turns connections over a limit away.
pub(crate) struct Refusals {
    /// One permit for each answer that is written.
    answers: Arc<Semaphore>,
    /// Refusals that are not in the log yet, by the limit.
    unlogged: [AtomicUsize; 2],
    metrics: Metrics,
}

impl Refusals {
    pub(crate) fn new(metrics: Metrics) -> Arc<Refusals> {
        Arc::new(Refusals {
            answers: Arc::new(Semaphore::new(MAX_ANSWERS)),
            unlogged: Default::default(),
            metrics,
        })
    }

    /// Turns a connection away because of a limit. Returns at once.
    pub(crate) fn refuse(self: &Arc<Self>, tcp: TcpStream, reason: Refused, is_tls: bool) {
        self.metrics.refused(reason);
        let unlogged: usize = self.unlogged.iter().map(|count| count.load(Ordering::Relaxed)).sum();
        self.unlogged[reason as usize].fetch_add(1, Ordering::Relaxed);
        if unlogged == 0 {
            // The only place that counts up, on the one task that accepts: nobody else begins a line meanwhile.
            tokio::spawn(self.clone().log());
        }
        if is_tls {
            return;
        }
        let Ok(permit) = self.answers.clone().try_acquire_owned() else { return };
        tokio::spawn(async move {
            let _permit = permit;
            // A client that has left or takes too long needs no answer.
            let _ = answer(tcp).await;
        });
    }

    async fn log(self: Arc<Self>) {
        sleep(LOG_EVERY).await;
        let [all, address] = &self.unlogged;
        let (max_connections, max_connections_per_address) =
            (all.swap(0, Ordering::Relaxed), address.swap(0, Ordering::Relaxed));
        tracing::warn!(max_connections, max_connections_per_address, "connections over a limit were refused");
    }
}

/// Waits for the beginning of a request, since some clients take an answer before it for an error; answers; and reads on
/// until the client closes.
async fn answer(mut tcp: TcpStream) -> std::io::Result<()> {
    let mut scratch = [0; 4096];
    let exchange = async {
        if tcp.read(&mut scratch).await? == 0 {
            // It has left.
            return Ok(());
        }
        tcp.write_all(text()).await?;
        tcp.shutdown().await
    };
    timeout(STEP, exchange).await??;
    let rest = async {
        let mut skipped = 0;
        while skipped < SKIPPED {
            match tcp.read(&mut scratch).await {
                Ok(0) | Err(_) => return,
                Ok(length) => skipped += length,
            }
        }
    };
    // An answer that did not get through by now does not.
    let _ = timeout(STEP, rest).await;
    Ok(())
}

/// The whole answer, the same for all.
fn text() -> &'static [u8] {
    static TEXT: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let response = Problem::TooManyConnections.into_response("none");
        let status = response.status();
        let reason = status.canonical_reason().unwrap_or_default();
        let mut text = format!("HTTP/1.1 {} {reason}\r\nconnection: close\r\n", status.as_u16()).into_bytes();
        text.extend(b"cache-control: no-store\r\nx-content-type-options: nosniff\r\n");
        for (name, value) in response.headers() {
            text.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
        }
        let body = response.into_body().into_whole();
        text.extend(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
        text.extend(body);
        text
    });
    &TEXT
}
