//! How long it takes until another job may wait: until the one that runs ends, and the first in the queue moves up.

use crate::jobs::record::JobRecord;

/// Seconds that a job is thought to take where none has ended yet.
const UNKNOWN_S: f64 = 60.0;

/// Seconds until the running job ends: by its own estimate, else by the time that the last one took.
pub(super) fn until_room(running: Option<&JobRecord>, last: Option<&JobRecord>, now: u64) -> f64 {
    // None runs: the next one is about to be taken from the queue.
    let Some(running) = running else { return 0.0 };
    if let Some(seconds) = running.progress.eta_s {
        return seconds.into();
    }
    let took = |job: &JobRecord| Some(job.finished?.saturating_sub(job.started?) as f64);
    let elapsed = now.saturating_sub(running.started.unwrap_or(now)) as f64;
    (last.and_then(took).unwrap_or(UNKNOWN_S) - elapsed).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::problem::{MAX_RETRY_AFTER_S, Problem};
    use crate::jobs::record::{Asked, Trigger};
    use crate::jobs::request::RetrainRequest;

    fn job(started: Option<u64>, finished: Option<u64>, eta_s: Option<f32>) -> JobRecord {
        let mut job = JobRecord::new(
            1,
            "m",
            Asked { request: RetrainRequest::default(), trigger: Trigger::Request, manual: None },
        );
        (job.started, job.finished, job.progress.eta_s) = (started, finished, eta_s);
        job
    }

    #[test]
    fn the_best_estimate_counts() {
        let fresh = job(Some(1000), None, None);
        let trained = job(Some(1000), None, Some(12.5));
        let last = job(Some(100), Some(400), None);
        assert_eq!(until_room(None, Some(&last), 1010), 0.0);
        assert_eq!(until_room(Some(&trained), Some(&last), 1010), 12.5);
        assert_eq!(until_room(Some(&fresh), Some(&last), 1010), 290.0);
        assert_eq!(until_room(Some(&fresh), Some(&last), 2000), 0.0);
        assert_eq!(until_room(Some(&fresh), None, 1010), UNKNOWN_S - 10.0);
    }

    #[test]
    fn a_wait_is_a_second_to_an_hour() {
        for (seconds, expected) in [
            (0.0, 1),
            (0.2, 1),
            (1.2, 2),
            (90.0, 90),
            (1e9, MAX_RETRY_AFTER_S),
            (f64::NAN, 1),
            (-5.0, 1),
            (f64::INFINITY, MAX_RETRY_AFTER_S),
        ] {
            let expected = Problem::Busy { what: "x", retry_after_s: expected };
            assert_eq!(Problem::busy_for("x", seconds), expected, "{seconds}");
        }
    }
}
