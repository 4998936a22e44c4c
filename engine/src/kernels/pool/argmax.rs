//! Maxima that keep the index of their winner, for a pool whose input is not kept: [`forward`] writes it beside the
//! maximum, [`backward`] gives the gradient to the pixel that it names.
//!
//! An index is a small whole number in a float, so that winners have the shape of the output and are read and written
//! as it is. A maximum where the activation before the pool is flat has the index infinity: that activation's
//! derivative is applied here, at one pixel of each window.

use super::{Scan, Windows, check, clear_uncovered, is_tiling};
use crate::geometry::PoolGeometry;
use crate::graph::Activation;
use crate::kernels::elementwise::{load, store};
use crate::simd::{Isa, Simd, dispatch};

/// The winner of a window that passes no gradient: larger than any index.
const NOBODY: f32 = f32::INFINITY;

/// Whether [`forward`] can keep the winners: windows lie side by side, and their pixels have indices that a float
/// tells apart.
pub fn fits(g: &PoolGeometry) -> bool {
    is_tiling(g) && g.kernel[0] * g.kernel[1] <= 1 << f32::MANTISSA_DIGITS
}

struct Forward {
    y: *mut f32,
    winners: *mut f32,
    x: *const f32,
    /// The least and the largest maximum that pass a gradient.
    passing: [f32; 2],
    row: usize,
    c: usize,
}

impl Windows for Forward {
    #[inline(always)]
    unsafe fn vector<S: Simd>(&self, s: S, y: usize, x: usize, [rows, cols]: [usize; 2], n: usize) {
        let [least, largest] = self.passing.map(|bound| s.splat(bound));
        let nobody = s.splat(NOBODY);
        // SAFETY: the contract of this function, and `winners` is as long as `y`.
        unsafe {
            let mut best = load(s, self.x.add(x), n);
            for r in 0..rows {
                for q in 0..cols {
                    best = s.max(load(s, self.x.add(x + r * self.row + q * self.c), n), best);
                }
            }
            // From the last pixel to the first, so that the first of equals stays.
            let mut winner = nobody;
            for r in (0..rows).rev() {
                for q in (0..cols).rev() {
                    let value = load(s, self.x.add(x + r * self.row + q * self.c), n);
                    winner = s.select_gt(best, value, winner, s.splat((r * cols + q) as f32));
                }
            }
            winner = s.select_gt(least, best, nobody, winner);
            winner = s.select_gt(best, largest, nobody, winner);
            store(s, self.y.add(y), best, n);
            store(s, self.winners.add(y), winner, n);
        }
    }
}

/// [`super::max_forward`] of the outputs of `act` (or of none), and the winner of each window.
///
/// # Panics
/// When lengths are not those of the geometry, or it does not fit: see [`fits`].
pub fn forward(
    isa: Isa,
    y: &mut [f32],
    winners: &mut [f32],
    x: &[f32],
    g: &PoolGeometry,
    act: Option<Activation>,
) {
    check(g, x.len(), y.len());
    assert!(fits(g), "windows lie side by side");
    assert_eq!(winners.len(), y.len(), "a winner for every output");
    // Where the derivative is one: between the floats next to the ends of the clamp.
    let passing = match act {
        Some(Activation::Relu) => [0f32.next_up(), f32::INFINITY],
        Some(Activation::Relu6) => [0f32.next_up(), 6f32.next_down()],
        _ => [f32::NEG_INFINITY, f32::INFINITY],
    };
    let (y, winners, x) = (y.as_mut_ptr(), winners.as_mut_ptr(), x.as_ptr());
    dispatch(isa, Scan { windows: Forward { y, winners, x, passing, row: g.w * g.c, c: g.c }, g });
}

struct Backward {
    dx: *mut f32,
    winners: *const f32,
    dy: *const f32,
    row: usize,
    c: usize,
}

impl Windows for Backward {
    #[inline(always)]
    unsafe fn vector<S: Simd>(&self, s: S, y: usize, x: usize, [rows, cols]: [usize; 2], n: usize) {
        let zero = s.splat(0.0);
        // SAFETY: the contract of this function, and `winners` is as long as `dy`.
        unsafe {
            let winner = load(s, self.winners.add(y), n);
            // The gradient as long as nobody has taken it.
            let mut left = load(s, self.dy.add(y), n);
            for r in 0..rows {
                for q in 0..cols {
                    let index = s.splat((r * cols + q) as f32);
                    let taken = s.select_gt(winner, index, zero, left);
                    left = s.select_gt(winner, index, left, zero);
                    store(s, self.dx.add(x + r * self.row + q * self.c), taken, n);
                }
            }
        }
    }
}

/// Gradient of [`forward`] and of the activation before it, one image: `dx[h, w, c]` is overwritten.
///
/// # Panics
/// When lengths are not those of the geometry, or it does not fit: see [`fits`].
pub fn backward(isa: Isa, dx: &mut [f32], winners: &[f32], dy: &[f32], g: &PoolGeometry) {
    check(g, dx.len(), dy.len());
    assert!(fits(g), "windows lie side by side");
    assert_eq!(winners.len(), dy.len(), "a winner for every output");
    clear_uncovered(dx, g);
    let (dx, winners, dy) = (dx.as_mut_ptr(), winners.as_ptr(), dy.as_ptr());
    dispatch(isa, Scan { windows: Backward { dx, winners, dy, row: g.w * g.c, c: g.c }, g });
}
