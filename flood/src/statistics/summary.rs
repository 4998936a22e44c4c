//! What was measured against what, as every report says it.

use serde::Serialize;

use crate::client::target::Status;
use crate::settings::{BodyKind, Limits};
use crate::statistics::level::Level;

/// The whole of a run.
#[derive(Serialize)]
pub struct Summary {
    pub(crate) schema: u32,
    pub(crate) r#type: &'static str,
    pub(crate) version: &'static str,
    pub(crate) url: String,
    /// What the service says about itself; null where it has no `GET /status`.
    pub(crate) service: Option<Status>,
    pub(crate) images: String,
    pub(crate) distinct_images: usize,
    pub(crate) batch: usize,
    pub(crate) body: BodyKind,
    pub(crate) threads: usize,
    pub(crate) warmup_s: f64,
    pub(crate) timeout_s: f64,
    pub(crate) check: bool,
    /// Levels that were measured.
    pub levels: usize,
    /// Counted requests: good answers and errors together.
    pub requests: u64,
    /// Good answers.
    pub ok: u64,
    /// Failed requests.
    pub errors: u64,
    /// Good answers a second of the best level.
    pub(crate) best_ok_per_second: f64,
    /// Whether it was stopped before its end.
    pub interrupted: bool,
    pub(crate) debug_build: bool,
    /// Limits that were not kept, each as a sentence.
    pub missed: Vec<String>,
}

/// The limits that the levels do not keep, each as a sentence.
pub(crate) fn missed(limits: &Limits, levels: &[Level]) -> Vec<String> {
    let mut missed = Vec::new();
    if let Some(most) = limits.max_p99.map(|most| 1e3 * most.as_secs_f64()) {
        // A level without one good answer has no percentile that could pass.
        let over = |level: &&Level| level.latency_ms.as_ref().is_none_or(|latency| latency.p99 > most);
        for level in levels.iter().filter(over) {
            let p99 = level
                .latency_ms
                .as_ref()
                .map_or("no good answer".to_owned(), |latency| format!("p99 {:.3} ms", latency.p99));
            missed.push(format!("{}: {p99}, the limit is {most} ms", level.load));
        }
    }
    if let Some(least) = limits.min_rate {
        let best = levels.iter().map(|level| level.ok_per_second).fold(0.0, f64::max);
        if best < least {
            missed.push(format!("{best:.1} good answers a second at best, at least {least} were asked for"));
        }
    }
    let errors: u64 = levels.iter().map(|level| level.errors).sum();
    if errors > limits.max_errors {
        let requests: u64 = levels.iter().map(|level| level.requests).sum();
        missed.push(format!("{errors} of {requests} requests failed, the limit is {}", limits.max_errors));
    }
    missed
}
