//! What threads share while they work together, and the only unsafe code of this folder: a closure on the stack of the
//! thread that called ([`Region`]), and slices cut into pieces for whoever comes first ([`Pieces`]).
//!
//! Threads join a region, none is awaited: one that is asleep, does something else or has lost its core is not missed,
//! as the others take its pieces. The caller waits only for threads that are inside.

use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::PoisonError;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};

use super::event::Event;
use super::sync::{AtomicBool, AtomicU64, AtomicUsize, Mutex, UnsafeCell};

/// Most threads of a region: as many as [`Region::state`] can count, and more than a pool can have.
pub(super) const MAX_THREADS: usize = FIELD as usize;

const FIELD: u64 = (1 << 16) - 1;
/// In [`Region::state`]: the threads inside.
const INSIDE: u64 = FIELD;
/// One more thread that may enter.
const CAPACITY: u64 = 1 << 16;
/// One generation more: the upper half numbers the regions.
const GENERATION: u64 = 1 << 32;

/// One closure at a time that several threads call. Aligned to two cache lines, which processors fetch together.
#[repr(align(128))]
pub(super) struct Region {
    state: AtomicU64,
    /// The closure; of use to threads inside alone.
    job: UnsafeCell<Job>,
    /// Whether a caller has the region.
    busy: AtomicBool,
    /// Tells the caller that a thread has left.
    left: Event,
    /// How many pieces of each part are taken; used by whoever set `busy` and threads inside.
    taken: Box<[Counter]>,
}

/// A closure without its type: its address, and how to call it with the index of a thread.
#[derive(Clone, Copy)]
struct Job {
    address: *const (),
    call: unsafe fn(*const (), usize),
}

/// A counter with a cache line of its own.
#[repr(align(64))]
struct Counter(AtomicUsize);

// SAFETY: `job` is the only part that is not Sync. It is written by the one thread that has set `busy`, while nobody may
// enter and nobody is inside, and read by threads inside; opening (release) and entering (acquire) order the two. What
// it points to is Sync, as `run` asks for.
unsafe impl Sync for Region {}
// SAFETY: a region without threads inside holds nothing that belongs to a thread, and one that is moved is not borrowed by
// `run`.
unsafe impl Send for Region {}

impl Region {
    /// A region for up to `threads` threads, the caller among them.
    pub(super) fn new(threads: usize) -> Self {
        let nothing = Job { address: std::ptr::null(), call: |_, _| () };
        Region {
            state: AtomicU64::new(0),
            job: UnsafeCell::new(nothing),
            busy: AtomicBool::new(false),
            left: Event::new(),
            taken: (0..threads.clamp(1, MAX_THREADS)).map(|_| Counter(AtomicUsize::new(0))).collect(),
        }
    }

    /// Calls `f` with every number and its pieces: on this thread, after `opened`, and on up to `helpers` threads that
    /// come to [`Region::help`] meanwhile; returns when all of them have left. In a region that is in use, this thread
    /// does all of it.
    ///
    /// # Panics
    /// With the first panic of `f`, when all threads have left.
    pub(super) fn share<C: Cuts>(
        &self,
        helpers: usize,
        pieces: Pieces<C>,
        f: impl Fn(usize, C::Piece) + Sync,
        opened: impl FnOnce(),
    ) {
        if self.busy.swap(true, Acquire) {
            return pieces.each(f);
        }
        let helpers = helpers.min(self.taken.len() - 1);
        let taken = &self.taken[..=helpers];
        // `busy` is ours and nobody is inside; opening the region tells the others.
        taken.iter().for_each(|counter| counter.0.store(0, Relaxed));
        let panicked = Mutex::new(None);
        let job = |index: usize| {
            // SAFETY: the counters are zero and ours until nobody is inside, and no other closure has these pieces.
            let take = || unsafe { pieces.take(taken, index, &f) };
            if let Err(payload) = catch_unwind(AssertUnwindSafe(take)) {
                panicked.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(payload);
            }
        };
        self.run(&job, helpers, opened);
        if let Some(payload) = panicked.into_inner().unwrap_or_else(PoisonError::into_inner) {
            resume_unwind(payload);
        }
    }

    /// Calls `f` here and on up to `helpers` other threads; the caller has set `busy`.
    fn run<F: Fn(usize) + Sync>(&self, f: &F, helpers: usize, opened: impl FnOnce()) {
        // Returns or unwinds only when nobody is inside.
        let _closing = Closing(self);
        let job = Job { address: (&raw const *f).cast(), call: call::<F> };
        // SAFETY: `busy` is ours, so no other thread writes; whoever had it before us left nobody inside, so none reads.
        self.job.with_mut(|place| unsafe { *place = job });
        self.state.fetch_add(GENERATION + CAPACITY * helpers as u64, SeqCst);
        opened();
        f(0);
    }

    /// Takes part, as the thread of that index, in a region of another generation than `seen`, which becomes the region's;
    /// false when there is nothing to do.
    pub(super) fn help(&self, seen: &mut u64, index: usize) -> bool {
        let mut state = self.state.load(Acquire);
        loop {
            let generation = state / GENERATION;
            if generation == *seen || capacity(state) == 0 {
                *seen = generation;
                return false;
            }
            match self.state.compare_exchange_weak(state, state - CAPACITY + 1, Acquire, Acquire) {
                Ok(_) => {
                    *seen = generation;
                    break;
                }
                Err(now) => state = now,
            }
        }
        let _leaving = Leaving(self);
        // SAFETY: this thread entered: `run`, which wrote the closure's address before it opened, keeps the closure
        // alive and the address as it is until this thread has left.
        self.job.with(|job| unsafe { ((*job).call)((*job).address, index) });
        true
    }

    /// Whether a caller has the region.
    pub(super) fn is_busy(&self) -> bool {
        self.busy.load(Relaxed)
    }

    /// Threads that may still enter; 0 while the region is closed.
    pub(super) fn open_places(&self) -> usize {
        capacity(self.state.load(SeqCst)) as usize
    }

    /// Number of regions opened so far.
    #[cfg(test)]
    pub(super) fn generation(&self) -> u64 {
        self.state.load(SeqCst) / GENERATION
    }
}

/// Threads that may still enter.
fn capacity(state: u64) -> u64 {
    (state / CAPACITY) & FIELD
}

/// # Safety
/// `address` is that of an `F`, which lives until this returns.
unsafe fn call<F: Fn(usize) + Sync>(address: *const (), index: usize) {
    // SAFETY: the caller's promise; other threads have no more than shared references either.
    unsafe { (*address.cast::<F>())(index) }
}

/// Closes a region and waits until nobody is inside.
struct Closing<'a>(&'a Region);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.state.fetch_and(!(CAPACITY * FIELD), SeqCst);
        let is_empty = || self.0.state.load(SeqCst) & INSIDE == 0;
        self.0.left.wait(is_empty);
        self.0.busy.store(false, Release);
    }
}

/// Leaves a region.
struct Leaving<'a>(&'a Region);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.state.fetch_sub(1, SeqCst);
        self.0.left.notify();
    }
}

/// Slices cut into as many pieces each; a number and its pieces go to one thread.
///
/// The numbers are cut into as many parts as threads may come: a thread takes those of its own part, which it had in the
/// layer before and still has in its cache, and then what is left of the others.
pub(super) struct Pieces<C> {
    cuts: C,
    count: usize,
}

/// A slice in pieces of `len`; the last one may be shorter.
pub(super) struct Cut<'a, T> {
    start: *mut T,
    total: usize,
    len: usize,
    borrowed: PhantomData<&'a mut [T]>,
}

impl<'a, T> Cut<'a, T> {
    /// A slice with the length of its pieces.
    pub(super) fn new((slice, len): (&'a mut [T], usize)) -> Self {
        let (total, len) = (slice.len(), len.max(1));
        Cut { start: slice.as_mut_ptr(), total, len, borrowed: PhantomData }
    }
}

/// Slices in pieces.
///
/// # Safety
/// Pieces may be sent to other threads, and those with different numbers have nothing in common.
pub(super) unsafe trait Cuts {
    /// One piece of each.
    type Piece;

    /// As many pieces as all of them have, at most `limit`.
    fn count(&self, limit: usize) -> usize;

    /// The pieces with number `i`.
    ///
    /// # Safety
    /// `i` is below the count, and nobody gets it twice.
    unsafe fn get(&self, i: usize) -> Self::Piece;
}

// SAFETY: elements may be sent, and pieces of a slice do not overlap.
unsafe impl<'a, T: Send, const N: usize> Cuts for [Cut<'a, T>; N] {
    type Piece = [&'a mut [T]; N];

    fn count(&self, limit: usize) -> usize {
        self.iter().map(|cut| cut.total.div_ceil(cut.len)).fold(limit, usize::min)
    }

    unsafe fn get(&self, i: usize) -> [&'a mut [T]; N] {
        self.each_ref().map(|&Cut { start, total, len, .. }| {
            let first = i * len;
            // SAFETY: `i` is below the count, so `first` lies in the slice and the length ends in it; the piece is nobody
            // else's, and the slice is borrowed for `'a`.
            unsafe { std::slice::from_raw_parts_mut(start.add(first), len.min(total - first)) }
        })
    }
}

/// Slices that may be absent; absent ones do not limit the number of pieces.
// SAFETY: what holds of the slices holds of them where they are there, and there is nothing to share where they are not.
unsafe impl<C: Cuts> Cuts for Option<C> {
    type Piece = Option<C::Piece>;

    fn count(&self, limit: usize) -> usize {
        self.as_ref().map_or(limit, |cuts| cuts.count(limit))
    }

    unsafe fn get(&self, i: usize) -> Self::Piece {
        // SAFETY: the contract of this function.
        self.as_ref().map(|cuts| unsafe { cuts.get(i) })
    }
}

/// Slices of two types.
// SAFETY: what holds of both holds of pairs of them.
unsafe impl<A: Cuts, B: Cuts> Cuts for (A, B) {
    type Piece = (A::Piece, B::Piece);

    fn count(&self, limit: usize) -> usize {
        self.1.count(self.0.count(limit))
    }

    unsafe fn get(&self, i: usize) -> Self::Piece {
        // SAFETY: the contract of this function.
        unsafe { (self.0.get(i), self.1.get(i)) }
    }
}

// SAFETY: shared pieces hand each piece, which may be sent, to one thread.
unsafe impl<C: Cuts> Sync for Pieces<C> {}

impl<C: Cuts> Pieces<C> {
    /// As many pieces as all slices have but at most `limit`.
    pub(super) fn new(cuts: C, limit: usize) -> Self {
        let count = cuts.count(limit);
        Pieces { cuts, count }
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Calls `f` with every number, in order, and its pieces.
    pub(super) fn each(self, f: impl Fn(usize, C::Piece)) {
        for i in 0..self.count {
            // SAFETY: `i` is below the count and passed once; nobody else has these pieces, as this consumes them.
            f(i, unsafe { self.cuts.get(i) });
        }
    }

    /// Calls `f` with every number that is not taken, and its pieces.
    ///
    /// # Safety
    /// All calls get the same counters, which were zero before the first and which nothing else changes.
    unsafe fn take(&self, taken: &[Counter], index: usize, f: impl Fn(usize, C::Piece)) {
        let share = self.count.div_ceil(taken.len());
        for part in 0..taken.len() {
            let part = (index + part) % taken.len();
            let first = part.saturating_mul(share).min(self.count);
            let end = first.saturating_add(share).min(self.count);
            // Read before it is changed: a counter that is at its end stays in the caches of all who look.
            while taken[part].0.load(Relaxed) < end - first {
                let i = first.saturating_add(taken[part].0.fetch_add(1, Relaxed));
                if i >= end {
                    break;
                }
                // SAFETY: `i` is below the count. No other part has it, and the counter of this one gave it once: it
                // counts one past the end for every thread at most.
                f(i, unsafe { self.cuts.get(i) });
            }
        }
    }
}
