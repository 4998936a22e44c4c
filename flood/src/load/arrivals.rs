//! The times at which an open loop sends: fixed beforehand, kept by a thread that does nothing else.
//!
//! Timers of the runtime tick in milliseconds, which at a thousand requests a second would send them in lumps and
//! add half a tick to every latency. A sleeping thread wakes up within some 60 microseconds of its time.

use std::thread;
use std::time::{Duration, Instant};

use ocelli_engine::rng::Rng;
use tokio::sync::mpsc::UnboundedSender;

use crate::settings::Arrivals;

/// How long the thread sleeps at most before it looks whether anybody waits.
const NAP: Duration = Duration::from_millis(50);

/// Times after a start: endless, increasing.
pub(crate) struct Schedule {
    /// Seconds from one arrival to the next, on average.
    gap: f64,
    /// Of random gaps.
    rng: Option<Rng>,
    /// Seconds to the next arrival.
    next: f64,
}

impl Schedule {
    /// Share `part` of `parts` that together have `rate` arrivals a second: of equal gaps the shares alternate, and
    /// independent Poisson processes add up to one.
    pub(crate) fn new(arrivals: Arrivals, rate: f64, (part, parts): (usize, usize), seed: u64) -> Schedule {
        let gap = parts as f64 / rate;
        match arrivals {
            Arrivals::Fixed => Schedule { gap, rng: None, next: part as f64 / rate },
            Arrivals::Poisson => {
                let mut schedule = Schedule { gap, rng: Some(Rng::new(seed, part as u64)), next: 0.0 };
                schedule.next = schedule.step();
                schedule
            }
        }
    }

    fn step(&mut self) -> f64 {
        match &mut self.rng {
            None => self.gap,
            // Gaps of a Poisson process are exponential; 1 - u is never 0.
            Some(rng) => -self.gap * (1.0 - f64::from(rng.uniform())).ln(),
        }
    }
}

impl Iterator for Schedule {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let now = self.next;
        self.next += self.step();
        Some(Duration::from_secs_f64(now))
    }
}

/// Sends every arrival when its time has come, until the schedule or the interest ends.
pub(crate) fn keep(times: impl Iterator<Item = Instant>, arrivals: &UnboundedSender<Instant>) {
    for time in times {
        while Instant::now() < time {
            if arrivals.is_closed() {
                return;
            }
            thread::sleep(time.saturating_duration_since(Instant::now()).min(NAP));
        }
        if arrivals.send(time).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_together_have_the_rate() {
        for arrivals in [Arrivals::Fixed, Arrivals::Poisson] {
            for parts in [1, 2, 3] {
                let within = |part| {
                    let times: Vec<_> = Schedule::new(arrivals, 1000.0, (part, parts), 7)
                        .take_while(|time| *time < Duration::from_secs(100))
                        .collect();
                    assert!(times.is_sorted());
                    times.len() as f64
                };
                let total: f64 = (0..parts).map(within).sum();
                // Four standard deviations of a Poisson count.
                let slack = if arrivals == Arrivals::Fixed { 1.0 } else { 4.0 * 100_000f64.sqrt() };
                assert!((total - 100_000.0).abs() <= slack, "{arrivals:?} {parts}: {total}");
            }
        }
    }

    #[test]
    fn fixed_gaps_are_equal_and_random_ones_exponential() {
        let gaps = |arrivals| {
            let times: Vec<f64> =
                Schedule::new(arrivals, 50.0, (0, 1), 3).take(20_001).map(|t| t.as_secs_f64()).collect();
            times.windows(2).map(|pair| pair[1] - pair[0]).collect::<Vec<_>>()
        };
        assert!(gaps(Arrivals::Fixed).iter().all(|gap| (gap - 0.02).abs() < 1e-6));
        let random = gaps(Arrivals::Poisson);
        let longer =
            |than: f64| random.iter().filter(|gap| **gap > than).count() as f64 / random.len() as f64;
        for k in [0.5, 1.0, 2.0] {
            assert!((longer(0.02 * k) - (-k).exp()).abs() < 0.015, "{k}: {}", longer(0.02 * k));
        }
    }
}
