//! What is counted while requests are sent, and the numbers that come of it.

pub(crate) mod checks;
pub(crate) mod level;
pub(crate) mod summary;
pub(crate) mod tally;
