//! How well a model does on labelled images, alone or beside another one.

mod classes;
mod compare;
mod images;
mod measure;
mod options;
mod selection;
mod unknown;

use std::sync::atomic::AtomicBool;

use ocelli_engine::model_file::ModelFile;

use crate::error::PipelineError;
use crate::event::{Event, Observe};
use crate::metrics::Evaluation;

pub(crate) use classes::class_map;
pub use compare::{ClassChange, Comparison, Flip, Side, compare};
pub(crate) use images::{LabelledImages, Tell, WORST, evaluated};
pub(crate) use measure::prepared;
pub use options::EvaluateOptions;
pub(crate) use selection::{map_of, select};

/// Evaluates a model.
///
/// Classes are matched by name, never by position. Images of classes that the model does not know are left out and noted. Where splits are
/// drawn, they are drawn with the seed and the fractions that the model was trained with, so its training images are
/// never among its test images.
///
/// # Errors
/// [`PipelineError::NoCommonClass`], [`PipelineError::EmptySplit`], [`PipelineError::NoMirror`], [`PipelineError::Stopped`],
/// [`PipelineError::MultiLabel`] for a model of images with several labels, and those of reading the data.
pub fn evaluate(
    file: &ModelFile,
    options: &EvaluateOptions,
    stop: &AtomicBool,
    observe: Observe<'_>,
) -> Result<Evaluation, PipelineError> {
    if file.meta.multi_label.is_some() {
        let reason = "the model says any number of labels: it is measured as such".to_owned();
        return Err(PipelineError::MultiLabel { reason });
    }
    let exec = options.compute.exec()?;
    let source = options.data.open_any()?;
    let selection = selection::select(&source, (file, None), options, (&exec.pool, stop), observe)?;
    for text in &selection.notes {
        observe(&Event::note(text));
    }
    let mut evaluation = measure::measure(file, (&source, &selection), options, (&exec, stop), observe)?;
    evaluation.unknown = unknown::measure(file, (&source, &selection), options, (&exec, stop))?;
    if let Some(unknown) = &evaluation.unknown {
        observe(&Event::note(unknown.to_string()));
        evaluation.notes.push(unknown.to_string());
    }
    evaluation.notes.splice(0..0, selection.notes);
    observe(&evaluated(&evaluation));
    Ok(evaluation)
}
