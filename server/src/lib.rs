//! The HTTP service of Ocelli: raw hyper in front of one classifier.
//!
//! ```text
//! run ──> connection task (stream: time limits) ──> router ──> routes/*
//!                                                                │ body, payload: bytes -> encoded images
//!                                                                v
//!                              classifier: one slot per image, or 429
//!                                                                │ bounded blocking threads: decode, resize
//!                                                                v
//!                              batcher: one thread owns the model and takes whatever has queued up
//! ```
//!
//! | route | answer |
//! |---|---|
//! | `POST /predict` | labels of one or several images |
//! | `GET /status` | version, model, load |
//! | `GET /health/live`, `GET /health/ready` | for supervisors and balancers |
//!
//! Every error is one JSON shape, made in one place, with texts of our own. Every limit is a field of
//! [`Config`]. Nothing is computed on the threads that serve connections, nothing is printed, no URL is ever
//! fetched, and no header invites other origins.
//!
//! A client that shuts down its sending side while it waits counts as gone: its request is dropped before it
//! costs a forward pass.
#![forbid(unsafe_code)]

mod access;
mod batcher;
mod body;
mod classifier;
mod config;
mod decode;
mod endpoint;
mod error;
mod jobs;
mod json;
mod metrics;
mod models;
mod openapi;
mod payload;
mod problem;
mod query;
mod response;
mod router;
mod routes;
mod run;
mod serving;
mod state;
mod stats;
mod stream;
#[cfg(test)]
mod tests;
mod tls;
mod v2;

pub use access::Keys;
pub use config::Config;
pub use error::ServerError;
pub use run::run;
pub use state::{Access, State};
pub use tls::Tls;
