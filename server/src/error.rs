//! Errors of the service as a whole. What a single request can get wrong is in `http/problem.rs`.

use std::fmt;
use std::io;
use std::path::PathBuf;

use ocelli_pipeline::PipelineError;
use ocelli_pipeline::store::StoreError;

/// Why the service cannot start, or did not end cleanly.
#[derive(Debug)]
pub enum ServerError {
    /// A setting is outside its range.
    Setting {
        /// Field of [`crate::Config`].
        setting: &'static str,
        /// What it was set to.
        value: usize,
        /// Largest value that is allowed; the smallest is 1.
        most: usize,
    },
    /// Limits are set for a model that cannot have this name.
    ModelName {
        /// The name.
        name: String,
    },
    /// The memory for all bodies is smaller than one body may be.
    BodyMemory {
        /// Bytes for all bodies.
        body_memory: usize,
        /// Bytes for one body.
        max_body: usize,
    },
    /// A job could not even start with this memory.
    JobMemory {
        /// Bytes that a job may take.
        value: u64,
        /// Fewest bytes that are allowed.
        least: u64,
    },
    /// A key is too short, too long or holds other than visible ASCII characters.
    Key {
        /// Its name, or the scope it is for.
        name: String,
        /// Fewest characters.
        least: usize,
        /// Most characters.
        most: usize,
    },
    /// A key with a name is refused.
    NamedKey {
        /// Why.
        reason: String,
    },
    /// The certificate or its key is refused.
    Tls {
        /// Why.
        reason: &'static str,
    },
    /// A model cannot be used.
    Model(PipelineError),
    /// The data folder holds no version of the model that could serve, and none was given.
    NoModel,
    /// The data folder cannot be used.
    Store(StoreError),
    /// The shared store of replicas cannot be opened.
    SharedStore {
        /// Why.
        reason: String,
    },
    /// The model fails on a blank image.
    WarmUp(PipelineError),
    /// A model does not fit into the memory for models.
    NoRoom {
        /// Its name.
        model: String,
        /// Bytes that it needs.
        needed: u64,
        /// Bytes that all models may take together.
        limit: u64,
        /// Whether there would be room if no request held another model.
        later: bool,
    },
    /// The folder of models cannot be read.
    ModelsFolder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Loading a model failed inside the service.
    LoadPanicked,
    /// The operating system gave no thread for what computes.
    Thread(io::Error),
    /// Shutdown had to cut off clients that did not finish in time.
    Unfinished {
        /// Connections that were cut off.
        connections: usize,
        /// Seconds they were given.
        seconds: u64,
    },
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServerError::Setting { setting, value, most } => {
                write!(f, "setting {setting} is {value}: choose a value from 1 to {most}")
            }
            ServerError::ModelName { name } => write!(
                f,
                "setting models.{name}: a name of a model is 1 to 64 of A-Z a-z 0-9 . _ - and does not begin with a dot"
            ),
            ServerError::BodyMemory { body_memory, max_body } => write!(
                f,
                "setting body_memory ({body_memory} bytes) is below max_body ({max_body} bytes): raise the first or lower the second"
            ),
            ServerError::JobMemory { value, least } => {
                write!(f, "setting job_memory is {value} bytes: it must be at least {least}")
            }
            ServerError::Key { name, least, most } => {
                write!(
                    f,
                    "the key {name} is not {least} to {most} visible ASCII characters: make one with `openssl rand -hex 32`"
                )
            }
            ServerError::NamedKey { reason } => f.write_str(reason),
            ServerError::Tls { reason } => f.write_str(reason),
            ServerError::SharedStore { reason } => f.write_str(reason),
            ServerError::Model(error) => error.fmt(f),
            ServerError::NoModel => {
                f.write_str("there is no model to serve: name a model file or a run folder")
            }
            ServerError::Store(error) => error.fmt(f),
            ServerError::WarmUp(_) => write!(f, "the model failed on a blank image: check the model file"),
            ServerError::NoRoom { model, needed, limit, later: false } => write!(
                f,
                "model \"{model}\" needs {needed} bytes, and all models together, with the default one, may take {limit}: raise models_memory"
            ),
            ServerError::NoRoom { model, needed, .. } => {
                write!(f, "model \"{model}\" needs {needed} bytes, and requests hold the memory for models")
            }
            ServerError::ModelsFolder { path, .. } => {
                write!(f, "the folder of models {} cannot be read", path.display())
            }
            ServerError::LoadPanicked => f.write_str("loading this version failed; the service goes on"),
            ServerError::Thread(_) => write!(f, "no thread could be started for what computes"),
            ServerError::Unfinished { connections, seconds } => {
                write!(
                    f,
                    "{connections} connections did not finish within {seconds} s of shutdown and were cut off"
                )
            }
        }
    }
}

impl std::error::Error for ServerError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ServerError::WarmUp(source) => Some(source),
            ServerError::Thread(source) | ServerError::ModelsFolder { source, .. } => Some(source),
            ServerError::Model(source) => source.source(),
            ServerError::Store(source) => source.source(),
            ServerError::Setting { .. }
            | ServerError::ModelName { .. }
            | ServerError::BodyMemory { .. }
            | ServerError::JobMemory { .. }
            | ServerError::Key { .. }
            | ServerError::NamedKey { .. }
            | ServerError::Tls { .. }
            | ServerError::SharedStore { .. }
            | ServerError::NoModel
            | ServerError::NoRoom { .. }
            | ServerError::LoadPanicked
            | ServerError::Unfinished { .. } => None,
        }
    }
}

impl From<StoreError> for ServerError {
    fn from(error: StoreError) -> Self {
        ServerError::Store(error)
    }
}

impl From<PipelineError> for ServerError {
    fn from(error: PipelineError) -> Self {
        ServerError::Model(error)
    }
}
