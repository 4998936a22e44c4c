//! A short while after each answer in which a thread that serves connections looks for the next request again and again.
//!
//! A client that sends one request after the other has its next one there within some ten microseconds. A processor that has
//! gone to sleep by then takes as long again to wake, more on a virtual machine, and half of the time of a small request
//! would be that.

use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant};

use tokio::task::yield_now;

/// How long: what a request a second costs more is a ten-thousandth of a core.
const WHILE: Duration = Duration::from_micros(100);

/// Whether a thread is to stay awake, and until when.
pub(crate) struct Awake {
    origin: Instant,
    /// Microseconds after `origin`.
    until: AtomicU64,
    looking: AtomicBool,
    /// With one core the client could not send while we look.
    possible: bool,
}

impl Awake {
    pub(crate) fn new(cores: usize) -> Self {
        let (until, looking) = (AtomicU64::new(0), AtomicBool::new(false));
        Awake { origin: Instant::now(), until, looking, possible: cores > 1 }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// A request was answered: there may be another one soon.
    pub(crate) fn answered(self: &Arc<Self>) {
        if !self.possible {
            return;
        }
        self.until.store(self.now() + WHILE.as_micros() as u64, Relaxed);
        if !self.looking.swap(true, AcqRel) {
            let own = self.clone();
            // Between two turns of it, the runtime looks at all sockets without going to sleep.
            tokio::spawn(async move {
                while own.now() < own.until.load(Relaxed) {
                    yield_now().await;
                }
                own.looking.store(false, Release);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_ends_by_itself_and_begins_again() {
        let awake = Arc::new(Awake::new(2));
        for _ in 0..3 {
            awake.answered();
            awake.answered();
            assert!(awake.looking.load(Relaxed));
            while awake.looking.load(Relaxed) {
                yield_now().await;
            }
            assert!(awake.now() >= awake.until.load(Relaxed));
        }
        let alone = Arc::new(Awake::new(1));
        alone.answered();
        assert!(!alone.looking.load(Relaxed));
    }
}
