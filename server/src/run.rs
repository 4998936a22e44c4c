//! Accepting connections, and stopping without losing one.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use ocelli_common::text::chain;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::select;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::error::ServerError;
use crate::models::folder;
use crate::net::connections::ConnectionPermit;
use crate::net::stream::{Exchange, Stream};
use crate::router;
use crate::server::Server;

/// Largest header in bytes; past it 431, as for more than hyper's 100 fields. Bodies are read in such steps.
const MAX_HEADER_BYTES: usize = 64 << 10;

/// After a failed accept: time for another connection to close and give its file descriptor back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long a cut-off connection may take to notice.
const CUT_OFF: Duration = Duration::from_secs(1);

/// What connections are told.
#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Serve,
    /// Answer what has been asked, then close.
    Drain,
    /// Close now.
    CutOff,
}

/// Serves until `shutdown` is ready, then stops accepting and lets the requests in flight finish.
///
/// `shutdown` says how long to go on accepting while `/health/ready` says no already: the time that balancers need to
/// notice. The caller owns the socket and the signals. Needs a runtime with timer and I/O.
///
/// # Errors
/// [`ServerError::Unfinished`] if clients had to be cut off. A connection that fails ends alone.
pub async fn run(
    listener: TcpListener,
    server: Arc<Server>,
    shutdown: impl Future<Output = Duration>,
) -> Result<(), ServerError> {
    let (mode, _) = watch::channel(Mode::Serve);
    let end = async {
        let delay = shutdown.await;
        server.backend.lifecycle.set_not_ready();
        sleep(delay).await;
    };
    let mut end = pin!(end);
    if let Some(shared) = server.backend.shared.clone() {
        let stopping = server.backend.lifecycle.stopping();
        tokio::spawn(async move { shared.run(stopping).await });
    }
    if let Some(folder) = server.backend.folder.clone() {
        let (models, stopping) = (server.backend.models.clone(), server.backend.lifecycle.stopping());
        tokio::spawn(folder::follow(folder, models, stopping));
    }
    loop {
        let (tcp, permit) = select! {
            biased;
            () = &mut end => break,
            accepted = accept(&listener, &server) => accepted,
        };
        tokio::spawn(connection(tcp, permit, server.clone(), mode.subscribe()));
    }
    drop(listener);
    mode.send_replace(Mode::Drain);
    server.backend.lifecycle.stop();
    let drained = drain(&server, &mode).await;
    if let Some(data) = &server.backend.data {
        // Waits for a step of training: the threads of this runtime have nothing else to do any more.
        tokio::task::block_in_place(|| {
            data.jobs.stop();
            if let Err(error) = data.store.copy_database_now() {
                tracing::warn!("the database cannot be copied: {}", chain(&error));
            }
        });
    }
    drained
}

/// Waits until the requests in flight are answered, and cuts off those that take too long.
async fn drain(server: &Server, mode: &watch::Sender<Mode>) -> Result<(), ServerError> {
    let limit = server.backend.config.drain_timeout;
    if timeout(limit, server.backend.connections.all_closed()).await.is_ok() {
        return Ok(());
    }
    let connections = server.backend.connections.open();
    mode.send_replace(Mode::CutOff);
    // Connections end at their next step, which only a task that blocks its thread could delay.
    let _ = timeout(CUT_OFF, server.backend.connections.all_closed()).await;
    Err(ServerError::Unfinished { connections, seconds: limit.as_secs() })
}

/// The next connection for which there is room.
async fn accept(listener: &TcpListener, server: &Server) -> (TcpStream, ConnectionPermit) {
    loop {
        match listener.accept().await {
            Ok((tcp, peer)) => match server.backend.connections.admit(peer.ip()) {
                Ok(permit) => return (tcp, permit),
                Err(reason) => server.refusals.refuse(tcp, reason, server.access.get().tls.is_some()),
            },
            // Out of descriptors, or the client has left already: neither is a reason to stop.
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn connection(
    tcp: TcpStream,
    _permit: ConnectionPermit,
    server: Arc<Server>,
    mode: watch::Receiver<Mode>,
) {
    // Answers are small and written in one piece: waiting to fill a packet only delays them. A socket that refuses
    // this works all the same.
    let _ = tcp.set_nodelay(true);
    let exchange = Arc::new(Exchange::new());
    let stream = Stream::new(tcp, exchange.clone(), &server.backend.config);
    let end = mode.clone();
    let tls = server.access.get().tls.clone();
    match tls {
        None => serve(stream, &server, &exchange, mode).await,
        Some(tls) => select! {
            // A client that breaks off the handshake is no event for the log.
            accepted = tls.accept(stream) => if let Ok(stream) = accepted {
                serve(stream, &server, &exchange, mode).await;
            },
            () = cut_off(end) => {}
        },
    }
}

/// Waits until connections are cut off.
async fn cut_off(mut mode: watch::Receiver<Mode>) {
    // An error means that the service is gone.
    let _ = mode.wait_for(|&mode| mode == Mode::CutOff).await;
}

/// Speaks HTTP until the client closes the connection or the service stops.
async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    server: &Arc<Server>,
    exchange: &Arc<Exchange>,
    mut mode: watch::Receiver<Mode>,
) {
    // hyper's own timer is the second line: it also sees a header that began inside the previous read.
    let header_timeout = server.backend.config.keep_alive.max(server.backend.config.header_timeout);
    let service = service_fn(|request| {
        let (server, exchange) = (server.clone(), exchange.clone());
        async move {
            let answer = router::answer(&server, &exchange, request).await;
            server.awake.answered();
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_header_size(MAX_HEADER_BYTES)
        .max_buf_size(MAX_HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    loop {
        select! {
            // In this order, an answer that becomes ready with the change still says that it is the last.
            biased;
            changed = mode.changed() => match *mode.borrow_and_update() {
                _ if changed.is_err() => return,
                Mode::Serve => {}
                Mode::Drain => connection.as_mut().graceful_shutdown(),
                Mode::CutOff => return,
            },
            // An error is a client that left or broke the protocol; hyper has answered the latter.
            _ = connection.as_mut() => return,
        }
    }
}
