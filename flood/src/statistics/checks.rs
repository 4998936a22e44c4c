//! What came of hostile requests.

use std::borrow::Cow;

use serde::Serialize;

use crate::client::target::Status;

/// What became of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The service did what it must.
    Held,
    /// It did something else.
    Failed,
    /// The check could not be made here.
    NotTried,
}

/// One check.
#[derive(Debug, Serialize)]
pub struct Check {
    /// The group that it belongs to.
    pub theme: &'static str,
    /// What is sent.
    pub name: Cow<'static, str>,
    /// What must come of it.
    pub expected: Cow<'static, str>,
    /// What became of it.
    pub outcome: Outcome,
    /// What came of it, or why it was not tried.
    pub observed: String,
    /// How long it took.
    pub seconds: f64,
}

/// The whole of a run.
#[derive(Serialize)]
pub struct Summary {
    pub(crate) schema: u32,
    pub(crate) r#type: &'static str,
    pub(crate) version: &'static str,
    pub(crate) url: String,
    /// What the service says about itself; null where it has no `GET /status` or asks for a key.
    pub(crate) service: Option<Status>,
    /// Checks that held.
    pub held: usize,
    /// Checks that did not hold.
    pub failed: usize,
    /// Checks that could not be made.
    pub not_tried: usize,
    pub(crate) seconds: f64,
    /// Whether it was stopped before its end.
    pub interrupted: bool,
    /// Whether something of the archives that were sent stayed; null where none could be sent.
    pub kept: Option<bool>,
    /// All checks in the order in which they were made.
    pub checks: Vec<Check>,
}
