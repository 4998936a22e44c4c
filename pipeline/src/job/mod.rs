//! A training job from beginning to end, as a process of its own does it.
//!
//! [`JobSpec`] says all there is to know, [`run_job`] goes on with what an earlier attempt left, and every
//! [`JobMessage`] is one line of JSON. Nothing here knows of HTTP, of other jobs, or of who asked.

mod fit;
mod message;
mod spec;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use ocelli_common::text::chain;
use ocelli_engine::EngineError;

use crate::built_in::open_model;
use crate::error::PipelineError;
use crate::event::Event;
use crate::gate::{Candidate, Verdict};
use crate::memory;
use crate::metrics::Evaluation;
use crate::resume::resume_within;
use crate::train::train;
use crate::train_options::ResumeTo;

pub use crate::memory::{Fitted, MemoryEstimate};
pub use fit::{fit_into, memory_needed};
pub use message::{FailureKind, JobMessage, JobPhase};
pub use spec::{JobOrder, JobSpec, ModelRef, Trained};

/// Does a job: goes on with an earlier attempt or finds that it was done, else trains anew; then compares the model with
/// the one that serves. The messages are those of the way; [`JobMessage::ended`] makes the last one of the result.
///
/// # Errors
/// [`PipelineError::Stopped`] when `stop` ended it: the same spec with the run's name goes on after the last epoch.
/// [`PipelineError::Memory`] before memory is taken that it may not have. Else those of [`crate::train()`] and of the gate.
pub fn run_job(
    spec: &JobSpec,
    stop: &AtomicBool,
    observe: &mut (dyn FnMut(&JobMessage) + Send),
) -> Result<Trained, PipelineError> {
    observe(&JobMessage::Phase { phase: JobPhase::Training });
    let mut watch = Watch { observe, loaded: None };
    let (run, evaluation) = fit(spec, stop, &mut watch)?;
    let model = run.join("weights").join("best.ocelli");
    observe(&JobMessage::Phase { phase: JobPhase::Comparing });
    let verdict = compare(spec, &spec.runs_dir.join(&model), &evaluation, (stop, observe))?;
    let run = run.to_string_lossy().into_owned();
    Ok(Trained { run, model, evaluation, verdict })
}

/// Trains, or goes on, or finds that it is done: the run's folder in `runs_dir` and the report on held-out images.
fn fit(
    spec: &JobSpec,
    stop: &AtomicBool,
    watch: &mut Watch<'_>,
) -> Result<(PathBuf, Evaluation), PipelineError> {
    let mut observe = |event: &Event| watch.take(event);
    if let Some(name) = &spec.run {
        let run = spec.runs_dir.join(run_name(name)?);
        if let Some(evaluation) = finished(&run) {
            return Ok((PathBuf::from(name), evaluation));
        }
        let to = if spec.finish { ResumeTo::BestSoFar } else { ResumeTo::Recipe };
        match resume_within(&run, to, &spec.within(), stop, &mut observe) {
            // Nothing to go on with, or nothing that can be read: the work is lost, the job is not.
            Err(
                error @ (PipelineError::Run { .. } | PipelineError::Engine(EngineError::ModelFile { .. })),
            ) => {
                observe(&Event::note(format!(
                    "the run {name} cannot go on, training begins anew: {}",
                    chain(&error)
                )));
            }
            outcome => return Ok((PathBuf::from(name), outcome?.evaluation.ok_or(PipelineError::Stopped)?)),
        }
    }
    let mut options = spec.options()?;
    if let Some(limit) = spec.memory {
        let Fitted { chunk, note, .. } = memory::fit(&options, limit)?;
        if chunk.is_some() {
            options.recipe.chunk = chunk;
            options.origins.insert("chunk".to_owned(), "chosen for the memory limit".to_owned());
        }
        note.iter().for_each(|note| observe(&Event::note(note)));
    }
    let outcome = train(&options, stop, &mut observe)?;
    let evaluation = outcome.evaluation.ok_or(PipelineError::Stopped)?;
    let run = outcome.run_dir.file_name().map(PathBuf::from).unwrap_or_default();
    Ok((run, evaluation))
}

/// The evaluation of a run whose training is over and whose weights can be read.
fn finished(run: &Path) -> Option<Evaluation> {
    let text = std::fs::read_to_string(run.join("evaluation.json")).ok()?;
    open_model(run).ok()?;
    serde_json::from_str(&text).ok()
}

/// A run is named by one part of a path: whatever wrote the spec, nothing outside of `runs_dir` is touched.
fn run_name(name: &str) -> Result<&Path, PipelineError> {
    let path = Path::new(name);
    let mut parts = path.components();
    match (parts.next(), parts.next()) {
        (Some(std::path::Component::Normal(_)), None) => Ok(path),
        _ => Err(PipelineError::run(path, "not the name of a folder in the folder of runs")),
    }
}

/// Holds the new model against the one that serves.
fn compare(
    spec: &JobSpec,
    model: &Path,
    evaluation: &Evaluation,
    (stop, observe): (&AtomicBool, &mut (dyn FnMut(&JobMessage) + Send)),
) -> Result<Option<Verdict>, PipelineError> {
    let Some(serving) = &spec.serving else { return Ok(None) };
    let candidate = open_model(model)?;
    let file = serving.open()?;
    let candidate = Candidate { file: &candidate, evaluation };
    let other = Some((serving.version.as_str(), &file));
    let how = (spec.recipe.compute(), stop);
    // A sign of life for whoever waits.
    let told = &mut |done, total| {
        observe(&JobMessage::Event {
            event: Event::Evaluating { split: "held out".to_owned(), done, total },
        });
    };
    spec.gate.judge_told(&candidate, other, (&spec.questions, &spec.rules), how, told).map(Some)
}

/// Passes events on, but for those that tell of no progress: whoever waits takes a message for a sign of life.
struct Watch<'a> {
    observe: &'a mut (dyn FnMut(&JobMessage) + Send),
    /// Images loaded when it was last told.
    loaded: Option<usize>,
}

impl Watch<'_> {
    fn take(&mut self, event: &Event) {
        if let Event::Loading { done, .. } = event
            && self.loaded.replace(*done) == Some(*done)
        {
            return;
        }
        (self.observe)(&JobMessage::Event { event: event.clone() });
    }
}
