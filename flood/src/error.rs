//! Why a run against a service did not begin, or ended before its report.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use ocelli_datasets::DatasetError;

/// Why a run did not begin, or ended before its report.
#[derive(Debug)]
pub enum FloodError {
    /// A setting outside of its range.
    Setting {
        /// Which one.
        name: &'static str,
        /// What is wrong with its value.
        problem: String,
    },
    /// An address that requests cannot be sent to.
    Address {
        /// As it was given, without a user name.
        url: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// An address that asks for encryption.
    Https {
        /// As it was given.
        url: String,
    },
    /// An address that holds a user name.
    UserName,
    /// A token that no header can hold.
    Token,
    /// Hostile requests to one path of a service.
    OnePath {
        /// The address as it was given.
        url: String,
    },
    /// Hostile requests to another machine, which nobody said is one's own.
    Remote {
        /// The address as it was given.
        url: String,
    },
    /// A host that has no address.
    Host {
        /// Its name.
        host: String,
    },
    /// A service that does not answer at all.
    NoAnswer {
        /// Where it should be.
        addr: SocketAddr,
        /// What came instead.
        reason: String,
    },
    /// A service that does not answer normal requests before any hostile one was sent.
    NotHealthy {
        /// What was asked and what came.
        reason: String,
    },
    /// No image that can be sent.
    NoImages {
        /// Where they were looked for.
        path: PathBuf,
    },
    /// More images than are kept in memory.
    TooManyImages {
        /// Where they are.
        path: PathBuf,
        /// What is too much, with its limit.
        problem: String,
    },
    /// The bodies of all requests together exceed their limit.
    Bodies {
        /// In MiB.
        limit: usize,
    },
    /// An image that could not be made up.
    Encode {
        /// Format and size.
        what: String,
        /// Why.
        source: image::ImageError,
    },
    /// A folder of images that could not be read.
    Dataset(DatasetError),
    /// A file that could not be read.
    Io {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The system gives no thread or no runtime for one.
    Threads(io::Error),
    /// Whoever listens to the run could not take a result.
    Output(io::Error),
}

impl fmt::Display for FloodError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FloodError::Setting { name, problem } => write!(f, "{name} {problem}"),
            FloodError::Address { url, problem } => write!(f, "{url}: {problem}"),
            FloodError::Https { url } => write!(f, "{url}: https is not spoken here"),
            FloodError::UserName => write!(f, "the address holds a user name, which is not sent"),
            FloodError::Token => write!(f, "the token has characters that a header cannot hold"),
            FloodError::OnePath { url } => {
                write!(f, "{url}: hostile requests go to a whole service, not to one path of it")
            }
            FloodError::Remote { url } => {
                write!(f, "{url}: hostile requests go to this machine alone unless you say otherwise")
            }
            FloodError::Host { host } => write!(f, "{host}: there is no such host"),
            FloodError::NoAnswer { addr, reason } => write!(f, "no answer from {addr}: {reason}"),
            FloodError::NotHealthy { reason } => write!(f, "before any check, {reason}"),
            FloodError::NoImages { path } => {
                write!(f, "{}: there are no images that can be sent", path.display())
            }
            FloodError::TooManyImages { path, problem } => write!(f, "{}: {problem}", path.display()),
            FloodError::Bodies { limit } => {
                write!(f, "the bodies of all requests take more than {limit} MiB")
            }
            FloodError::Encode { what, .. } => write!(f, "cannot make a {what}"),
            FloodError::Dataset(_) => write!(f, "cannot list the images"),
            FloodError::Io { path, .. } => write!(f, "{}", path.display()),
            FloodError::Threads(_) => write!(f, "client threads"),
            FloodError::Output(_) => write!(f, "cannot write results"),
        }
    }
}

impl Error for FloodError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            FloodError::Encode { source, .. } => Some(source),
            FloodError::Dataset(source) => Some(source),
            FloodError::Io { source, .. } | FloodError::Threads(source) | FloodError::Output(source) => {
                Some(source)
            }
            _ => None,
        }
    }
}

impl FloodError {
    /// A setting outside of its range.
    pub(crate) fn setting(name: &'static str, problem: impl Into<String>) -> FloodError {
        FloodError::Setting { name, problem: problem.into() }
    }
}
