//! What an import takes, counted by the allocator.

#[path = "../../../engine/tests/observed_allocator/mod.rs"]
mod observed_allocator;

use std::cell::Cell;

use observed_allocator::Observed;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// Counts the bytes of this thread.
fn count(taken: usize, freed: usize) {
    LIVE.set(LIVE.get() + taken as isize - freed as isize);
    PEAK.set(PEAK.get().max(LIVE.get()));
}

#[global_allocator]
static ALLOCATOR: Observed = Observed(count);

/// What `work` gives and the most bytes that this thread had at a time for it, which are at most ten times a file of `len`
/// bytes and 4 MiB.
#[track_caller]
pub(crate) fn bounded<T>(len: usize, work: impl FnOnce() -> T) -> (T, usize) {
    let before = LIVE.get();
    PEAK.set(before);
    let result = work();
    let peak = (PEAK.get() - before) as usize;
    assert!(peak <= 10 * len + (4 << 20), "{peak} bytes for a file of {len}");
    (result, peak)
}
