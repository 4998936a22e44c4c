//! The numbers of one level of load, as every report has them.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::tally::{Faults, SLOT, Tally};
use crate::client::connection::STEPS;
use crate::settings::Load;

/// Points of the time line: more would share pixels.
const MAX_MOMENTS: usize = 200;
/// The distribution is drawn up to the quantile with at least so many answers beyond it: what lies further out is chance.
const FEWEST_BEYOND: f64 = 1.0;

/// Results of one level.
#[derive(Serialize)]
pub struct Level {
    schema: u32,
    r#type: &'static str,
    #[serde(flatten)]
    pub(crate) load: Load,
    /// Counted requests: `ok` and `errors` together.
    pub(crate) requests: u64,
    /// Answers with a status of 2xx that passed every check.
    pub(crate) ok: u64,
    pub(crate) errors: u64,
    /// Images in good answers.
    pub(crate) images: u64,
    /// From the first request that counts to the last answer.
    pub(crate) seconds: f64,
    pub(crate) ok_per_second: f64,
    pub(crate) images_per_second: f64,
    /// Of good answers; null where there are none.
    pub(crate) latency_ms: Option<Latency>,
    /// What the service says about itself in `Server-Timing`, by step; steps it does not name are left out.
    pub(crate) service_ms: BTreeMap<&'static str, Step>,
    /// Answers by status.
    pub(crate) statuses: BTreeMap<u16, u64>,
    /// Failed requests by kind.
    pub(crate) faults: BTreeMap<String, Fault>,
    /// Bytes of bodies.
    bytes_sent: u64,
    bytes_received: u64,
    /// Connections that were opened, for the warm-up too.
    connections_opened: u64,
    /// Quantile and milliseconds, for the chart.
    #[serde(skip)]
    pub(crate) distribution: Vec<(f64, f64)>,
    /// Second, and good answers and errors a second, for the chart.
    #[serde(skip)]
    pub(crate) moments: Vec<Moment>,
}

/// Milliseconds.
#[derive(Serialize)]
pub(crate) struct Latency {
    pub(crate) mean: f64,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p95: f64,
    pub(crate) p99: f64,
    pub(crate) p99_9: f64,
    pub(crate) max: f64,
}

/// Milliseconds.
#[derive(Serialize)]
pub(crate) struct Step {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

/// Failed requests of one kind.
#[derive(Serialize)]
pub(crate) struct Fault {
    pub(crate) count: u64,
    /// What the first of them was told.
    pub(crate) example: String,
}

/// A piece of the time line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Moment {
    /// Middle of the piece, in seconds from the start.
    pub(crate) second: f64,
    pub(crate) ok_per_second: f64,
}

impl Level {
    pub(crate) fn new(load: Load, tally: Tally) -> Level {
        let errors = tally.faults.values().map(|faults| faults.count).sum();
        let seconds = tally.lasted.as_secs_f64();
        let per_second = |n: u64| if seconds > 0.0 { n as f64 / seconds } else { 0.0 };
        let mut service_ms = BTreeMap::new();
        for (name, histogram) in STEPS.into_iter().zip(&tally.steps).filter(|(_, h)| !h.is_empty()) {
            service_ms.insert(name, Step { p50: quantile(histogram, 0.5), p99: quantile(histogram, 0.99) });
        }
        let fault = |(kind, faults): (std::borrow::Cow<'static, str>, Faults)| {
            (kind.into_owned(), Fault { count: faults.count, example: faults.example })
        };
        Level {
            schema: 1,
            r#type: "level",
            load,
            requests: tally.ok + errors,
            ok: tally.ok,
            errors,
            images: tally.images,
            seconds,
            ok_per_second: per_second(tally.ok),
            images_per_second: per_second(tally.images),
            latency_ms: Latency::of(&tally.latency),
            service_ms,
            statuses: tally.statuses,
            bytes_sent: tally.sent,
            bytes_received: tally.received,
            connections_opened: tally.connections,
            distribution: distribution(&tally.latency),
            moments: moments(&tally.slots, seconds),
            faults: tally.faults.into_iter().map(fault).collect(),
        }
    }

    /// The number that tells levels apart.
    pub(crate) fn number(&self) -> f64 {
        match self.load {
            Load::Closed { concurrency } => concurrency as f64,
            Load::Open { rate, .. } => rate,
        }
    }
}

impl Latency {
    fn of(histogram: &Histogram<u64>) -> Option<Latency> {
        let at = |q| quantile(histogram, q);
        (!histogram.is_empty()).then(|| Latency {
            mean: ms(histogram.mean()),
            p50: at(0.5),
            p90: at(0.9),
            p95: at(0.95),
            p99: at(0.99),
            p99_9: at(0.999),
            max: ms(histogram.max() as f64),
        })
    }
}

/// Milliseconds at a quantile.
fn quantile(histogram: &Histogram<u64>, q: f64) -> f64 {
    ms(histogram.value_at_quantile(q).min(histogram.max()) as f64)
}

/// Nanoseconds as milliseconds, to the tenth of a microsecond.
fn ms(nanoseconds: f64) -> f64 {
    (nanoseconds / 1e2).round() / 1e4
}

/// Quantiles that are equally far apart on a scale of nines.
fn distribution(histogram: &Histogram<u64>) -> Vec<(f64, f64)> {
    let n = histogram.len() as f64;
    let quantiles = (0..=100).map(|i| 1.0 - 10f64.powf(-0.05 * f64::from(i)));
    let known = quantiles.take_while(|q| (1.0 - q) * n >= FEWEST_BEYOND);
    known.map(|q| (q, quantile(histogram, q))).collect()
}

/// The time line in at most [`MAX_MOMENTS`] pieces of equal length; the last one is cut where time ended.
fn moments(slots: &[[u64; 2]], seconds: f64) -> Vec<Moment> {
    let step = slots.len().div_ceil(MAX_MOMENTS).max(1);
    let width = step as f64 * SLOT.as_secs_f64();
    let moment = |(i, slots): (usize, &[[u64; 2]])| {
        let first = i as f64 * width;
        let length = (seconds - first).min(width);
        let ok: u64 = slots.iter().map(|slot| slot[0]).sum();
        // A piece of a few milliseconds at the end would show a rate of chance.
        (length > width / 2.0)
            .then(|| Moment { second: first + length / 2.0, ok_per_second: ok as f64 / length })
    };
    slots.chunks(step).enumerate().filter_map(moment).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_lines_keep_their_answers() {
        let moments = |n: usize, seconds: f64| moments(&vec![[10, 1]; n], seconds);
        assert_eq!(moments(0, 0.0), []);
        let all = moments(30, 3.0);
        assert_eq!(all.len(), 30);
        assert!(all.iter().all(|m| (m.ok_per_second - 100.0).abs() < 1e-6), "{all:?}");
        let long = moments(100_000, 10_000.0);
        assert!(long.len() <= MAX_MOMENTS && (long[0].ok_per_second - 100.0).abs() < 1e-6);
        assert_eq!(moments(3, 0.21).len(), 2);
    }

    #[test]
    fn distributions_end_where_answers_do() {
        let mut histogram = Histogram::new(3).unwrap();
        assert_eq!(distribution(&histogram), []);
        (1..=1000u64).for_each(|i| histogram.record(i * 1_000_000).unwrap());
        let all = distribution(&histogram);
        assert!(all.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{all:?}");
        let (last, ms) = all[all.len() - 1];
        assert!((0.998..=0.999).contains(&last) && (990.0..=1001.0).contains(&ms), "{last} {ms}");
    }
}
