//! Why a command ended early: what to print and which exit code.

use std::io;
use std::path::Path;

use ocelli_common::text::chain;
use ocelli_datasets::DatasetError;
use ocelli_engine::EngineError;
use ocelli_exchange::ExchangeError;
use ocelli_pipeline::PipelineError;
use ocelli_pipeline::store::StoreError;
use ocelli_server::ServerError;

/// Why a command ended early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Wrong usage: exit code 2.
    Usage(Message),
    /// Something did not work: exit code 1.
    Failed(Message),
    /// It worked, and the result is below what was asked for: exit code 3.
    Gate(Message),
    /// A signal ended it, after what was there had been saved: exit code 128 + signal.
    Interrupted {
        /// Number of the signal.
        signal: u8,
        /// What was kept and how to go on.
        message: Message,
    },
    /// The reader of standard output closed it: exit code 0, nothing is printed.
    Closed,
}

/// What is printed about a failure.
#[derive(Debug, Default)]
pub(crate) struct Message {
    /// What went wrong and where, in one line; empty where it was printed already.
    pub(crate) text: String,
    /// What to do next.
    pub(crate) hint: Option<String>,
}

impl Failure {
    pub(crate) fn usage(text: impl Into<String>, hint: impl Into<String>) -> Self {
        Failure::Usage(Message { text: text.into(), hint: Some(hint.into()) })
    }

    pub(crate) fn failed(text: impl Into<String>, hint: impl Into<String>) -> Self {
        Failure::Failed(Message { text: text.into(), hint: Some(hint.into()) })
    }

    /// A file or folder that the system does not let us read or write.
    pub(crate) fn io(path: &Path, error: &io::Error) -> Self {
        let hint = match error.kind() {
            io::ErrorKind::NotFound => "check the spelling of the path",
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                "choose a place that you may use, or change its permissions"
            }
            io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
                "a file is where a folder should be: choose another place"
            }
            io::ErrorKind::StorageFull => "free some space, or choose another disk",
            _ => "check the path",
        };
        Failure::failed(format!("{}: {error}", path.display()), hint)
    }

    /// Standard output cannot be written.
    pub(crate) fn stdout(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Failure::Closed;
        }
        Failure::failed(format!("standard output: {error}"), "check where the output goes")
    }

    pub(crate) fn message(&self) -> Option<&Message> {
        match self {
            Failure::Usage(message) | Failure::Failed(message) | Failure::Gate(message) => Some(message),
            Failure::Interrupted { message, .. } => Some(message),
            Failure::Closed => None,
        }
    }

    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Failure::Failed(_) => 1,
            Failure::Usage(_) => 2,
            Failure::Gate(_) => 3,
            Failure::Interrupted { signal, .. } => 128 + signal,
            Failure::Closed => 0,
        }
    }
}

impl From<PipelineError> for Failure {
    fn from(error: PipelineError) -> Self {
        let hint = match &error {
            PipelineError::Recipe { .. } | PipelineError::RecipeFile { .. } => {
                "`ocelli train --help` lists every setting with its default"
            }
            PipelineError::Network { .. } => {
                "`ocelli train --print-network resnet9` shows what the file of a network looks like"
            }
            PipelineError::Dataset(error) => dataset_hint(error),
            PipelineError::Engine(error) => engine_hint(error),
            PipelineError::Decode(_) => "JPEG, PNG, WebP, BMP, GIF and TIFF files are understood",
            PipelineError::Io { path, source } => return Failure::io(path, source),
            PipelineError::Probe { .. } => "`ocelli doctor` tests this machine with the model that ships",
            PipelineError::Rank { .. } => {
                "all processes need the same program, recipe and images; docs/scaling.md says more"
            }
            PipelineError::NoShippedModel => {
                "train one with `ocelli train`, or name one, e.g. --model runs/NAME-001"
            }
            PipelineError::NoMirror { .. } => {
                "leave `--tta` out; a model trained with `--hflip true` takes it"
            }
            PipelineError::NoMap { .. } => {
                "`--method occlusion` works with every network, `--layer` left out takes the last layer that does"
            }
            PipelineError::UnknownName { .. } => {
                "names are taken as the model has them; left out, the likeliest class and the last layer with more than one pixel are taken"
            }
            PipelineError::Exchange(error) => exchange_hint(error),
            PipelineError::ImportNeeds { .. } | PipelineError::LabelList { .. } => {
                "`ocelli import --help` has the options that say it"
            }
            PipelineError::ExportDiffers { .. } => {
                "this is a mistake of this program: please report it with the model"
            }
            PipelineError::EmptySplit { .. } => "another `--split` may hold images: train, val or test",
            PipelineError::NoCommonClass { .. } => {
                "a model names its classes when it is loaded: `ocelli predict --json`"
            }
            PipelineError::Diverged { .. } => {
                "`--lr` sets the learning rate, `--clip-norm 1` limits the gradient norm of each step"
            }
            PipelineError::Memory { .. } => "`--batch 16` or `--size 64` take less",
            PipelineError::Run { .. } => {
                "run folders are made by `ocelli train`, in `runs` unless -o names another place"
            }
            PipelineError::Replay { .. } => {
                "a run keeps what is needed in the folder `replay` beside its model file; train the model again, or train on the images of all classes"
            }
            PipelineError::Finished { epochs, .. } => {
                let more = epochs.saturating_mul(2);
                let hint = format!(
                    "`--epochs {more}` extends it; `ocelli evaluate RUN_FOLDER DATA` evaluates what is there"
                );
                return Failure::Failed(Message { text: chain(&error), hint: Some(hint) });
            }
            _ => "`ocelli train --help` describes data and settings",
        };
        let message = Message { text: chain(&error), hint: Some(hint.to_owned()) };
        if error.is_usage() { Failure::Usage(message) } else { Failure::Failed(message) }
    }
}

fn dataset_hint(error: &DatasetError) -> &'static str {
    match error {
        DatasetError::TooManyBad { .. } => "remove or convert those files, or accept more with --max-bad 0.5",
        DatasetError::Memory { .. } => "`--size 64` makes every image 64x64 pixels",
        DatasetError::CacheWrite { .. } => {
            "free some space (`ocelli clean` removes such files of earlier runs), name another disk with -o, allow more memory with --cache-memory, or take smaller images with --size"
        }
        DatasetError::CacheDamaged { .. } => {
            "`ocelli train --resume RUN_FOLDER` goes on after the last epoch"
        }
        DatasetError::Io { .. } => "check the permissions of the path",
        DatasetError::BadFractions { .. } | DatasetError::UnknownName { .. } => {
            "`ocelli train --help` lists every setting with its default"
        }
        _ => "`ocelli train --help` shows every layout of data that is understood",
    }
}

fn exchange_hint(error: &ExchangeError) -> &'static str {
    match error {
        ExchangeError::UnknownFormat(_) => {
            "Keras (.h5, .keras), ONNX, safetensors and PyTorch state dicts (.pth) are read"
        }
        ExchangeError::Damaged { .. } => "save the model again, or export it to ONNX",
        ExchangeError::Unsupported { .. } => {
            "docs/exchange.md lists what is supported; leave these parts out, or report which network needs them"
        }
        ExchangeError::Missing { option: "size", .. } => "--size N, or WxH, says it",
        ExchangeError::Missing { option: "network", .. } => {
            "--network NAME says it; `ocelli train --help` lists the networks"
        }
        ExchangeError::Missing { .. } => "`ocelli import --help` has the options",
        ExchangeError::Export { .. } => "`ocelli export --help` lists the formats",
        ExchangeError::Engine(error) => engine_hint(error),
    }
}

/// What may stand for a model.
const NAMED_MODELS: &str =
    "a model is a .ocelli file, a run folder, or a name: `imagenet` and `fashion-mnist` are in the program";

/// Whether a file's name is that of another program's model.
fn is_foreign(path: &Path) -> bool {
    const ENDINGS: [&str; 9] = ["h5", "hdf5", "keras", "onnx", "pth", "pt", "bin", "ckpt", "safetensors"];
    let extension = path.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase());
    extension.is_some_and(|extension| ENDINGS.contains(&extension.as_str()))
}

fn engine_hint(error: &EngineError) -> &'static str {
    match error {
        EngineError::ModelFile { path: Some(path), .. } if is_foreign(path) => {
            "`ocelli import FILE` makes a model of it: Keras, ONNX, safetensors and PyTorch state dicts are read"
        }
        EngineError::ModelFile { .. } => {
            "a model is a .ocelli file, a run folder or a built-in name; `ocelli train DATA` makes one"
        }
        EngineError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => NAMED_MODELS,
        EngineError::Io { .. } => "check the path and its permissions",
        EngineError::Isa(_) => "unset OCELLI_ISA to take the best one",
        EngineError::Config(_) => "`ocelli doctor` shows what this machine has",
        _ => "another --size or --model may fit",
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        PipelineError::from(error).into()
    }
}

impl From<ServerError> for Failure {
    fn from(error: ServerError) -> Self {
        match error {
            ServerError::Model(error) => error.into(),
            ServerError::Store(error) => error.into(),
            ServerError::Setting { .. }
            | ServerError::BodyMemory { .. }
            | ServerError::JobMemory { .. }
            | ServerError::Key { .. }
            | ServerError::NamedKey { .. } => {
                Failure::usage(chain(&error), "SECURITY.md lists the settings with their ranges")
            }
            error => Failure::failed(chain(&error), "`ocelli serve --help` lists the settings"),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let hint = match error {
            StoreError::Io { path, source } => return Failure::io(&path, &source),
            StoreError::Pipeline(error) => return error.into(),
            StoreError::Name { .. } => return Failure::usage(error.to_string(), "e.g. --name photos"),
            StoreError::Damaged { .. } => "restore the file from a copy",
            StoreError::Database { ref path, .. } => {
                let folder = path.parent().unwrap_or(Path::new(".")).display();
                let hint = format!(
                    "`ocelli store check {folder} --repair` restores it from what can be read of it, or from its newest copy"
                );
                return Failure::failed(chain(&error), hint);
            }
            StoreError::Conflict { .. } => "choose another place",
            _ => "`--data-dir` names another folder",
        };
        Failure::failed(chain(&error), hint)
    }
}
