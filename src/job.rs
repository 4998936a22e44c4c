//! `ocelli job`: one training job in a process of its own, started by a service. Nobody types it.
//!
//! The order is the first line of standard input, progress and result are lines of standard output
//! ([`ocelli_pipeline::job`]). The process bounds itself before it takes memory or starts threads, so that whatever becomes
//! of it is no concern of the service: it may die of its limit, be the first that the kernel kills, or be stopped half-way.

use std::io::{self, BufRead, Read, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ocelli_pipeline::job::{JobMessage, JobOrder, run_job};

use crate::failure::{Failure, Message};
use crate::interrupt::Interrupt;

/// Longest order: a list of held-out images may be in it.
const MAX_ORDER: u64 = 256 << 20;

/// Exit code of a job that was told to end is that of a process that SIGTERM ended.
const SIGTERM: u8 = 15;

/// Train as another process says on standard input
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(Args {}: Args) -> Result<(), Failure> {
    bounds::end_with_parent();
    let JobOrder { parent, nice, spec } = read_order()?;
    if !bounds::is_parent(parent) {
        return Err(unusable("the service that started this job is gone"));
    }
    // Threads inherit priority and limits of the one that starts them: before there is a second one.
    bounds::apply(nice, spec.memory).map_err(|error| unusable(&format!("limits cannot be set: {error}")))?;
    let interrupt = Interrupt::listen()?;
    let stop = Arc::clone(&interrupt);
    std::thread::Builder::new()
        .name("orders".to_owned())
        .spawn(move || {
            wait_for_stop();
            stop.stop.store(true, Ordering::Relaxed);
        })
        .map_err(|error| unusable(&format!("no thread: {error}")))?;
    let mut tell = |message: &JobMessage| {
        let mut out = io::stdout().lock();
        let line = message.to_json() + "\n";
        // Nobody listens: what is done is kept for the next attempt.
        if out.write_all(line.as_bytes()).and_then(|()| out.flush()).is_err() {
            interrupt.stop.store(true, Ordering::Relaxed);
        }
    };
    let last = JobMessage::ended(run_job(&spec, &interrupt.stop, &mut tell));
    tell(&last);
    match last {
        JobMessage::Done { .. } => Ok(()),
        JobMessage::Interrupted => {
            let text = "the run is kept, to be gone on with".to_owned();
            Err(Failure::Interrupted { signal: SIGTERM, message: Message { text, hint: None } })
        }
        // Told on standard output.
        _ => Err(Failure::Failed(Message::default())),
    }
}

fn unusable(reason: &str) -> Failure {
    Failure::failed(reason, "this command is for `ocelli serve`; `ocelli train` trains")
}

/// The first line of standard input.
fn read_order() -> Result<JobOrder, Failure> {
    let mut line = Vec::new();
    let mut input = io::stdin().lock().take(MAX_ORDER);
    input.read_until(b'\n', &mut line).map_err(|error| unusable(&format!("no order: {error}")))?;
    if line.last() != Some(&b'\n') {
        return Err(unusable("standard input holds no order of at most 256 MiB on one line"));
    }
    serde_json::from_slice(&line).map_err(|error| unusable(&format!("the order cannot be read: {error}")))
}

/// Returns at a line `stop`, or at the end of standard input: whoever gave the order wants no more of it, or is gone.
fn wait_for_stop() {
    let mut line = Vec::new();
    loop {
        line.clear();
        match io::stdin().lock().take(64).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) if line.trim_ascii() == b"stop" => return,
            Ok(_) => {}
        }
    }
}

#[cfg(target_os = "linux")]
mod bounds {
    use std::io;

    use rustix::process::{
        Pid, Resource, Rlimit, Signal, getppid, getpriority_process, set_parent_process_death_signal,
        setpriority_process, setrlimit,
    };

    /// Asks the kernel to kill this process when its parent ends.
    pub(super) fn end_with_parent() {
        // Without it, the end of standard input tells.
        let _ = set_parent_process_death_signal(Some(Signal::KILL));
    }

    /// False where the parent ended before it could be watched: some other process has taken its place then.
    pub(super) fn is_parent(id: u32) -> bool {
        getppid().is_some_and(|parent| u32::try_from(Pid::as_raw(Some(parent))) == Ok(id))
    }

    /// Sets this process's priority and limits.
    pub(super) fn apply(nice: u8, memory: Option<u64>) -> io::Result<()> {
        let own = getpriority_process(None)?;
        setpriority_process(None, (own + i32::from(nice)).min(19))?;
        // Of several processes the kernel kills this one first. A system that hides the file decides for itself.
        let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
        // Running out of memory is an abort: no copy of all that memory on the disk.
        setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
        if let Some(bytes) = memory {
            // What can be written and belongs to this process alone: heap and stacks of threads. The address space would
            // count the program's own file and what the allocator only reserves, 64 MiB and more for each thread.
            setrlimit(Resource::Data, Rlimit { current: Some(bytes), maximum: Some(bytes) })?;
        }
        Ok(())
    }
}

/// Other systems have no such bounds that can be set without unsafe code; the end of standard input still ends the job.
#[cfg(not(target_os = "linux"))]
mod bounds {
    pub(super) fn end_with_parent() {}

    pub(super) fn is_parent(_: u32) -> bool {
        true
    }

    pub(super) fn apply(_: u8, _: Option<u64>) -> std::io::Result<()> {
        Ok(())
    }
}
