//! What a run tells whoever started it; nothing in this crate prints.

use std::io;

use crate::client::target::Status;
use crate::settings::{BodyKind, Load};
use crate::statistics::checks::{self, Check};
use crate::statistics::level::Level;
use crate::statistics::summary::Summary;

/// What happens in a run, in the order in which it does.
pub enum Event<'a> {
    /// Something that changes what results mean.
    Warning(&'a str),
    /// Something that is good to know.
    Note(&'a str),
    /// A load begins.
    Start(&'a Start<'a>),
    /// A level of load goes on; about ten times a second.
    Progress(&'a Progress),
    /// A level has ended.
    Level(&'a Level),
    /// All levels have ended.
    End(&'a Summary, &'a [Level]),
    /// Hostile requests begin.
    ChecksStart {
        /// The address of the service.
        url: &'a str,
        /// What it says about itself.
        service: Option<&'a Status>,
    },
    /// One hostile request was sent, and this came of it.
    Check(&'a Check),
    /// All hostile requests were sent.
    ChecksEnd(&'a checks::Summary),
}

/// Takes what happens; an error, of whatever it writes to, ends the run.
pub type Listener<'a> = dyn FnMut(Event<'_>) -> io::Result<()> + 'a;

/// What is about to be measured.
pub struct Start<'a> {
    /// The address with its path.
    pub url: &'a str,
    /// What the service says about itself; none where it has no status that is understood.
    pub service: Option<&'a Status>,
    /// How images are sent.
    pub body: BodyKind,
    /// Images in a request.
    pub batch: usize,
    /// Where the images come from.
    pub images: &'a str,
    /// Images with different bytes.
    pub distinct_images: usize,
}

/// How far a level is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Its number, counted from 1, and how many there are.
    pub level: (usize, usize),
    /// What it is.
    pub load: Load,
    /// Of its time or of its requests, 0..=1.
    pub part: f64,
    /// None during the warm-up.
    pub counts: Option<Counts>,
}

/// What is known while a level runs.
#[derive(Clone, Copy, Debug)]
pub struct Counts {
    /// Good answers.
    pub ok: u64,
    /// Failed requests.
    pub errors: u64,
    /// Good answers a second.
    pub ok_per_second: f64,
}
