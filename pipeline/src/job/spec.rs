//! A training job as a value: what its process is told, and what comes of it.

use std::path::{Path, PathBuf};

use ocelli_engine::model_file::{ModelFile, version_id};
use serde::{Deserialize, Serialize};

use crate::built_in::open_model;
use crate::data::Data;
use crate::error::PipelineError;
use crate::gate::{Gate, Question, Rules, Verdict};
use crate::metrics::Evaluation;
use crate::recipe::{Origins, Recipe, Task};
use crate::train_options::{StartModel, TrainOptions, Within};

/// What to train and on what.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobSpec {
    /// The images: a table of labels, or whatever else [`Data::Path`] takes.
    pub data: PathBuf,
    /// The recipe; what it leaves open is chosen from the data.
    pub recipe: Recipe,
    /// Where each setting came from.
    pub origins: Origins,
    /// Folder in which the run's folder is made. The folder that it is in may be moved: data in there is found again.
    pub runs_dir: PathBuf,
    /// Folder in `runs_dir` of an earlier attempt, to go on with.
    pub run: Option<String>,
    /// Whether that run trains no further, and the best of its epochs is taken.
    pub finish: bool,
    /// Name of the run; the data set's where there is none.
    pub name: Option<String>,
    /// What to call the data; its file's or folder's name where there is none.
    pub data_name: Option<String>,
    /// The model whose weights training starts from; fresh ones where there is none.
    pub start: Option<ModelRef>,
    /// The model that the new one is compared with.
    pub serving: Option<ModelRef>,
    /// The rule of the comparison.
    pub gate: Gate,
    /// What must hold before the new model is promoted by itself.
    pub rules: Rules,
    /// The images that both models are asked about.
    pub questions: Vec<Question>,
    /// Most bytes of memory.
    pub memory: Option<u64>,
}

/// A model file and the version that it must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelRef {
    /// The version.
    pub version: String,
    /// The file.
    pub path: PathBuf,
}

/// A job and what its process must know besides.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobOrder {
    /// The process that waits for the messages: without it there is nobody to work for.
    pub parent: u32,
    /// Added to the process's niceness.
    pub nice: u8,
    /// The job; its `memory` bounds the process.
    pub spec: JobSpec,
}

/// A job that is done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Trained {
    /// The run's folder in `runs_dir`.
    pub run: String,
    /// The best weights, from `runs_dir` on.
    pub model: PathBuf,
    /// How well they do on held-out images.
    pub evaluation: Evaluation,
    /// What the gate says; `None` without a model to compare with.
    pub verdict: Option<Verdict>,
}

impl ModelRef {
    /// The model without the state of its training.
    pub(super) fn open(&self) -> Result<ModelFile, PipelineError> {
        let file = ModelFile { training: None, ..open_model(&self.path)? };
        let version = version_id(&file.content_hash()?);
        if version != self.version {
            let reason = format!("is version {version}, and {} was asked for", self.version);
            return Err(PipelineError::run(&self.path, reason));
        }
        Ok(file)
    }
}

impl JobSpec {
    /// The settings of a new run.
    pub(super) fn options(&self) -> Result<TrainOptions, PipelineError> {
        let start = match &self.start {
            Some(start) => Some(StartModel::new(&start.version, start.open()?)),
            None => None,
        };
        Ok(TrainOptions {
            data: Data::Path(self.data.clone()),
            // A table of a service has a class a row, whatever characters are in its name.
            recipe: Recipe { task: Some(Task::SingleLabel), ..self.recipe.clone() },
            origins: self.origins.clone(),
            runs_dir: self.runs_dir.clone(),
            name: self.name.clone(),
            data_name: self.data_name.clone(),
            start,
            network: None,
            within: self.within(),
        })
    }

    pub(super) fn within(&self) -> Within {
        Within {
            memory: self.memory,
            cache_memory: None,
            folder: self.runs_dir.parent().map(Path::to_owned),
            // A service trains on all of its images again, and what was deleted there must leave nothing behind.
            no_replay: true,
            ..Within::default()
        }
    }
}
