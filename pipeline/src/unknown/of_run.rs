//! The threshold of a run's model: class means from its training images, the rest from its validation images.

use std::sync::atomic::AtomicBool;

use ocelli_engine::Inference;
use ocelli_engine::model_file::Rejection;

use super::learn::{HeldOut, learn};
use super::score::class_means;
use crate::data::Loaded;
use crate::error::PipelineError;
use crate::features::Features;

/// Most training images of a class that its mean is taken over: a hundred directions leave it within a tenth of their spread.
pub(crate) const PER_CLASS: usize = 100;

/// Learns when an image is unknown; `None` where there are too few validation images, or the network has no features.
///
/// # Errors
/// Those of the engine and of reading pixels; [`PipelineError::Stopped`].
pub(crate) fn learn_from(
    inference: &mut Inference,
    loaded: &Loaded,
    false_rejects: f32,
    stop: &AtomicBool,
) -> Result<Option<Rejection>, PipelineError> {
    let Loaded { set, train, val, .. } = loaded;
    if false_rejects == 0.0 || val.is_empty() {
        return Ok(None);
    }
    let classes = set.classes().len();
    let mut counts = vec![0; classes];
    let sample: Vec<usize> = train
        .iter()
        .copied()
        .filter(|&i| {
            let count = &mut counts[set.class(i) as usize];
            *count += 1;
            *count <= PER_CLASS
        })
        .collect();
    let mut compute =
        |indices: &[usize]| Features::compute(inference, (set, indices), stop, &mut |_, _| Ok(()));
    let (Some(trained), Some(held_out)) = (compute(&sample)?, compute(val)?) else { return Ok(None) };
    let rows = sample.iter().zip(trained.values.chunks_exact(trained.len));
    let means = class_means(rows.map(|(&i, row)| (set.class(i) as usize, row)), (classes, trained.len));
    let labels = val.iter().map(|&i| Some(set.class(i) as usize)).collect();
    let held_out = HeldOut { logits: held_out.logits, features: held_out.values, labels };
    Ok(learn(&held_out, means, false_rejects))
}
