//! How the process of a job ended.

use std::fmt;
use std::io;
use std::sync::Arc;

use ocelli_pipeline::job::{FailureKind, Trained};

use crate::jobs::failures::Kind;

/// See the module.
#[derive(Clone, Debug)]
pub enum Ended {
    /// The job is done.
    Done(Box<Trained>),
    /// It was told to end and has saved what it had.
    Interrupted,
    /// The job cannot be done, in the words of the process. They name places on the disk.
    Failed {
        /// The kind of reason.
        kind: FailureKind,
        /// The reason.
        error: String,
    },
    /// It needed more memory than it may take.
    OutOfMemory {
        /// What it may take.
        limit: Option<u64>,
        /// Both numbers, where they were known before.
        reason: Option<String>,
    },
    /// A signal ended it.
    Killed {
        /// Its number.
        signal: i32,
    },
    /// It showed no progress for so long that it was killed.
    Stuck {
        /// Seconds without a message.
        seconds: u64,
    },
    /// It ended by itself without a result.
    Exited {
        /// Its exit code.
        code: i32,
    },
    /// It could not be started.
    CannotStart(Arc<io::Error>),
}

impl Ended {
    /// What kind of failure it is; `None` where it is none.
    pub(crate) fn kind(&self) -> Option<Kind> {
        match self {
            Ended::Done(_) | Ended::Interrupted => None,
            Ended::Failed { .. } => Some(Kind::Failed),
            Ended::OutOfMemory { .. } => Some(Kind::OutOfMemory),
            Ended::Killed { .. } => Some(Kind::Killed),
            Ended::Stuck { .. } => Some(Kind::Stuck),
            Ended::Exited { .. } => Some(Kind::Exited),
            Ended::CannotStart(_) => Some(Kind::CannotStart),
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ended::Done(_) => f.write_str("done"),
            Ended::Interrupted => f.write_str("interrupted"),
            Ended::Failed { error, .. } => f.write_str(error),
            Ended::OutOfMemory { reason: Some(reason), .. } => f.write_str(reason),
            Ended::OutOfMemory { limit: Some(limit), .. } => write!(
                f,
                "training ran out of the {} MiB of memory that a job may take (job_memory); use smaller images or a smaller batch",
                limit >> 20
            ),
            Ended::OutOfMemory { limit: None, .. } => f.write_str("training ran out of memory"),
            Ended::Killed { signal: 9 } => f.write_str(
                "the process that trained was killed (signal 9), by somebody or by a system that ran out of memory",
            ),
            Ended::Killed { signal } => write!(f, "the process that trained was ended by signal {signal}"),
            Ended::Stuck { seconds } => {
                write!(f, "training showed no progress for {seconds} s and was ended (job_stuck)")
            }
            Ended::Exited { code } => write!(f, "the process that trained ended without a result (code {code})"),
            Ended::CannotStart(error) => {
                write!(f, "the process that trains cannot be started: {}", error.kind())
            }
        }
    }
}
