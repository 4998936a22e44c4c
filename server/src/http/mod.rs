//! The parts of requests and answers: headers, bodies, queries, problems.

pub(crate) mod asset;
pub(crate) mod body;
pub(crate) mod host;
pub(crate) mod json;
pub(crate) mod payload;
pub(crate) mod problem;
pub(crate) mod query;
pub(crate) mod response;
pub(crate) mod text;
