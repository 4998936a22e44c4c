//! The threads of a pool: they spin for the next region, then park.

use std::cell::Cell;
use std::hint::spin_loop;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};

use super::bell::{Bell, SPINS};
use super::pool::Region;

/// Spins after which a worker without work lends its core: 10 us. A system that wakes a worker on the core of its caller
/// stops the caller; without this, 0.3 ms for a pass of 0.15 ms on a busy machine. To lend it between regions as well
/// gives it to strangers for whole time slices: training was up to 1.7 times slower.
const LEND: u32 = 400;

thread_local! {
    /// The number of a worker in its pool; 0 on any other thread.
    static WORKER: Cell<usize> = const { Cell::new(0) };
}

/// The number of this thread in its pool; 0 for a caller.
pub(super) fn worker() -> usize {
    WORKER.get()
}

/// Threads that help their callers. Dropped, it joins them.
pub(super) struct Workers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    region: Region,
    stop: AtomicBool,
    /// Rung for the workers when a region opens or the pool stops.
    bell: Bell,
    /// Number of workers that have started, and what tells of one more.
    started: Mutex<usize>,
    one_more: Condvar,
}

impl Workers {
    /// `count` threads, numbered from 1, which have started: what a system takes and allocates for that is no part of
    /// the first regions.
    pub(super) fn new(count: usize) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            region: Region::new(),
            stop: AtomicBool::new(false),
            bell: Bell::new(),
            started: Mutex::new(0),
            one_more: Condvar::new(),
        });
        // Made first, so that an error stops the threads that have started.
        let mut workers = Workers { shared, threads: Vec::with_capacity(count) };
        for number in 1..=count {
            let shared = Arc::clone(&workers.shared);
            let builder = thread::Builder::new().name(format!("ocelli-{number}"));
            workers.threads.push(builder.spawn(move || shared.serve(number))?);
        }
        let mut started = lock(&workers.shared.started);
        while *started < count {
            started = workers.shared.one_more.wait(started).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
        drop(started);
        Ok(workers)
    }

    /// Calls `f` on this thread and on every worker that comes before this thread is done; returns when all are. In a
    /// region of the same pool, this thread's or another's, `f` is called here alone.
    ///
    /// # Panics
    /// With the first panic of `f`, when all threads have left.
    pub(super) fn run(&self, f: impl Fn() + Sync) {
        let panicked = Mutex::new(None);
        let caught = || {
            if let Err(payload) = catch_unwind(AssertUnwindSafe(&f)) {
                lock(&panicked).get_or_insert(payload);
            }
        };
        self.shared.region.run(&caught, || self.shared.bell.ring());
        if let Some(payload) = panicked.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()) {
            resume_unwind(payload);
        }
    }

    /// Number of regions that were opened to the workers.
    #[cfg(test)]
    pub(super) fn regions(&self) -> u64 {
        self.shared.region.number()
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        self.shared.bell.ring();
        for thread in self.threads.drain(..) {
            // An error would be a panic of a panic's payload, dropped: the region was left all the same.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// What worker `number` does all its life.
    fn serve(&self, number: usize) {
        WORKER.set(number);
        *lock(&self.started) += 1;
        self.one_more.notify_one();
        let (mut seen, mut spins) = (0, 0);
        while !self.stop.load(Relaxed) {
            if self.region.help(&mut seen) {
                spins = 0;
            } else if spins == SPINS {
                self.bell.sleep(|| self.region.number() != seen || self.stop.load(SeqCst));
                spins = 0;
            } else {
                spins += 1;
                // Nothing is left in an open region: its caller still computes, or it waits for this very core.
                let lend = spins % LEND == 0 && self.region.is_open();
                if lend { thread::yield_now() } else { spin_loop() }
            }
        }
    }
}

/// The lock of a mutex that guards nothing that a panic could leave half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
