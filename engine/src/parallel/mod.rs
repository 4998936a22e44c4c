//! Work split over threads.
//!
//! A region is a fixed list of pieces that depends on shapes alone, each computed by one thread from start to end,
//! so results have the same bits with any number of threads.
//!
//! **Rayon or a pool of our own?** A single image is some twenty to fifty regions of 20 to 500 us. Medians on two shared
//! cores of a Zen 3 machine, both pools in one process: a pass of one empty region took 14 us with rayon and 0.3 us with
//! ours, a pass of two pieces of 20 us took 57 and 22 us; after 2 ms of rest 72 and 44 us. On a crowded machine rayon was
//! sometimes ahead, 185 against 205 us for two pieces of 100 us. Rayon also allocates when work enters it from outside.
//! `cargo bench --bench threads` measures both.

mod bell;
#[allow(
    unsafe_code,
    reason = "threads share a closure on the stack of their caller and disjoint pieces of slices"
)]
mod pool;
mod workers;

use std::cell::Cell;
use std::sync::{Mutex, MutexGuard};

use crate::buffer::Buffer;
use crate::error::EngineError;
use pool::Claims;
use workers::Workers;

/// Multiply-adds of a region, 3 us, below which handing a part to a second thread costs more than it saves: of 50, 100,
/// 200 and 400 thousand the first two give the tutorial CNN 44 us, the others 47 and 55.
const SERIAL_WORK: usize = 100_000;

/// Multiply-adds of a whole pass below which its regions are not shared. The tutorial CNN's 2.4 million take one thread
/// 75 us, two 44 us when passes follow each other; after a pause, when workers must wake up, two save 20 us or lose as
/// much, as the other core is free or not. Smaller passes are over before a worker is awake.
const SERIAL_PASS: usize = 2_000_000;

thread_local! {
    /// Whether this thread is in a pass that is worth more than one thread.
    static SHARING: Cell<bool> = const { Cell::new(false) };
}

/// A pool of threads, the caller among them, and a scratch buffer for each.
pub struct Threads {
    workers: Option<Workers>,
    scratch: Vec<Mutex<Buffer>>,
}

impl Threads {
    /// A pool of `count` threads, each with `scratch` floats of its own.
    ///
    /// # Errors
    /// [`EngineError::Config`] when the system has no more threads.
    pub fn new(count: usize, scratch: usize) -> Result<Self, EngineError> {
        let start = |count: usize| {
            let failed = |e| EngineError::Config(format!("cannot start {count} threads: {e}"));
            Workers::new(count - 1).map_err(failed)
        };
        let workers = if count > 1 { Some(start(count)?) } else { None };
        let scratch = (0..count.max(1)).map(|_| Mutex::new(Buffer::zeros(scratch))).collect();
        Ok(Threads { workers, scratch })
    }

    /// Number of threads.
    pub fn count(&self) -> usize {
        self.scratch.len()
    }

    /// Runs a pass, `f`, on this thread; the regions in it are shared unless the `work` multiply-adds of the pass are
    /// too few.
    pub fn enter<R>(&self, work: usize, f: impl FnOnce() -> R) -> R {
        struct Restore(bool);
        impl Drop for Restore {
            fn drop(&mut self) {
                SHARING.set(self.0);
            }
        }
        let _restore = Restore(SHARING.replace(SHARING.get() || work >= SERIAL_PASS));
        f()
    }

    /// The scratch buffer of the thread that asks.
    pub fn scratch(&self) -> MutexGuard<'_, Buffer> {
        let own = &self.scratch[workers::worker() % self.scratch.len()];
        // A poisoned buffer holds finished floats all the same: scratch carries nothing from one use to the next.
        own.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// `f(i)` for every `i` below `count`.
    pub fn tasks(&self, work: usize, count: usize, f: impl Fn(usize) + Sync) {
        self.share(work, Claims::<(), 0>::new([], count), |i, []| f(i));
    }

    /// `f(i, piece)` for every piece of `len` elements of `out`; the last one may be shorter.
    pub fn pieces<T: Send>(
        &self,
        work: usize,
        out: &mut [T],
        len: usize,
        f: impl Fn(usize, &mut [T]) + Sync,
    ) {
        self.share(work, Claims::new([(out, len)], usize::MAX), |i, [piece]| f(i, piece));
    }

    /// As [`Threads::pieces`] over two outputs that are cut into the same number of pieces.
    pub fn pieces2<T: Send>(
        &self,
        work: usize,
        a: (&mut [T], usize),
        b: (&mut [T], usize),
        f: impl Fn(usize, &mut [T], &mut [T]) + Sync,
    ) {
        debug_assert_eq!(a.0.len().div_ceil(a.1.max(1)), b.0.len().div_ceil(b.1.max(1)));
        self.share(work, Claims::new([a, b], usize::MAX), |i, [a, b]| f(i, a, b));
    }

    /// As [`Threads::pieces`] over some outputs of one length.
    pub fn pieces_each<T: Send, const N: usize>(
        &self,
        work: usize,
        outs: [&mut [T]; N],
        len: usize,
        f: impl Fn(usize, [&mut [T]; N]) + Sync,
    ) {
        const { assert!(N > 0, "without an output there is no end to the pieces") };
        self.share(work, Claims::new(outs.map(|out| (out, len)), usize::MAX), f);
    }

    /// Calls `f` with every number and its pieces.
    fn share<T: Send, const N: usize>(
        &self,
        work: usize,
        mut claims: Claims<T, N>,
        f: impl Fn(usize, [&mut [T]; N]) + Sync,
    ) {
        match &self.workers {
            Some(workers) if claims.count() > 1 && work >= SERIAL_WORK && SHARING.get() => {
                claims.share_between(self.count());
                workers.run(|| claims.take(workers::worker(), &f));
            }
            _ => claims.take(0, &f),
        }
    }
}

#[cfg(test)]
mod tests;
