//! How hostile requests are sent.

use std::time::Duration;

/// How hostile requests are sent.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How long an answer may take.
    pub timeout: Duration,
    /// How long the service may take to end a slow or silent connection.
    pub patience: Duration,
    /// Leave out the slow clients, which take as long as the service lets them live.
    pub quick: bool,
    /// The service may be on another machine.
    pub remote: bool,
}
