//! Time in which a thread had a core.
//!
//! On a machine with other work a thread waits for its turn in the middle of a sample. Linux counts that waiting per
//! thread, and it is taken off; other systems do not say, and there time is time.

use std::fs;
use std::hint::black_box;
use std::time::Instant;

/// Runs from when it is made.
pub(crate) struct Stopwatch {
    waited: u64,
    start: Instant,
}

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Stopwatch { waited: waited(), start: Instant::now() }
    }

    /// Seconds since the start without those in which this thread, the one that started it, waited for a core.
    pub(crate) fn seconds(self) -> f64 {
        let elapsed = self.start.elapsed().as_secs_f64();
        let waited = (waited() - self.waited) as f64 * 1e-9;
        // A turn that was lost outside of the time that counts, between two looks at two clocks.
        if waited < elapsed { elapsed - waited } else { elapsed }
    }
}

/// Seconds that `f` takes on this thread.
pub(crate) fn seconds<R>(f: impl FnOnce() -> R) -> f64 {
    let watch = Stopwatch::start();
    black_box(f());
    watch.seconds()
}

/// Nanoseconds that this thread has waited for a core since it was started: the second number of its `schedstat`.
fn waited() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split_whitespace().nth(1).and_then(|waited| waited.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn time_goes_on() {
        let nap = || std::thread::sleep(Duration::from_millis(5));
        // Sleeping is not waiting for a core.
        assert!(seconds(nap) > 0.004);
        assert!(seconds(|| ()) > 0.0);
        assert!(waited() <= waited());
    }
}
