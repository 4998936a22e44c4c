//! How many images of other things a model calls unknown, and how many of its own classes.

use std::sync::atomic::AtomicBool;

use ocelli_datasets::{ImageSet, Source};
use ocelli_engine::model_file::ModelFile;
use ocelli_engine::{Exec, Inference};

use super::options::EvaluateOptions;
use super::selection::{Selection, map_of};
use crate::answering;
use crate::batch::batch_for;
use crate::data;
use crate::error::PipelineError;
use crate::features::Features;
use crate::metrics::Rejections;
use crate::unknown::{Judge, Seen};

/// Images whose features are in memory at once.
const AT_ONCE: usize = 1000;

/// Most images of other classes that are read: a share of five thousand is known to within two points.
const MOST: usize = 5000;

/// Asks a model about the images of the selection and about those of classes that it does not know, of the same split where
/// there are some of it; at even distances where there are many. `None` for a model that calls no image unknown, and
/// for data without such images.
///
/// # Errors
/// Those of the engine and of reading the images; [`PipelineError::Stopped`].
pub(super) fn measure(
    file: &ModelFile,
    (source, selection): (&Source, &Selection),
    options: &EvaluateOptions,
    (exec, stop): (&Exec, &AtomicBool),
) -> Result<Option<Rejections>, PipelineError> {
    let Some(rejection) = &file.meta.rejection else { return Ok(None) };
    let others = others(file, source, &selection.split);
    if others.is_empty() {
        return Ok(None);
    }
    let judge = Judge::new(rejection.clone());
    let pre = &file.meta.preprocessing;
    let values = judge.inner_values();
    let mut inference = answering::compile(file, &values, batch_for(pre.clone().len()), exec)?;
    let settings = (&exec.pool, options.max_bad);
    let set = data::load(source, Some(&others), pre, settings, stop, &mut |_| Ok(()))?;
    let all: Vec<usize> = (0..set.len()).collect();
    let mut rejected = |set: &ImageSet, indices: &[usize]| {
        exec.pool.install(|| rejected(&mut inference, &judge, (set, indices), stop))?
    };
    let known_images = selection.indices.len();
    let known = rejected(&selection.set, &selection.indices)?;
    let found = rejected(&set, &all)?;
    Ok(Some(Rejections {
        known_images,
        known_rejected: known as f32 / known_images.max(1) as f32,
        unknown_images: all.len(),
        unknown_found: found as f32 / all.len().max(1) as f32,
    }))
}

/// The images to read of classes that the model does not know.
fn others(file: &ModelFile, source: &Source, split: &str) -> Vec<usize> {
    let (map, items) = (map_of(source, file), source.items());
    let foreign: Vec<usize> =
        (0..items.len()).filter(|&i| map[items[i].class() as usize].is_none()).collect();
    let of_split = |i: &usize| items[*i].split.is_some_and(|own| own.to_string() == split);
    let same: Vec<usize> = foreign.iter().copied().filter(of_split).collect();
    let others = if same.is_empty() { foreign } else { same };
    let count = others.len().min(MOST);
    (0..count).map(|i| others[i * others.len() / count]).collect()
}

/// How many of the images are called unknown.
fn rejected(
    inference: &mut Inference,
    judge: &Judge,
    (set, indices): (&ImageSet, &[usize]),
    stop: &AtomicBool,
) -> Result<usize, PipelineError> {
    let mut count = 0;
    for part in indices.chunks(AT_ONCE) {
        let found = Features::compute(inference, (set, part), stop, &mut |_, _| Ok(()))?;
        let classes = found.logits.len() / part.len();
        for image in 0..part.len() {
            let logits = &found.logits[image * classes..][..classes];
            let inner = &found.inner[image * found.inner_len..][..found.inner_len];
            count += usize::from(!judge.judge(Seen { logits, features: found.row(image), inner }).known);
        }
    }
    Ok(count)
}
