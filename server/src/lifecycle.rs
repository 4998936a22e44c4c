//! Whether new requests are accepted, and for how long the service has run.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// From the start to the end of the service.
pub(crate) struct Lifecycle {
    started: Instant,
    ready: AtomicBool,
    /// Told when answers that never end by themselves must.
    stopping: watch::Sender<bool>,
}

impl Lifecycle {
    /// Begins now.
    pub(crate) fn begin() -> Lifecycle {
        Lifecycle { started: Instant::now(), ready: AtomicBool::new(true), stopping: watch::channel(false).0 }
    }

    /// Time since the start.
    pub(crate) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// False once shutdown has begun.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    pub(crate) fn set_not_ready(&self) {
        self.ready.store(false, Ordering::Relaxed);
    }

    /// Ends the answers that never end by themselves.
    pub(crate) fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Becomes true when the service stops.
    pub(crate) fn stopping(&self) -> watch::Receiver<bool> {
        self.stopping.subscribe()
    }
}
