//! What the service answered over the last day, in buckets of five minutes: how many requests, how fast, and which classes
//! with which confidence. A shift in the last two shows that images have come to differ from those of the training.
//!
//! It is kept in memory alone and begins anew with the service.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ocelli_pipeline::Prediction;
use serde::Serialize;

/// Seconds of a bucket.
pub(crate) const BUCKET_S: u64 = 300;
/// Pieces that are kept: a day.
pub(crate) const BUCKETS: usize = (24 * 3600 / BUCKET_S) as usize;
/// Most classes that a bucket counts by name; further ones are counted together.
const MAX_CLASSES: usize = 200;
/// Their name.
const OTHERS: &str = "(others)";
/// Durations are counted by their binary logarithm in steps of a quarter, from 10 microseconds on: an error below 19 %.
const STEPS: usize = 100;
const LEAST_S: f64 = 1e-5;
const STEPS_PER_DOUBLING: f64 = 4.0;

/// What was answered in one bucket of time.
#[derive(Clone, Debug)]
struct Bucket {
    /// Number of the bucket since 1970.
    number: u64,
    requests: u64,
    errors: u64,
    durations: [u32; STEPS],
    images: u64,
    unknown: u64,
    confidence: f64,
    classes: BTreeMap<String, u64>,
}

/// One bucket as clients see it.
#[derive(Clone, Debug, PartialEq, Serialize, schemars::JsonSchema)]
pub(crate) struct BucketSummary {
    /// When it began, in seconds since 1970.
    at: u64,
    /// Requests for predictions that were answered.
    requests: u64,
    /// Those of them that were refused or failed.
    errors: u64,
    /// Half of the requests took no longer, in milliseconds.
    p50_ms: Option<f64>,
    /// 95 of 100 requests took no longer, in milliseconds.
    p95_ms: Option<f64>,
    /// Images that were classified.
    images: u64,
    /// Those of them that were called unknown.
    unknown: u64,
    /// Mean probability of the likeliest class.
    mean_confidence: Option<f64>,
    /// Images by their likeliest class; more than 200 classes are counted together as `(others)`.
    classes: BTreeMap<String, u64>,
}

/// See the module.
pub(crate) struct History(Mutex<VecDeque<Bucket>>);

impl History {
    pub(crate) fn new() -> History {
        History(Mutex::default())
    }

    /// A request for predictions was answered.
    pub(crate) fn answered(&self, is_ok: bool, took: Duration) {
        self.answered_at(now(), is_ok, took);
    }

    /// Images were classified.
    pub(crate) fn classified<'a>(&self, predictions: impl Iterator<Item = &'a Prediction>) {
        self.classified_at(now(), predictions);
    }

    /// All buckets of the last day, oldest first, those without requests among them from the first one on.
    pub(crate) fn summaries(&self) -> Vec<BucketSummary> {
        self.summaries_at(now())
    }

    fn answered_at(&self, now: u64, is_ok: bool, took: Duration) {
        self.with(now, |bucket| {
            bucket.requests += 1;
            bucket.errors += u64::from(!is_ok);
            bucket.durations[step(took)] += 1;
        });
    }

    fn classified_at<'a>(&self, now: u64, predictions: impl Iterator<Item = &'a Prediction>) {
        self.with(now, |bucket| {
            for prediction in predictions {
                bucket.images += 1;
                bucket.unknown += u64::from(!prediction.known);
                bucket.confidence += f64::from(prediction.probability);
                match bucket.classes.get_mut(&prediction.label) {
                    Some(count) => *count += 1,
                    None => {
                        let is_full = bucket.classes.len() >= MAX_CLASSES;
                        let name = if is_full { OTHERS } else { &prediction.label };
                        *bucket.classes.entry(name.to_owned()).or_default() += 1;
                    }
                }
            }
        });
    }

    fn summaries_at(&self, now: u64) -> Vec<BucketSummary> {
        let buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = now / BUCKET_S;
        let first = (last + 1).saturating_sub(BUCKETS as u64);
        let Some(begin) = buckets.iter().map(|bucket| bucket.number).find(|number| *number >= first) else {
            return Vec::new();
        };
        let empty = |number| Bucket::new(number).summary();
        (begin..=last)
            .map(|number| {
                let found = buckets.iter().find(|bucket| bucket.number == number);
                found.map_or_else(|| empty(number), Bucket::summary)
            })
            .collect()
    }

    fn with(&self, now: u64, work: impl FnOnce(&mut Bucket)) {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let number = now / BUCKET_S;
        // A clock that was set back adds to the newest bucket.
        if buckets.back().is_none_or(|bucket| bucket.number < number) {
            if buckets.len() == BUCKETS {
                buckets.pop_front();
            }
            buckets.push_back(Bucket::new(number));
        }
        work(buckets.back_mut().expect("one was pushed where there was none"));
    }
}

impl Bucket {
    fn new(number: u64) -> Bucket {
        Bucket {
            number,
            requests: 0,
            errors: 0,
            durations: [0; STEPS],
            images: 0,
            unknown: 0,
            confidence: 0.0,
            classes: BTreeMap::new(),
        }
    }

    fn summary(&self) -> BucketSummary {
        BucketSummary {
            at: self.number * BUCKET_S,
            requests: self.requests,
            errors: self.errors,
            p50_ms: self.quantile(0.5),
            p95_ms: self.quantile(0.95),
            images: self.images,
            unknown: self.unknown,
            mean_confidence: (self.images > 0).then(|| self.confidence / self.images as f64),
            classes: self.classes.clone(),
        }
    }

    /// The time in milliseconds within which a part of the requests was answered.
    fn quantile(&self, part: f64) -> Option<f64> {
        let rank = (part * self.requests as f64).ceil().max(1.0) as u64;
        let mut counted = 0;
        let at = self.durations.iter().position(|&count| {
            counted += u64::from(count);
            counted >= rank
        })?;
        Some(1e3 * LEAST_S * ((at + 1) as f64 / STEPS_PER_DOUBLING).exp2())
    }
}

/// The step of a duration.
fn step(took: Duration) -> usize {
    let doublings = (took.as_secs_f64() / LEAST_S).max(1.0).log2();
    ((doublings * STEPS_PER_DOUBLING) as usize).min(STEPS - 1)
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prediction(label: &str, probability: f32, known: bool) -> Prediction {
        Prediction {
            label: label.to_owned(),
            index: 0,
            probability,
            known,
            score: None,
            top: Vec::new(),
            labels: None,
        }
    }

    #[test]
    fn pieces_follow_the_clock_and_a_day_is_kept() {
        let history = History::new();
        let start = 1_800_000_000 / BUCKET_S * BUCKET_S;
        assert!(history.summaries_at(start).is_empty());
        history.answered_at(start, true, Duration::from_millis(1));
        history.answered_at(start + 3 * BUCKET_S, false, Duration::from_millis(1));
        history.answered_at(start, true, Duration::from_millis(1));
        let told = history.summaries_at(start + 4 * BUCKET_S);
        let counts: Vec<_> = told.iter().map(|bucket| (bucket.at, bucket.requests, bucket.errors)).collect();
        let at = |bucket| start + bucket * BUCKET_S;
        assert_eq!(counts, [(at(0), 1, 0), (at(1), 0, 0), (at(2), 0, 0), (at(3), 2, 1), (at(4), 0, 0)]);
        for bucket in 0..2 * BUCKETS as u64 {
            history.answered_at(at(bucket), true, Duration::ZERO);
        }
        let told = history.summaries_at(at(2 * BUCKETS as u64 - 1));
        assert_eq!((told.len(), told[0].at), (BUCKETS, at(BUCKETS as u64)));
        assert!(history.summaries_at(at(9 * BUCKETS as u64)).is_empty());
    }

    #[test]
    fn quantiles_are_within_a_fifth() {
        for millis in [0.02, 0.5, 3.0, 70.0, 900.0, 40_000.0] {
            let history = History::new();
            for at in 1..=100 {
                let took = if at <= 90 { millis } else { 10.0 * millis };
                history.answered_at(0, true, Duration::from_secs_f64(took / 1e3));
            }
            let told = &history.summaries_at(0)[0];
            for (found, is) in [(told.p50_ms, millis), (told.p95_ms, 10.0 * millis)] {
                let ratio = found.unwrap() / is;
                assert!((1.0..1.2).contains(&ratio) || is > 3e5, "{found:?} {is}");
            }
        }
    }

    #[test]
    fn classes_and_confidence_are_counted() {
        let history = History::new();
        let answers =
            [prediction("cat", 0.5, true), prediction("dog", 1.0, true), prediction("cat", 0.3, false)];
        history.classified_at(0, answers.iter());
        let told = &history.summaries_at(0)[0];
        assert_eq!((told.images, told.unknown), (3, 1));
        assert!((told.mean_confidence.unwrap() - 0.6).abs() < 1e-6);
        assert_eq!(told.classes, BTreeMap::from([("cat".to_owned(), 2), ("dog".to_owned(), 1)]));
        let many: Vec<_> = (0..3 * MAX_CLASSES).map(|at| prediction(&at.to_string(), 1.0, true)).collect();
        history.classified_at(0, many.iter());
        let told = &history.summaries_at(0)[0];
        assert_eq!(told.classes.len(), MAX_CLASSES + 1);
        assert_eq!(told.classes.values().sum::<u64>(), told.images);
    }
}
