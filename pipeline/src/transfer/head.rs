//! The first weights of the last layer: a linear classifier on the features of the network below, which are computed once.

use std::sync::atomic::AtomicBool;

use ocelli_datasets::rng::shuffle;
use ocelli_engine::{Exec, Inference, Model};

use super::layer::{How, Taught, fit_layer, plain_layer};
use crate::batch::batch_for;
use crate::data::Loaded;
use crate::error::PipelineError;
use crate::event::Event;
use crate::features::Features;
use crate::recipe::Recipe;
use crate::run_folder::Reporter;

/// Highest learning rate.
const LR: f32 = 2e-3;

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
    let features = Features::compute(&mut inference, images, stop, &mut tell)?;
    drop(inference);
    if features.len == 0 {
        return Ok(());
    }
    let classes = loaded.set.classes().len();
    let head = plain_layer(features.len, classes)?;
    let set = &loaded.set;
    let labels_of = |i: usize| set.labels(i).iter();
    let labels: Vec<u32> = loaded.train.iter().flat_map(|&i| labels_of(i)).copied().collect();
    let mut targets = vec![0.0; if set.is_multi_label() { loaded.train.len() * classes } else { 0 }];
    for (row, &i) in targets.chunks_exact_mut(classes).zip(&loaded.train) {
        labels_of(i).for_each(|&label| row[label as usize] = 1.0);
    }
    let taught = match set.is_multi_label() {
        true => Taught::Labels(&targets),
        false => Taught::Classes(&labels),
    };
    let how = How {
        images: loaded.train.len(),
        passes: recipe.head_epochs,
        lr: LR,
        label_smoothing: recipe.label_smoothing,
    };
    let mut order: Vec<usize> = (0..loaded.train.len()).collect();
    let shuffled = |pass| {
        shuffle(&mut order, recipe.seed ^ pass as u64);
        order.clone()
    };
    let (head, _) = fit_layer(head, (&features, taught), &how, shuffled, (exec, stop))?;
    model.set_last_layer(&head)?;
    Ok(())
}
