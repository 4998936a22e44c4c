//! The system's allocator with an observer.

use std::alloc::{GlobalAlloc, Layout, System};

/// Calls its function with the bytes that an allocation takes and those that it gives back. The function neither
/// allocates nor panics.
pub(crate) struct Observed(pub(crate) fn(taken: usize, freed: usize));

// SAFETY: every call goes on to the system's allocator unchanged; the observer neither allocates nor panics.
unsafe impl GlobalAlloc for Observed {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        (self.0)(layout.size(), 0);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        (self.0)(layout.size(), 0);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        (self.0)(0, layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // The old block lives until the new one is filled.
        (self.0)(size, 0);
        (self.0)(0, layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(ptr, layout, size) }
    }
}
