//! The HTTP service of Ocelli: raw hyper in front of a model that can be replaced while it answers.
//!
//! ```text
//! run ──> connection task (stream: time limits; tls) ──> router ──> endpoint: the one table of addresses
//!                                                          │ access: may this request?
//!                                                          v
//! routes/predict, v2 ── body, payload: bytes -> encoded images
//!         │                                             routes/{upload, datasets, feedback, retrain, jobs, models}
//!         v                                                │
//! models: which version answers                            │
//!         │                                                v
//!         v                                             store (pipeline): the data folder
//! classifier: one slot per image, or 429                   ^
//!         │ decode: small images wait for the batcher,     │
//!         │ large ones go to a bounded pool                │
//!         v                                                │
//! serving, batcher: one thread owns a version <── models <── jobs: train, compare, keep, promote
//! and takes whatever has queued up
//! ```
//!
//! `GET /openapi.json` lists the routes, docs/service.md explains them.
//!
//! Every error is one JSON shape, made in one place (`problem.rs`), with texts of our own. Every limit is a field of
//! [`Config`]. Nothing is computed on the threads that serve connections, nothing is printed, no URL is ever
//! fetched, and no header invites other origins.
//!
//! A client that shuts down its sending side while it waits counts as gone: its request is dropped before it
//! costs a forward pass.
#![forbid(unsafe_code)]

mod access;
mod answer;
mod batcher;
mod body;
mod classifier;
mod config;
mod decode;
mod endpoint;
mod error;
mod host;
mod jobs;
mod json;
mod loader;
mod machine;
mod metrics;
mod models;
mod openapi;
mod payload;
mod problem;
mod query;
mod refuse;
mod response;
mod router;
mod routes;
mod run;
mod scope;
mod serving;
mod single_flight;
mod state;
mod stats;
mod stream;
#[cfg(test)]
mod tests;
mod text;
mod tls;
mod uploads;
mod v2;

pub use access::{Access, Keys};
pub use config::Config;
pub use error::ServerError;
pub use jobs::{Child, Ended, Next, Worker};
pub use run::run;
pub use state::State;
pub use tls::Tls;
