//! What a service of Ocelli answers, and how fast, under load; and what it does with hostile requests.
//!
//! ```text
//! settings ──> client: the service's address, images and requests, made once
//!                   │
//!                   v
//!   load: threads of connections ──> client: one request, one answer or fault
//!     closed: next request when the answer is there         │
//!     open:   arrivals keep their times                     v
//!                                   statistics: histograms and counts, one a thread
//!                                                           │ merged
//!                                                           v
//!                                   statistics: the numbers of one level of load
//!                                                           │
//!                                  report: text, page <─────┘
//!
//! abuse: hostile requests, one after another, each followed by a normal one that must be answered
//! ```
//!
//! A closed loop keeps a number of connections busy and finds the most that a service can do. Its latencies flatter a
//! service that stalls, as nobody sends while it does (coordinated omission; Tene, "How NOT to Measure Latency", 2015).
//! An open loop sends at times that are fixed beforehand and counts from those: a request that had to wait for a
//! connection has waited.
//!
//! The tool usually shares its machine with the service, so what it costs falsifies what it measures: requests are
//! built once, one thread drives all connections, and of an answer only what is counted is read. With hyper's client
//! that is some 33 microseconds of processor time a request, the kernel's part included, where wrk takes 24 for the same
//! requests (two cores of an EPYC, 32 connections, forms of one kilobyte).
//!
//! [`run`] and [`abuse::run`] tell what happens through [`Event`]s; nothing here prints.
#![forbid(unsafe_code)]

pub mod abuse;
mod client;
mod error;
mod event;
mod load;
pub mod report;
mod run;
mod settings;
mod statistics;

pub use client::target::Status;
pub use error::FloodError;
pub use event::{Counts, Event, Listener, Progress, Start};
pub use report::Summary;
pub use run::run;
pub use settings::{Arrivals, BodyKind, Format, Limits, Load, Pictures, Settings, Size, parse_duration};
pub use statistics::level::Level;
