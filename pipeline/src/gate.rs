//! Whether a new model may replace the one that serves.
//!
//! Both are asked about the same images, which neither was trained on: the held-out split of the new model's data set.
//! Splits follow from the content of each image and from the seed, so nearly every image that was held out from an older
//! run with the same seed is held out from this one. An image of a class that the serving model does not know counts as one that
//! it gets wrong, because to its users it is.

use std::sync::atomic::AtomicBool;

use ocelli_engine::model_file::ModelFile;
use serde::{Deserialize, Serialize};

use crate::compute::Compute;
use crate::data::Data;
use crate::error::PipelineError;
use crate::evaluate::held_out_accuracy;
use crate::metrics::Evaluation;

/// When a candidate is promoted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GateMode {
    /// When it is no worse than the serving model on the held-out images.
    #[default]
    NoWorse,
    /// However it does.
    Always,
    /// Not by itself: somebody looks first.
    Never,
}

/// The rule by which a candidate is promoted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Gate {
    /// The rule.
    pub mode: GateMode,
    /// How much lower the candidate's accuracy may be, in 0..=1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub max_drop: f32,
    /// The least accuracy of a candidate, in 0..=1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub min_accuracy: f32,
}

/// What the gate found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Verdict {
    /// Whether the candidate may serve.
    pub promote: bool,
    /// Why, in one sentence.
    pub reason: String,
    /// The images that both were asked about: `test`, `val`, or `train` where nothing was held out.
    pub split: String,
    /// How many.
    pub images: usize,
    /// Accuracy of the candidate on them.
    pub candidate_accuracy: f32,
    /// Accuracy of the serving model on them; `None` when it was not asked.
    pub serving_accuracy: Option<f32>,
    /// The version that served.
    pub serving: Option<String>,
}

/// A model that might be promoted.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// The model.
    pub file: &'a ModelFile,
    /// Its evaluation at the end of its run.
    pub evaluation: &'a Evaluation,
}

impl Gate {
    /// Checks that the fractions are fractions.
    ///
    /// # Errors
    /// [`PipelineError::Recipe`].
    pub fn validate(&self) -> Result<(), PipelineError> {
        for (field, value) in [("max_drop", self.max_drop), ("min_accuracy", self.min_accuracy)] {
            if !(0.0..=1.0).contains(&value) {
                return Err(PipelineError::recipe(field, format!("{value} is not in 0..=1")));
            }
        }
        Ok(())
    }

    /// Compares a candidate with the serving model (its version and file).
    ///
    /// # Errors
    /// Those of reading the data; [`PipelineError::Stopped`].
    pub fn judge(
        &self,
        candidate: &Candidate<'_>,
        serving: Option<(&str, &ModelFile)>,
        data: &Data,
        compute: Compute,
        stop: &AtomicBool,
    ) -> Result<Verdict, PipelineError> {
        let Candidate { file: candidate, evaluation } = *candidate;
        let own = evaluation.accuracy;
        let other = match serving {
            Some((_, file)) if self.mode == GateMode::NoWorse => {
                held_out_accuracy(file, candidate, &evaluation.split, data, compute, stop)?
            }
            _ => None,
        };
        let percent = |accuracy: f32| format!("{:.2} %", accuracy * 100.0);
        let on = format!("{} images of the {} split", evaluation.images, evaluation.split);
        let (promote, reason) = match (self.mode, other) {
            (GateMode::Never, _) => (false, "the gate leaves it to somebody to promote it".to_owned()),
            _ if own < self.min_accuracy => {
                (false, format!("{} on {on}; {} are asked for", percent(own), percent(self.min_accuracy)))
            }
            (GateMode::Always, _) => (true, "the gate lets every candidate pass".to_owned()),
            (GateMode::NoWorse, None) => (true, "there is nothing to compare it with".to_owned()),
            (GateMode::NoWorse, Some(other)) => {
                let promote = own >= other - self.max_drop;
                let word = if promote { "no worse" } else { "worse" };
                (promote, format!("{word}: {} against {} on {on}", percent(own), percent(other)))
            }
        };
        Ok(Verdict {
            promote,
            reason,
            split: evaluation.split.clone(),
            images: evaluation.images,
            candidate_accuracy: own,
            serving_accuracy: other,
            serving: serving.map(|(version, _)| version.to_owned()),
        })
    }
}
