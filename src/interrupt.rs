//! Signals: the first one asks the command to come to a good end, the second one ends it now.
//!
//! SIGINT and SIGTERM are taken; SIGHUP keeps its default, so that `nohup ocelli train` outlives its terminal.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ocelli_pipeline::PipelineError;
use tokio::sync::Notify;

use crate::failure::{Failure, Message};
use crate::output;

/// Number of SIGINT.
const SIGINT: u8 = 2;
/// Number of SIGTERM.
const SIGTERM: u8 = 15;

/// Whether a signal came.
#[derive(Default)]
pub(crate) struct Interrupt {
    /// Set by the first signal.
    pub(crate) stop: AtomicBool,
    signal: AtomicU8,
    notify: Notify,
    announcement: Mutex<&'static str>,
    /// Gives the terminal back before the process ends at once.
    before_exit: Mutex<Option<fn()>>,
}

impl Interrupt {
    /// Starts to listen; once in a process.
    pub(crate) fn listen() -> Result<Arc<Self>, Failure> {
        let failed = |error: io::Error| Failure::io(Path::new("signal handler"), &error);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        // Before this function returns: from then on no signal may take its default and end the process.
        let mut signals = {
            let _context = runtime.enter();
            Signals::new().map_err(failed)?
        };
        let interrupt = Arc::new(Interrupt::default());
        let shared = Arc::clone(&interrupt);
        let listen = move || {
            runtime.block_on(async {
                shared.raise(signals.next().await);
                shared.exit(signals.next().await);
            });
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(listen).map_err(failed)?;
        Ok(interrupt)
    }

    /// What to say when the first signal comes.
    pub(crate) fn announce(&self, text: &'static str) {
        *self.announcement.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }

    /// What to do before the process ends at once.
    pub(crate) fn before_exit(&self, work: fn()) {
        *self.before_exit.lock().unwrap_or_else(PoisonError::into_inner) = Some(work);
    }

    /// A key was pressed that means Ctrl-C: in a terminal that hands out single keys, none sends a signal.
    pub(crate) fn press(&self) {
        if self.raised() {
            self.exit(SIGINT);
        }
        self.signal.store(SIGINT, Ordering::Relaxed);
        self.stop.store(true, Ordering::Release);
        self.notify.notify_one();
    }

    fn exit(&self, signal: u8) -> ! {
        if let Some(work) = *self.before_exit.lock().unwrap_or_else(PoisonError::into_inner) {
            work();
        }
        std::process::exit(128 + i32::from(signal));
    }

    fn raise(&self, signal: u8) {
        self.signal.store(signal, Ordering::Relaxed);
        self.stop.store(true, Ordering::Release);
        self.notify.notify_one();
        let text = *self.announcement.lock().unwrap_or_else(PoisonError::into_inner);
        if !text.is_empty() {
            output::print_message(text);
        }
    }

    /// Whether a signal came.
    pub(crate) fn raised(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// The number of the signal that came, SIGINT where none did.
    pub(crate) fn signal(&self) -> u8 {
        match self.signal.load(Ordering::Relaxed) {
            0 => SIGINT,
            signal => signal,
        }
    }

    /// What a command that was stopped, or went wrong otherwise, ends with.
    pub(crate) fn failure(&self, error: PipelineError) -> Failure {
        match error {
            PipelineError::Stopped => {
                let message = Message { text: error.to_string(), hint: None };
                Failure::Interrupted { signal: self.signal(), message }
            }
            error => error.into(),
        }
    }

    /// Whether it was SIGTERM: from a supervisor, not from a keyboard.
    pub(crate) fn is_terminate(&self) -> bool {
        self.signal() == SIGTERM
    }

    /// Waits for the first signal; at once where it has come already.
    pub(crate) async fn wait(&self) {
        if !self.raised() {
            self.notify.notified().await;
        }
    }
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.interrupt.recv() => SIGINT,
            _ = self.terminate.recv() => SIGTERM,
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Signals)
    }

    async fn next(&mut self) -> u8 {
        // An error here means that no handler can be set: wait for ever, as if no signal came.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        SIGINT
    }
}
