//! How well a model does on images with any number of labels.

use std::sync::atomic::AtomicBool;

use ocelli_datasets::LabelsPerImage;
use ocelli_engine::model_file::ModelFile;

use super::evaluation::LabelEvaluation;
use super::measure::report;
use crate::error::PipelineError;
use crate::evaluate::{EvaluateOptions, LabelledImages, map_of, prepared, select};
use crate::event::{Event, Observe};

/// The event that tells of an evaluation.
pub(crate) fn evaluated(evaluation: &LabelEvaluation) -> Event {
    Event::Evaluated {
        split: evaluation.split.clone(),
        images: evaluation.images,
        accuracy: evaluation.subset_accuracy,
        top5: None,
        mean_average_precision: Some(evaluation.mean_average_precision),
        loss: evaluation.loss,
    }
}

/// Evaluates a model of images with any number of labels; images of data with one class each have that one label.
///
/// Labels are matched by name; those that the model does not know are noted and do not count.
///
/// # Errors
/// As [`crate::evaluate`], and [`PipelineError::MultiLabel`] for a model of images with one class each.
pub fn evaluate_labels(
    file: &ModelFile,
    options: &EvaluateOptions,
    stop: &AtomicBool,
    observe: Observe<'_>,
) -> Result<LabelEvaluation, PipelineError> {
    let Some(labels) = &file.meta.multi_label else {
        let reason = "the model tells classes apart, one an image: it is measured as such".to_owned();
        return Err(PipelineError::MultiLabel { reason });
    };
    let exec = options.compute.exec()?;
    let source = options.data.open_labelled(LabelsPerImage::Any)?;
    let selection = select(&source, (file, None), options, (&exec.pool, stop), observe)?;
    for text in &selection.notes {
        observe(&Event::note(text));
    }
    let (mut inference, mut mirror) = prepared(file, options, &exec)?;
    let map = map_of(&source, file);
    let images = LabelledImages {
        set: &selection.set,
        indices: &selection.indices,
        map: &map,
        classes: &file.meta.classes,
        split: &selection.split,
        temperature: 1.0,
    };
    let mut evaluation = exec.pool.install(|| {
        let model = (&mut inference, mirror.as_mut());
        report(&images, &labels.thresholds, model, stop, &mut |event| {
            observe(event);
            Ok(())
        })
    })??;
    evaluation.notes.extend(selection.notes);
    if mirror.is_some() {
        evaluation.notes.push("each answer is the mean over the image and its mirror image".to_owned());
    }
    observe(&evaluated(&evaluation));
    Ok(evaluation)
}
