//! What one thread counts while it sends.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::client::connection::{Answer, Fault, STEPS};

/// Smallest difference between times that a histogram tells apart, in nanoseconds.
const FINEST: u64 = 100;
/// Longest time of a histogram, in nanoseconds: longer ones count as this. `--timeout` ends at a day.
const LONGEST: u64 = 86_400_000_000_000;
/// Significant digits of a histogram.
const DIGITS: u8 = 3;
/// Kinds of faults that are told apart: a service that makes codes up cannot fill the memory.
const MAX_KINDS: usize = 64;
/// Where the rest goes.
const OTHER: &str = "other";
/// Width of a slot of the time line.
pub(crate) const SLOT: Duration = Duration::from_millis(100);
/// Longest time line; what comes later is counted in its last slot.
const MAX_SLOTS: usize = 900_000;

/// Faults of one kind.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Faults {
    pub(crate) count: u64,
    /// What the first one said.
    pub(crate) example: String,
}

/// Counts of one thread, or of several together.
pub(crate) struct Tally {
    /// From when on requests count.
    begin: Instant,
    /// Nanoseconds of good answers.
    pub(crate) latency: Histogram<u64>,
    /// Nanoseconds of the service's steps, in the order of [`STEPS`].
    pub(crate) steps: [Histogram<u64>; STEPS.len()],
    pub(crate) ok: u64,
    pub(crate) images: u64,
    pub(crate) statuses: BTreeMap<u16, u64>,
    pub(crate) faults: BTreeMap<Cow<'static, str>, Faults>,
    /// Bytes of bodies.
    pub(crate) sent: u64,
    pub(crate) received: u64,
    /// Connections that were opened, during the warm-up too.
    pub(crate) connections: u64,
    /// Good answers and faults in each slot of time.
    pub(crate) slots: Vec<[u64; 2]>,
    /// From the begin to the last answer or fault.
    pub(crate) lasted: Duration,
}

impl Tally {
    pub(crate) fn new(begin: Instant) -> Tally {
        let histogram = || {
            Histogram::new_with_bounds(FINEST, LONGEST, DIGITS)
                .expect("constant bounds, and a test makes one")
        };
        Tally {
            begin,
            latency: histogram(),
            steps: std::array::from_fn(|_| histogram()),
            ok: 0,
            images: 0,
            statuses: BTreeMap::new(),
            faults: BTreeMap::new(),
            sent: 0,
            received: 0,
            connections: 0,
            slots: Vec::new(),
            lasted: Duration::ZERO,
        }
    }

    /// Counts what a request came to, `latency` after its clock started.
    pub(crate) fn request(
        &mut self,
        (images, sent): (usize, usize),
        latency: Duration,
        answer: Option<&Answer>,
        fault: Option<Fault>,
    ) {
        self.sent += sent as u64;
        if let Some(answer) = answer {
            *self.statuses.entry(answer.status.as_u16()).or_default() += 1;
            self.received += answer.length;
        }
        match fault {
            Some(fault) => self.fault(fault),
            None => {
                self.ok += 1;
                self.images += images as u64;
                self.latency.saturating_record(nanoseconds(latency));
                let steps = answer.map(|answer| answer.steps).unwrap_or_default();
                for (ms, histogram) in steps.into_iter().zip(&mut self.steps) {
                    if let Some(ms) = ms {
                        histogram.saturating_record((ms * 1e6) as u64);
                    }
                }
                self.slot()[0] += 1;
            }
        }
    }

    /// Counts a request that has no good answer.
    pub(crate) fn fault(&mut self, fault: Fault) {
        self.slot()[1] += 1;
        self.add_faults(fault.kind, Faults { count: 1, example: fault.text });
    }

    fn add_faults(&mut self, kind: Cow<'static, str>, faults: Faults) {
        let full = self.faults.len() >= MAX_KINDS && !self.faults.contains_key(&kind);
        match self.faults.entry(if full { OTHER.into() } else { kind }) {
            Entry::Occupied(mut known) => known.get_mut().count += faults.count,
            Entry::Vacant(free) => drop(free.insert(faults)),
        }
    }

    /// The slot of this moment.
    fn slot(&mut self) -> &mut [u64; 2] {
        self.lasted = self.begin.elapsed();
        let slot = (self.lasted.as_nanos() / SLOT.as_nanos()) as usize;
        let slot = slot.min(MAX_SLOTS - 1);
        if self.slots.len() <= slot {
            self.slots.resize(slot + 1, [0; 2]);
        }
        &mut self.slots[slot]
    }

    pub(crate) fn merge(&mut self, other: Tally) {
        let equal = "histograms of the same bounds add up";
        self.latency.add(&other.latency).expect(equal);
        for (mine, theirs) in self.steps.iter_mut().zip(&other.steps) {
            mine.add(theirs).expect(equal);
        }
        self.ok += other.ok;
        self.images += other.images;
        self.sent += other.sent;
        self.received += other.received;
        self.connections += other.connections;
        self.lasted = self.lasted.max(other.lasted);
        for (status, count) in other.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
        for (kind, faults) in other.faults {
            self.add_faults(kind, faults);
        }
        if self.slots.len() < other.slots.len() {
            self.slots.resize(other.slots.len(), [0; 2]);
        }
        for (mine, theirs) in self.slots.iter_mut().zip(&other.slots) {
            mine[0] += theirs[0];
            mine[1] += theirs[1];
        }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use hyper::StatusCode;

    fn answer(status: StatusCode) -> Answer {
        Answer { status, steps: [Some(0.5), None, None, Some(1.0)], body: Bytes::new(), length: 10 }
    }

    #[test]
    fn parts_add_up_to_what_one_would_have_counted() {
        let begin = Instant::now();
        let (mut one, mut parts) = (Tally::new(begin), [Tally::new(begin), Tally::new(begin)]);
        for i in 0..200u64 {
            let good = i % 5 != 0;
            let status = if good { StatusCode::OK } else { StatusCode::TOO_MANY_REQUESTS };
            let latency = Duration::from_micros(100 + i);
            for tally in [&mut one, &mut parts[i as usize % 2]] {
                let fault = (!good).then(|| Fault::new("429 busy", "full"));
                tally.request((2, 30), latency, Some(&answer(status)), fault);
            }
        }
        let [mut sum, rest] = parts;
        sum.merge(rest);
        for tally in [&one, &sum] {
            assert_eq!((tally.ok, tally.images, tally.sent, tally.received), (160, 320, 6000, 2000));
            assert_eq!(tally.statuses, BTreeMap::from([(200, 160), (429, 40)]));
            assert_eq!(tally.faults["429 busy"], Faults { count: 40, example: "full".to_owned() });
            assert_eq!((tally.latency.len(), tally.steps[0].len(), tally.steps[1].len()), (160, 160, 0));
            assert_eq!(tally.slots.iter().flatten().sum::<u64>(), 200);
        }
        assert_eq!(one.latency, sum.latency);
        let median = one.latency.value_at_quantile(0.5);
        assert!((median as f64 / 200_000.0 - 1.0).abs() < 0.01, "{median}");
    }

    #[test]
    fn nothing_that_a_service_says_grows_without_bound() {
        let mut tally = Tally::new(Instant::now());
        for i in 0..1000 {
            tally.fault(Fault { kind: format!("{i}").into(), text: String::new() });
        }
        assert!(tally.faults.len() <= MAX_KINDS + 1);
        assert_eq!(tally.faults.values().map(|faults| faults.count).sum::<u64>(), 1000);
        let odd = Answer { steps: [Some(1e300); 4], ..answer(StatusCode::OK) };
        tally.request((1, 1), Duration::MAX, Some(&odd), None);
        assert!(tally.latency.max() >= LONGEST);
    }
}
