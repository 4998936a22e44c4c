//! How ranks work together, and what that takes.

use std::time::Duration;

/// How ranks work together.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How long a rank may be silent, or behind the others within a step, before the job ends.
    pub timeout: Duration,
    /// Whether gradients are summed while the backward pass goes on, and not behind it; off to measure what it hides.
    pub overlap: bool,
}

impl Default for Settings {
    /// 300 s, with overlap.
    fn default() -> Self {
        Settings { timeout: Duration::from_secs(300), overlap: true }
    }
}

/// Told why the job ends, just before it does.
pub type Failed = Box<dyn Fn(&str) + Send>;

/// Seconds of communication.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Times {
    /// In which gradients or statistics were on their way, waiting for slower ranks included.
    pub(crate) total: f64,
    /// Of these, in which a step waited for them.
    pub(crate) exposed: f64,
}
