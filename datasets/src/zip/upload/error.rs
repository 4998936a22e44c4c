//! Why an uploaded archive is not taken.

use std::fmt;
use std::io;

/// Why an uploaded archive is not taken. No text holds a path of this machine.
#[derive(Debug)]
pub enum UploadError {
    /// It is damaged, contradicts itself or holds what no data set needs.
    Refused {
        /// The entry or record, what is wrong with it and what to do.
        reason: String,
    },
    /// It passes one of the `UploadLimits`.
    TooLarge {
        /// The entry, the limit and what to do.
        reason: String,
    },
    /// The file cannot be read.
    Io {
        /// The system's reason.
        source: io::Error,
    },
}

impl fmt::Display for UploadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { reason } | Self::TooLarge { reason } => f.write_str(reason),
            Self::Io { .. } => f.write_str("the uploaded file cannot be read"),
        }
    }
}

impl std::error::Error for UploadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source } => Some(source),
            _ => None,
        }
    }
}

impl From<io::Error> for UploadError {
    fn from(source: io::Error) -> Self {
        Self::Io { source }
    }
}

/// Refuses the archive as a whole.
pub(super) fn refused(what: &str) -> UploadError {
    UploadError::Refused { reason: format!("this ZIP is not taken: {what}") }
}
