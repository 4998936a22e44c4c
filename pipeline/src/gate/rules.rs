//! What the gate is asked, by which rules, and what it answers.

use std::path::PathBuf;

use ocelli_engine::model_file::ModelFile;
use serde::{Deserialize, Serialize};

use crate::error::PipelineError;
use crate::metrics::Evaluation;

/// When a candidate is promoted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GateMode {
    /// When it is no worse than the serving model, on all images and in every class.
    #[default]
    NoWorse,
    /// However it does, as long as it has `min_accuracy`.
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

/// A held-out image that both models are asked about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// The image file.
    pub path: PathBuf,
    /// The name of its class.
    pub class: String,
    /// Why it is asked about.
    pub set: QuestionSet,
}

/// Why an image is asked about. One that is asked about for both reasons is given twice and counts once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QuestionSet {
    /// It was held out from the candidate's data set.
    HeldOut,
    /// The serving version was judged on it.
    Reference,
}

/// What must hold before a candidate is promoted by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rules {
    /// Images of every class of the candidate, at least: fewer cannot show that a class is lost.
    pub min_per_class: usize,
    /// Images in all, at least.
    pub min_images: usize,
    /// Why nobody but a person may promote this candidate; `None` leaves it to the gate.
    pub manual: Option<String>,
}

impl Default for Rules {
    fn default() -> Self {
        Rules { min_per_class: 5, min_images: 30, manual: None }
    }
}

/// What the gate found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Verdict {
    /// Whether the candidate may serve.
    pub promote: bool,
    /// Why, in one sentence; the first of `reasons` where it may not.
    pub reason: String,
    /// The images that both were asked about: `held out`, that is test and val together. Verdicts of earlier programs
    /// name one split.
    pub split: String,
    /// How many different images, with those of the reference set.
    pub images: usize,
    /// Accuracy of the candidate on them; where there are none, that of its own evaluation, or 0 where it was trained on
    /// those images.
    pub candidate_accuracy: f32,
    /// Accuracy of the serving model on them; `None` when it was not asked.
    pub serving_accuracy: Option<f32>,
    /// The version that served.
    pub serving: Option<String>,
    /// All that speaks against promoting it without a person, one sentence each.
    #[serde(default)]
    pub reasons: Vec<String>,
    /// The rule in one sentence.
    #[serde(default)]
    pub rule: String,
    /// What the accuracy was compared on: all images of classes that the serving model knows, then those of its
    /// reference set alone.
    #[serde(default)]
    pub compared: Vec<Compared>,
    /// One row a class: those of the candidate in its order, then those that it does not know.
    #[serde(default)]
    pub classes: Vec<ClassVerdict>,
    /// How many of the images the serving version was judged on.
    #[serde(default)]
    pub reference_images: usize,
    /// Images that could not be read and are left out.
    #[serde(default)]
    pub unreadable: usize,
}

/// Two accuracies on the same images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Compared {
    /// `all` or `reference`.
    pub set: String,
    /// Images of classes that the serving model knows.
    pub images: usize,
    /// Accuracy of the candidate on them.
    pub candidate_accuracy: f32,
    /// Accuracy of the serving model on them.
    pub serving_accuracy: f32,
}

/// What both models made of one class, on all images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ClassVerdict {
    /// The class.
    pub name: String,
    /// Its images.
    pub images: usize,
    /// Part of them that the candidate gets right; `None` where there are none or it does not know the class.
    pub candidate_recall: Option<f32>,
    /// Part of them that the serving model gets right; `None` where there are none or it does not know the class.
    pub serving_recall: Option<f32>,
    /// Images that the serving model gets right and the candidate wrong.
    pub lost: usize,
    /// Images that the candidate gets right and the serving model wrong.
    pub won: usize,
    /// The chance to lose as many if neither were better, before Holm's correction; `None` where the serving model was
    /// not asked.
    pub p_value: Option<f64>,
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
}
