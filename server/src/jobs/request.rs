//! What a client may ask of a training job.

use ocelli_pipeline::store::{MAX_NAME, Name};
use ocelli_pipeline::{AugmentLevel, Gate, Origins, PipelineError, Recipe};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::http::problem::Problem;

/// How much time training may take for how much accuracy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Quality {
    /// A first look: three epochs.
    Quick,
    /// The defaults of a training run.
    #[default]
    Standard,
    /// More epochs, stronger variation of the images, softened targets.
    Best,
}

/// Whose weights training starts from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StartFrom {
    /// The serving model's where the data set has images of all of its classes, else fresh ones: a class without images
    /// would be forgotten.
    #[default]
    Auto,
    /// The serving model's, whose head grows by the classes it does not know.
    Current,
    /// New ones: for photos those in the program that were learnt on ImageNet, else random ones.
    Fresh,
}

/// Body of `POST /retrain`; all of it may be left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RetrainRequest {
    /// The data set.
    #[schemars(regex(pattern = r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$"))]
    pub(crate) dataset: String,
    pub(crate) quality: Quality,
    pub(crate) from: StartFrom,
    /// Epochs, over what the quality says.
    #[schemars(range(min = 1, max = 100_000))]
    pub(crate) epochs: Option<u32>,
    /// Seconds that the training may take.
    pub(crate) time_budget_s: Option<u32>,
    /// Settings of the recipe, over all others; the names of `recipe.toml`.
    pub(crate) recipe: Map<String, Value>,
    pub(crate) gate: Gate,
}

impl Default for RetrainRequest {
    fn default() -> Self {
        RetrainRequest {
            dataset: "default".to_owned(),
            quality: Quality::default(),
            from: StartFrom::default(),
            epochs: None,
            time_budget_s: None,
            recipe: Map::new(),
            gate: Gate::default(),
        }
    }
}

impl RetrainRequest {
    /// The name of the data set.
    pub(crate) fn dataset(&self) -> Result<Name, Problem> {
        let reason =
            || format!("\"dataset\" is 1 to {MAX_NAME} of A-Z a-z 0-9 . _ - and does not begin with a dot");
        self.dataset.parse().map_err(|()| Problem::BadName(reason()))
    }

    /// The recipe of the job, checked, with where each setting came from.
    pub(crate) fn recipe(&self, threads: usize) -> Result<(Recipe, Origins), Problem> {
        let mut recipe = Recipe { threads: threads as u32, ..Recipe::default() };
        let mut chosen = vec!["threads"];
        match self.quality {
            Quality::Quick => {
                recipe.epochs = 3;
                chosen.push("epochs");
            }
            Quality::Standard => {}
            Quality::Best => {
                recipe.epochs = 40;
                recipe.augment = AugmentLevel::Medium;
                recipe.label_smoothing = 0.1;
                chosen.extend(["epochs", "augment", "label_smoothing"]);
            }
        }
        if let Some(epochs) = self.epochs {
            recipe.epochs = epochs;
            chosen.push("epochs");
        }
        if let Some(seconds) = self.time_budget_s {
            recipe.time_budget = seconds;
            chosen.push("time_budget");
        }
        let mut values = match serde_json::to_value(&recipe) {
            Ok(Value::Object(values)) => values,
            _ => unreachable!("a recipe is a struct"),
        };
        // Every image has had its split since it came. Where none is for validation, a run draws some out of those to train
        // on, for itself: the gate never asks about them.
        for name in ["val_split", "test_split"] {
            if self.recipe.contains_key(name) {
                let reason = "images keep the split that they got when they came";
                return Err(Problem::Refused(format!("recipe: {name} cannot be set here: {reason}")));
            }
        }
        values.extend(self.recipe.clone());
        let unsound = |reason: String| Problem::Refused(format!("recipe: {reason}"));
        let recipe: Recipe =
            serde_json::from_value(Value::Object(values)).map_err(|error| unsound(error.to_string()))?;
        let checked = recipe.validate().and_then(|()| self.gate.validate());
        checked.map_err(|error: PipelineError| unsound(error.to_string()))?;
        let mut origins: Origins =
            chosen.into_iter().map(|name| (name.to_owned(), "the service".to_owned())).collect();
        origins.extend(self.recipe.keys().map(|name| (name.clone(), "the request".to_owned())));
        Ok((recipe, origins))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<(Recipe, Origins), Problem> {
        serde_json::from_str::<RetrainRequest>(text).expect("a request").recipe(2)
    }

    #[test]
    fn the_request_overrides_the_quality_and_that_the_defaults() {
        let (recipe, _) = parse("{}").unwrap();
        assert_eq!(recipe, Recipe { threads: 2, ..Recipe::default() });
        let (recipe, origins) = parse(
            r#"{"quality":"best","time_budget_s":60,"recipe":{"epochs":7,"threads":1,"model":"resnet9"}}"#,
        )
        .unwrap();
        assert_eq!((recipe.epochs, recipe.threads, recipe.time_budget), (7, 1, 60));
        assert_eq!((recipe.model.as_str(), recipe.augment), ("resnet9", AugmentLevel::Medium));
        assert_eq!((origins["epochs"].as_str(), origins["augment"].as_str()), ("the request", "the service"));
    }

    #[test]
    fn invalid_settings_are_refused_by_name() {
        for (text, part) in [
            (r#"{"recipe":{"epoch":7}}"#, "epoch"),
            (r#"{"recipe":{"epochs":"many"}}"#, "invalid type"),
            (r#"{"epochs":0}"#, "epochs"),
            (r#"{"gate":{"max_drop":2}}"#, "max_drop"),
            (r#"{"recipe":{"lr":-1}}"#, "lr"),
            (r#"{"recipe":{"val_split":0.3}}"#, "val_split"),
        ] {
            let Err(Problem::Refused(reason)) = parse(text) else { panic!("{text} passes") };
            assert!(reason.contains(part), "{text}: {reason}");
        }
        for name in ["", "..", "a/b"] {
            let request = RetrainRequest { dataset: name.to_owned(), ..RetrainRequest::default() };
            assert!(matches!(request.dataset(), Err(Problem::BadName(_))), "{name}");
        }
    }
}
