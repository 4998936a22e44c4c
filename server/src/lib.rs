//! The HTTP service of Ocelli: raw hyper in front of a model that can be replaced while it answers.
//!
//! ```text
//! run ──> one task for each connection (connections: how many; stream: time limits; tls)
//!   │
//!   v
//! router ──> ticket: in flight from here to the answer
//!   │        routes: one table of paths, scopes, handlers and descriptions; access: may this request?
//!   v
//! a handler in routes/ ── context: the request, and what a handler may use ──> backend
//!   │                                                                            │
//!   ├─ predict, v2: body, payload: bytes -> encoded images                       ├─ store (pipeline): the data folder
//!   v                                                                            ├─ models: which version answers
//! classifier: one slot per image, or 429                                         ├─ jobs: train, compare, promote
//!   │ decode: small images wait in the queue, large ones go to the pool          └─ snapshot: all gauges at one moment
//!   v
//! serving, batcher: who runs the network, this thread or the version's own; pass: whatever has queued up, in one run
//! ```
//!
//! `GET /openapi.json` lists the routes, docs/service.md explains them.
//!
//! Every error is one JSON shape, made in one place (`http/problem.rs`), with texts of our own. Every limit is a field of
//! [`Config`]. Nothing that takes long is computed on the threads that serve connections, nothing is printed, no URL is ever
//! fetched, and no header invites other origins.
//!
//! A client that shuts down its sending side while it waits counts as gone: its request is dropped before it
//! costs a forward pass.
#![forbid(unsafe_code)]

mod access;
mod answer;
mod archive;
mod backend;
mod blocking;
mod config;
mod context;
mod description;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod history;
mod http;
mod images;
mod jobs;
mod keys;
mod lifecycle;
mod machine;
mod metrics;
mod model_load;
mod models;
mod net;
mod openapi;
mod route;
mod router;
mod routes;
mod run;
mod scope;
mod server;
mod shared_status;
mod shared_store;
mod snapshot;
mod stopper;
#[cfg(test)]
mod tests;
mod ticket;
mod tls;
mod uploads;
mod v2;
mod waiting;

pub use access::Access;
pub use config::{Config, ModelLimits};
pub use error::ServerError;
pub use jobs::{Child, Ended, Next, Worker};
pub use keys::Keys;
pub use models::folder::model_files;
pub use run::run;
pub use server::Server;
pub use shared_store::Sharing;
pub use shared_store::first::Replica;
pub use tls::Tls;
