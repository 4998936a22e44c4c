//! The steps of a range test.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ocelli_engine::{Pool, Trainer};
use serde::{Deserialize, Serialize};

use super::suggest;
use crate::data::Loaded;
use crate::error::PipelineError;
use crate::event::Event;
use crate::feed::{Flow, feed};
use crate::order::{Epoch, batch};
use crate::recipe::Recipe;

/// Steps of a test; one that diverges ends earlier.
const STEPS: usize = 100;
/// Rate of the first step, and of the last.
const FIRST_LR: f64 = 1e-7;
const LAST_LR: f64 = 10.0;
/// Share of the old average that the smoothed loss keeps in a step, as fastai has it.
const KEPT: f64 = 0.98;
/// Times its lowest value at which the smoothed loss has diverged.
const DIVERGED: f64 = 4.0;
/// Time between two reports.
const REPORT_EVERY: Duration = Duration::from_millis(100);

/// A step of a range test.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LrPoint {
    /// Learning rate of the step.
    pub lr: f32,
    /// Loss of its batch, before the step.
    pub loss: f32,
    /// Moving average of the losses up to here.
    pub smoothed: f32,
}

/// What a range test found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LrFind {
    /// The steps, by rising rate.
    pub points: Vec<LrPoint>,
    /// The rate at which the loss falls fastest; none where it never falls.
    pub steepest: Option<f32>,
    /// The rate in the longest valley of the curve, which is the better choice for most networks; none where the loss
    /// never falls.
    pub valley: Option<f32>,
    /// Whether the loss grew beyond four times its lowest value, or beyond all numbers.
    pub diverged: bool,
}

/// Rate of a step, from 0: the logarithm rises evenly.
fn rate(step: usize) -> f32 {
    (FIRST_LR * (LAST_LR / FIRST_LR).powf(step as f64 / (STEPS - 1) as f64)) as f32
}

/// Runs `trainer`, whose weights are of no use afterwards, through the rates, on images as training sees them: as many
/// epochs as the steps need.
///
/// # Errors
/// [`PipelineError::Stopped`], and those of the engine.
pub(crate) fn range_test(
    trainer: &mut Trainer,
    (loaded, recipe): (&Loaded, &Recipe),
    pool: &Pool,
    stop: &AtomicBool,
    told: &mut dyn FnMut(&Event) -> Result<(), PipelineError>,
) -> Result<LrFind, PipelineError> {
    let mut curve = Curve::default();
    let mut reported: Option<Instant> = None;
    // Epochs that no run reaches, so that training sees its images varied otherwise.
    for number in (0..=u32::MAX).rev() {
        let epoch = Epoch::new(loaded, recipe, number);
        let fill = |place: usize, x: &mut [f32]| epoch.fill(place, x);
        let order = epoch.places();
        let image_len = loaded.set.preprocessing().len();
        feed(pool, (&order, batch(recipe, loaded)), image_len, fill, |places, x| {
            if stop.load(Ordering::Relaxed) {
                return Err(PipelineError::Stopped);
            }
            let lr = rate(curve.points.len());
            let loss = epoch.step(trainer, (places, None), x, lr)?.loss;
            curve.add(lr, loss);
            let now = Instant::now();
            if curve.over() || reported.is_none_or(|last| now - last >= REPORT_EVERY) {
                reported = Some(now);
                told(&Event::RangeTest { step: curve.points.len(), steps: STEPS, lr, loss })?;
            }
            Ok(if curve.over() { Flow::Stop } else { Flow::Go })
        })?;
        if curve.over() {
            break;
        }
    }
    Ok(curve.found())
}

/// The losses so far.
#[derive(Default)]
struct Curve {
    points: Vec<LrPoint>,
    /// Moving average of the losses, towards zero while it is young.
    average: f64,
    best: Option<f64>,
    diverged: bool,
}

impl Curve {
    fn add(&mut self, lr: f32, loss: f32) {
        if !loss.is_finite() {
            self.diverged = true;
            return;
        }
        self.average = KEPT * self.average + (1.0 - KEPT) * f64::from(loss);
        let smoothed = self.average / (1.0 - KEPT.powi(self.points.len() as i32 + 1));
        let best = self.best.map_or(smoothed, |best| best.min(smoothed));
        self.best = Some(best);
        self.diverged = smoothed > DIVERGED * best;
        self.points.push(LrPoint { lr, loss, smoothed: smoothed as f32 });
    }

    fn over(&self) -> bool {
        self.diverged || self.points.len() >= STEPS
    }

    fn found(self) -> LrFind {
        let lrs: Vec<f32> = self.points.iter().map(|point| point.lr).collect();
        let losses: Vec<f32> = self.points.iter().map(|point| point.smoothed).collect();
        let (lrs, losses) = suggest::middle(&lrs, &losses);
        LrFind {
            steepest: suggest::steepest(lrs, losses),
            valley: suggest::valley(lrs, losses),
            points: self.points,
            diverged: self.diverged,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_rise_evenly_in_their_logarithm() {
        assert!((rate(0) - 1e-7).abs() < 1e-12 && (rate(STEPS - 1) - 10.0).abs() < 1e-4);
        let ratio = rate(1) / rate(0);
        assert!((1..STEPS).all(|step| (rate(step) / rate(step - 1) / ratio - 1.0).abs() < 1e-3));
    }

    #[test]
    fn the_first_average_is_the_first_loss_and_divergence_ends_the_test() {
        let mut curve = Curve::default();
        curve.add(1e-7, 2.5);
        assert!((curve.points[0].smoothed - 2.5).abs() < 1e-5 && !curve.over());
        curve.add(1e-6, 1000.0);
        assert!(curve.over() && curve.found().diverged);
        let mut curve = Curve::default();
        curve.add(1e-7, f32::NAN);
        let found = curve.found();
        assert!(found.diverged && found.points.is_empty() && found.valley.is_none());
        let mut curve = Curve::default();
        (0..STEPS).for_each(|step| curve.add(rate(step), 1.0));
        assert!(curve.over() && !curve.diverged);
    }
}
