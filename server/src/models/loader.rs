//! The one thread that loads models.
//!
//! Allocators keep what is freed for the thread that had it, or for a group of threads. If whatever thread is free loaded
//! the next version, each group would come to keep the memory of a model for itself, and a service that swaps versions
//! for weeks would grow to many times its size. Loaded by one thread, a version takes the place that an earlier one left.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Sender};
use std::thread;

type Work = Box<dyn FnOnce() + Send>;

/// The way to the thread. It ends when this is dropped.
pub(crate) struct Loader(Sender<Work>);

impl Loader {
    /// Starts the thread.
    pub(crate) fn start() -> io::Result<Loader> {
        let (sender, works) = mpsc::channel::<Work>();
        thread::Builder::new().name("ocelli-loader".into()).spawn(move || {
            for work in works {
                work();
            }
        })?;
        Ok(Loader(sender))
    }

    /// Does `work` on the thread and waits for it; `None` if it panicked.
    pub(crate) fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let (reply, result) = mpsc::channel();
        let contained = move || {
            if let Ok(value) = catch_unwind(AssertUnwindSafe(work)) {
                // Whoever asked waits for it.
                let _ = reply.send(value);
            }
        };
        self.0.send(Box::new(contained)).ok()?;
        result.recv().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_done_by_one_thread_which_outlives_panics() {
        let loader = Loader::start().unwrap();
        let id = || thread::current().id();
        let first = loader.run(id).unwrap();
        assert_eq!(loader.run(|| -> u8 { panic!("on purpose") }), None);
        assert_eq!(loader.run(id), Some(first));
        assert_ne!(first, id());
    }
}
