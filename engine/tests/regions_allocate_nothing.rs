//! A pass takes no memory from the heap but for the jobs of its helpers, its regions none at all, on any thread.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod observed_allocator;

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use observed_allocator::Observed;
use ocelli_engine::parallel::{Pool, Threads, Wait};

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

/// Counts the allocations of all threads.
fn count(taken: usize, _freed: usize) {
    if taken > 0 {
        ALLOCATIONS.fetch_add(1, Ordering::SeqCst);
    }
}

#[global_allocator]
static ALLOCATOR: Observed = Observed(count);

// The only test of this binary: others would be counted too.
#[test]
fn a_pass_allocates_the_jobs_of_its_helpers_alone() {
    const MUCH: usize = usize::MAX;
    let pool = Pool::new(3).unwrap();
    let threads = Threads::new(&pool, Wait::Yield, 8).unwrap();
    let mut out = vec![0.0_f32; 1000];
    let mut pass = || {
        let barrier = Barrier::new(3);
        threads.enter(MUCH, || {
            // Every thread takes part.
            threads.tasks(MUCH, 3, |_| {
                barrier.wait();
            });
            for _ in 0..100 {
                threads.pieces(MUCH, &mut out, 7, |_, out| {
                    let mut scratch = threads.scratch();
                    scratch[0] += 1.0;
                    out.fill(scratch[0]);
                });
            }
        });
    };
    let counted = || {
        // The first pass may set up what threads keep; the others meet threads that are awake and asleep.
        pass();
        for pause in [0, 30] {
            std::thread::sleep(Duration::from_millis(pause));
            let before = (ALLOCATIONS.load(Ordering::SeqCst), pool.helpers());
            pass();
            let after = (ALLOCATIONS.load(Ordering::SeqCst), pool.helpers());
            assert!(after.0 - before.0 <= after.1 - before.1, "after {pause} ms: {before:?}, {after:?}");
        }
    };
    pool.install(counted).unwrap();
}
