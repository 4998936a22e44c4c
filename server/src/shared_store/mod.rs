//! Serving on many machines: one writer publishes its models to a shared store, any number of replicas follow it.
//!
//! ```text
//! models/NAME/SHA256.ocelli                a model, named by its content, never changed
//! models/NAME/pointers/00000000042.json    which models have which labels; the highest number counts
//! ```
//!
//! Both are written by a conditional create alone: a number that is taken is never written again, so nobody overwrites
//! anybody. Models come before the pointer that names them, and are removed after the last one that does. So a kill at any
//! moment leaves the old state or the new one.
//!
//! The writer compares the store with its models at every change and every few seconds, and a replica compares its own
//! with the store: neither depends on a message that could be lost. What a replica is not sure of (an object that is cut
//! off, is not what its name says, or whose model does not give its stored answers) it does not take; what serves goes on.
//!
//! `objects` alone knows what the store is, `pointer` the form of a pointer, `publish` is the writer, `follow` the replica,
//! `status` what is told of both, `local` what they need of the models of this service.

pub(crate) mod follow;
pub(crate) mod local;
pub(crate) mod objects;
pub(crate) mod pointer;
pub(crate) mod publish;
pub(crate) mod status;
#[cfg(test)]
mod tests;
