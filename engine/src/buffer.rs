//! Zeroed memory at a 64-byte boundary (one cache line, one AVX-512 vector), and typed views of it.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut, Range};
use std::ptr::NonNull;

use crate::bf16::Bf16;

/// Memory begins at multiples of this.
const ALIGN: usize = 64;

/// Kinds of numbers that memory holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElementType {
    /// IEEE 754 single precision.
    F32,
    /// The upper half of an `F32`: [`crate::Bf16`].
    Bf16,
    /// Unsigned bytes.
    U8,
    /// Signed bytes.
    I8,
    /// What products of bytes are summed in.
    I32,
}

impl ElementType {
    /// Bytes of one element.
    pub const fn size(self) -> usize {
        match self {
            ElementType::F32 | ElementType::I32 => 4,
            ElementType::Bf16 => 2,
            ElementType::U8 | ElementType::I8 => 1,
        }
    }
}

/// A number that memory can hold.
///
/// # Safety
/// Every pattern of bits is a value.
pub unsafe trait Element: Copy + Send + Sync + 'static {
    /// What it is; as large as the type.
    const TYPE: ElementType;
    /// Zero.
    const ZERO: Self;
}

// SAFETY: a number of the language has a value for every pattern of bits, and is aligned to its size.
unsafe impl Element for f32 {
    const TYPE: ElementType = ElementType::F32;
    const ZERO: Self = 0.0;
}

// SAFETY: a number of sixteen bits has a value for every pattern of bits, and is aligned to its size.
unsafe impl Element for Bf16 {
    const TYPE: ElementType = ElementType::Bf16;
    const ZERO: Self = Bf16::ZERO;
}

// SAFETY: a number of the language has a value for every pattern of bits, and is aligned to its size.
unsafe impl Element for u8 {
    const TYPE: ElementType = ElementType::U8;
    const ZERO: Self = 0;
}

// SAFETY: a number of the language has a value for every pattern of bits, and is aligned to its size.
unsafe impl Element for i8 {
    const TYPE: ElementType = ElementType::I8;
    const ZERO: Self = 0;
}

// SAFETY: a number of the language has a value for every pattern of bits, and is aligned to its size.
unsafe impl Element for i32 {
    const TYPE: ElementType = ElementType::I32;
    const ZERO: Self = 0;
}

/// The memory of some numbers as numbers of another kind.
///
/// # Panics
/// When it does not hold whole ones or begins where none can be.
pub(crate) fn cast<A: Element, B: Element>(from: &[A]) -> &[B] {
    let len = cast_len::<A, B>(from);
    // SAFETY: the memory is aligned for as many elements, and every pattern of bits is one.
    unsafe { std::slice::from_raw_parts(from.as_ptr().cast(), len) }
}

/// As [`cast`], to change.
///
/// # Panics
/// As [`cast`].
pub(crate) fn cast_mut<A: Element, B: Element>(from: &mut [A]) -> &mut [B] {
    let len = cast_len::<A, B>(from);
    // SAFETY: as in `cast`, and `from` is borrowed mutably; it, too, takes every pattern of bits.
    unsafe { std::slice::from_raw_parts_mut(from.as_mut_ptr().cast(), len) }
}

fn cast_len<A: Element, B: Element>(from: &[A]) -> usize {
    let bytes = size_of_val(from);
    assert!(bytes.is_multiple_of(size_of::<B>()), "memory holds whole elements");
    assert!(from.as_ptr().addr().is_multiple_of(align_of::<B>()), "memory is aligned for its elements");
    bytes / size_of::<B>()
}

/// Bytes of its own at a 64-byte boundary, zeroed when made.
pub(crate) struct Memory {
    ptr: NonNull<u8>,
    len: usize,
}

// SAFETY: a Memory owns its bytes alone, as a Box<[u8]> does.
unsafe impl Send for Memory {}
// SAFETY: a shared Memory only gives shared slices.
unsafe impl Sync for Memory {}

impl Memory {
    /// `len` zeros.
    ///
    /// # Panics
    /// When `len` bytes exceed the address space.
    pub(crate) fn zeros(len: usize) -> Self {
        let ptr = Self::take(len);
        // SAFETY: `ptr` is valid for `len` bytes, or dangling with `len` zero.
        unsafe { ptr.as_ptr().write_bytes(0, len) };
        Memory { ptr, len }
    }

    /// Room for `len` bytes that nobody has written to.
    ///
    /// # Panics
    /// When `len` bytes exceed the address space.
    fn take(len: usize) -> NonNull<u8> {
        if len == 0 {
            return NonNull::<Line>::dangling().cast();
        }
        let layout = Self::layout(len);
        // SAFETY: the layout has a non-zero size, as `len` is not zero.
        let raw = unsafe { alloc(layout) };
        let Some(ptr) = NonNull::new(raw) else { handle_alloc_error(layout) };
        if layout.align() == HUGE_PAGE {
            ask_for_huge_pages(ptr, len);
        }
        ptr
    }

    /// Its bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The elements in a range of bytes.
    ///
    /// # Panics
    /// When the range leaves the memory or does not lie at the borders of elements.
    pub(crate) fn view<T: Element>(&self, bytes: Range<usize>) -> &[T] {
        let (start, len) = self.place::<T>(&bytes);
        // SAFETY: `place` has found `len` aligned elements in the memory, all bytes of which are initialised.
        unsafe { std::slice::from_raw_parts(start, len) }
    }

    /// As [`Memory::view`], to change.
    ///
    /// # Panics
    /// As [`Memory::view`].
    pub(crate) fn view_mut<T: Element>(&mut self, bytes: Range<usize>) -> &mut [T] {
        let (start, len) = self.place::<T>(&bytes);
        // SAFETY: as in `view`, and `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(start, len) }
    }

    /// Some ranges of bytes to change and some to read, at once.
    ///
    /// # Panics
    /// When a range to change overlaps another range, or as [`Memory::view`].
    pub(crate) fn split<W: Views, R: Views>(
        &mut self,
        writes: W,
        reads: R,
    ) -> (W::Changed<'_>, R::Shared<'_>) {
        let overlap = |a: &Range<usize>, b: &Range<usize>| a.start < b.end && b.start < a.end;
        let (mut changed, mut count) = ([const { 0..0 }; MOST_CHANGED], 0);
        writes.each(&mut |range| {
            assert!(
                !changed[..count].iter().any(|other| overlap(range, other)),
                "ranges to change do not overlap"
            );
            changed[count] = range.clone();
            count += 1;
        });
        reads.each(&mut |range| {
            let changed = changed[..count].iter().any(|other| overlap(range, other));
            assert!(!changed, "no range is read and changed at once");
        });
        // SAFETY: no range to change overlaps any other, and the slices borrow `self` mutably, so nothing else can reach them.
        unsafe { (writes.changed(self), reads.shared(self)) }
    }

    /// First element and number of elements of a range of bytes.
    fn place<T: Element>(&self, bytes: &Range<usize>) -> (*mut T, usize) {
        const { assert!(T::TYPE.size() == size_of::<T>() && size_of::<T>().is_multiple_of(align_of::<T>())) };
        let size = size_of::<T>();
        assert!(bytes.start <= bytes.end && bytes.end <= self.len, "a range lies in the memory");
        // The memory begins at a multiple of ALIGN, which every size divides, and an alignment divides its size.
        assert!(
            bytes.start.is_multiple_of(size) && bytes.len().is_multiple_of(size),
            "a range lies at the borders of its elements"
        );
        (self.ptr.as_ptr().wrapping_add(bytes.start).cast(), bytes.len() / size)
    }

    fn layout(len: usize) -> Layout {
        let align = if len >= LARGE { HUGE_PAGE } else { ALIGN };
        Layout::from_size_align(len, align).expect("bytes fit the address space")
    }
}

/// A huge page of x86 and of most ARM systems.
const HUGE_PAGE: usize = 2 << 20;
/// Bytes from which on memory is asked for in huge pages.
const LARGE: usize = 2 * HUGE_PAGE;

/// Asks the system for huge pages, where it gives them to those who ask: passes walk through hundreds of megabytes, and pages
/// of 4 KiB cost a look-up and a new start of the processor's prefetching each.
fn ask_for_huge_pages(ptr: NonNull<u8>, len: usize) {
    #[cfg(all(target_os = "linux", not(miri)))]
    {
        use rustix::mm::{Advice, madvise};
        // SAFETY: the range was just allocated; the advice changes which pages hold it, never what they hold. A system without
        // huge pages refuses, which changes nothing.
        let _ = unsafe { madvise(ptr.as_ptr().cast(), len, Advice::LinuxHugepage) };
    }
    #[cfg(not(all(target_os = "linux", not(miri))))]
    let _ = (ptr, len);
}

/// Most ranges of one [`Memory::split`] that are changed.
const MOST_CHANGED: usize = 8;

/// A range of bytes as elements of `T`.
pub(crate) struct View<T> {
    bytes: Range<usize>,
    element: PhantomData<T>,
}

impl<T> View<T> {
    pub(crate) fn new(bytes: Range<usize>) -> Self {
        View { bytes, element: PhantomData }
    }
}

/// Some ranges of bytes, each as elements of its own type.
pub(crate) trait Views {
    /// Them as slices to read.
    type Shared<'a>;
    /// Them as slices to change.
    type Changed<'a>;

    /// Calls `f` with each range.
    fn each(&self, f: &mut dyn FnMut(&Range<usize>));
    /// The elements, to read.
    ///
    /// # Safety
    /// Nobody changes them as long as the slices are there.
    unsafe fn shared(self, memory: &Memory) -> Self::Shared<'_>;
    /// The elements, to change.
    ///
    /// # Safety
    /// Nobody else has them as long as the slices are there.
    unsafe fn changed(self, memory: &Memory) -> Self::Changed<'_>;
}

impl<T: Element, const N: usize> Views for [View<T>; N] {
    type Shared<'a> = [&'a [T]; N];
    type Changed<'a> = [&'a mut [T]; N];

    fn each(&self, f: &mut dyn FnMut(&Range<usize>)) {
        self.iter().for_each(|view| f(&view.bytes));
    }

    unsafe fn shared(self, memory: &Memory) -> [&[T]; N] {
        self.map(|view| {
            let (start, len) = memory.place::<T>(&view.bytes);
            // SAFETY: `place` has found `len` aligned elements in the memory, and the contract of this function.
            unsafe { std::slice::from_raw_parts(start, len) }
        })
    }

    #[allow(clippy::mut_from_ref, reason = "the contract: nobody else has them")]
    unsafe fn changed(self, memory: &Memory) -> [&mut [T]; N] {
        self.map(|view| {
            let (start, len) = memory.place::<T>(&view.bytes);
            // SAFETY: as above.
            unsafe { std::slice::from_raw_parts_mut(start, len) }
        })
    }
}

impl<V: Views> Views for Option<V> {
    type Shared<'a> = Option<V::Shared<'a>>;
    type Changed<'a> = Option<V::Changed<'a>>;

    fn each(&self, f: &mut dyn FnMut(&Range<usize>)) {
        self.iter().for_each(|views| views.each(f));
    }

    unsafe fn shared(self, memory: &Memory) -> Self::Shared<'_> {
        // SAFETY: the contract of this function.
        self.map(|views| unsafe { views.shared(memory) })
    }

    unsafe fn changed(self, memory: &Memory) -> Self::Changed<'_> {
        // SAFETY: the contract of this function.
        self.map(|views| unsafe { views.changed(memory) })
    }
}

impl<A: Views, B: Views> Views for (A, B) {
    type Shared<'a> = (A::Shared<'a>, B::Shared<'a>);
    type Changed<'a> = (A::Changed<'a>, B::Changed<'a>);

    fn each(&self, f: &mut dyn FnMut(&Range<usize>)) {
        self.0.each(f);
        self.1.each(f);
    }

    unsafe fn shared(self, memory: &Memory) -> Self::Shared<'_> {
        // SAFETY: the contract of this function.
        unsafe { (self.0.shared(memory), self.1.shared(memory)) }
    }

    unsafe fn changed(self, memory: &Memory) -> Self::Changed<'_> {
        // SAFETY: the contract of this function.
        unsafe { (self.0.changed(memory), self.1.changed(memory)) }
    }
}

/// What memory consists of, for the alignment of none.
#[repr(align(64))]
struct Line;

impl Drop for Memory {
    fn drop(&mut self) {
        if self.len > 0 {
            // SAFETY: `ptr` came from `alloc` with this very layout and is freed once.
            unsafe { dealloc(self.ptr.as_ptr(), Self::layout(self.len)) }
        }
    }
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Memory({} bytes)", self.len)
    }
}

/// A heap slice of floats, 64-byte aligned, zeroed when made.
pub struct Buffer {
    memory: Memory,
}

impl Buffer {
    /// `len` zeros.
    ///
    /// # Panics
    /// When `len` floats exceed the address space.
    pub fn zeros(len: usize) -> Self {
        Buffer { memory: Memory::zeros(Self::bytes(len)) }
    }

    /// Bytes of `len` floats.
    fn bytes(len: usize) -> usize {
        len.checked_mul(size_of::<f32>()).expect("a buffer's bytes fit the address space")
    }
}

/// Memory of a [`Buffer`] that nobody has written to: the system gives its pages to the core that does so first.
pub(crate) struct Untouched {
    ptr: NonNull<u8>,
    /// In bytes.
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
        let len = Buffer::bytes(len);
        Untouched { ptr: Memory::take(len), len }
    }

    /// Its floats.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.len / size_of::<f32>()
    }

    /// The buffer, zeroed by this thread.
    pub(crate) fn zeroed(self) -> Buffer {
        let own = ManuallyDrop::new(self);
        // SAFETY: `ptr` is valid for `len` bytes, or dangling with `len` zero.
        unsafe { own.ptr.as_ptr().write_bytes(0, own.len) };
        Buffer { memory: Memory { ptr: own.ptr, len: own.len } }
    }
}

impl Drop for Untouched {
    fn drop(&mut self) {
        // Allocated as a buffer's memory is, and given to one alone; nothing reads it.
        drop(Memory { ptr: self.ptr, len: self.len });
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        self.memory.view(0..self.memory.len())
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        self.memory.view_mut(0..self.memory.len())
    }
}

impl Clone for Buffer {
    fn clone(&self) -> Self {
        let mut copy = Buffer::zeros(self.len());
        copy.copy_from_slice(self);
        copy
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer({} floats)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_of_one_memory_have_the_type_that_was_asked_for() {
        const SUMS: Range<usize> = 128..192;
        let mut memory = Memory::zeros(192);
        memory.view_mut::<f32>(64..72).copy_from_slice(&[1.0, -2.0]);
        assert_eq!(memory.view::<i32>(64..72), [0x3F80_0000, 0xC000_0000u32 as i32]);
        assert_eq!(
            memory.view::<Bf16>(64..72).iter().map(|x| x.to_bits()).collect::<Vec<_>>(),
            [0, 0x3F80, 0, 0xC000]
        );
        memory.view_mut::<i8>(1..3).fill(-1);
        assert_eq!(memory.view::<u8>(0..4), [0, 255, 255, 0]);
        let ([sums], [bytes, same]) =
            memory.split([View::<i32>::new(SUMS)], [View::<u8>::new(0..4), View::new(0..4)]);
        sums.iter_mut().zip(bytes).for_each(|(sum, &byte)| *sum = byte.into());
        assert_eq!(bytes, same);
        assert_eq!(memory.view::<i32>(128..144), [0, 255, 255, 0]);
        assert!(Memory::zeros(0).view::<i32>(0..0).is_empty() && Buffer::zeros(0).is_empty());
    }

    #[test]
    fn ranges_that_are_not_whole_elements_or_overlap_are_refused() {
        let refused = |f: fn(&mut Memory)| {
            std::panic::catch_unwind(|| f(&mut Memory::zeros(64))).expect_err("the range is wrong");
        };
        refused(|memory| assert!(memory.view::<f32>(2..6).is_empty()));
        refused(|memory| assert!(memory.view::<i32>(0..6).is_empty()));
        refused(|memory| assert!(memory.view::<u8>(0..65).is_empty()));
        refused(|memory| {
            let [write, read] = [3..5, 4..8];
            assert!(memory.split([View::<u8>::new(write)], [View::<f32>::new(read)]).0[0].is_empty());
        });
        refused(|memory| {
            assert!(
                memory.split(([View::<u8>::new(0..5)], [View::<i8>::new(4..8)]), [] as [View<u8>; 0]).0.0[0]
                    .is_empty()
            )
        });
    }
}
