//! The recipe of a model that learns further classes: that of the model, but for what decides the new images and the fit.

use crate::error::PipelineError;
use crate::recipe::{Origins, Recipe, is_open};
use crate::train_options::{StartClasses, StartModel, TrainOptions};

use super::parent::Parent;

/// Settings that somebody may choose where classes are added; the others decided how the model was trained, and stay.
pub const ADDING_SETTINGS: [&str; 9] = [
    "head_epochs",
    "label_smoothing",
    "val_split",
    "test_split",
    "seed",
    "threads",
    "exact",
    "false_rejects",
    "max_bad",
];

/// The options of the run.
///
/// # Errors
/// [`PipelineError::Recipe`] for a recipe that adds classes to another model, or that chooses what stays.
pub(crate) fn options(options: &TrainOptions, parent: &Parent) -> Result<TrainOptions, PipelineError> {
    let (given, origins) = (&options.recipe, &options.origins);
    if let Some(wanted) = given.add_classes.as_ref().filter(|wanted| **wanted != parent.hash) {
        let reason = format!("the recipe adds classes to model {wanted}, and this one is {}", parent.hash);
        return Err(PipelineError::recipe("add_classes", reason));
    }
    let chosen = |name: &str| !is_open(origins, name);
    let all = Recipe::from_toml(parent.file.meta.trained().map_or("", |trained| &trained.recipe))?;
    let mut recipe = Recipe { fold: None, start: None, time_budget: 0, ..all };
    macro_rules! choose {
        ($($field:ident),+) => {
            $(if chosen(stringify!($field)) { recipe.$field = given.$field.clone(); })+
        };
    }
    choose!(head_epochs, label_smoothing, val_split, test_split, seed, threads, exact, false_rejects);
    choose!(max_bad);
    recipe.add_classes = Some(parent.hash.clone());
    let mut own = Origins::new();
    for name in Recipe::fields() {
        let origin = match origins.get(name) {
            Some(origin) if chosen(name) && ADDING_SETTINGS.contains(&name) => origin.clone(),
            _ => format!("of version {}, which learns further classes", parent.version),
        };
        own.insert(name.to_owned(), origin);
    }
    let start = StartModel {
        version: parent.version.clone(),
        file: parent.file.clone(),
        classes: StartClasses::Keep,
    };
    Ok(TrainOptions { recipe, origins: own, start: Some(start), network: None, ..options.clone() })
}
