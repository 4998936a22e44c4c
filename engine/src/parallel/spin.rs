//! Waiting in a loop, limited by time.

use std::time::{Duration, Instant};

/// How long a thread waits in a loop for another before it sleeps or does something else: what waking a sleeping thread
/// costs (its core starts in 30 us at best), so that whoever waits never loses more than twice the best choice. 20 to
/// 200 us make no difference to training on a quiet machine; on a busy one the longer ones cost up to 0.1 ms a region.
pub(super) const SPIN: Duration = Duration::from_micros(50);

/// Rounds between two looks at the clock. A look costs 25 ns, as a round does; where it is a system call, 200 ns and more.
const ROUNDS: u32 = 16;

/// Measures for how long a loop has been waiting.
pub(super) struct Spin {
    rounds: u32,
    since: Option<Instant>,
}

impl Spin {
    pub(super) fn new() -> Self {
        Spin { rounds: 0, since: None }
    }

    /// One round of waiting; every so many rounds, the time since the first of them.
    pub(super) fn round(&mut self) -> Option<Duration> {
        // The model checker knows no time: every wait is over at once.
        if cfg!(loom) {
            return Some(Duration::MAX);
        }
        std::hint::spin_loop();
        self.rounds = self.rounds.wrapping_add(1);
        if !self.rounds.is_multiple_of(ROUNDS) {
            return None;
        }
        let now = Instant::now();
        Some(now - *self.since.get_or_insert(now))
    }
}
