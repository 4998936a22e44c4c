//! Accepting connections, and stopping without losing one.

use std::convert::Infallible;
use std::future::Future;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::select;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{sleep, timeout};

use crate::error::ServerError;
use crate::metrics::Refused;
use crate::refuse::refuse;
use crate::router;
use crate::state::State;
use crate::stream::{Exchange, Stream};

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
    state: Arc<State>,
    shutdown: impl Future<Output = Duration>,
) -> Result<(), ServerError> {
    let (mode, _) = watch::channel(Mode::Serve);
    let end = async {
        let delay = shutdown.await;
        state.set_not_ready();
        sleep(delay).await;
    };
    let mut end = pin!(end);
    loop {
        let (tcp, place) = select! {
            biased;
            () = &mut end => break,
            accepted = accept(&listener, &state) => accepted,
        };
        tokio::spawn(connection(tcp, place, state.clone(), mode.subscribe()));
    }
    drop(listener);
    mode.send_replace(Mode::Drain);
    state.stopping.send_replace(true);
    let drained = drain(&state, &mode).await;
    if let Some(data) = &state.data {
        // Waits for a step of training, which is what the threads of this runtime have time for now.
        tokio::task::block_in_place(|| {
            data.jobs.stop();
            if let Err(error) = data.store.copy_database_now() {
                tracing::warn!("the database cannot be copied: {error}");
            }
        });
    }
    drained
}

/// Waits until the requests in flight are answered, and cuts off those that take too long.
async fn drain(state: &State, mode: &watch::Sender<Mode>) -> Result<(), ServerError> {
    let limit = state.config.drain_timeout;
    if timeout(limit, all_closed(state)).await.is_ok() {
        return Ok(());
    }
    let connections = state.open_connections();
    mode.send_replace(Mode::CutOff);
    // Connections end at their next step, which only a task that blocks its thread could delay.
    let _ = timeout(CUT_OFF, all_closed(state)).await;
    Err(ServerError::Unfinished { connections, seconds: limit.as_secs() })
}

/// The next connection for which there is room.
async fn accept(listener: &TcpListener, state: &Arc<State>) -> (TcpStream, Place) {
    loop {
        match listener.accept().await {
            Ok((tcp, peer)) => {
                // First, since one address with too many connections is to blame for what it alone has.
                let Some(address) = Address::count(peer.ip(), state) else {
                    refuse(tcp, state, Refused::Address);
                    continue;
                };
                let Ok(permit) = state.connections.clone().try_acquire_owned() else {
                    refuse(tcp, state, Refused::All);
                    continue;
                };
                return (tcp, Place { _permit: permit, _address: address });
            }
            // Out of descriptors, or the client has left already: neither is a reason to stop.
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// What a connection takes up for as long as it lives.
struct Place {
    _permit: OwnedSemaphorePermit,
    _address: Address,
}

/// One of the connections of an address.
struct Address {
    /// None for loopback, whose connections are not counted.
    counted: Option<(IpAddr, Arc<State>)>,
}

impl Address {
    /// Counts one more connection, unless the address has as many as it may.
    fn count(ip: IpAddr, state: &Arc<State>) -> Option<Address> {
        let ip = ip.to_canonical();
        if ip.is_loopback() {
            return Some(Address { counted: None });
        }
        let mut addresses = state.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let count = addresses.entry(ip).or_default();
        if *count >= state.config.max_connections_per_address {
            return None;
        }
        *count += 1;
        drop(addresses);
        Some(Address { counted: Some((ip, state.clone())) })
    }
}

impl Drop for Address {
    fn drop(&mut self) {
        let Some((ip, state)) = &self.counted else { return };
        let mut addresses = state.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = addresses.get_mut(ip) {
            *count -= 1;
            if *count == 0 {
                addresses.remove(ip);
            }
        }
    }
}

async fn all_closed(state: &State) {
    let all = u32::try_from(state.config.max_connections).expect("checked by Config::validate");
    let _ = state.connections.acquire_many(all).await.expect("this semaphore is never closed");
}

async fn connection(tcp: TcpStream, _place: Place, state: Arc<State>, mode: watch::Receiver<Mode>) {
    // Answers are small and written in one piece: waiting to fill a packet only delays them. Not worth
    // failing for.
    let _ = tcp.set_nodelay(true);
    let exchange = Arc::new(Exchange::new());
    let stream = Stream::new(tcp, exchange.clone(), &state.config);
    let end = mode.clone();
    let tls = state.access().tls.clone();
    match tls {
        None => serve(stream, &state, &exchange, mode).await,
        Some(tls) => select! {
            // A client that breaks off the handshake is not worth a word.
            accepted = tls.accept(stream) => if let Ok(stream) = accepted {
                serve(stream, &state, &exchange, mode).await;
            },
            () = cut_off(end) => {}
        },
    }
}

/// Waits for the moment in which nobody waits any longer.
async fn cut_off(mut mode: watch::Receiver<Mode>) {
    // An error means that the service is gone.
    let _ = mode.wait_for(|&mode| mode == Mode::CutOff).await;
}

/// Speaks HTTP until the client or the service has enough.
async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    state: &Arc<State>,
    exchange: &Arc<Exchange>,
    mut mode: watch::Receiver<Mode>,
) {
    // hyper's own timer is the second line: it also sees a header that began inside the previous read.
    let header_timeout = state.config.keep_alive.max(state.config.header_timeout);
    let service = service_fn(|request| {
        let (state, exchange) = (state.clone(), exchange.clone());
        async move { Ok::<_, Infallible>(router::answer(&state, &exchange, request).await) }
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
