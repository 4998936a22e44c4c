//! Work split over threads: the only file that knows rayon.
//!
//! A region is a fixed list of pieces that depends on shapes alone, each computed by one thread from start to end,
//! so results have the same bits with any number of threads.

use std::sync::{Mutex, MutexGuard};

use rayon::prelude::*;

use crate::buffer::Buffer;
use crate::error::EngineError;
use crate::simd::Isa;

/// Most threads that an [`Exec`] takes.
pub(crate) const MAX_THREADS: usize = 256;

/// Multiply-adds of a region below which handing a part to a second thread costs more than it saves.
const SERIAL_WORK: usize = 400_000;

/// Multiply-adds of a whole pass below which waking the pool does: the tutorial CNN's 2.4 million take one thread
/// 74 us, two 105 us.
const SERIAL_PASS: usize = 4_000_000;

/// Where to run: an instruction set and a number of threads.
#[derive(Clone, Copy, Debug)]
pub struct Exec {
    /// The instruction set.
    pub isa: Isa,
    /// The number of threads, at least one.
    pub threads: usize,
    /// Whether every convolution is the plain sum of its products: no algorithm with another rounding error.
    pub exact: bool,
}

impl Exec {
    /// The best instruction set (or the one that `OCELLI_ISA` forces) on `threads` threads; 0 takes all cores
    /// that this process may use.
    ///
    /// # Errors
    /// [`EngineError::Isa`] for a forced instruction set that is not there, [`EngineError::Config`] for more than
    /// 256 threads.
    pub fn new(threads: usize) -> Result<Self, EngineError> {
        Exec::with_isa(Isa::best()?, threads)
    }

    /// A given instruction set on `threads` threads; 0 takes all cores.
    ///
    /// # Errors
    /// [`EngineError::Config`] for more than 256 threads.
    pub fn with_isa(isa: Isa, threads: usize) -> Result<Self, EngineError> {
        if threads > MAX_THREADS {
            return Err(EngineError::Config(format!("{threads} threads are more than {MAX_THREADS}")));
        }
        let all = || std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
        Ok(Exec { isa, threads: if threads == 0 { all() } else { threads }, exact: false })
    }
}

impl Exec {
    /// The same place, with or without algorithms that trade rounding for speed.
    pub fn exact(self, exact: bool) -> Self {
        Exec { exact, ..self }
    }
}

/// A pool of threads and a scratch buffer for each.
pub(crate) struct Threads {
    pool: Option<rayon::ThreadPool>,
    scratch: Vec<Mutex<Buffer>>,
}

impl Threads {
    /// A pool of `count` threads, each with `scratch` floats of its own.
    pub(crate) fn new(count: usize, scratch: usize) -> Result<Self, EngineError> {
        let pool = if count > 1 {
            let builder = rayon::ThreadPoolBuilder::new().num_threads(count);
            let named = builder.thread_name(|i| format!("ocelli-{i}"));
            Some(
                named
                    .build()
                    .map_err(|e| EngineError::Config(format!("cannot start {count} threads: {e}")))?,
            )
        } else {
            None
        };
        let scratch = (0..count).map(|_| Mutex::new(Buffer::zeros(scratch))).collect();
        Ok(Threads { pool, scratch })
    }

    /// Number of threads.
    pub(crate) fn count(&self) -> usize {
        self.scratch.len()
    }

    /// Runs `f` inside the pool, so that the regions in it need no wake-up from outside; runs it on the caller
    /// when `work` multiply-adds are too few to share.
    pub(crate) fn enter<R: Send>(&self, work: usize, f: impl FnOnce() -> R + Send) -> R {
        match &self.pool {
            Some(pool) if work >= SERIAL_PASS => pool.install(f),
            _ => f(),
        }
    }

    /// The scratch buffer of the thread that asks.
    pub(crate) fn scratch(&self) -> MutexGuard<'_, Buffer> {
        let worker = rayon::current_thread_index().unwrap_or(0) % self.scratch.len();
        // A poisoned buffer holds finished floats all the same: scratch carries nothing from one use to the next.
        self.scratch[worker].lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// `f(i, piece)` for every piece of `len` elements of `out`; the last one may be shorter.
    pub(crate) fn pieces<T: Send>(
        &self,
        work: usize,
        out: &mut [T],
        len: usize,
        f: impl Fn(usize, &mut [T]) + Sync,
    ) {
        let len = len.max(1);
        if self.is_serial(work, out.len().div_ceil(len)) {
            out.chunks_mut(len).enumerate().for_each(|(i, piece)| f(i, piece));
        } else {
            out.par_chunks_mut(len).enumerate().for_each(|(i, piece)| f(i, piece));
        }
    }

    /// As [`Threads::pieces`] over two outputs that are cut into the same number of pieces.
    pub(crate) fn pieces2<T: Send, U: Send>(
        &self,
        work: usize,
        (a, a_len): (&mut [T], usize),
        (b, b_len): (&mut [U], usize),
        f: impl Fn(usize, &mut [T], &mut [U]) + Sync,
    ) {
        let (a_len, b_len) = (a_len.max(1), b_len.max(1));
        debug_assert_eq!(a.len().div_ceil(a_len), b.len().div_ceil(b_len));
        if self.is_serial(work, a.len().div_ceil(a_len)) {
            let pairs = a.chunks_mut(a_len).zip(b.chunks_mut(b_len));
            pairs.enumerate().for_each(|(i, (a, b))| f(i, a, b));
        } else {
            let pairs = a.par_chunks_mut(a_len).zip(b.par_chunks_mut(b_len));
            pairs.enumerate().for_each(|(i, (a, b))| f(i, a, b));
        }
    }

    /// As [`Threads::pieces`] over three outputs of one length.
    pub(crate) fn pieces3<T: Send>(
        &self,
        work: usize,
        [a, b, c]: [&mut [T]; 3],
        len: usize,
        f: impl Fn(usize, [&mut [T]; 3]) + Sync,
    ) {
        if self.is_serial(work, a.len().div_ceil(len)) {
            let parts = a.chunks_mut(len).zip(b.chunks_mut(len)).zip(c.chunks_mut(len));
            parts.enumerate().for_each(|(i, ((a, b), c))| f(i, [a, b, c]));
        } else {
            let parts = a.par_chunks_mut(len).zip(b.par_chunks_mut(len)).zip(c.par_chunks_mut(len));
            parts.enumerate().for_each(|(i, ((a, b), c))| f(i, [a, b, c]));
        }
    }

    fn is_serial(&self, work: usize, pieces: usize) -> bool {
        // Outside of the pool rayon would start a global one of its own.
        pieces < 2 || work < SERIAL_WORK || self.pool.is_none() || rayon::current_thread_index().is_none()
    }
}
