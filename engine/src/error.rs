//! The one error type of the engine.

use std::fmt;

/// What can go wrong while a network is built, compiled, run, read or written.
#[derive(Debug)]
pub enum EngineError {
    /// A graph is malformed: the node and what is wrong with it.
    Graph {
        /// The name of the offending node.
        node: String,
        /// What is wrong.
        reason: String,
    },
    /// A tensor or batch does not have the shape that the network expects.
    Shape {
        /// What was being read.
        what: &'static str,
        /// What the network expects.
        expected: String,
        /// What was given.
        found: String,
    },
    /// A label is not below the number of classes.
    Label {
        /// The label.
        label: u32,
        /// The number of classes.
        classes: usize,
    },
    /// A setting is outside of its range.
    Config(String),
    /// A network needs more memory than its caller allows; none of it was taken.
    Memory {
        /// Bytes needed, by what needs them.
        parts: [(&'static str, usize); 4],
        /// Bytes allowed.
        limit: usize,
    },
    /// The instruction set that was asked for is unknown or this machine lacks it.
    Isa(String),
    /// A model file is damaged, of another version, or no model file at all.
    ModelFile {
        /// The file, where one is known.
        path: Option<std::path::PathBuf>,
        /// What is wrong and what to do.
        reason: String,
    },
    /// Reading or writing a file failed.
    Io {
        /// The file.
        path: std::path::PathBuf,
        /// The cause.
        source: std::io::Error,
    },
}

impl EngineError {
    pub(crate) fn graph(node: &str, reason: impl Into<String>) -> Self {
        EngineError::Graph { node: node.to_owned(), reason: reason.into() }
    }
}

/// A number of bytes, rounded up.
fn mebibytes(bytes: usize) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EngineError::Graph { node, reason } => write!(f, "layer `{node}`: {reason}"),
            EngineError::Shape { what, expected, found } => {
                write!(f, "{what}: expected {expected}, found {found}")
            }
            EngineError::Label { label, classes } => {
                write!(f, "label {label} is not below the number of classes, {classes}")
            }
            EngineError::Config(reason) | EngineError::Isa(reason) => f.write_str(reason),
            EngineError::Memory { parts, limit } => {
                let needed = mebibytes(parts.iter().map(|part| part.1).fold(0, usize::saturating_add));
                let parts = parts.map(|(what, bytes)| format!("{} for {what}", mebibytes(bytes)));
                let (parts, limit) = (parts.join(", "), mebibytes(*limit));
                write!(f, "the network needs {needed} of memory, the limit is {limit}: {parts}")
            }
            EngineError::ModelFile { path: Some(path), reason } => write!(f, "{}: {reason}", path.display()),
            EngineError::ModelFile { path: None, reason } => write!(f, "model file: {reason}"),
            EngineError::Io { path, .. } => write!(f, "{}", path.display()),
        }
    }
}

impl std::error::Error for EngineError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            EngineError::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
