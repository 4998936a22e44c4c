//! What is known of a job, as it stands on the disk and as clients see it.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use ocelli_pipeline::store::image_id;
use ocelli_pipeline::{Confusion, Event, PredictionRow, Verdict};
use serde::{Deserialize, Serialize};

use crate::jobs::failures::Failures;
use crate::jobs::request::RetrainRequest;

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum JobState {
    /// Waits for its turn.
    Queued,
    /// Is being trained, evaluated or compared.
    Running,
    /// Was asked to end and will at its next step.
    Cancelling,
    /// Its model serves.
    Promoted,
    /// Its model is kept and does not serve; the verdict says why.
    Kept,
    /// Somebody ended it.
    Cancelled,
    /// It could not be done; the error says why.
    Failed,
}

impl JobState {
    /// Whether nothing more will happen.
    pub(crate) fn has_ended(self) -> bool {
        !matches!(self, JobState::Queued | JobState::Running | JobState::Cancelling)
    }

    pub(crate) fn is_running(self) -> bool {
        matches!(self, JobState::Running | JobState::Cancelling)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            JobState::Queued => "queued",
            JobState::Running => "running",
            JobState::Cancelling => "cancelling",
            JobState::Promoted => "promoted",
            JobState::Kept => "kept",
            JobState::Cancelled => "cancelled",
            JobState::Failed => "failed",
        }
    }
}

/// Who asked for a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Trigger {
    Request,
    Upload,
}

/// Where a running job is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct Progress {
    /// `waiting`, `loading`, `training`, `evaluating`, `comparing` or `done`.
    pub(crate) phase: String,
    /// Part of the epochs that is done, in 0..=1.
    pub(crate) fraction: f32,
    pub(crate) epoch: u32,
    pub(crate) epochs: u32,
    pub(crate) step: usize,
    pub(crate) steps: usize,
    /// Mean training loss of the epoch so far.
    pub(crate) loss: Option<f32>,
    pub(crate) images_per_second: Option<f32>,
    /// Seconds until the last epoch ends.
    pub(crate) eta_s: Option<f32>,
}

/// One finished epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct EpochMetrics {
    pub(crate) epoch: u32,
    pub(crate) train_loss: f32,
    pub(crate) train_accuracy: f32,
    pub(crate) val_loss: Option<f32>,
    pub(crate) val_accuracy: Option<f32>,
    pub(crate) seconds: f32,
    pub(crate) best: bool,
}

/// What the network is wrong about after an epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct Mistakes {
    pub(crate) epoch: u32,
    /// The pairs of classes that are mixed up most often, most frequent first.
    pub(crate) pairs: Vec<Pair>,
    /// The validation images with the highest loss, highest first.
    pub(crate) images: Vec<WrongImage>,
}

/// A pair of classes that is mixed up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(rename = "MixedUpPair")]
pub(crate) struct Pair {
    /// The class of the images.
    pub(crate) label: String,
    /// What they are taken for.
    pub(crate) predicted: String,
    pub(crate) images: u64,
}

/// An image that is taken for another class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct WrongImage {
    /// Its id in the data set.
    pub(crate) image: Option<String>,
    pub(crate) label: String,
    pub(crate) predicted: String,
    /// Probability of that.
    pub(crate) probability: f32,
}

/// A job. Times are seconds since 1970-01-01 UTC.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct JobRecord {
    #[serde(rename = "id")]
    pub(crate) number: u64,
    /// The model whose service it is for.
    #[serde(default)]
    pub(crate) model: String,
    pub(crate) state: JobState,
    pub(crate) trigger: Trigger,
    /// Why nobody but a person promotes its version, whatever it can.
    #[serde(default)]
    pub(crate) manual: Option<String>,
    pub(crate) request: RetrainRequest,
    pub(crate) created: u64,
    pub(crate) started: Option<u64>,
    pub(crate) finished: Option<u64>,
    /// How often it was begun: more than once after restarts of the service, or when its process was killed.
    pub(crate) attempts: u32,
    /// How earlier attempts ended.
    #[serde(default)]
    pub(crate) failures: Failures,
    /// The version that served when it began: its weights are what training starts from, unless fresh ones are wanted.
    #[serde(default)]
    pub(crate) start: Option<String>,
    /// Name of its run folder.
    pub(crate) run: Option<String>,
    /// Whether it was asked to train no further and to take the best epoch so far.
    #[serde(default)]
    pub(crate) finish: bool,
    pub(crate) progress: Progress,
    pub(crate) epochs: Vec<EpochMetrics>,
    /// What the network was wrong about after the last epoch.
    #[serde(default)]
    pub(crate) mistakes: Option<Mistakes>,
    /// What a person should know.
    pub(crate) notes: Vec<String>,
    /// The version that came of it.
    pub(crate) version: Option<String>,
    /// How that version compared with the one that served.
    pub(crate) verdict: Option<Verdict>,
    pub(crate) error: Option<String>,
}

/// What a job is made of.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) request: RetrainRequest,
    pub(crate) trigger: Trigger,
    /// Why nobody but a person may promote its version.
    pub(crate) manual: Option<String>,
}

/// What followers of a job are told when its state changes.
#[derive(Serialize, schemars::JsonSchema)]
#[schemars(rename = "JobBrief")]
pub(crate) struct Brief<'a> {
    id: u64,
    state: JobState,
    version: &'a Option<String>,
    verdict: &'a Option<Verdict>,
    error: &'a Option<String>,
}

/// Notes that a record holds; more are left out.
const MAX_NOTES: usize = 100;

impl JobRecord {
    pub(crate) fn new(number: u64, model: &str, asked: Asked) -> JobRecord {
        let Asked { request, trigger, manual } = asked;
        JobRecord {
            number,
            model: model.to_owned(),
            state: JobState::Queued,
            trigger,
            manual,
            request,
            created: now(),
            started: None,
            finished: None,
            attempts: 0,
            failures: Failures::default(),
            start: None,
            run: None,
            finish: false,
            progress: Progress { phase: "waiting".to_owned(), ..Progress::default() },
            epochs: Vec::new(),
            mistakes: None,
            notes: Vec::new(),
            version: None,
            verdict: None,
            error: None,
        }
    }

    /// The record for a list.
    pub(crate) fn without_epochs(&self) -> JobRecord {
        JobRecord { epochs: Vec::new(), ..self.clone() }
    }

    /// The record as it is written down: epochs have a table of their own.
    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(&self.without_epochs()).expect("plain values with text keys")
    }

    pub(crate) fn brief(&self) -> Brief<'_> {
        let JobRecord { number, state, version, verdict, error, .. } = self;
        Brief { id: *number, state: *state, version, verdict, error }
    }

    /// Takes up what training says.
    pub(crate) fn observe(&mut self, event: &Event) {
        let progress = &mut self.progress;
        match event {
            Event::Loading { done, total } => {
                (progress.step, progress.steps) = (*done, *total);
                progress.phase = "loading".to_owned();
            }
            Event::RangeTest { step, steps, .. } => {
                (progress.step, progress.steps) = (*step, *steps);
                progress.phase = "finding a learning rate".to_owned();
            }
            Event::Model { run_dir, .. } => {
                self.run = Path::new(run_dir).file_name().map(|name| name.to_string_lossy().into_owned());
            }
            &Event::Step { epoch, epochs, step, steps, loss, images_per_second, eta_s } => {
                let done = f64::from(epoch - 1) + step as f64 / steps.max(1) as f64;
                *progress = Progress {
                    phase: "training".to_owned(),
                    fraction: (done / f64::from(epochs.max(1))).min(1.0) as f32,
                    epoch,
                    epochs,
                    step,
                    steps,
                    loss: Some(loss),
                    images_per_second: Some(images_per_second),
                    eta_s: Some(eta_s),
                };
            }
            Event::Epoch { epoch, epochs, .. } => {
                progress.epochs = *epochs;
                progress.fraction = (*epoch as f32 / (*epochs).max(1) as f32).min(1.0);
                if let Some(metrics) = EpochMetrics::of(event) {
                    // An epoch that is done again after a restart counts once.
                    self.epochs.retain(|known| known.epoch < metrics.epoch);
                    self.epochs.push(metrics);
                }
            }
            Event::Mistakes { epoch, pairs, images } => {
                let pair = |pair: &Confusion| {
                    let Confusion { label, predicted, images } = pair.clone();
                    Pair { label, predicted, images }
                };
                let image = |row: &PredictionRow| WrongImage {
                    image: image_id(&row.name),
                    label: row.label.clone(),
                    predicted: row.predicted.clone(),
                    probability: row.probability,
                };
                self.mistakes = Some(Mistakes {
                    epoch: *epoch,
                    pairs: pairs.iter().map(pair).collect(),
                    images: images.iter().map(image).collect(),
                });
            }
            Event::Note { text } | Event::Warning { text } => {
                if self.notes.len() < MAX_NOTES {
                    self.notes.push(text.clone());
                }
            }
            Event::Features { .. }
            | Event::Evaluating { .. }
            | Event::Calibrating { .. }
            | Event::StepLoss { .. }
            | Event::Communication { .. } => {}
            Event::Evaluated { .. } => {
                progress.phase = "evaluating".to_owned();
            }
            Event::ClassesAdded { .. }
            | Event::Dataset { .. }
            | Event::Interrupted { .. }
            | Event::Done { .. } => {}
        }
    }
}

impl EpochMetrics {
    pub(crate) fn of(event: &Event) -> Option<EpochMetrics> {
        let &Event::Epoch {
            epoch, train_loss, train_accuracy, val_loss, val_accuracy, seconds, best, ..
        } = event
        else {
            return None;
        };
        Some(EpochMetrics { epoch, train_loss, train_accuracy, val_loss, val_accuracy, seconds, best })
    }
}

/// Seconds since 1970-01-01 UTC.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
