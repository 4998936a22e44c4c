//! What a job tells while it works and at its end, one JSON object a line.

use std::error::Error;
use std::io;

use ocelli_common::text::chain;
use ocelli_engine::EngineError;
use serde::{Deserialize, Serialize};

use crate::error::PipelineError;
use crate::event::Event;
use crate::job::spec::Trained;

/// One line. After [`JobMessage::Done`], [`JobMessage::Failed`] or [`JobMessage::Interrupted`] there are no more.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "message", rename_all = "snake_case")]
pub enum JobMessage {
    /// Something that training tells.
    Event {
        /// What.
        event: Event,
    },
    /// A part of the work begins.
    Phase {
        /// Which.
        phase: JobPhase,
    },
    /// The job is done and all of it on the disk.
    Done {
        /// What it made.
        trained: Box<Trained>,
    },
    /// The job cannot be done.
    Failed {
        /// What kind of reason there is.
        kind: FailureKind,
        /// The reason, in our own words; names places on the disk.
        error: String,
    },
    /// The job was told to end; what it has done so far is on the disk.
    Interrupted,
}

/// A part of the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobPhase {
    /// Images are read, the network is trained and evaluated.
    Training,
    /// The new model is compared with the one that serves.
    Comparing,
}

/// What kind of reason ended a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// A setting of the recipe.
    Settings,
    /// The images.
    Data,
    /// More memory than it may take.
    Memory,
    /// The loss is not a number any more.
    Diverged,
    /// A file cannot be read or written.
    Disk,
    /// Anything else.
    Other,
}

impl JobMessage {
    /// The message as one line of JSON, without its line break.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("messages hold plain values only")
    }

    /// The last message of a job.
    pub fn ended(result: Result<Trained, PipelineError>) -> JobMessage {
        match result {
            Ok(trained) => JobMessage::Done { trained: Box::new(trained) },
            Err(PipelineError::Stopped) => JobMessage::Interrupted,
            Err(error) => JobMessage::Failed { kind: FailureKind::of(&error), error: chain(&error) },
        }
    }
}

impl FailureKind {
    /// The kind of an error.
    pub fn of(error: &PipelineError) -> FailureKind {
        use ocelli_datasets::DatasetError;
        let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
        if source.is_some_and(|source| source.kind() == io::ErrorKind::OutOfMemory) {
            return FailureKind::Memory;
        }
        match error {
            PipelineError::Recipe { .. }
            | PipelineError::RecipeFile { .. }
            | PipelineError::Network { .. }
            | PipelineError::UnknownName { .. } => FailureKind::Settings,
            PipelineError::Memory { .. } | PipelineError::Dataset(DatasetError::Memory { .. }) => {
                FailureKind::Memory
            }
            PipelineError::Io { .. }
            | PipelineError::Dataset(DatasetError::Io { .. })
            | PipelineError::Engine(EngineError::Io { .. }) => FailureKind::Disk,
            PipelineError::Dataset(_)
            | PipelineError::Decode(_)
            | PipelineError::NoTrainingImages { .. }
            | PipelineError::TooFewTrained { .. }
            | PipelineError::MultiLabel { .. }
            | PipelineError::TooManyClasses { .. }
            | PipelineError::NoCommonClass { .. }
            | PipelineError::EmptySplit { .. } => FailureKind::Data,
            PipelineError::Diverged { .. } => FailureKind::Diverged,
            PipelineError::Engine(_)
            | PipelineError::Probe { .. }
            | PipelineError::Run { .. }
            | PipelineError::Replay { .. }
            | PipelineError::Finished { .. }
            | PipelineError::NoMirror { .. }
            | PipelineError::NoMap { .. }
            | PipelineError::Exchange(_)
            | PipelineError::ImportNeeds { .. }
            | PipelineError::LabelList { .. }
            | PipelineError::ExportDiffers { .. }
            | PipelineError::Rank { .. }
            | PipelineError::NoShippedModel
            | PipelineError::Stopped => FailureKind::Other,
        }
    }
}
