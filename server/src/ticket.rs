//! What a request holds from its header to its answer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::metrics::Metrics;

/// Counts the requests of the service.
pub(crate) struct Requests {
    counts: Mutex<RequestCounts>,
    metrics: Metrics,
}

/// Requests since the start. Those that are in none of the other three were given up by their client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub(crate) struct RequestCounts {
    pub(crate) total: u64,
    pub(crate) ok: u64,
    pub(crate) error: u64,
    /// Without an answer yet.
    pub(crate) in_flight: u64,
}

/// A request in flight, until this is dropped: after its answer, or when its client has left before it.
pub(crate) struct Ticket {
    requests: Arc<Requests>,
    id: String,
    started: Instant,
}

impl Requests {
    pub(crate) fn new(metrics: Metrics) -> Arc<Requests> {
        Arc::new(Requests { counts: Mutex::default(), metrics })
    }

    /// Takes in a request whose header is complete.
    pub(crate) fn admit(self: &Arc<Self>, id: String) -> Ticket {
        let mut counts = self.lock();
        counts.total += 1;
        counts.in_flight += 1;
        drop(counts);
        Ticket { requests: self.clone(), id, started: Instant::now() }
    }

    /// The numbers of this moment.
    pub(crate) fn counts(&self) -> RequestCounts {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, RequestCounts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// The name of the request, in its answer and in the log.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Time since the header was complete.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Counts the answer. `is_ok`: the handler did what was asked.
    pub(crate) fn answered(&self, operation: &'static str, status: u16, is_ok: bool) {
        let mut counts = self.requests.lock();
        if is_ok {
            counts.ok += 1;
        } else {
            counts.error += 1;
        }
        drop(counts);
        self.requests.metrics.answered(operation, status, self.elapsed());
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.requests.lock().in_flight -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_is_counted_once_and_given_back() {
        let requests = Requests::new(Metrics::default());
        let [good, bad, left] = ["a", "b", "c"].map(|id| requests.admit(id.to_owned()));
        assert_eq!(requests.counts(), RequestCounts { total: 3, in_flight: 3, ..RequestCounts::default() });
        good.answered("predict", 200, true);
        bad.answered("predict", 422, false);
        drop((good, bad, left));
        assert_eq!(requests.counts(), RequestCounts { total: 3, ok: 1, error: 1, in_flight: 0 });
    }
}
