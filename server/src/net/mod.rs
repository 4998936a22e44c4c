//! Connections: how many, how slow, and what those over a limit are answered.

pub(crate) mod awake;
pub(crate) mod connections;
pub(crate) mod refuse;
pub(crate) mod stream;
