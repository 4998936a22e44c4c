//! What can be wrong with a request to the data folder, or with the folder.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use ocelli_datasets::UploadError;

use crate::error::PipelineError;

/// Why the data folder does not do what it was asked for.
#[derive(Debug)]
pub enum StoreError {
    /// Another process uses the folder.
    Locked {
        /// The folder.
        dir: PathBuf,
    },
    /// A name is not made of 1 to 64 of `A-Z a-z 0-9 . _ -`, or begins with a dot.
    Name {
        /// What is named, e.g. `data set`.
        what: &'static str,
        /// Longest name in bytes.
        longest: usize,
    },
    /// There is nothing of this name.
    NotFound {
        /// What is named.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// What is asked for does not fit the state of things.
    Conflict {
        /// Why, and what to do.
        reason: String,
    },
    /// Something that was sent is refused as a whole; nothing of it was kept.
    Refused {
        /// Why, and what to do.
        reason: String,
    },
    /// Something that was sent is larger than a limit; nothing of it was kept.
    TooLarge {
        /// The limit and what passes it.
        reason: String,
    },
    /// A file of the folder is not what the service wrote.
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The database of the folder is damaged, lost, or another program's.
    Database {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The folder may not grow any more, or the disk has no room; nothing was kept.
    Full {
        /// The limit, and what to do.
        reason: String,
    },
    /// The system does not let us read or write.
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A model, a run or an image is to blame.
    Pipeline(PipelineError),
    /// The caller raised the stop flag; nothing was kept.
    Stopped,
}

impl StoreError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| StoreError::Io { path, source }
    }

    /// What is wrong with the archive `zip` of somebody.
    pub(crate) fn of_upload(zip: &Path, error: UploadError) -> Self {
        match error {
            UploadError::Refused { reason } => StoreError::Refused { reason },
            UploadError::TooLarge { reason } => StoreError::TooLarge { reason },
            UploadError::Io { source } => StoreError::io(zip)(source),
        }
    }

    pub(crate) fn database(path: &Path, reason: &str) -> Self {
        StoreError::Database { path: path.to_owned(), reason: reason.to_owned() }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Locked { dir } => {
                write!(
                    f,
                    "another process uses the data folder {}: stop it, or choose another folder",
                    dir.display()
                )
            }
            StoreError::Name { what, longest } => {
                write!(
                    f,
                    "the name of a {what} is 1 to {longest} of A-Z a-z 0-9 . _ - and does not begin with a dot"
                )
            }
            StoreError::NotFound { what, name } => write!(f, "there is no {what} {name}"),
            StoreError::Conflict { reason }
            | StoreError::Refused { reason }
            | StoreError::TooLarge { reason }
            | StoreError::Full { reason } => f.write_str(reason),
            StoreError::Database { path, reason } => {
                write!(f, "the database {} cannot be used ({reason})", path.display())
            }
            StoreError::Damaged { path, reason } => write!(f, "{} is damaged: {reason}", path.display()),
            StoreError::Io { path, .. } => write!(f, "{} cannot be read or written", path.display()),
            StoreError::Pipeline(error) => error.fmt(f),
            StoreError::Stopped => f.write_str("stopped"),
        }
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            StoreError::Io { source, .. } => Some(source),
            StoreError::Pipeline(error) => error.source(),
            _ => None,
        }
    }
}

impl From<PipelineError> for StoreError {
    fn from(error: PipelineError) -> Self {
        match error {
            PipelineError::Stopped => StoreError::Stopped,
            PipelineError::Io { path, source } => StoreError::Io { path, source },
            error => StoreError::Pipeline(error),
        }
    }
}
