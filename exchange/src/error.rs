//! The one error type of the crate.

use std::fmt;

use ocelli_engine::EngineError;

/// Why a model cannot be read or written.
#[derive(Debug)]
pub enum ExchangeError {
    /// The bytes are of no format that is known here.
    UnknownFormat(String),
    /// A file is damaged, or says what cannot be.
    Damaged {
        /// The format, as [`Format`](crate::Format) prints it.
        format: &'static str,
        /// Where, what, and what to do.
        reason: String,
    },
    /// A network has parts that the engine has not: all of them.
    Unsupported {
        /// The format, as [`Format`](crate::Format) prints it.
        format: &'static str,
        /// Each of them, in the file's order.
        parts: Vec<Unsupported>,
    },
    /// Something that the file does not say has to be said by whoever imports it.
    Missing {
        /// What is missing.
        what: String,
        /// Field of [`ImportOptions`](crate::ImportOptions) that says it.
        option: &'static str,
    },
    /// A model cannot be written in a format.
    Export {
        /// The format.
        format: &'static str,
        /// Why, and what to do.
        reason: String,
    },
    /// What was read is no network of the engine.
    Engine(EngineError),
}

/// A part of a network that the engine has not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported {
    /// Name of the node or layer in the file.
    pub node: String,
    /// Its operation, as the format calls it.
    pub op: String,
    /// Shapes of its inputs, as far as they are known, as text: `1x64x56x56, 64`.
    pub shapes: String,
    /// What of it is not supported.
    pub reason: String,
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` ({}", self.node, self.op)?;
        if !self.shapes.is_empty() {
            write!(f, " of {}", self.shapes)?;
        }
        write!(f, "): {}", self.reason)
    }
}

impl fmt::Display for ExchangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExchangeError::UnknownFormat(reason) => f.write_str(reason),
            ExchangeError::Damaged { format, reason } => write!(f, "{format}: {reason}"),
            ExchangeError::Unsupported { format, parts } => {
                let s = if parts.len() == 1 { "" } else { "s" };
                write!(f, "{format}: {} part{s} of this network not supported:", parts.len())?;
                parts.iter().try_for_each(|part| write!(f, "\n  {part}"))
            }
            ExchangeError::Missing { what, .. } => f.write_str(what),
            ExchangeError::Export { format, reason } => write!(f, "cannot be written as {format}: {reason}"),
            ExchangeError::Engine(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ExchangeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ExchangeError::Engine(error) => error.source(),
            _ => None,
        }
    }
}

impl From<EngineError> for ExchangeError {
    fn from(error: EngineError) -> Self {
        ExchangeError::Engine(error)
    }
}
