//! A run that ends on time: how far it is follows from the clock, so that the learning rate is down when time is up.

use std::time::Instant;

/// Time for what comes after the last step besides evaluation: files that are synced, probes, the report.
const WRITING: f64 = 3.0;
/// What an evaluation may take longer than estimated.
const MARGIN: f64 = 1.1;
/// A forward pass takes about this part of a training step, before one was timed.
const FORWARD: f64 = 0.4;

/// The time of a run, in seconds.
#[derive(Clone, Debug)]
pub(crate) struct TimeBudget {
    /// What the whole run may take.
    total: f64,
    /// Spent before the first step: reading images, features.
    before: f64,
    /// Spent in epochs that are over.
    epochs: f64,
    /// Start of the epoch in work.
    start: Instant,
    /// Images that are evaluated after the last step.
    evaluated: usize,
    /// For one image of an evaluation, once it is known.
    an_image: Option<f64>,
}

impl TimeBudget {
    /// `total` seconds for a run that has spent `before` on its preparation and `epochs` in epochs, and at whose end
    /// `evaluated` images are evaluated.
    pub(crate) fn new(
        total: u32,
        (before, epochs): (f64, f64),
        evaluated: usize,
        an_image: Option<f64>,
    ) -> Self {
        TimeBudget { total: total.into(), before, epochs, start: Instant::now(), evaluated, an_image }
    }

    /// Takes in that `images` images of this epoch were trained on by now.
    pub(crate) fn trained(&mut self, images: usize) {
        let estimate = FORWARD * self.start.elapsed().as_secs_f64() / images.max(1) as f64;
        self.an_image.get_or_insert(estimate);
    }

    /// How far the run is: 0 at its first step, 1 when the rest is needed for evaluation.
    pub(crate) fn progress(&self) -> f64 {
        part(self.epochs + self.start.elapsed().as_secs_f64(), self.usable())
    }

    /// Seconds until the last step.
    pub(crate) fn left(&self) -> f64 {
        (self.usable() - self.epochs - self.start.elapsed().as_secs_f64()).max(0.0)
    }

    fn usable(&self) -> f64 {
        let evaluation = self.an_image.unwrap_or(0.0) * self.evaluated as f64 * MARGIN;
        self.total - self.before - evaluation - WRITING.min(self.total / 10.0)
    }
}

fn part(of: f64, whole: f64) -> f64 {
    if whole > 0.0 { (of / whole).min(1.0) } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_goes_from_nothing_to_one() {
        let at = |before: f64, epochs: f64| TimeBudget::new(100, (before, epochs), 50, Some(0.1)).progress();
        // 100 s, of which 5.5 are for the evaluation and 3 for files.
        assert!(at(0.0, 0.0) < 0.01);
        assert!((at(1.5, 45.0) - 0.5).abs() < 0.01);
        assert_eq!(at(0.0, 93.6), 1.0);
        assert_eq!(at(99.0, 0.0), 1.0);
        assert_eq!(TimeBudget::new(0, (0.0, 0.0), 0, None).progress(), 1.0);
    }

    #[test]
    fn evaluation_is_estimated_once_steps_were_timed() {
        let mut budget = TimeBudget::new(1000, (0.0, 0.0), 100, None);
        let before = budget.left();
        budget.start -= std::time::Duration::from_secs(10);
        budget.trained(10);
        // A second an image to train, 0.4 to evaluate.
        assert!((before - budget.left() - 10.0 - 44.0).abs() < 0.5, "{} {}", before, budget.left());
    }
}
