//! What a version has done since it was loaded: the numbers behind `/v2/models/{model}/stats`.
//!
//! One lock, taken once for a request and once for a forward pass, so that what is read together belongs together:
//! images over executions is the mean batch.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::answer::Answer;

/// How often something happened, and how long it took in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, schemars::JsonSchema)]
#[schemars(rename = "TotalTime")]
pub(crate) struct Total {
    pub(crate) count: u64,
    /// Nanoseconds.
    pub(crate) ns: u64,
}

impl Total {
    fn add(&mut self, took: Duration) {
        self.count += 1;
        // 584 years of computing fit.
        self.ns = self.ns.saturating_add(took.as_nanos() as u64);
    }
}

/// The numbers at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    /// When the last request was answered.
    pub(crate) last: Option<SystemTime>,
    /// Images classified.
    pub(crate) images: u64,
    /// Runs of the network.
    pub(crate) executions: u64,
    /// Requests with an answer, from admission to the last of their images.
    pub(crate) success: Total,
    /// Requests that were admitted and got no answer: an image could not be read or computed.
    pub(crate) fail: Total,
    /// Steps of the requests with an answer; of several images the slowest counts.
    pub(crate) decode: Total,
    pub(crate) queue: Total,
    pub(crate) compute: Total,
    /// Runs of the network by the number of their images.
    pub(crate) batches: BTreeMap<usize, Total>,
}

/// Counts one version's work.
#[derive(Default)]
pub(crate) struct Stats(Mutex<Counts>);

impl Stats {
    /// All images of a request were classified.
    pub(crate) fn succeeded(&self, took: Duration, answers: &[Answer]) {
        let slowest = |step: fn(&Answer) -> Duration| answers.iter().map(step).max().unwrap_or_default();
        let mut counts = self.lock();
        counts.last = Some(SystemTime::now());
        counts.success.add(took);
        counts.decode.add(slowest(|answer| answer.decode));
        counts.queue.add(slowest(|answer| answer.queue));
        counts.compute.add(slowest(|answer| answer.compute));
    }

    /// A request got no answer.
    pub(crate) fn failed(&self, took: Duration) {
        let mut counts = self.lock();
        counts.last = Some(SystemTime::now());
        counts.fail.add(took);
    }

    /// Images went through the network together.
    pub(crate) fn executed(&self, images: usize, took: Duration) {
        let mut counts = self.lock();
        counts.images += images as u64;
        counts.executions += 1;
        counts.batches.entry(images).or_default().add(took);
    }

    /// The numbers of this moment.
    pub(crate) fn counts(&self) -> Counts {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
