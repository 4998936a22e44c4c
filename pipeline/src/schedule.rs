//! The learning rate as a function of the step alone, so that a resumed run goes on where it was.

use std::f64::consts::PI;

use crate::recipe::{Recipe, Schedule};

/// One-cycle starts at the peak divided by this, as in Smith and Topin (2018).
const ONE_CYCLE_START: f64 = 25.0;
/// One-cycle ends at its start divided by this.
const ONE_CYCLE_END: f64 = 1e4;

impl Schedule {
    /// The learning rate of step `step` (from 0) of `steps`: at most `peak`, rising over the first `warmup` of the run.
    pub fn lr(self, peak: f32, warmup: f32, step: u64, steps: u64) -> f32 {
        let peak = f64::from(peak);
        let last = steps.saturating_sub(1).max(1) as f64;
        let progress = (step as f64 / last).min(1.0);
        let warmup = f64::from(warmup);
        let rise = if progress < warmup { progress / warmup } else { 1.0 };
        let fall = if warmup < 1.0 { ((progress - warmup) / (1.0 - warmup)).clamp(0.0, 1.0) } else { 0.0 };
        // 1 at t = 0, 0 at t = 1.
        let cosine = |t: f64| (1.0 + (PI * t).cos()) / 2.0;
        let between = |low: f64, high: f64, t: f64| low + (high - low) * t;
        let lr = match self {
            Schedule::OneCycle if rise < 1.0 => between(peak / ONE_CYCLE_START, peak, 1.0 - cosine(rise)),
            Schedule::OneCycle => between(peak / ONE_CYCLE_START / ONE_CYCLE_END, peak, cosine(fall)),
            // A first step at rate 0 would be wasted: the ramp counts from 1.
            Schedule::Cosine | Schedule::Constant if rise < 1.0 => {
                peak * ((step + 1) as f64 / (warmup * last + 1.0)).min(1.0)
            }
            Schedule::Cosine => peak * cosine(fall),
            Schedule::Constant => peak,
        };
        lr as f32
    }
}

/// The learning rate where a run is a part `progress` of its way.
pub(crate) fn lr_at(recipe: &Recipe, progress: f64) -> f32 {
    /// Fine enough for every run: the rate changes by less than its own rounding from one to the next.
    const PARTS: f64 = 1e7;
    lr(recipe, (progress * PARTS) as u64, PARTS as u64 + 1)
}

/// The learning rate of step `step` (from 0) of a run of `steps` by this recipe.
pub(crate) fn lr(recipe: &Recipe, step: u64, steps: u64) -> f32 {
    let lr = recipe.lr.expect("training begins with a learning rate");
    recipe.schedule.lr(lr, recipe.warmup, step, steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Schedule; 3] = [Schedule::OneCycle, Schedule::Cosine, Schedule::Constant];

    #[test]
    fn stays_between_zero_and_peak_and_rises_then_falls() {
        for schedule in ALL {
            for warmup in [0.0, 0.1, 0.25, 0.99] {
                for steps in [1, 2, 3, 10, 1000] {
                    let lrs: Vec<f32> = (0..steps).map(|s| schedule.lr(0.3, warmup, s, steps)).collect();
                    assert!(lrs.iter().all(|&lr| (0.0..=0.3).contains(&lr)), "{schedule} {warmup} {lrs:?}");
                    let top = (0..lrs.len()).max_by(|&a, &b| lrs[a].total_cmp(&lrs[b])).unwrap();
                    assert!(lrs[..top].is_sorted(), "{schedule} {warmup} {lrs:?}");
                    assert!(lrs[top..].is_sorted_by(|a, b| a >= b), "{schedule} {warmup} {lrs:?}");
                }
            }
        }
    }

    #[test]
    fn ends_are_as_published() {
        let lr = |s: Schedule, step| s.lr(1.0, 0.25, step, 101);
        assert!((lr(Schedule::OneCycle, 0) - 0.04).abs() < 1e-6);
        assert!((lr(Schedule::OneCycle, 25) - 1.0).abs() < 1e-6);
        assert!((lr(Schedule::OneCycle, 100) - 4e-6).abs() < 1e-8);
        assert_eq!(lr(Schedule::Cosine, 100), 0.0);
        assert_eq!(lr(Schedule::Constant, 100), 1.0);
        assert_eq!(Schedule::Constant.lr(0.5, 0.0, 0, 10), 0.5);
        assert_eq!(Schedule::Cosine.lr(0.5, 0.0, 0, 10), 0.5);
    }
}
