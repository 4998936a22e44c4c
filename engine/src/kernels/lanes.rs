//! Lane by lane: vectors with a tail, and functions of numbers applied to whole slices.

use crate::bf16::Bf16;
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
pub(super) fn map<E: Stored, const N: usize>(isa: Isa, y: &mut [E], x: [&[E]; N], f: impl Lanewise<N>) {
    for x in x {
        assert_eq!(x.len(), y.len(), "inputs are as long as the output");
    }
    // SAFETY: all lengths were compared.
    unsafe { sweep(isa, y.as_mut_ptr(), x.map(<[E]>::as_ptr), y.len(), f) }
}

/// [`map`] on pointers.
///
/// # Safety
/// `y` is writable and every `x` is readable for `len` numbers; an `x` may be `y` itself but not overlap it
/// otherwise.
pub(super) unsafe fn sweep<E: Stored, const N: usize>(
    isa: Isa,
    y: *mut E,
    x: [*const E; N],
    len: usize,
    f: impl Lanewise<N>,
) {
    dispatch(isa, Sweep { y, x, len, f });
}

struct Sweep<E, const N: usize, F> {
    y: *mut E,
    x: [*const E; N],
    len: usize,
    f: F,
}

impl<E: Stored, const N: usize, F: Lanewise<N>> Sweep<E, N, F> {
    /// Computes `n` elements from `i` on.
    ///
    /// # Safety
    /// `n <= LANES` and `i + n <= len`.
    #[inline(always)]
    unsafe fn step<S: Simd>(&self, s: S, i: usize, n: usize) {
        let mut x = [s.splat(0.0); N];
        for (vector, pointer) in x.iter_mut().zip(self.x) {
            // SAFETY: the contracts of this function and of `sweep`.
            *vector = unsafe { E::load(s, pointer.add(i), n) };
        }
        // SAFETY: as above.
        unsafe { E::store(s, self.y.add(i), self.f.lanes(s, x), n) }
    }
}

impl<E: Stored, const N: usize, F: Lanewise<N>> Kernel for Sweep<E, N, F> {
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

/// Numbers in memory that vectors of floats are made of, and that they become.
pub trait Stored: Element {
    /// The first `n` numbers at `p`; with the constant `LANES` the choice is made by the compiler.
    ///
    /// # Safety
    /// `n <= LANES` and `p` is readable for `n` numbers.
    unsafe fn load<S: Simd>(s: S, p: *const Self, n: usize) -> S::V;

    /// Stores the first `n` lanes at `p`, rounded; with the constant `LANES` the choice is made by the compiler.
    ///
    /// # Safety
    /// `n <= LANES` and `p` is writable for `n` numbers.
    unsafe fn store<S: Simd>(s: S, p: *mut Self, v: S::V, n: usize);

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
    unsafe fn store<S: Simd>(s: S, p: *mut Self, v: S::V, n: usize) {
        // SAFETY: the contract of this function.
        unsafe { store(s, p, v, n) }
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
    unsafe fn store<S: Simd>(s: S, p: *mut Self, v: S::V, n: usize) {
        // SAFETY: the contract of this function.
        unsafe { s.store_u8(p, v, n) }
    }

    #[inline(always)]
    fn zeros() -> *const Self {
        static ZEROS: [u8; MAX_LANES] = [0; MAX_LANES];
        ZEROS.as_ptr()
    }
}

impl Stored for Bf16 {
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const Self, n: usize) -> S::V {
        // SAFETY: the contract of this function.
        unsafe { s.load_bf16(p, n) }
    }

    #[inline(always)]
    unsafe fn store<S: Simd>(s: S, p: *mut Self, v: S::V, n: usize) {
        // SAFETY: the contract of this function.
        unsafe { s.store_bf16(p, v, n) }
    }

    #[inline(always)]
    fn zeros() -> *const Self {
        static ZEROS: [Bf16; MAX_LANES] = [Bf16::ZERO; MAX_LANES];
        ZEROS.as_ptr()
    }
}

/// Real numbers that layers compute on: f32, or bf16 with all arithmetic in f32 and one rounding where a result is stored.
///
/// What is stored and read again is rounded each time: an activation that is no clamp is a pass of its own behind a sum, and
/// gradients of windows that overlap are added up in memory.
pub trait Number: Stored + PartialEq + std::fmt::Debug + Default + From<f32> + Into<f32> {}

impl Number for f32 {}
impl Number for Bf16 {}

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
