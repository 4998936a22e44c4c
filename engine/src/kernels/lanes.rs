//! Lane by lane: vectors with a tail, and functions of numbers applied to whole slices.

use crate::buffer::Element;
use crate::simd::{Isa, Kernel, MAX_LANES, Simd, dispatch};

/// A function of `N` numbers, applied lane by lane.
pub(super) trait Lanewise<const N: usize>: Copy {
    /// One vector of results. Implementations are `#[inline(always)]`.
    fn lanes<S: Simd>(self, s: S, x: [S::V; N]) -> S::V;
}

/// `y[i] = f(x[0][i], x[1][i], ..)`.
///
/// # Panics
/// When lengths differ.
pub(super) fn map<const N: usize>(isa: Isa, y: &mut [f32], x: [&[f32]; N], f: impl Lanewise<N>) {
    for x in x {
        assert_eq!(x.len(), y.len(), "inputs are as long as the output");
    }
    // SAFETY: all lengths were compared.
    unsafe { sweep(isa, y.as_mut_ptr(), x.map(<[f32]>::as_ptr), y.len(), f) }
}

/// [`map`] on pointers.
///
/// # Safety
/// `y` is writable and every `x` is readable for `len` floats; an `x` may be `y` itself but not overlap it
/// otherwise.
pub(super) unsafe fn sweep<const N: usize>(
    isa: Isa,
    y: *mut f32,
    x: [*const f32; N],
    len: usize,
    f: impl Lanewise<N>,
) {
    dispatch(isa, Sweep { y, x, len, f });
}

struct Sweep<const N: usize, F> {
    y: *mut f32,
    x: [*const f32; N],
    len: usize,
    f: F,
}

impl<const N: usize, F: Lanewise<N>> Sweep<N, F> {
    /// Computes `n` elements from `i` on.
    ///
    /// # Safety
    /// `n <= LANES` and `i + n <= len`.
    #[inline(always)]
    unsafe fn step<S: Simd>(&self, s: S, i: usize, n: usize) {
        let mut x = [s.splat(0.0); N];
        for (vector, pointer) in x.iter_mut().zip(self.x) {
            // SAFETY: the contracts of this function and of `sweep`.
            *vector = unsafe { load(s, pointer.add(i), n) };
        }
        // SAFETY: as above.
        unsafe { store(s, self.y.add(i), self.f.lanes(s, x), n) }
    }
}

impl<const N: usize, F: Lanewise<N>> Kernel for Sweep<N, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let rest = self.len % S::LANES;
        let whole = self.len - rest;
        // SAFETY: every step ends at `len` or before.
        unsafe {
            for i in (0..whole).step_by(S::LANES) {
                self.step(s, i, S::LANES);
            }
            if rest > 0 {
                self.step(s, whole, rest);
            }
        }
    }
}

/// Numbers in memory that vectors of floats are made of.
pub(super) trait Stored: Element {
    /// The first `n` numbers at `p`; with the constant `LANES` the choice is made by the compiler.
    ///
    /// # Safety
    /// `n <= LANES` and `p` is readable for `n` numbers.
    unsafe fn load<S: Simd>(s: S, p: *const Self, n: usize) -> S::V;

    /// As many zeros as the longest vector has lanes.
    fn zeros() -> *const Self;
}

impl Stored for f32 {
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const Self, n: usize) -> S::V {
        // SAFETY: the contract of this function.
        unsafe { load(s, p, n) }
    }

    #[inline(always)]
    fn zeros() -> *const Self {
        static ZEROS: [f32; MAX_LANES] = [0.0; MAX_LANES];
        ZEROS.as_ptr()
    }
}

impl Stored for u8 {
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const Self, n: usize) -> S::V {
        // SAFETY: the contract of this function.
        unsafe { s.load_u8(p, n) }
    }

    #[inline(always)]
    fn zeros() -> *const Self {
        static ZEROS: [u8; MAX_LANES] = [0; MAX_LANES];
        ZEROS.as_ptr()
    }
}

/// The first `n` floats at `p`; with the constant `LANES` the choice is made by the compiler.
///
/// # Safety
/// `n <= LANES` and `p` is readable for `n` floats.
#[inline(always)]
pub(super) unsafe fn load<S: Simd>(s: S, p: *const f32, n: usize) -> S::V {
    // SAFETY: the contract of this function.
    unsafe { if n == S::LANES { s.load(p) } else { s.load_tail(p, n) } }
}

/// Stores the first `n` lanes at `p`; with the constant `LANES` the choice is made by the compiler.
///
/// # Safety
/// `n <= LANES` and `p` is writable for `n` floats.
#[inline(always)]
pub(super) unsafe fn store<S: Simd>(s: S, p: *mut f32, v: S::V, n: usize) {
    // SAFETY: the contract of this function.
    unsafe { if n == S::LANES { s.store(p, v) } else { s.store_tail(p, v, n) } }
}

/// `min(max(v, low), high)`; NaN stays NaN.
#[inline(always)]
pub(super) fn clamp<S: Simd>(s: S, v: S::V, (low, high): (f32, f32)) -> S::V {
    s.min(s.splat(high), s.max(s.splat(low), v))
}
