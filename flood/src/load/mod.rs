//! Sending requests: in a closed or an open loop, each level to its end.

mod arrivals;
pub(crate) mod check;
pub(crate) mod sender;
