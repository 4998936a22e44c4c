//! What a model answers by features that are there, and how much of its old classes it lost.

use ocelli_engine::{Exec, Model};

use crate::added::OldClasses;
use crate::error::PipelineError;
use crate::probability::ranking;
use crate::replay::{Kept, Replay};
use crate::transfer::logits;

/// Asks the last layer before and the one after about the test images that were kept, or else about the validation images.
/// `None` where there are neither.
///
/// # Errors
/// Those of the engine.
pub(crate) fn old_classes(
    replay: &Replay,
    (before, after): (&Model, &Model),
    exec: &Exec,
) -> Result<Option<OldClasses>, PipelineError> {
    let parts = [("test", &replay.test), ("val", &replay.val)];
    let Some((split, Kept { features, labels, .. })) =
        parts.into_iter().find(|(_, kept)| !kept.labels.is_empty())
    else {
        return Ok(None);
    };
    let (old, all) = (before.graph().classes()?, after.graph().classes()?);
    let share = |right: usize| (right as f64 / labels.len() as f64) as f32;
    let right = |found: &[usize]| share(found.iter().zip(labels).filter(|&(&a, &b)| a == b as usize).count());
    let best = |logits: &[f32], classes: usize, of: usize| -> Vec<usize> {
        logits.chunks_exact(classes).map(|row| ranking(&row[..of], 1)[0]).collect()
    };
    let (was, is) = (logits(before, features, exec)?, logits(after, features, exec)?);
    let now = best(&is, all, all);
    Ok(Some(OldClasses {
        split: split.to_owned(),
        images: labels.len(),
        before: right(&best(&was, old, old)),
        after: right(&now),
        after_among_old: right(&best(&is, all, old)),
        taken_for_new: now.iter().filter(|&&class| class >= old).count(),
    }))
}
