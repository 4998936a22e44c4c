//! The model that classes are added to.

use std::path::{Path, PathBuf};

use ocelli_engine::model_file::{ModelFile, version_id};

use crate::built_in::{BuiltIn, open_model};
use crate::error::PipelineError;
use crate::replay::Replay;
use crate::run_folder::hex;
use crate::train_options::StartModel;

/// A model that classes can be added to, with what it kept of its images.
#[derive(Clone, Debug)]
pub struct Parent {
    /// The run folder or model file that it was opened by.
    pub path: PathBuf,
    /// SHA-256 of its file, in hexadecimal.
    pub hash: String,
    /// Its version.
    pub version: String,
    /// The model.
    pub file: ModelFile,
    pub(crate) replay: Replay,
}

impl Parent {
    /// Opens a run folder, or a model file that has its folder `replay` beside it.
    ///
    /// # Errors
    /// Those of [`open_model`]; [`PipelineError::Replay`] for a model of which nothing was kept, or to which no class can
    /// be added.
    pub fn open(path: &Path) -> Result<Parent, PipelineError> {
        if BuiltIn::named(path).is_some() {
            let reason = "this model is in the program without the features of its images; train on the images of all classes";
            return Err(PipelineError::replay(path, reason));
        }
        let file = ModelFile { training: None, ..open_model(path)? };
        if file.meta.multi_label.is_some() {
            let reason = "it gives images several labels; classes can be added to models that give one";
            return Err(PipelineError::replay(path, reason));
        }
        if !StartModel::usable(&file) {
            let reason = "its last layer is not dense, so it cannot learn further classes";
            return Err(PipelineError::replay(path, reason));
        }
        let model = if path.is_dir() { path.join("weights").join("best.ocelli") } else { path.to_owned() };
        let Some(replay) = Replay::read(&model, &file)? else {
            let reason = format!(
                "{} is missing: this model kept no features of its images",
                model.with_file_name("replay").join("replay.json").display()
            );
            return Err(PipelineError::replay(path, reason));
        };
        if replay.train.labels.is_empty() {
            return Err(PipelineError::replay(path, "it kept no training images"));
        }
        let hash = file.content_hash()?;
        let version = version_id(&hash);
        Ok(Parent { path: path.to_owned(), hash: hex(&hash), version, file, replay })
    }
}
