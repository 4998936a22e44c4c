//! What followers of a job are told.
//!
//! Lines have numbers from 1, so that a follower who lost its connection can go on where it was (`Last-Event-ID`). They
//! are states, epochs and notes, few enough to keep. Steps of training are told as they are now and never again: they
//! have no number.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde_json::Value;
use tokio::sync::watch;

/// Lines that are kept: more than a run can have epochs.
const MAX_LINES: usize = 100_000;

/// One thing that happened.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) event: Arc<str>,
    /// One line of JSON.
    pub(crate) data: Arc<str>,
}

/// All lines of a job, and how it is now.
pub(crate) struct Log {
    state: Mutex<State>,
    /// Counts changes.
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    lines: Vec<Line>,
    progress: Option<Arc<str>>,
    ended: bool,
}

impl Default for Log {
    fn default() -> Self {
        Log { state: Mutex::default(), changes: watch::channel(0).0 }
    }
}

impl Log {
    /// The lines of a job that an earlier process wrote; a line that a kill cut off is left out.
    pub(crate) fn read(path: &Path, ended: bool) -> Log {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let parse = |line: &str| {
            let value: Value = serde_json::from_str(line).ok()?;
            Some(Line { event: value["event"].as_str()?.into(), data: value["data"].to_string().into() })
        };
        let lines = text.lines().filter_map(parse).take(MAX_LINES).collect();
        let log = Log::default();
        *log.state() = State { lines, progress: None, ended };
        log
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells of something that is kept, in the file too.
    pub(crate) fn add(&self, path: &Path, event: &'static str, data: &impl Serialize) {
        let data = serde_json::to_string(data).expect("plain values with text keys");
        let line = format!("{{\"event\":\"{event}\",\"data\":{data}}}\n");
        // Followers of this process are told in any case; the record of the job says all that matters.
        let written = OpenOptions::new().create(true).append(true).open(path);
        if let Err(error) = written.and_then(|mut file| file.write_all(line.as_bytes())) {
            tracing::warn!("the events of a job cannot be kept ({:?})", error.kind());
        }
        let mut state = self.state();
        if state.lines.len() < MAX_LINES {
            state.lines.push(Line { event: event.into(), data: data.into() });
        }
        drop(state);
        self.changed();
    }

    /// Tells how it is now.
    pub(crate) fn progress(&self, data: &impl Serialize) {
        let data = serde_json::to_string(data).expect("plain values with text keys");
        self.state().progress = Some(data.into());
        self.changed();
    }

    /// Nothing more will be told.
    pub(crate) fn end(&self) {
        self.state().ended = true;
        self.changed();
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// Wakes a follower at every change.
    pub(crate) fn follow(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The lines from the `from`th on (counted from 0), how it is now, and whether that is all there will ever be.
    pub(crate) fn since(&self, from: usize) -> (Vec<Line>, Option<Arc<str>>, bool) {
        let state = self.state();
        let lines = state.lines.get(from..).unwrap_or_default().to_vec();
        (lines, state.progress.clone(), state.ended)
    }
}
