//! Work split over threads.
//!
//! A region is a fixed list of pieces that depends on shapes alone, each computed by one thread from start to end,
//! so results have the same bits with any number of threads.
//!
//! The threads are those of one pool, which the whole process shares ([`Pool`]). A pass, that is a forward pass or a
//! step of training, asks the pool for helpers once: jobs that take part in one region after the other (`Team`), run
//! other jobs of the pool when there is a pause, and leave when the pass is over. A helper that is still busy with another
//! job is not waited for.

#[allow(unsafe_code, reason = "threads write disjoint channels of one output")]
mod columns;
mod event;
mod place;
mod pool;
#[allow(
    unsafe_code,
    reason = "threads share a closure on the stack of their caller and disjoint pieces of slices"
)]
mod region;
mod spin;
mod sync;
mod team;

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::buffer::{Buffer, Untouched};
use crate::error::EngineError;
pub use columns::Columns;
pub use pool::{Pool, default_threads};
use region::{Cut, Cuts, Pieces};
use team::Team;
pub use team::Wait;

/// Multiply-adds of a region, 3 us, below which handing a part to one more thread costs more than it saves: of 50, 100,
/// 200 and 400 thousand the first two give the tutorial CNN 44 us, the others 47 and 55.
const SERIAL_WORK: usize = 100_000;

/// Multiply-adds of a whole pass for each thread that helps. The tutorial CNN's 2.4 million take one thread 75 us, two
/// 44 us when passes follow each other; after a pause, when helpers must wake up, two save 20 us or lose as much, as the
/// other core is free or not. Smaller passes are over before a helper is awake.
const SERIAL_PASS: usize = 2_000_000;

/// The pool as one plan uses it: the helpers of its passes, and a scratch buffer for each thread.
pub struct Threads {
    count: usize,
    pool: Pool,
    team: Arc<Team>,
    scratch: Box<[Mutex<Scratch>]>,
}

/// Floats that the thread which uses them first zeroes, so that their memory is near to its core.
struct Scratch {
    buffer: Buffer,
    untouched: Option<Untouched>,
}

/// The scratch buffer of a thread, while that thread uses it.
pub struct ScratchGuard<'a>(MutexGuard<'a, Scratch>);

/// Scratch buffers of a plan on a pool of `threads` threads: one for each, and where there are several, one for a caller
/// that is none of them.
pub(crate) fn scratch_buffers(threads: usize) -> usize {
    if threads > 1 { threads + 1 } else { 1 }
}

impl Threads {
    /// Access to a pool, with `scratch` floats for each of its threads.
    ///
    /// # Errors
    /// [`EngineError::Config`] when the system has no more threads.
    pub fn new(pool: &Pool, wait: Wait, scratch: usize) -> Result<Self, EngineError> {
        let count = pool.threads();
        if count > 1 {
            pool.thread_pool()?;
        }
        let scratch = (0..scratch_buffers(count)).map(|_| Mutex::new(Scratch::new(scratch))).collect();
        let team = Arc::new(Team::new(pool.clone(), wait));
        Ok(Threads { count, pool: pool.clone(), team, scratch })
    }

    /// Number of threads that compute at a time.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Floats of all scratch buffers.
    #[cfg(test)]
    pub(crate) fn scratch_len(&self) -> usize {
        self.scratch.iter().map(|scratch| lock(scratch).len()).sum()
    }

    /// Runs a pass, `f`, on this thread; the regions in it are shared unless the `work` multiply-adds of the pass are
    /// too few. A pass in another one of the same plan belongs to it.
    pub fn enter<R>(&self, work: usize, f: impl FnOnce() -> R) -> R {
        let helpers = (self.count - 1).min(work / SERIAL_PASS);
        let _pass = if helpers > 0 { self.team.begin(helpers) } else { None };
        f()
    }

    /// The scratch buffer of the thread that asks.
    pub fn scratch(&self) -> ScratchGuard<'_> {
        let last = self.scratch.len() - 1;
        let own = if last == 0 { 0 } else { self.pool.worker().unwrap_or(last) };
        let mut scratch = lock(&self.scratch[own]);
        if let Some(untouched) = scratch.untouched.take() {
            scratch.buffer = untouched.zeroed();
        }
        ScratchGuard(scratch)
    }

    /// `f(i)` for every `i` below `count`.
    pub fn tasks(&self, work: usize, count: usize, f: impl Fn(usize) + Sync) {
        self.share(work, Pieces::new([] as [Cut<()>; 0], count), |i, []| f(i));
    }

    /// `f(i, piece)` for every piece of `len` elements of `out`; the last one may be shorter.
    pub fn pieces<T: Send>(
        &self,
        work: usize,
        out: &mut [T],
        len: usize,
        f: impl Fn(usize, &mut [T]) + Sync,
    ) {
        self.share(work, Pieces::new([Cut::new((out, len))], usize::MAX), |i, [piece]| f(i, piece));
    }

    /// As [`Threads::pieces`] over two outputs that are cut into the same number of pieces.
    pub fn pieces2<A: Send, B: Send>(
        &self,
        work: usize,
        a: (&mut [A], usize),
        b: (&mut [B], usize),
        f: impl Fn(usize, &mut [A], &mut [B]) + Sync,
    ) {
        debug_assert_eq!(a.0.len().div_ceil(a.1.max(1)), b.0.len().div_ceil(b.1.max(1)));
        let cuts = ([Cut::new(a)], [Cut::new(b)]);
        self.share(work, Pieces::new(cuts, usize::MAX), |i, ([a], [b])| f(i, a, b));
    }

    /// As [`Threads::pieces2`] over one or two outputs of one type and `M` of another.
    pub fn pieces_of<A: Send, B: Send, const M: usize>(
        &self,
        work: usize,
        a: (&mut [A], usize),
        more: Option<(&mut [A], usize)>,
        b: [(&mut [B], usize); M],
        f: impl Fn(usize, (&mut [A], Option<&mut [A]>), [&mut [B]; M]) + Sync,
    ) {
        let pieces = |len: usize, piece: usize| len.div_ceil(piece.max(1));
        let count = pieces(a.0.len(), a.1);
        debug_assert!(more.as_ref().is_none_or(|more| pieces(more.0.len(), more.1) == count));
        debug_assert!(b.iter().all(|b| pieces(b.0.len(), b.1) == count));
        let cuts = (([Cut::new(a)], more.map(|more| [Cut::new(more)])), b.map(Cut::new));
        self.share(work, Pieces::new(cuts, usize::MAX), |i, (([a], more), b)| {
            f(i, (a, more.map(|[more]| more)), b);
        });
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
        self.share(work, Pieces::new(outs.map(|out| Cut::new((out, len))), usize::MAX), f);
    }

    /// Calls `f` with every number and its pieces.
    fn share<C: Cuts>(&self, work: usize, pieces: Pieces<C>, f: impl Fn(usize, C::Piece) + Sync) {
        let helpers = pieces.count().saturating_sub(1).min(work / SERIAL_WORK).min(self.team.wanted());
        if helpers > 0 { self.team.share(helpers, pieces, f) } else { pieces.each(f) }
    }
}

impl Scratch {
    fn new(len: usize) -> Self {
        Scratch { buffer: Buffer::zeros(0), untouched: Some(Untouched::new(len)) }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.untouched.as_ref().map_or(self.buffer.len(), Untouched::len)
    }
}

impl Deref for ScratchGuard<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.0.buffer
    }
}

impl DerefMut for ScratchGuard<'_> {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.0.buffer
    }
}

/// The lock of a buffer. A poisoned one holds finished floats all the same: scratch carries nothing from one use to the
/// next.
fn lock(scratch: &Mutex<Scratch>) -> MutexGuard<'_, Scratch> {
    scratch.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(all(test, loom))]
mod model;
// WebAssembly has no threads.
#[cfg(all(test, not(loom), not(target_family = "wasm")))]
mod tests;
