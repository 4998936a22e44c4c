//! A network of one dense layer on features that are computed already: fitting it, and its answers.

use std::sync::atomic::{AtomicBool, Ordering};

use ocelli_engine::graph::Dense;
use ocelli_engine::{
    AdamConfig, Exec, Graph, Inference, Loss, Model, Op, Optimizer, Shape, TrainConfig, Trainer,
};

use crate::error::PipelineError;
use crate::features::Features;
use crate::recipe::Schedule;

/// Images in a step.
const BATCH: usize = 64;
/// Least steps: few images are gone over more often.
const MIN_STEPS: usize = 400;

/// Images that a call answers.
const ANSWERED: usize = 256;

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

/// What images show, for each place.
#[derive(Clone, Copy)]
pub(crate) enum Taught<'a> {
    /// A class each.
    Classes(&'a [u32]),
    /// A target for each image and label, `[images][labels]`.
    Labels(&'a [f32]),
}

impl<'a> From<&'a Vec<u32>> for Taught<'a> {
    fn from(classes: &'a Vec<u32>) -> Self {
        Taught::Classes(classes)
    }
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

/// A network of one dense layer, from features to logits. Its weights are zero: every class is as likely as the others, and
/// fitting it is a convex problem.
///
/// # Errors
/// Those of the engine.
pub(crate) fn plain_layer(features: usize, classes: usize) -> Result<Model, PipelineError> {
    let mut graph = Graph::new(Shape::new(1, 1, features));
    graph.then("dense", Op::Dense(Dense { units: classes as u32, bias: true }));
    Ok(Model::zeros(graph)?)
}

/// Fits `layer`, from the weights that it has, to features and what their images show. `order` gives the places of the images of a
/// pass, counted from 0: as many as `how` says.
///
/// # Errors
/// Those of the engine; [`PipelineError::Stopped`].
pub(crate) fn fit_layer<'a>(
    layer: Model,
    (features, taught): (&Features, impl Into<Taught<'a>>),
    how: &How,
    mut order: impl FnMut(usize) -> Vec<usize>,
    (exec, stop): (&Exec, &AtomicBool),
) -> Result<(Model, Vec<Pass>), PipelineError> {
    let taught = taught.into();
    let batch = BATCH.min(how.images);
    let config = TrainConfig {
        batch,
        optimizer: Optimizer::AdamW(AdamConfig { weight_decay: 0.01, ..AdamConfig::default() }),
        loss: match taught {
            Taught::Classes(_) => Loss::CrossEntropy,
            Taught::Labels(_) => Loss::Sigmoid,
        },
        label_smoothing: how.label_smoothing,
        ..TrainConfig::default()
    };
    let mut trainer = Trainer::new(layer, config, exec)?;
    let classes = trainer.model().graph().classes()?;
    let a_pass = how.images.div_ceil(batch);
    let count = MIN_STEPS.div_ceil(a_pass).max(usize::try_from(how.passes).unwrap_or(1));
    let steps = (count * a_pass) as u64;
    let (mut x, mut y, mut targets) = (Vec::new(), Vec::new(), Vec::new());
    let (mut step, mut passes) = (0, Vec::with_capacity(count));
    for pass in 0..count {
        let (mut loss, mut correct, mut lr) = (0.0, 0, 0.0);
        for places in order(pass).chunks(batch) {
            if stop.load(Ordering::Relaxed) {
                return Err(PipelineError::Stopped);
            }
            x.clear();
            y.clear();
            targets.clear();
            for &place in places {
                x.extend_from_slice(features.row(place));
                match taught {
                    Taught::Classes(labels) => y.push(labels[place]),
                    Taught::Labels(rows) => targets.extend_from_slice(&rows[place * classes..][..classes]),
                }
            }
            lr = Schedule::Cosine.lr(how.lr, 0.1, step, steps);
            let stats = match taught {
                Taught::Classes(_) => trainer.step(&x, &y, lr)?,
                Taught::Labels(_) => trainer.step_targets(&x, &targets, lr)?,
            };
            loss += f64::from(stats.loss) * places.len() as f64;
            correct += stats.correct;
            step += 1;
        }
        let images = how.images as f64;
        passes.push(Pass { lr, loss: (loss / images) as f32, accuracy: (correct as f64 / images) as f32 });
    }
    Ok((trainer.model().clone(), passes))
}

/// Logits `[images][classes]` of a last layer for features `[images][features]`.
///
/// # Errors
/// Those of the engine.
pub(crate) fn logits(layer: &Model, features: &[f32], exec: &Exec) -> Result<Vec<f32>, PipelineError> {
    let mut inference = Inference::new(layer, ANSWERED, exec)?;
    let (len, classes) = (inference.input_len(), inference.classes());
    let mut logits = vec![0.0; features.len() / len * classes];
    for (x, rows) in features.chunks(ANSWERED * len).zip(logits.chunks_mut(ANSWERED * classes)) {
        inference.run(x, x.len() / len, rows)?;
    }
    Ok(logits)
}
