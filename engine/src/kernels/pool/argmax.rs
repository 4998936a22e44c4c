//! Maxima with their argmax, for a pool whose input is not kept: [`forward`] writes the index of each window's maximum
//! beside it, [`backward`] gives the gradient to the pixel that the index names.
//!
//! An index is a small whole number in a float, so that the argmax has the shape of the output and is read and written
//! as it is. A maximum where the activation before the pool is flat has the index infinity: that activation's
//! derivative is applied here, at one pixel of each window.

use super::{Scan, Windows, check, clear_uncovered, first_maximum, for_each_window, is_tiling};
use crate::geometry::PoolGeometry;
use crate::graph::Activation;
use crate::kernels::lanes::{Number, load, store};
use crate::simd::{Isa, Simd, dispatch};

/// The argmax of a window that passes no gradient: larger than any index.
const NO_GRADIENT: f32 = f32::INFINITY;

/// Whether [`forward`] can keep the argmax: windows lie side by side, and their pixels have indices that a float
/// tells apart.
pub fn fits(g: &PoolGeometry) -> bool {
    is_tiling(g) && g.kernel[0] * g.kernel[1] <= 1 << f32::MANTISSA_DIGITS
}

struct Forward<E> {
    y: *mut E,
    argmax: *mut f32,
    x: *const E,
    /// The least and the largest maximum that pass a gradient.
    passing: [f32; 2],
    row: usize,
    c: usize,
}

impl<E: Number> Windows for Forward<E> {
    #[inline(always)]
    unsafe fn vector<S: Simd>(&self, s: S, y: usize, x: usize, [rows, cols]: [usize; 2], n: usize) -> bool {
        let [least, largest] = self.passing.map(|bound| s.splat(bound));
        let none = s.splat(NO_GRADIENT);
        // SAFETY: the contract of this function, and `argmax` is as long as `y`.
        unsafe {
            let mut best = E::load(s, self.x.add(x), n);
            let mut sum = best;
            for r in 0..rows {
                for q in usize::from(r == 0)..cols {
                    let value = E::load(s, self.x.add(x + r * self.row + q * self.c), n);
                    best = s.max(value, best);
                    sum = s.add(sum, value);
                }
            }
            // From the last pixel to the first, so that the first of equals stays.
            let mut argmax = none;
            for r in (0..rows).rev() {
                for q in (0..cols).rev() {
                    let value = E::load(s, self.x.add(x + r * self.row + q * self.c), n);
                    argmax = s.select_gt(best, value, argmax, s.splat((r * cols + q) as f32));
                }
            }
            argmax = s.select_gt(least, best, none, argmax);
            argmax = s.select_gt(best, largest, none, argmax);
            E::store(s, self.y.add(y), best, n);
            store(s, self.argmax.add(y), argmax, n);
            s.any_nan(sum)
        }
    }
}

/// [`super::max_forward`] of the outputs of `act` (or of none), and the argmax of each window.
///
/// # Panics
/// When lengths are not those of the geometry, or it does not fit: see [`fits`].
pub fn forward<E: Number>(
    isa: Isa,
    y: &mut [E],
    argmax: &mut [f32],
    x: &[E],
    g: &PoolGeometry,
    act: Option<Activation>,
) {
    check(g, x.len(), y.len());
    assert!(fits(g), "windows lie side by side");
    assert_eq!(argmax.len(), y.len(), "an argmax for every output");
    // Where the derivative is one: between the floats next to the ends of the clamp.
    let passing = match act.and_then(Activation::clamp_range) {
        Some((low, high)) => {
            let least = if low.is_finite() { low.next_up() } else { low };
            [least, if high.is_finite() { high.next_down() } else { high }]
        }
        None => [f32::NEG_INFINITY, f32::INFINITY],
    };
    let (to, indices, from) = (y.as_mut_ptr(), argmax.as_mut_ptr(), x.as_ptr());
    let windows = Forward { y: to, argmax: indices, x: from, passing, row: g.w * g.c, c: g.c };
    if dispatch(isa, Scan { windows, g }) {
        forward_with_nan(y, argmax, x, g, passing);
    }
}

/// [`forward`] of an image that may hold a NaN, all of it.
#[cold]
fn forward_with_nan<E: Number>(
    y: &mut [E],
    argmax: &mut [f32],
    x: &[E],
    g: &PoolGeometry,
    passing: [f32; 2],
) {
    let [least, largest] = passing;
    for_each_window(g, |output, first, size| {
        for channel in 0..g.c {
            let (index, max) = first_maximum(&x[first + channel..], g, size);
            let is_flat = least > max || max > largest;
            y[output + channel] = max.into();
            argmax[output + channel] = if is_flat { NO_GRADIENT } else { index as f32 };
        }
    });
}

struct Pick<E> {
    picked: *mut E,
    y: *const E,
    by: *const E,
    x: *const E,
    row: usize,
    c: usize,
}

impl<E: Number> Windows for Pick<E> {
    #[inline(always)]
    unsafe fn vector<S: Simd>(&self, s: S, y: usize, x: usize, [rows, cols]: [usize; 2], n: usize) -> bool {
        // SAFETY: the contract of this function; `y` is as long as `picked`, and `by` as long as `x`.
        unsafe {
            let (max, zero) = (E::load(s, self.y.add(y), n), s.splat(0.0));
            let mut picked = zero;
            // How far the pixels so far stay below the maximum: none is picked behind the first that reaches it.
            let mut below = s.splat(1.0);
            for r in 0..rows {
                for q in 0..cols {
                    let at = x + r * self.row + q * self.c;
                    picked = s.select_gt(below, zero, E::load(s, self.x.add(at), n), picked);
                    below = s.min(s.sub(max, E::load(s, self.by.add(at), n)), below);
                    if size_of::<E>() < size_of::<f32>() {
                        // Or the compiler would widen all pixels first, more than there are registers on AVX2.
                        E::store(s, self.picked.add(y), picked, n);
                    }
                }
            }
            E::store(s, self.picked.add(y), picked, n);
        }
        false
    }
}

/// The elements of `x[h, w, c]` where each window of `by[h, w, c]` has its maximum `y[oh, ow, c]` first, one image:
/// `picked[oh, ow, c]` is overwritten.
///
/// # Panics
/// When lengths are not those of the geometry.
pub fn pick<E: Number>(isa: Isa, picked: &mut [E], x: &[E], (y, by): (&[E], &[E]), g: &PoolGeometry) {
    check(g, x.len(), y.len());
    assert!(picked.len() == y.len() && by.len() == x.len(), "tensors of one shape have one length");
    let (picked, y, by, x) = (picked.as_mut_ptr(), y.as_ptr(), by.as_ptr(), x.as_ptr());
    dispatch(isa, Scan { windows: Pick { picked, y, by, x, row: g.w * g.c, c: g.c }, g });
}

struct Backward<E> {
    dx: *mut E,
    argmax: *const f32,
    dy: *const E,
    row: usize,
    c: usize,
}

impl<E: Number> Windows for Backward<E> {
    #[inline(always)]
    unsafe fn vector<S: Simd>(&self, s: S, y: usize, x: usize, [rows, cols]: [usize; 2], n: usize) -> bool {
        let (zero, one) = (s.splat(0.0), s.splat(1.0));
        // SAFETY: the contract of this function, and `argmax` is as long as `dy`.
        unsafe {
            // The pixels from this one to the maximum: counted down, so that one comparison is alive at a time.
            let mut ahead = load(s, self.argmax.add(y), n);
            // The gradient until an element takes it.
            let mut left = E::load(s, self.dy.add(y), n);
            for r in 0..rows {
                for q in 0..cols {
                    let taken = s.select_gt(ahead, zero, zero, left);
                    left = s.select_gt(ahead, zero, left, zero);
                    ahead = s.sub(ahead, one);
                    E::store(s, self.dx.add(x + r * self.row + q * self.c), taken, n);
                }
            }
        }
        false
    }
}

/// Gradient of [`forward`] and of the activation before it, one image: `dx[h, w, c]` is overwritten.
///
/// # Panics
/// When lengths are not those of the geometry, or it does not fit: see [`fits`].
pub fn backward<E: Number>(isa: Isa, dx: &mut [E], argmax: &[f32], dy: &[E], g: &PoolGeometry) {
    check(g, dx.len(), dy.len());
    assert!(fits(g), "windows lie side by side");
    assert_eq!(argmax.len(), dy.len(), "an argmax for every output");
    clear_uncovered(dx, g);
    let (dx, argmax, dy) = (dx.as_mut_ptr(), argmax.as_ptr(), dy.as_ptr());
    dispatch(isa, Scan { windows: Backward { dx, argmax, dy, row: g.w * g.c, c: g.c }, g });
}
