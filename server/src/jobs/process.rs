//! The process of a job and the thread that stays with it until it is reaped.
//!
//! It is this program again (`ocelli job`). One thread starts it and waits for it, for two reasons: the kernel kills it
//! when that thread ends, and no other thread ever waits for it.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{self, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use ocelli_pipeline::job::JobMessage;
use ocelli_pipeline::running_program;

/// Longest message: an evaluation of 4,096 classes has a matrix of 16 million numbers.
const MAX_LINE: u64 = 128 << 20;
/// What is kept of the beginning and of the end of its standard error: one of them says why it ended, whatever traces of
/// calls come after or before.
const KEPT: usize = 4 << 10;
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
        let program = if cfg!(target_os = "linux") && own.exists() { own } else { running_program()? };
        Ok(Worker { program })
    }
}

/// What whoever listens and the thread that stays with the process share.
#[derive(Default)]
pub(super) struct Handle {
    process: Mutex<Option<process::Child>>,
    /// Its standard input, whose end tells it to stop.
    input: Mutex<Option<ChildStdin>>,
    pub(super) stopping: AtomicBool,
    killed: AtomicBool,
}

/// What the process writes, and its end.
pub(super) enum Output {
    Message(JobMessage),
    /// A line that is no message, too long, or not text.
    Invalid,
    End {
        status: io::Result<ExitStatus>,
        errors: String,
    },
    CannotStart(io::Error),
}

impl Handle {
    pub(super) fn process(&self) -> MutexGuard<'_, Option<process::Child>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn input(&self) -> MutexGuard<'_, Option<ChildStdin>> {
        self.input.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn kill(&self) {
        self.killed.store(true, Ordering::SeqCst);
        if let Some(process) = &mut *self.process() {
            // Of one that has ended and was reaped, the standard library knows that there is nobody to kill.
            let _ = process.kill();
        }
    }
}

/// Starts the process and stays with it until it is reaped.
pub(super) fn keep(worker: &Worker, order: &[u8], handle: &Handle, sender: &SyncSender<Output>) {
    // Whoever does not listen any more has killed the process, or will.
    let tell = |output| drop(sender.send(output));
    let (input, output, errors) = match spawn(worker, handle) {
        Ok(streams) => streams,
        Err(error) => return tell(Output::CannotStart(error)),
    };
    if handle.killed.load(Ordering::SeqCst) {
        handle.kill();
    }
    let errors = thread::Builder::new().name("job-errors".to_owned()).spawn(move || kept(errors));
    send_order(input, order, handle);
    listen(output, sender);
    let status = loop {
        let ended = match &mut *handle.process() {
            Some(process) => process.try_wait(),
            None => Err(io::Error::other("the process is gone")),
        };
        match ended {
            Ok(None) => thread::sleep(REAP_EVERY),
            Ok(Some(status)) => break Ok(status),
            Err(error) => break Err(error),
        }
    };
    let errors = errors.ok().and_then(|errors| errors.join().ok()).unwrap_or_default();
    *handle.process() = None;
    tell(Output::End { status, errors });
}

fn spawn(worker: &Worker, handle: &Handle) -> io::Result<(ChildStdin, ChildStdout, ChildStderr)> {
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
    *handle.process() = Some(process);
    match streams {
        (Some(input), Some(output), Some(errors)) => Ok((input, output, errors)),
        _ => unreachable!("all three were asked for"),
    }
}

/// Writes the order and keeps the input open: its end tells the process to stop.
fn send_order(mut input: ChildStdin, order: &[u8], handle: &Handle) {
    // A process that does not read it has ended, and its end tells more.
    if input.write_all(order).is_err() {
        return;
    }
    let mut own = handle.input();
    if !handle.stopping.load(Ordering::SeqCst) {
        *own = Some(input);
    }
}

/// Passes on what it says until it says no more.
fn listen(output: ChildStdout, sender: &SyncSender<Output>) {
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
        let message = match serde_json::from_slice(&line) {
            Ok(message) if whole => Output::Message(message),
            _ => Output::Invalid,
        };
        let is_invalid = matches!(message, Output::Invalid);
        if sender.send(message).is_err() || is_invalid {
            return;
        }
    }
}

/// Beginning and end of what it writes to standard error.
fn kept(mut errors: ChildStderr) -> String {
    let (mut text, mut buffer) = (Vec::new(), [0; KEPT]);
    while let Ok(read @ 1..) = errors.read(&mut buffer) {
        text.extend_from_slice(&buffer[..read]);
        if text.len() > 2 * KEPT {
            text.drain(KEPT..text.len() - KEPT);
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}
