//! The models inside of the program, and how a model is named: by a file, a run folder, or a name that it has in here.

use std::path::Path;

use ocelli_engine::model_file::ModelFile;

use crate::error::PipelineError;
use crate::packed::{is_packed, packed_model};

/// A model inside of the program.
#[derive(Debug)]
pub struct BuiltIn {
    /// What it is asked for by.
    pub name: &'static str,
    /// What it knows, for people.
    pub about: &'static str,
    file: &'static [u8],
}

/// All of them; `weights/README.md` says where they come from.
pub static BUILT_IN: [BuiltIn; 2] = [
    BuiltIn {
        name: "imagenet",
        about: "photos of 1,000 kinds of things",
        file: include_bytes!("../../weights/imagenet-efficientnet-lite0.ocelli"),
    },
    BuiltIn {
        name: "fashion-mnist",
        about: "28x28 gray images of 10 kinds of clothes",
        file: include_bytes!("../../weights/fashion-mnist-keras-cnn.ocelli"),
    },
];

impl BuiltIn {
    /// The model that a path names where nothing is there: a file or folder of the name goes first.
    pub fn named(path: &Path) -> Option<&'static BuiltIn> {
        BUILT_IN.iter().find(|model| Path::new(model.name) == path).filter(|_| !path.exists())
    }

    /// Reads it.
    ///
    /// # Errors
    /// [`PipelineError::NoShippedModel`] in a build without it.
    pub fn load(&self) -> Result<ModelFile, PipelineError> {
        if self.file.is_empty() {
            return Err(PipelineError::NoShippedModel);
        }
        Ok(ModelFile::from_bytes(self.file)?)
    }
}

/// The model that predicts where none is named: the one that is packed into the program, else the one that ships with it.
///
/// # Errors
/// Those of [`packed_model`]; [`PipelineError::NoShippedModel`] in a build without one.
pub fn default_model() -> Result<ModelFile, PipelineError> {
    packed_model()?.map_or_else(shipped_model, Ok)
}

/// The model of clothes that ships with the program, in every build the same.
///
/// # Errors
/// [`PipelineError::NoShippedModel`] in a build without one.
pub fn shipped_model() -> Result<ModelFile, PipelineError> {
    let [_, fashion] = &BUILT_IN;
    fashion.load()
}

/// The model that training on photos starts from.
///
/// # Errors
/// [`PipelineError::NoShippedModel`] in a build without it.
pub(crate) fn imagenet_model() -> Result<ModelFile, PipelineError> {
    let [imagenet, _] = &BUILT_IN;
    imagenet.load()
}

/// Reads a model file, `weights/best.ocelli` of a run folder, or the [built-in](BUILT_IN) or packed model of a name where no
/// file or folder has it.
///
/// # Errors
/// [`PipelineError::Engine`] for anything that is no model file of this version; [`PipelineError::Run`] for a folder
/// without a model; those of [`packed_model`].
pub fn open_model(path: &Path) -> Result<ModelFile, PipelineError> {
    if let Some(built_in) = BuiltIn::named(path) {
        return built_in.load();
    }
    if is_packed(path)
        && let Some(packed) = packed_model()?
    {
        return Ok(packed);
    }
    if !path.is_dir() {
        return Ok(ModelFile::load(path)?);
    }
    let best = path.join("weights").join("best.ocelli");
    if !best.is_file() {
        let reason =
            "no weights/best.ocelli in this folder; give a model file, or a run that finished an epoch";
        return Err(PipelineError::run(path, reason));
    }
    Ok(ModelFile::load(&best)?)
}
