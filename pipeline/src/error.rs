//! The one error type of the pipeline.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use ocelli_datasets::{DatasetError, DecodeError, Split};
use ocelli_engine::EngineError;
use ocelli_exchange::ExchangeError;

/// What can go wrong between a recipe and a trained, evaluated or asked model.
#[derive(Debug)]
pub enum PipelineError {
    /// A setting of a recipe is outside of its range.
    Recipe {
        /// The setting.
        field: &'static str,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A recipe file is not TOML or has unknown settings.
    RecipeFile {
        /// Line number from 1, where one line is to blame.
        line: Option<usize>,
        /// What is wrong.
        reason: String,
    },
    /// The file of a network cannot be understood, or its layers do not fit.
    Network {
        /// The file, as it was named.
        file: String,
        /// Line number from 1, where one line is to blame.
        line: Option<usize>,
        /// Number, name and operation of the layer, where one is to blame.
        layer: Option<String>,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The data set cannot be read.
    Dataset(DatasetError),
    /// The engine refuses a network, a batch or a model file.
    Engine(EngineError),
    /// One image cannot be read.
    Decode(DecodeError),
    /// Reading or writing a file failed.
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Nothing is left to train on.
    NoTrainingImages {
        /// The data set.
        data: String,
    },
    /// Only one class, or none, has images to train on.
    TooFewTrained {
        /// The data set.
        data: String,
        /// The class that has.
        class: Option<String>,
        /// What became of the others.
        reason: String,
    },
    /// Images with any number of labels where each must have one class.
    MultiLabel {
        /// What was asked for, what to do instead.
        reason: String,
    },
    /// More classes than a run can report on.
    TooManyClasses {
        /// Classes found.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// No class of the data is a class of the model.
    NoCommonClass {
        /// The first few classes of the data.
        data: String,
        /// The first few classes of the model.
        model: String,
    },
    /// The split that was asked for holds no image.
    EmptySplit {
        /// The split.
        split: Split,
        /// The data set.
        data: String,
    },
    /// The loss is no longer a number.
    Diverged {
        /// The epoch, from 1.
        epoch: u32,
        /// The learning rate of the step.
        lr: f32,
        /// The run folder, which keeps the last good weights.
        run_dir: PathBuf,
    },
    /// Training would take more memory than it may.
    Memory {
        /// Bytes that it needs.
        needed: u64,
        /// Bytes that it may take.
        limit: u64,
        /// The largest batch with which it would fit.
        batch: Option<u32>,
    },
    /// A folder is no run, or cannot be resumed.
    Run {
        /// The folder.
        path: PathBuf,
        /// Why, and what to do.
        reason: String,
    },
    /// What was kept of a model's images, to add classes to it, is damaged, of another model, or not there.
    Replay {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The run has done all its epochs.
    Finished {
        /// The run folder.
        path: PathBuf,
        /// Epochs that were run.
        epochs: u32,
    },
    /// A model file answers its own probe images otherwise than when it was written.
    Probe {
        /// Which of them, from 0.
        probe: usize,
        /// How many there are.
        of: usize,
        /// What was expected and what was found.
        what: String,
    },
    /// Answers cannot be averaged over mirror images.
    NoMirror {
        /// Why.
        reason: String,
    },
    /// There is no heat map of this network, or of this layer.
    NoMap {
        /// Why, and what to do.
        reason: String,
    },
    /// Something that a model does not have.
    UnknownName {
        /// What it is: a class, a layer.
        what: &'static str,
        /// What was asked for.
        name: String,
        /// The names that are most like it.
        near: Vec<String>,
    },
    /// Of several ranks one failed, or differs from the others.
    Rank {
        /// Its number and host.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The file of another program cannot be read as a model, or a model cannot be written as one.
    Exchange(ExchangeError),
    /// What neither the file of another program nor the settings of its import say.
    ImportNeeds {
        /// All of it.
        needs: Vec<Need>,
    },
    /// A list of class names cannot be read, or does not fit the network.
    LabelList {
        /// The file of the list, or of the network.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// An export, read back, answers otherwise than the model; it was not written.
    ExportDiffers {
        /// The format.
        format: &'static str,
        /// Largest difference of logits as a part of their range.
        difference: f32,
    },
    /// This build was made without a model.
    NoShippedModel,
    /// The caller raised the stop flag before there was anything to keep.
    Stopped,
}

/// What neither the file nor the person said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Class names.
    Labels {
        /// As many as there are.
        classes: usize,
    },
    /// How values of pixels become the network's.
    Normalization {
        /// Channels of the input.
        channels: u8,
    },
    /// What happens to images of another aspect ratio.
    Fit,
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Need::Labels { classes } => write!(f, "the names of its {classes} classes"),
            Need::Normalization { channels } => {
                let s = if *channels == 1 { "" } else { "s" };
                write!(f, "which values its {channels} input channel{s} take")
            }
            Need::Fit => write!(f, "what happens to images of another aspect ratio"),
        }
    }
}

impl PipelineError {
    pub(crate) fn recipe(field: &'static str, reason: impl Into<String>) -> Self {
        PipelineError::Recipe { field, reason: reason.into() }
    }

    pub(crate) fn run(path: &Path, reason: impl Into<String>) -> Self {
        PipelineError::Run { path: path.to_owned(), reason: reason.into() }
    }

    pub(crate) fn replay(path: &Path, reason: impl Into<String>) -> Self {
        PipelineError::Replay { path: path.to_owned(), reason: reason.into() }
    }

    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| PipelineError::Io { path, source }
    }

    /// Whether all ranks that train together end with the same error, of which rank 0 tells: none has to be told to end.
    pub fn is_common(&self) -> bool {
        matches!(self, PipelineError::Rank { .. } | PipelineError::Diverged { .. } | PipelineError::Stopped)
    }

    /// Whether the caller asked for something that cannot be, as opposed to something that failed.
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            PipelineError::Recipe { .. }
                | PipelineError::RecipeFile { .. }
                | PipelineError::Network { .. }
                | PipelineError::UnknownName { .. }
        )
    }
}

impl fmt::Display for PipelineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PipelineError::Recipe { field, reason } => write!(f, "{field}: {reason}"),
            PipelineError::RecipeFile { line: Some(line), reason } => {
                write!(f, "recipe line {line}: {reason}")
            }
            PipelineError::RecipeFile { line: None, reason } => write!(f, "recipe: {reason}"),
            PipelineError::Network { file, line, layer, reason } => {
                f.write_str(file)?;
                if let Some(line) = line {
                    write!(f, " line {line}")?;
                }
                if let Some(layer) = layer {
                    write!(f, ", layer {layer}")?;
                }
                write!(f, ": {reason}")
            }
            PipelineError::Dataset(error) => error.fmt(f),
            PipelineError::Engine(error) => error.fmt(f),
            PipelineError::Decode(error) => error.fmt(f),
            PipelineError::Io { path, .. } => write!(f, "{}", path.display()),
            PipelineError::NoTrainingImages { data } => {
                write!(f, "{data}: no images to train on; add some, or lower the val and test fractions")
            }
            PipelineError::TooFewTrained { data, class, reason } => {
                let class = class.as_deref().unwrap_or("none");
                write!(
                    f,
                    "{data}: only one class can be trained ({class}), but telling images apart needs two; {reason}"
                )
            }
            PipelineError::Exchange(error) => error.fmt(f),
            PipelineError::ImportNeeds { needs } => {
                write!(f, "the file does not say ")?;
                for (index, need) in needs.iter().enumerate() {
                    let between = match index {
                        0 => "",
                        _ if index + 1 == needs.len() => " and ",
                        _ => ", ",
                    };
                    write!(f, "{between}{need}")?;
                }
                Ok(())
            }
            PipelineError::LabelList { path, reason } => write!(f, "{}: {reason}", path.display()),
            PipelineError::ExportDiffers { format, difference } => write!(
                f,
                "read back from {format}, the model answers otherwise (logits differ by {difference:.1e} of their range): nothing was written"
            ),
            PipelineError::MultiLabel { reason } => write!(f, "images with several labels: {reason}"),
            PipelineError::TooManyClasses { found, limit } => write!(
                f,
                "{found} classes found, at most {limit} are possible; is the label column or folder level right?"
            ),
            PipelineError::NoCommonClass { data, model } => write!(
                f,
                "no class of the data ({data}) is a class of the model ({model}); classes are matched by name, so rename the folders or labels"
            ),
            PipelineError::EmptySplit { split, data } => {
                write!(f, "{data}: no images in the {split} split; choose another split")
            }
            PipelineError::Diverged { epoch, lr, run_dir } => write!(
                f,
                "the loss is not a number any more in epoch {epoch} at learning rate {lr}; try a lower one, e.g. {}; earlier weights are kept in {}",
                lr / 10.0,
                run_dir.display()
            ),
            PipelineError::Memory { needed, limit, batch } => {
                let mebibytes = |bytes: u64| bytes.div_ceil(1 << 20);
                let (needed, limit) = (mebibytes(*needed), mebibytes(*limit));
                write!(f, "training needs {needed} MiB of memory and may take {limit} MiB; ")?;
                match batch {
                    Some(batch) => write!(f, "a batch of {batch} would fit, as would smaller images"),
                    None => f.write_str("use smaller images, fewer of them, or a smaller network"),
                }
            }
            PipelineError::Run { path, reason } | PipelineError::Replay { path, reason } => {
                write!(f, "{}: {reason}", path.display())
            }
            PipelineError::Finished { path, epochs } => {
                write!(f, "{}: this run has finished after {epochs} epochs", path.display())
            }
            PipelineError::Probe { probe, of, what } => write!(
                f,
                "the model fails its own test on probe image {} of {of}: {what}; the file, the program or the machine is broken: copy the file again or use another version, and if that one fails too, try `OCELLI_ISA=portable` and another machine",
                probe + 1
            ),
            PipelineError::NoMirror { reason } => {
                write!(f, "the model's answers cannot be averaged over mirror images: {reason}")
            }
            PipelineError::NoMap { reason } => f.write_str(reason),
            PipelineError::UnknownName { what, name, near } => {
                write!(f, "the model has no {what} {name:?}; most like it: {}", near.join(", "))
            }
            PipelineError::Rank { name, reason } => write!(f, "{name}: {reason}"),
            PipelineError::NoShippedModel => f.write_str("this build carries no model"),
            PipelineError::Stopped => f.write_str("stopped before there was anything to keep"),
        }
    }
}

impl std::error::Error for PipelineError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            PipelineError::Io { source, .. } => Some(source),
            // These three print as their cause does, so the chain goes on below it.
            PipelineError::Dataset(error) => error.source(),
            PipelineError::Engine(error) => error.source(),
            PipelineError::Decode(error) => error.source(),
            _ => None,
        }
    }
}

impl From<DatasetError> for PipelineError {
    fn from(error: DatasetError) -> Self {
        match error {
            DatasetError::Stopped => PipelineError::Stopped,
            error => PipelineError::Dataset(error),
        }
    }
}

impl From<EngineError> for PipelineError {
    fn from(error: EngineError) -> Self {
        PipelineError::Engine(error)
    }
}

impl From<DecodeError> for PipelineError {
    fn from(error: DecodeError) -> Self {
        PipelineError::Decode(error)
    }
}
