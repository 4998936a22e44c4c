//! The process that trains, for whoever started it: its messages, its end, and ending it.

use std::io;
use std::process::{self, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ocelli_pipeline::job::{FailureKind, JobMessage, JobOrder};

use crate::jobs::ended::Ended;
use crate::jobs::process::{Handle, Output, Worker, keep};

/// Messages that wait for whoever listens; past that the process waits.
const WAITING: usize = 256;

/// What [`Child::next`] gives.
#[derive(Debug)]
pub enum Next {
    /// The process wrote a message; never how the job ended, which [`Next::Ended`] tells once the process is gone.
    Message(JobMessage),
    /// Nothing came in time.
    Nothing,
    /// The process is gone and reaped.
    Ended(Ended),
}

/// A job's process. Killed and reaped when it is dropped.
pub struct Child {
    handle: Arc<Handle>,
    outputs: Option<Receiver<Output>>,
    keeper: Option<JoinHandle<()>>,
    limit: Option<u64>,
    stuck: Duration,
    last: Instant,
    is_stuck: bool,
    /// What it wrote last of how the job ended.
    result: Option<JobMessage>,
    ended: Option<Ended>,
}

impl Child {
    /// Starts a process for a job. One that shows no progress for `stuck` is killed.
    pub fn start(worker: &Worker, order: &JobOrder, stuck: Duration) -> Child {
        let handle = Arc::new(Handle::default());
        let (sender, outputs) = sync_channel(WAITING);
        let mut line = serde_json::to_vec(order).expect("an order holds plain values only");
        line.push(b'\n');
        let keeper = {
            let (worker, handle) = (worker.clone(), Arc::clone(&handle));
            thread::Builder::new()
                .name("job".to_owned())
                .spawn(move || keep(&worker, &line, &handle, &sender))
        };
        let (keeper, ended) = match keeper {
            Ok(keeper) => (Some(keeper), None),
            Err(error) => (None, Some(Ended::CannotStart(Arc::new(error)))),
        };
        Child {
            handle,
            outputs: Some(outputs),
            keeper,
            limit: order.spec.memory,
            stuck,
            last: Instant::now(),
            is_stuck: false,
            result: None,
            ended,
        }
    }

    /// Its process number, once it runs and until it is reaped.
    pub fn id(&self) -> Option<u32> {
        self.handle.process().as_ref().map(process::Child::id)
    }

    /// Waits for what comes next, at most this long.
    pub fn next(&mut self, timeout: Duration) -> Next {
        let until = Instant::now() + timeout;
        loop {
            if let Some(ended) = &self.ended {
                return Next::Ended(ended.clone());
            }
            let Some(outputs) = &self.outputs else { return Next::Nothing };
            let left = until.saturating_duration_since(Instant::now());
            let quiet = self.stuck.saturating_sub(self.last.elapsed());
            let wait = if self.is_stuck { left } else { left.min(quiet) };
            match outputs.recv_timeout(wait) {
                Ok(Output::Message(message)) => {
                    self.last = Instant::now();
                    match message {
                        JobMessage::Event { .. } | JobMessage::Phase { .. } => return Next::Message(message),
                        result => self.result = Some(result),
                    }
                }
                Ok(Output::Invalid) => {
                    let error = "the process that trains wrote a line that is no message".to_owned();
                    self.result = Some(JobMessage::Failed { kind: FailureKind::Other, error });
                    self.handle.kill();
                }
                Ok(Output::End { status, errors }) => self.ended = Some(self.judge(status, &errors)),
                Ok(Output::CannotStart(error)) => self.ended = Some(Ended::CannotStart(Arc::new(error))),
                Err(RecvTimeoutError::Disconnected) => {
                    let error = io::Error::other("the thread that stays with the process is gone");
                    self.ended = Some(Ended::CannotStart(Arc::new(error)));
                }
                Err(RecvTimeoutError::Timeout) => {
                    if !self.is_stuck && self.last.elapsed() >= self.stuck {
                        self.is_stuck = true;
                        self.handle.kill();
                    }
                    if Instant::now() >= until {
                        return Next::Nothing;
                    }
                }
            }
        }
    }

    /// Tells it to save what it has and to end. It takes the time of a step.
    pub fn stop(&self) {
        self.handle.stopping.store(true, Ordering::SeqCst);
        drop(self.handle.input().take());
    }

    /// Ends it at once.
    pub fn kill(&self) {
        self.handle.kill();
    }

    /// How a process ended, by its last message, its status and the end of its standard error.
    fn judge(&mut self, status: io::Result<ExitStatus>, errors: &str) -> Ended {
        let ended = self.ending(status, errors);
        if !matches!(ended, Ended::Done(_) | Ended::Interrupted) && !errors.trim().is_empty() {
            tracing::warn!("the process that trained wrote: {}", errors.trim());
        }
        ended
    }

    fn ending(&mut self, status: io::Result<ExitStatus>, errors: &str) -> Ended {
        let limit = self.limit;
        match self.result.take() {
            Some(JobMessage::Done { trained }) => return Ended::Done(trained),
            Some(JobMessage::Interrupted) => return Ended::Interrupted,
            Some(JobMessage::Failed { kind: FailureKind::Memory, error }) => {
                return Ended::OutOfMemory { limit, reason: Some(error) };
            }
            Some(JobMessage::Failed { kind, error }) => return Ended::Failed { kind, error },
            _ => {}
        }
        if self.is_stuck {
            return Ended::Stuck { seconds: self.stuck.as_secs() };
        }
        let status = match status {
            Ok(status) => status,
            Err(error) => return Ended::CannotStart(Arc::new(error)),
        };
        // The words of the standard library, which are all that tells this abort from another one; a thread whose stack
        // does not fit under the limit is a panic.
        let allocation = errors.contains("memory allocation of ") && errors.contains(" bytes failed");
        if allocation || errors.contains("failed to spawn thread") && limit.is_some() {
            return Ended::OutOfMemory { limit, reason: None };
        }
        match (signal_of(status), status.code()) {
            (Some(signal), _) => Ended::Killed { signal },
            (None, code) => Ended::Exited { code: code.unwrap_or(-1) },
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.handle.kill();
        // First, so that the thread does not wait for somebody to listen.
        self.outputs = None;
        if let Some(keeper) = self.keeper.take() {
            // It panics only if this program is broken; there is nothing left to do for it.
            let _ = keeper.join();
        }
    }
}

#[cfg(unix)]
fn signal_of(status: ExitStatus) -> Option<i32> {
    std::os::unix::process::ExitStatusExt::signal(&status)
}

#[cfg(not(unix))]
fn signal_of(_: ExitStatus) -> Option<i32> {
    None
}
