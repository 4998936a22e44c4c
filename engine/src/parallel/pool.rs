//! What threads share while they work together, and the only unsafe code of the pool: a closure on the stack of the
//! thread that called ([`Region`]), and slices cut into parts for whoever comes first ([`Claims`]).
//!
//! A region is joined, never awaited: a thread that is asleep or has lost its core is not missed, as the others take
//! its parts. The caller waits only for threads that are inside.

use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

use super::bell::Bell;

/// In [`Region::state`]: the lowest bits count the threads inside.
const INSIDE: u64 = OPEN - 1;
/// Threads may enter.
const OPEN: u64 = 1 << 16;
/// One region more: the bits from here on number the regions.
const NUMBER: u64 = 1 << 17;

/// A door to one closure at a time. Aligned to two cache lines, which processors fetch together.
#[repr(align(128))]
pub(super) struct Region {
    state: AtomicU64,
    /// The closure; of use to threads inside alone.
    job: UnsafeCell<Job>,
    /// Whether a caller has the region.
    busy: AtomicBool,
    /// Rung for the caller when a thread leaves.
    left: Bell,
}

/// A closure without its type: its address, and how to call it.
#[derive(Clone, Copy)]
struct Job {
    address: *const (),
    call: unsafe fn(*const ()),
}

// SAFETY: `job` is the only part that is not Sync. It is written by the one thread that has set `busy`, while the
// region is closed and empty, and read by threads inside; opening (release) and entering (acquire) order the two. What
// it points to is Sync, as `run` asks for.
unsafe impl Sync for Region {}
// SAFETY: an empty region holds nothing that belongs to a thread, and one that is moved is not borrowed by `run`.
unsafe impl Send for Region {}

impl Region {
    pub(super) fn new() -> Self {
        let nothing = Job { address: std::ptr::null(), call: |_| () };
        let (state, busy) = (AtomicU64::new(0), AtomicBool::new(false));
        Region { state, job: UnsafeCell::new(nothing), busy, left: Bell::new() }
    }

    /// Calls `f` on this thread, after `opened`, and once on each thread that comes to [`Region::help`] meanwhile;
    /// returns when all of them have. A region in use is left alone: then this thread calls `f` by itself.
    pub(super) fn run<F: Fn() + Sync>(&self, f: &F, opened: impl FnOnce()) {
        if self.busy.swap(true, Acquire) {
            return f();
        }
        // Returns or unwinds only with the region empty.
        let _closing = Closing(self);
        // SAFETY: `busy` is ours, so no other thread writes; whoever had it before us left the region closed and
        // empty, so no thread reads.
        unsafe { *self.job.get() = Job { address: (&raw const *f).cast(), call: call::<F> } };
        self.state.fetch_add(NUMBER | OPEN, SeqCst);
        opened();
        f();
    }

    /// Calls the closure of an open region with another number than `seen`, which becomes the region's; false when
    /// there is nothing to do.
    pub(super) fn help(&self, seen: &mut u64) -> bool {
        let mut state = self.state.load(Acquire);
        loop {
            let number = state / NUMBER;
            // One more in a region that its count cannot hold would close it.
            if number == *seen || state & OPEN == 0 || state & INSIDE == INSIDE {
                *seen = number;
                return false;
            }
            match self.state.compare_exchange_weak(state, state + 1, Acquire, Acquire) {
                Ok(_) => {
                    *seen = number;
                    break;
                }
                Err(now) => state = now,
            }
        }
        let _leaving = Leaving(self);
        // SAFETY: this thread entered an open region: `run`, which wrote the closure's address before it opened, keeps
        // the closure alive and the address as it is until this thread has left.
        unsafe {
            let job = *self.job.get();
            (job.call)(job.address);
        }
        true
    }

    /// Whether a caller is in the region with work of its own.
    pub(super) fn is_open(&self) -> bool {
        self.state.load(Relaxed) & OPEN > 0
    }

    /// Number of regions opened so far.
    pub(super) fn number(&self) -> u64 {
        self.state.load(SeqCst) / NUMBER
    }
}

/// # Safety
/// `address` is that of an `F`, which lives until this returns.
unsafe fn call<F: Fn() + Sync>(address: *const ()) {
    // SAFETY: the caller's promise; other threads have no more than shared references either.
    unsafe { (*address.cast::<F>())() }
}

/// Closes a region and waits until it is empty.
struct Closing<'a>(&'a Region);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.state.fetch_and(!OPEN, SeqCst);
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
        self.0.left.ring();
    }
}

/// Counters of [`Claims`]: threads beyond share them.
const HOMES: usize = 8;

/// Slices cut into as many pieces each; a number and its pieces go to one thread.
///
/// The numbers are shared out in runs, one for each home: a thread takes those of its home, which it had in the layer
/// before and still has in its cache, and then what is left of the others.
pub(super) struct Claims<'a, T, const N: usize> {
    slices: [Cut<T>; N],
    count: usize,
    homes: usize,
    taken: [Counter; HOMES],
    borrowed: PhantomData<&'a mut [T]>,
}

/// A slice in pieces of `len`; the last one may be shorter.
struct Cut<T> {
    start: *mut T,
    total: usize,
    len: usize,
}

/// A counter with a cache line of its own.
#[repr(align(64))]
struct Counter(AtomicUsize);

// SAFETY: shared claims hand each element to one thread, as sending the slices there would.
unsafe impl<T: Send, const N: usize> Sync for Claims<'_, T, N> {}

impl<'a, T, const N: usize> Claims<'a, T, N> {
    /// Slices with the lengths of their pieces, as many pieces as all of them have but at most `limit`.
    pub(super) fn new(slices: [(&'a mut [T], usize); N], limit: usize) -> Self {
        let slices = slices.map(|(slice, len)| {
            let (total, len) = (slice.len(), len.max(1));
            Cut { start: slice.as_mut_ptr(), total, len }
        });
        let count = slices.iter().map(|cut| cut.total.div_ceil(cut.len)).fold(limit, usize::min);
        let taken = [const { Counter(AtomicUsize::new(0)) }; HOMES];
        Claims { slices, count, homes: 1, taken, borrowed: PhantomData }
    }

    /// Gives each of `threads` threads a home.
    pub(super) fn share_between(&mut self, threads: usize) {
        self.homes = threads.clamp(1, HOMES);
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Calls `f` with every number that is not taken, and its pieces.
    pub(super) fn take(&self, thread: usize, f: impl Fn(usize, [&'a mut [T]; N])) {
        let share = self.count.div_ceil(self.homes);
        for home in 0..self.homes {
            let home = (thread + home) % self.homes;
            let first = home.saturating_mul(share).min(self.count);
            let end = first.saturating_add(share).min(self.count);
            loop {
                let i = first.saturating_add(self.taken[home].0.fetch_add(1, Relaxed));
                if i >= end {
                    break;
                }
                f(
                    i,
                    self.slices.each_ref().map(|&Cut { start, total, len }| {
                        let first = i * len;
                        // SAFETY: `i` is below the count, so `first` lies in the slice and the length ends in it. No
                        // other home has `i`, and the counter of this one gave it once (it takes centuries to wrap), so
                        // the piece is nobody else's; the slice is borrowed for `'a`.
                        unsafe { std::slice::from_raw_parts_mut(start.add(first), len.min(total - first)) }
                    }),
                );
            }
        }
    }
}
