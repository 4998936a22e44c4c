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
mod backend;
mod batcher;
mod blocking;
mod body;
mod classifier;
mod config;
mod connections;
mod context;
mod decode;
mod description;
mod error;
mod host;
mod images;
mod jobs;
mod json;
mod keys;
mod lifecycle;
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
mod route;
mod router;
mod routes;
mod run;
mod scope;
mod server;
mod serving;
mod single_flight;
mod snapshot;
mod stats;
mod stream;
#[cfg(test)]
mod tests;
mod text;
mod ticket;
mod tls;
mod uploads;
mod v2;

pub use access::Access;
pub use config::Config;
pub use error::ServerError;
pub use jobs::{Child, Ended, Next, Worker};
pub use keys::Keys;
pub use run::run;
pub use server::Server;
pub use tls::Tls;
