//! Time in which a thread had a core.
//!
//! On a machine with other work a thread waits for its turn in the middle of a sample, and finds its caches full of
//! somebody else's data afterwards. Linux counts that waiting per thread: it is taken off, and samples with much of it
//! can be told from others. Other systems do not say, and there time is time.

use std::fs;
use std::hint::black_box;
use std::time::Instant;

/// Part of a span that a thread may have waited before the span counts as disturbed.
const DISTURBED: f64 = 0.01;

/// A span of time of one thread.
pub(crate) struct Span {
    /// Seconds without those in which the thread waited for a core.
    pub(crate) seconds: f64,
    /// Seconds in which it waited.
    pub(crate) waited: f64,
}

impl Span {
    /// Whether it waited long enough for others to take its place in the caches.
    pub(crate) fn is_disturbed(&self) -> bool {
        self.waited > DISTURBED * self.seconds
    }
}

/// The time that `f` takes on this thread, and its result.
pub(crate) fn span<R>(f: impl FnOnce() -> R) -> (Span, R) {
    let (before, start) = (waited(), Instant::now());
    let result = f();
    let elapsed = start.elapsed().as_secs_f64();
    let waited = waited().saturating_sub(before) as f64 * 1e-9;
    // More waiting than time was outside of the time, between two looks at two clocks.
    let seconds = if waited < elapsed { elapsed - waited } else { elapsed };
    (Span { seconds, waited }, result)
}

/// Seconds that `f` takes on this thread; its result counts as used.
pub(crate) fn seconds<R>(f: impl FnOnce() -> R) -> f64 {
    span(|| drop(black_box(f()))).0.seconds
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
        let span = Span { seconds: 1e-3, waited: 1e-4 };
        assert!(span.is_disturbed() && !Span { waited: 0.0, ..span }.is_disturbed());
    }
}
