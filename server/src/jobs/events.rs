//! What followers of a job are told.
//!
//! Lines have numbers from 1, so that a follower who lost its connection can go on where it was (`Last-Event-ID`). They
//! are states, epochs and notes, few enough to keep. Steps of training are told as they are now and never again: they
//! have no number.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
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
    /// The lines of a job that an earlier process told.
    pub(crate) fn of(lines: Vec<(String, String)>, ended: bool) -> Log {
        let line = |(event, data): (String, String)| Line { event: event.into(), data: data.into() };
        let lines = lines.into_iter().map(line).take(MAX_LINES).collect();
        let log = Log::default();
        *log.state() = State { lines, progress: None, ended };
        log
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many lines there are.
    pub(crate) fn len(&self) -> usize {
        self.state().lines.len()
    }

    /// Whether no more lines are kept.
    pub(crate) fn is_full(&self) -> bool {
        self.len() >= MAX_LINES
    }

    /// Tells of things that are kept.
    pub(crate) fn add(&self, lines: impl IntoIterator<Item = (&'static str, String)>) {
        let mut state = self.state();
        for (event, data) in lines {
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
