//! The first weights of the last layer: a linear classifier on the features of the network below, which are computed once.

use std::sync::atomic::{AtomicBool, Ordering};

use ocelli_datasets::rng::shuffle;
use ocelli_engine::graph::Dense;
use ocelli_engine::{AdamConfig, Exec, Graph, Inference, Model, Op, Optimizer, Shape, TrainConfig, Trainer};

use crate::batch::batch_for;
use crate::data::Loaded;
use crate::error::PipelineError;
use crate::event::Event;
use crate::features::Features;
use crate::recipe::{Recipe, Schedule};
use crate::run_folder::Reporter;

/// Images in a step.
const BATCH: usize = 64;
/// Highest learning rate of AdamW.
const LR: f32 = 2e-3;
/// Least steps: few images are gone over more often.
const MIN_STEPS: usize = 400;

/// Trains the last layer of `model` on the training images of `loaded`, unvaried, and puts its weights into the model.
/// Takes one pass over the images and a few hundred steps of a network with one layer.
///
/// # Errors
/// Those of the engine; [`PipelineError::Stopped`].
pub(crate) fn fit_head(
    model: &mut Model,
    loaded: &Loaded,
    recipe: &Recipe,
    exec: &Exec,
    stop: &AtomicBool,
    reporter: &mut Reporter<'_>,
) -> Result<(), PipelineError> {
    let images = (&loaded.set, &loaded.train[..]);
    let mut tell = |done, total| reporter.report(&Event::Features { done, total });
    let mut inference = Inference::new(model, batch_for(loaded.set.preprocessing().len()), exec)?;
    let Some(features) = Features::compute(&mut inference, images, stop, &mut tell)? else { return Ok(()) };
    drop(inference);
    let classes = loaded.set.classes().len();
    let mut graph = Graph::new(Shape::new(1, 1, features.len));
    graph.then("dense", Op::Dense(Dense { units: classes as u32, bias: true }));
    // Zero weights: every class is as likely as the others, and the problem is convex.
    let head = Model::zeros(graph)?;
    let labels_of: Vec<u32> = loaded.train.iter().map(|&i| loaded.set.class(i)).collect();
    let images = labels_of.len();
    let batch = BATCH.min(images);
    let config = TrainConfig {
        batch,
        optimizer: Optimizer::AdamW(AdamConfig { weight_decay: 0.01, ..AdamConfig::default() }),
        label_smoothing: recipe.label_smoothing,
        ..TrainConfig::default()
    };
    let mut trainer = Trainer::new(head, config, exec)?;
    let per_epoch = images.div_ceil(batch);
    let epochs = MIN_STEPS.div_ceil(per_epoch).max(usize::try_from(recipe.head_epochs).unwrap_or(1));
    let steps = (epochs * per_epoch) as u64;
    let mut order: Vec<usize> = (0..images).collect();
    let (mut x, mut labels) = (Vec::new(), Vec::new());
    let mut step = 0;
    for epoch in 0..epochs {
        shuffle(&mut order, recipe.seed ^ epoch as u64);
        for indices in order.chunks(batch) {
            if stop.load(Ordering::Relaxed) {
                return Err(PipelineError::Stopped);
            }
            x.clear();
            labels.clear();
            for &i in indices {
                x.extend_from_slice(features.row(i));
                labels.push(labels_of[i]);
            }
            trainer.step(&x, &labels, Schedule::Cosine.lr(LR, 0.1, step, steps))?;
            step += 1;
        }
    }
    model.set_last_layer(trainer.model())?;
    Ok(())
}
