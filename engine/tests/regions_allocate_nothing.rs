//! A region of the pool takes no memory from the heap, on any of its threads.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ocelli_engine::parallel::Threads;

/// The system's allocator, with the allocations of all threads counted.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes on to the system's allocator unchanged; counting neither allocates nor panics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// The only test of this binary: others would be counted too.
#[test]
fn a_region_allocates_nothing() {
    const MUCH: usize = usize::MAX;
    let threads = Threads::new(3, 8).unwrap();
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
    // The first pass may set up what threads keep; the second and third meet workers that are awake and parked.
    pass();
    for pause in [0, 30] {
        std::thread::sleep(Duration::from_millis(pause));
        let before = ALLOCATIONS.load(Ordering::SeqCst);
        pass();
        assert_eq!(ALLOCATIONS.load(Ordering::SeqCst) - before, 0, "after {pause} ms");
    }
}
