//! Fits a network of one dense layer to features that are computed already.

use std::sync::atomic::{AtomicBool, Ordering};

use ocelli_engine::{AdamConfig, Exec, Model, Optimizer, TrainConfig, Trainer};

use crate::error::PipelineError;
use crate::features::Features;
use crate::recipe::Schedule;

/// Images in a step.
const BATCH: usize = 64;
/// Least steps: few images are gone over more often.
const MIN_STEPS: usize = 400;

/// How a layer is fitted.
pub(crate) struct How {
    /// Images in a pass.
    pub(crate) images: usize,
    /// Least passes.
    pub(crate) passes: u32,
    /// Highest learning rate of AdamW.
    pub(crate) lr: f32,
    pub(crate) label_smoothing: f32,
}

/// What one pass gave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Pass {
    /// Learning rate of the last step.
    pub(crate) lr: f32,
    /// Mean loss while the weights moved.
    pub(crate) loss: f32,
    /// Part of the images that were right, likewise.
    pub(crate) accuracy: f32,
}

/// Fits `layer`, from the weights that it has, to features and their classes. `order` gives the places of the images of a
/// pass, counted from 0: as many as `how` says.
///
/// # Errors
/// Those of the engine; [`PipelineError::Stopped`].
pub(crate) fn fit_layer(
    layer: Model,
    (features, labels): (&Features, &[u32]),
    how: &How,
    mut order: impl FnMut(usize) -> Vec<usize>,
    (exec, stop): (&Exec, &AtomicBool),
) -> Result<(Model, Vec<Pass>), PipelineError> {
    let batch = BATCH.min(how.images);
    let config = TrainConfig {
        batch,
        optimizer: Optimizer::AdamW(AdamConfig { weight_decay: 0.01, ..AdamConfig::default() }),
        label_smoothing: how.label_smoothing,
        ..TrainConfig::default()
    };
    let mut trainer = Trainer::new(layer, config, exec)?;
    let a_pass = how.images.div_ceil(batch);
    let count = MIN_STEPS.div_ceil(a_pass).max(usize::try_from(how.passes).unwrap_or(1));
    let steps = (count * a_pass) as u64;
    let (mut x, mut y) = (Vec::new(), Vec::new());
    let (mut step, mut passes) = (0, Vec::with_capacity(count));
    for pass in 0..count {
        let (mut loss, mut correct, mut lr) = (0.0, 0, 0.0);
        for places in order(pass).chunks(batch) {
            if stop.load(Ordering::Relaxed) {
                return Err(PipelineError::Stopped);
            }
            x.clear();
            y.clear();
            for &place in places {
                x.extend_from_slice(features.row(place));
                y.push(labels[place]);
            }
            lr = Schedule::Cosine.lr(how.lr, 0.1, step, steps);
            let stats = trainer.step(&x, &y, lr)?;
            loss += f64::from(stats.loss) * places.len() as f64;
            correct += stats.correct;
            step += 1;
        }
        let images = how.images as f64;
        passes.push(Pass { lr, loss: (loss / images) as f32, accuracy: (correct as f64 / images) as f32 });
    }
    Ok((trainer.model().clone(), passes))
}
