//! A TCP stream that enforces the time limits hyper has no setting for.
//!
//! hyper's own header timer also runs while a connection is idle between requests, so it cannot tell an idle
//! client from one that sends its header byte by byte. This stream sees the first byte arrive and can.
//! It also cuts off clients that do not take their answer, and closes so that an early answer (413, 408) is
//! not lost: closing a socket with unread bytes resets the connection, which may destroy the answer before
//! the client reads it (RFC 9112, section 9.6).

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

use crate::config::Config;

/// How long the unread rest of a refused request is thrown away before the socket is closed.
const LINGER: Duration = Duration::from_secs(2);

/// Waiting for a request; the keep-alive limit runs.
const IDLE: u8 = 0;
/// Bytes of a header have come; the header limit runs.
const HEADER: u8 = 1;
/// A request is with the router, which has its own limits.
const BUSY: u8 = 2;
/// The answer is on its way; idle as soon as there is nothing more to read.
const ANSWERED: u8 = 3;

/// What the stream and the router of one connection tell each other. Both run on the same task, so that the
/// atomics are only there to share it.
pub(crate) struct Exchange {
    phase: AtomicU8,
    linger: AtomicBool,
}

impl Exchange {
    /// A new connection: it has the header limit, not the idle limit, to say what it came for.
    pub(crate) fn new() -> Self {
        Exchange { phase: AtomicU8::new(HEADER), linger: AtomicBool::new(false) }
    }

    /// The header is complete.
    pub(crate) fn request(&self) {
        self.set(BUSY);
    }

    /// The answer is ready. `unread`: the client may still be sending its body.
    pub(crate) fn answered(&self, unread: bool) {
        self.set(ANSWERED);
        self.linger.store(unread, Ordering::Relaxed);
    }

    fn phase(&self) -> u8 {
        self.phase.load(Ordering::Relaxed)
    }

    fn set(&self, phase: u8) {
        self.phase.store(phase, Ordering::Relaxed);
    }
}

/// See the module.
pub(crate) struct Stream {
    tcp: TcpStream,
    exchange: Arc<Exchange>,
    header_timeout: Duration,
    keep_alive: Duration,
    write_timeout: Duration,
    read_deadline: Pin<Box<Sleep>>,
    /// Made when a write first has to wait: most never do.
    write_deadline: Option<Pin<Box<Sleep>>>,
    /// Set once the sending side is shut down.
    lingering: Option<Pin<Box<Sleep>>>,
}

impl Stream {
    pub(crate) fn new(tcp: TcpStream, exchange: Arc<Exchange>, config: &Config) -> Self {
        Stream {
            tcp,
            exchange,
            header_timeout: config.header_timeout,
            keep_alive: config.keep_alive,
            write_timeout: config.write_timeout,
            read_deadline: Box::pin(sleep(config.header_timeout)),
            write_deadline: None,
            lingering: None,
        }
    }

    fn enter(&mut self, phase: u8, limit: Duration) {
        self.exchange.set(phase);
        self.read_deadline.as_mut().reset(Instant::now() + limit);
    }

    /// Passes a write on; an error once writes have made no progress for the limit.
    fn limit_write(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.write_deadline = None;
            if self.exchange.phase() == IDLE {
                // A long answer is still on its way: idle time starts anew after each part of it.
                self.exchange.set(ANSWERED);
            }
            return written;
        }
        let limit = self.write_timeout;
        let deadline = self.write_deadline.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(deadline.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.tcp).poll_read(cx, buf);
        let phase = self.exchange.phase();
        if read.is_ready() {
            if buf.filled().len() > before && (phase == IDLE || phase == ANSWERED) {
                let limit = self.header_timeout;
                self.enter(HEADER, limit);
            }
            return read;
        }
        if phase == BUSY {
            return Poll::Pending;
        }
        if phase == ANSWERED {
            let limit = self.keep_alive;
            self.enter(IDLE, limit);
        }
        ready!(self.read_deadline.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.tcp).poll_write(cx, data);
        self.limit_write(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.tcp).poll_write_vectored(cx, data);
        self.limit_write(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.lingering.is_none() {
            ready!(Pin::new(&mut this.tcp).poll_shutdown(cx))?;
        }
        if !this.exchange.linger.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(()));
        }
        let deadline = this.lingering.get_or_insert_with(|| Box::pin(sleep(LINGER)));
        if deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let mut scratch = [0; 4096];
        loop {
            let mut rest = ReadBuf::new(&mut scratch);
            // Tokio makes a task that reads on and on give way, so this loop ends for a fast sender too.
            match ready!(Pin::new(&mut this.tcp).poll_read(cx, &mut rest)) {
                Ok(()) if !rest.filled().is_empty() => {}
                _ => return Poll::Ready(Ok(())),
            }
        }
    }
}
