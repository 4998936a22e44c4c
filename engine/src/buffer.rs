//! A fixed number of zeroed floats at a 64-byte boundary: one cache line, one AVX-512 vector.

use std::alloc::{Layout, alloc, alloc_zeroed, dealloc, handle_alloc_error};
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut, Range};
use std::ptr::NonNull;

const ALIGN: usize = 64;

/// A heap slice of floats, 64-byte aligned, zeroed when made.
pub struct Buffer {
    ptr: NonNull<f32>,
    len: usize,
}

/// Memory of a [`Buffer`] that nobody has written to: the system gives its pages to the core that does so first.
pub(crate) struct Untouched {
    ptr: NonNull<f32>,
    len: usize,
}

// SAFETY: it owns its memory alone.
unsafe impl Send for Untouched {}

impl Untouched {
    /// Room for `len` floats.
    ///
    /// # Panics
    /// When `len` floats exceed the address space.
    pub(crate) fn new(len: usize) -> Self {
        if len == 0 {
            return Untouched { ptr: NonNull::dangling(), len };
        }
        let layout = Buffer::layout(len);
        // SAFETY: the layout has a non-zero size, as `len` is not zero.
        let raw = unsafe { alloc(layout) }.cast::<f32>();
        let Some(ptr) = NonNull::new(raw) else { handle_alloc_error(layout) };
        Untouched { ptr, len }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The buffer, zeroed by this thread.
    pub(crate) fn zeroed(self) -> Buffer {
        let own = ManuallyDrop::new(self);
        // SAFETY: `ptr` is valid for `len` floats, or dangling (aligned for f32) with `len` zero; zero bytes are floats.
        unsafe { own.ptr.as_ptr().write_bytes(0, own.len) };
        Buffer { ptr: own.ptr, len: own.len }
    }
}

impl Drop for Untouched {
    fn drop(&mut self) {
        // SAFETY: its memory was allocated as a buffer's is, and goes to this buffer alone; nothing reads it.
        drop(Buffer { ptr: self.ptr, len: self.len });
    }
}

// SAFETY: a Buffer owns its floats alone, as a Box<[f32]> does.
unsafe impl Send for Buffer {}
// SAFETY: a shared Buffer only gives shared slices.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// `len` zeros.
    ///
    /// # Panics
    /// When `len` floats exceed the address space.
    pub fn zeros(len: usize) -> Self {
        if len == 0 {
            return Buffer { ptr: NonNull::dangling(), len };
        }
        let layout = Self::layout(len);
        // SAFETY: the layout has a non-zero size, as `len` is not zero.
        let raw = unsafe { alloc_zeroed(layout) }.cast::<f32>();
        let Some(ptr) = NonNull::new(raw) else { handle_alloc_error(layout) };
        Buffer { ptr, len }
    }

    /// Some ranges to change and some to read, at once.
    ///
    /// # Panics
    /// When a range to change overlaps another range, or one leaves the buffer.
    pub(crate) fn split<const W: usize, const R: usize>(
        &mut self,
        writes: [Range<usize>; W],
        reads: [Range<usize>; R],
    ) -> ([&mut [f32]; W], [&[f32]; R]) {
        let overlap = |a: &Range<usize>, b: &Range<usize>| a.start < b.end && b.start < a.end;
        for (i, write) in writes.iter().enumerate() {
            assert!(
                !writes[..i].iter().any(|other| overlap(write, other)),
                "ranges to change do not overlap"
            );
            assert!(!reads.iter().any(|other| overlap(write, other)), "no range is read and changed at once");
        }
        for range in writes.iter().chain(&reads) {
            assert!(range.start <= range.end && range.end <= self.len, "a range lies in the buffer");
        }
        let ptr = self.ptr.as_ptr();
        // SAFETY: every range lies in the buffer, and no range to change overlaps any other; the slices borrow
        // `self` mutably, so nothing else can reach them.
        let writes = writes.map(|r| unsafe { std::slice::from_raw_parts_mut(ptr.add(r.start), r.len()) });
        // SAFETY: as above; ranges to read may overlap each other.
        let reads = reads.map(|r| unsafe { std::slice::from_raw_parts(ptr.add(r.start), r.len()) });
        (writes, reads)
    }

    fn layout(len: usize) -> Layout {
        let bytes = len.checked_mul(size_of::<f32>()).expect("a buffer's bytes fit the address space");
        Layout::from_size_align(bytes, ALIGN).expect("a buffer's bytes fit the address space")
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.len > 0 {
            // SAFETY: `ptr` came from `alloc_zeroed` or `alloc` with this very layout and is freed once.
            unsafe { dealloc(self.ptr.as_ptr().cast(), Self::layout(self.len)) }
        }
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: `ptr` is valid for `len` initialised floats, or dangling (aligned for f32) with `len` zero.
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr(), self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as in `deref`, and `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.as_ptr(), self.len) }
    }
}

impl Clone for Buffer {
    fn clone(&self) -> Self {
        let mut copy = Buffer::zeros(self.len);
        copy.copy_from_slice(self);
        copy
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer({} floats)", self.len)
    }
}
