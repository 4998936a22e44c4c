//! `folds.json`: what a cross-validation was started with, to go on after a kill.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::built_in::open_model;
use crate::data::Data;
use crate::error::PipelineError;
use crate::network_file::{NETWORK_FILE, is_network_file};
use crate::recipe::{Origins, Recipe};
use crate::run_folder::write_atomic;
use crate::train::recorded_path;
use crate::train_options::{StartModel, TrainOptions};

/// Name of the record; a folder that has it is a cross-validation.
pub(super) const FILE: &str = "folds.json";

/// The model that all folds start from, where they start from one.
const START: &str = "start.ocelli";

/// What a cross-validation was started with.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    schema: u32,
    pub(super) folds: u32,
    /// Whether a model is trained on all images in the end.
    pub(super) with_final: bool,
    /// The data; `None` for the images inside of the program.
    path: Option<String>,
    data_name: Option<String>,
    recipe: String,
    origins: Origins,
    /// Version of the model that all folds start from.
    start: Option<String>,
}

impl Record {
    /// Writes the record into a new folder, and the model beside it.
    pub(super) fn create(
        folder: &Path,
        options: &TrainOptions,
        (folds, with_final): (u32, bool),
    ) -> Result<Record, PipelineError> {
        let record = Record {
            schema: 1,
            folds,
            with_final,
            path: recorded_path(&options.data)?,
            data_name: options.data_name.clone(),
            recipe: options.recipe.to_toml(&options.origins),
            origins: options.origins.clone(),
            start: options.start.as_ref().map(|start| start.version.clone()),
        };
        if let Some(start) = &options.start {
            start.file.save(&folder.join(START))?;
        }
        if let Some(network) = &options.network {
            write_atomic(&folder.join(NETWORK_FILE), network.text().as_bytes())?;
        }
        let text = serde_json::to_string_pretty(&record).expect("plain values with text keys") + "\n";
        write_atomic(&folder.join(FILE), text.as_bytes())?;
        Ok(record)
    }

    /// Reads the record of a folder.
    pub(super) fn open(folder: &Path) -> Result<Record, PipelineError> {
        let path = folder.join(FILE);
        let text = std::fs::read_to_string(&path).map_err(PipelineError::io(&path))?;
        serde_json::from_str(&text).map_err(|error| PipelineError::run(&path, format!("damaged ({error})")))
    }

    /// The options that it was started with, with runs going into its folder.
    pub(super) fn options(&self, folder: &Path) -> Result<TrainOptions, PipelineError> {
        let data = self.path.as_ref().map_or(Data::Bundled, |path| Data::Path(path.into()));
        let start = match &self.start {
            None => None,
            Some(version) => Some(StartModel::new(version, open_model(&folder.join(START))?)),
        };
        let mut options = TrainOptions {
            recipe: Recipe::from_toml(&self.recipe)?,
            data_name: self.data_name.clone(),
            start,
            ..TrainOptions::new(data, folder)
        };
        if is_network_file(&options.recipe.model) {
            options = options.with_network(&folder.join(NETWORK_FILE))?;
        }
        options.origins.clone_from(&self.origins);
        Ok(options)
    }
}
