//! The process that trains: started, listened to, ended, and how it ended.
//!
//! It is this program again (`ocelli job`). A thread starts it and stays with it until it is reaped, for two reasons: the
//! kernel kills it when that thread ends, and no other thread ever waits for it.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{self, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ocelli_pipeline::job::{FailureKind, JobMessage, JobOrder, Trained};

use crate::jobs::failures::Kind;

/// Longest message: an evaluation of 4,096 classes has a matrix of 16 million numbers.
const MAX_LINE: u64 = 128 << 20;
/// What is kept of the beginning and of the end of its standard error: one of them says why it ended, whatever traces of
/// calls come after or before.
const KEPT: usize = 4 << 10;
/// Messages that wait for whoever listens; past that the process waits.
const WAITING: usize = 256;
/// Time between two looks whether a process that says nothing more has ended.
const REAP_EVERY: Duration = Duration::from_millis(5);
/// Variables that hold secrets, of which training has no need.
const SECRETS: [&str; 3] = ["OCELLI_KEY_PREDICT", "OCELLI_KEY_DATA", "OCELLI_KEY_ADMIN"];

/// The program that does jobs.
#[derive(Clone, Debug)]
pub struct Worker {
    /// Where it is.
    pub program: PathBuf,
}

impl Worker {
    /// The running program. On Linux by the file that was started, even if another one has its name by now.
    ///
    /// # Errors
    /// Where the system does not tell.
    pub fn this_program() -> io::Result<Worker> {
        let own = PathBuf::from("/proc/self/exe");
        let program = if cfg!(target_os = "linux") && own.exists() { own } else { std::env::current_exe()? };
        Ok(Worker { program })
    }
}

/// How a job's process ended.
#[derive(Clone, Debug)]
pub enum Ended {
    /// The job is done.
    Done(Box<Trained>),
    /// It was told to end and has saved what it had.
    Interrupted,
    /// The job cannot be done, in the words of the process. They name places on the disk.
    Failed {
        /// The kind of reason.
        kind: FailureKind,
        /// The reason.
        error: String,
    },
    /// It needed more memory than it may take.
    OutOfMemory {
        /// What it may take.
        limit: Option<u64>,
        /// Both numbers, where they were known before.
        reason: Option<String>,
    },
    /// A signal ended it.
    Killed {
        /// Its number.
        signal: i32,
    },
    /// It showed no progress for so long that it was killed.
    Stuck {
        /// Seconds without a message.
        seconds: u64,
    },
    /// It ended by itself without a result.
    Exited {
        /// Its exit code.
        code: i32,
    },
    /// It could not be started.
    CannotStart(Arc<io::Error>),
}

impl Ended {
    /// What kind of failure it is; `None` where it is none.
    pub(crate) fn kind(&self) -> Option<Kind> {
        match self {
            Ended::Done(_) | Ended::Interrupted => None,
            Ended::Failed { .. } => Some(Kind::Failed),
            Ended::OutOfMemory { .. } => Some(Kind::OutOfMemory),
            Ended::Killed { .. } => Some(Kind::Killed),
            Ended::Stuck { .. } => Some(Kind::Stuck),
            Ended::Exited { .. } => Some(Kind::Exited),
            Ended::CannotStart(_) => Some(Kind::CannotStart),
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ended::Done(_) => f.write_str("done"),
            Ended::Interrupted => f.write_str("ended as it was told to"),
            Ended::Failed { error, .. } => f.write_str(error),
            Ended::OutOfMemory { reason: Some(reason), .. } => f.write_str(reason),
            Ended::OutOfMemory { limit: Some(limit), .. } => write!(
                f,
                "training ran out of the {} MiB of memory that a job may take (job_memory); use smaller images or a smaller batch",
                limit >> 20
            ),
            Ended::OutOfMemory { limit: None, .. } => f.write_str("training ran out of memory"),
            Ended::Killed { signal: 9 } => f.write_str(
                "the process that trained was killed (signal 9), by somebody or by a system that ran out of memory",
            ),
            Ended::Killed { signal } => write!(f, "the process that trained was ended by signal {signal}"),
            Ended::Stuck { seconds } => {
                write!(f, "training showed no progress for {seconds} s and was ended (job_stuck)")
            }
            Ended::Exited { code } => write!(f, "the process that trained ended without a result (code {code})"),
            Ended::CannotStart(error) => {
                write!(f, "the process that trains cannot be started: {}", error.kind())
            }
        }
    }
}

/// What [`Child::next`] has to tell.
#[derive(Debug)]
pub enum Next {
    /// The process said something; never how the job ended, which [`Next::Ended`] tells once the process is gone.
    Message(JobMessage),
    /// Nothing came in time.
    Nothing,
    /// The process is gone and reaped.
    Ended(Ended),
}

/// A job's process. Killed and reaped when it is dropped.
pub struct Child {
    shared: Arc<Shared>,
    heard: Option<Receiver<Heard>>,
    keeper: Option<JoinHandle<()>>,
    limit: Option<u64>,
    stuck: Duration,
    last: Instant,
    is_stuck: bool,
    /// What it said last of how the job ended.
    result: Option<JobMessage>,
    ended: Option<Ended>,
}

/// What whoever listens and the thread that stays with the process share.
#[derive(Default)]
struct Shared {
    process: Mutex<Option<process::Child>>,
    /// Its standard input, whose end tells it to stop.
    input: Mutex<Option<ChildStdin>>,
    stopping: AtomicBool,
    killed: AtomicBool,
}

/// What the thread that stays with the process hears.
enum Heard {
    Message(JobMessage),
    /// A line that is no message, too long, or not text.
    Garbage,
    End {
        status: io::Result<ExitStatus>,
        said: String,
    },
    CannotStart(io::Error),
}

impl Child {
    /// Starts a process for a job. One that shows no progress for `stuck` is killed.
    pub fn start(worker: &Worker, order: &JobOrder, stuck: Duration) -> Child {
        let shared = Arc::new(Shared::default());
        let (sender, heard) = sync_channel(WAITING);
        let mut line = serde_json::to_vec(order).expect("an order holds plain values only");
        line.push(b'\n');
        let keeper = {
            let (worker, shared) = (worker.clone(), Arc::clone(&shared));
            thread::Builder::new()
                .name("job".to_owned())
                .spawn(move || keep(&worker, &line, &shared, &sender))
        };
        let (keeper, ended) = match keeper {
            Ok(keeper) => (Some(keeper), None),
            Err(error) => (None, Some(Ended::CannotStart(Arc::new(error)))),
        };
        Child {
            shared,
            heard: Some(heard),
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
        self.shared.process().as_ref().map(process::Child::id)
    }

    /// Waits for what comes next, at most this long.
    pub fn next(&mut self, timeout: Duration) -> Next {
        let until = Instant::now() + timeout;
        loop {
            if let Some(ended) = &self.ended {
                return Next::Ended(ended.clone());
            }
            let Some(heard) = &self.heard else { return Next::Nothing };
            let left = until.saturating_duration_since(Instant::now());
            let quiet = self.stuck.saturating_sub(self.last.elapsed());
            let wait = if self.is_stuck { left } else { left.min(quiet) };
            match heard.recv_timeout(wait) {
                Ok(Heard::Message(message)) => {
                    self.last = Instant::now();
                    match message {
                        JobMessage::Event { .. } | JobMessage::Phase { .. } => return Next::Message(message),
                        result => self.result = Some(result),
                    }
                }
                Ok(Heard::Garbage) => {
                    let error = "the process that trains said something that is no message".to_owned();
                    self.result = Some(JobMessage::Failed { kind: FailureKind::Other, error });
                    self.shared.kill();
                }
                Ok(Heard::End { status, said }) => self.ended = Some(self.judge(status, &said)),
                Ok(Heard::CannotStart(error)) => self.ended = Some(Ended::CannotStart(Arc::new(error))),
                Err(RecvTimeoutError::Disconnected) => {
                    let error = io::Error::other("the thread that stays with the process is gone");
                    self.ended = Some(Ended::CannotStart(Arc::new(error)));
                }
                Err(RecvTimeoutError::Timeout) => {
                    if !self.is_stuck && self.last.elapsed() >= self.stuck {
                        self.is_stuck = true;
                        self.shared.kill();
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
        self.shared.stopping.store(true, Ordering::SeqCst);
        drop(self.shared.input().take());
    }

    /// Ends it at once.
    pub fn kill(&self) {
        self.shared.kill();
    }

    /// How a process ended, by its last word, its status and the end of its standard error.
    fn judge(&mut self, status: io::Result<ExitStatus>, said: &str) -> Ended {
        let ended = self.ending(status, said);
        if !matches!(ended, Ended::Done(_) | Ended::Interrupted) && !said.trim().is_empty() {
            tracing::warn!("the process that trained said: {}", said.trim());
        }
        ended
    }

    fn ending(&mut self, status: io::Result<ExitStatus>, said: &str) -> Ended {
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
        let allocation = said.contains("memory allocation of ") && said.contains(" bytes failed");
        if allocation || said.contains("failed to spawn thread") && limit.is_some() {
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
        self.shared.kill();
        // First, so that the thread does not wait for somebody to listen.
        self.heard = None;
        if let Some(keeper) = self.keeper.take() {
            // It panics only if this program is broken; there is nothing left to do for it.
            let _ = keeper.join();
        }
    }
}

impl Shared {
    fn process(&self) -> MutexGuard<'_, Option<process::Child>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn input(&self) -> MutexGuard<'_, Option<ChildStdin>> {
        self.input.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kill(&self) {
        self.killed.store(true, Ordering::SeqCst);
        if let Some(process) = &mut *self.process() {
            // Of one that has ended and was reaped, the standard library knows that there is nobody to kill.
            let _ = process.kill();
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

/// Starts the process and stays with it until it is reaped.
fn keep(worker: &Worker, order: &[u8], shared: &Shared, sender: &SyncSender<Heard>) {
    // Whoever does not listen any more has killed the process, or will.
    let tell = |heard| drop(sender.send(heard));
    let (input, output, errors) = match spawn(worker, shared) {
        Ok(streams) => streams,
        Err(error) => return tell(Heard::CannotStart(error)),
    };
    if shared.killed.load(Ordering::SeqCst) {
        shared.kill();
    }
    let said = thread::Builder::new().name("job-errors".to_owned()).spawn(move || kept(errors));
    give(input, order, shared);
    listen(output, sender);
    let status = loop {
        let ended = match &mut *shared.process() {
            Some(process) => process.try_wait(),
            None => Err(io::Error::other("the process is gone")),
        };
        match ended {
            Ok(None) => thread::sleep(REAP_EVERY),
            Ok(Some(status)) => break Ok(status),
            Err(error) => break Err(error),
        }
    };
    let said = said.ok().and_then(|said| said.join().ok()).unwrap_or_default();
    *shared.process() = None;
    tell(Heard::End { status, said });
}

fn spawn(worker: &Worker, shared: &Shared) -> io::Result<(ChildStdin, ChildStdout, ChildStderr)> {
    let mut command = Command::new(&worker.program);
    command.arg("job").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for name in SECRETS {
        command.env_remove(name);
    }
    // The trace of an abort or a panic would be all that is kept.
    command.env("RUST_BACKTRACE", "0");
    // Ctrl-C in a terminal is for the service, which ends its job in its own way.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut process = command.spawn()?;
    let streams = (process.stdin.take(), process.stdout.take(), process.stderr.take());
    *shared.process() = Some(process);
    match streams {
        (Some(input), Some(output), Some(errors)) => Ok((input, output, errors)),
        _ => unreachable!("all three were asked for"),
    }
}

/// Writes the order and leaves the rest of the input to [`Child::stop`].
fn give(mut input: ChildStdin, order: &[u8], shared: &Shared) {
    // A process that does not read it has ended, and its end tells more.
    if input.write_all(order).is_err() {
        return;
    }
    let mut place = shared.input();
    if !shared.stopping.load(Ordering::SeqCst) {
        *place = Some(input);
    }
}

/// Passes on what it says until it says no more.
fn listen(output: ChildStdout, sender: &SyncSender<Heard>) {
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut output).take(MAX_LINE).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        // A line without its end is of a process that was killed while it wrote.
        let whole = line.last() == Some(&b'\n');
        if !whole && (line.len() as u64) < MAX_LINE {
            return;
        }
        let heard = match serde_json::from_slice(&line) {
            Ok(message) if whole => Heard::Message(message),
            _ => Heard::Garbage,
        };
        let garbage = matches!(heard, Heard::Garbage);
        if sender.send(heard).is_err() || garbage {
            return;
        }
    }
}

/// Beginning and end of what it writes to standard error.
fn kept(mut errors: ChildStderr) -> String {
    let (mut said, mut buffer) = (Vec::new(), [0; KEPT]);
    while let Ok(read @ 1..) = errors.read(&mut buffer) {
        said.extend_from_slice(&buffer[..read]);
        if said.len() > 2 * KEPT {
            said.drain(KEPT..said.len() - KEPT);
        }
    }
    String::from_utf8_lossy(&said).into_owned()
}
