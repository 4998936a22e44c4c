//! The benchmark harness: which kernels are measured, on what, against which limits, and how it is told.
//!
//! ```text
//! cases, table   what: operation, pass, shape, and what one call costs by definition
//! prepare        operands and one call of one kernel; nothing leaves it that the f64 oracle has not confirmed
//! measure, clock when: samples in turn, each with the machine's peak measured right before it
//! probe          against what: multiply-adds on registers, reads from every cache level and memory
//! report         rows as text, JSON and CSV
//! ```
//!
//! `cargo bench` and `ocelli bench kernels` both stand on it, so a user's table and ours are the same. Only
//! `yardsticks`, behind a feature of that name, links other people's kernels.
//!
//! Floating-point operations are counted 2 per multiply-add; rates are operations or bytes a second.
#![deny(unsafe_code)]

mod cases;
mod clock;
mod measure;
mod oracle;
mod prepare;
mod probe;
mod report;
mod table;
#[cfg(feature = "yardsticks")]
#[allow(unsafe_code, reason = "interfaces made of pointers and strides")]
mod yardsticks;

pub use cases::{Case, Cost, Op, Pass, Product, Variant};
pub use measure::{Budget, Interleaved, Sample, Team, Timing, interleave, measure};
pub use oracle::Mismatch;
pub use prepare::{Kernel, prepare};
pub use probe::{Bound, Level, LevelRead, Peak, Probe, Roof, peak};
pub use report::{CSV_HEADER, Faster, Row, header, id_width, probe_lines};
pub use table::table;
