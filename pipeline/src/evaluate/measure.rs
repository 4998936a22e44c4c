//! A model answers the images of a selection.

use std::sync::atomic::AtomicBool;

use ocelli_datasets::Source;
use ocelli_engine::model_file::ModelFile;
use ocelli_engine::{Exec, Inference};

use super::images::LabelledImages;
use super::options::EvaluateOptions;
use super::selection::{Selection, map_of};
use crate::answering;
use crate::batch::batch_for;
use crate::error::PipelineError;
use crate::event::Observe;
use crate::metrics::Evaluation;
use crate::mirror::Mirror;
use crate::probability::temperature;

/// A model ready to answer, and its mirror where answers are means over mirror images.
pub(crate) fn prepared(
    file: &ModelFile,
    options: &EvaluateOptions,
    exec: &Exec,
) -> Result<(Inference, Option<Mirror>), PipelineError> {
    let mirror = if options.mirror { Some(Mirror::new(&file.meta)?) } else { None };
    let batch = batch_for(file.meta.preprocessing.clone().len());
    Ok((answering::open(file, &[], batch, exec)?, mirror))
}

/// The report on a selection. The only notes are those on how it was measured.
pub(crate) fn measure(
    file: &ModelFile,
    (source, selection): (&Source, &Selection),
    options: &EvaluateOptions,
    (exec, stop): (&Exec, &AtomicBool),
    observe: Observe<'_>,
) -> Result<Evaluation, PipelineError> {
    let (mut inference, mut mirror) = prepared(file, options, exec)?;
    let map = map_of(source, file);
    let images = LabelledImages {
        set: &selection.set,
        indices: &selection.indices,
        map: &map,
        classes: &file.meta.classes,
        split: &selection.split,
        temperature: temperature(&file.meta),
    };
    let mut evaluation = exec.pool.install(|| {
        images.run_told((&mut inference, mirror.as_mut()), stop, &mut |event| {
            observe(event);
            Ok(())
        })
    })??;
    if mirror.is_some() {
        evaluation.notes.push("each answer is the mean over the image and its mirror image".to_owned());
    }
    Ok(evaluation)
}
