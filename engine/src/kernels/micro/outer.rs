//! Sums of outer products: the gradients of weights.

use super::floats::{load_cols, store_cols};
use super::{by_rows, is_wide, unrolled};
use crate::simd::{Isa, Kernel, Simd, dispatch};

/// Arguments of [`outer`].
pub(crate) struct Outer {
    /// The input at the first pixel and first row of the tile.
    pub(crate) x: *const f32,
    /// The output gradient at the first pixel and first column of the tile.
    pub(crate) dy: *const f32,
    /// Images, pixel rows of an image, pixels of a row.
    pub(crate) count: [usize; 3],
    /// Floats between neighbouring images, pixel rows and pixels of `x`.
    pub(crate) x_step: [usize; 3],
    /// The same of `dy`.
    pub(crate) dy_step: [usize; 3],
    /// The weight gradients at the tile's first row and column, added to.
    pub(crate) dw: *mut f32,
    /// Floats between rows of `dw`.
    pub(crate) dw_step: usize,
    /// Columns of the tile, at most `NR`.
    pub(crate) cols: usize,
}

struct OuterTile<'a, const R: usize, const V: usize>(&'a Outer);

impl<const R: usize, const V: usize> Kernel for OuterTile<'_, R, V> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        if const { R * V > S::MR * S::NV } {
            unreachable!("a tile fits the registers");
        }
        let o = self.0;
        let full = o.cols >= V * S::LANES;
        // SAFETY: the contract of `outer`, whose caller vouches for every pixel and gradient.
        unsafe { if full { sweep::<S, R, V, true>(s, o) } else { sweep::<S, R, V, false>(s, o) } }
    }
}

/// The loop of [`outer`]; with `FULL` all columns exist and loads need no mask.
///
/// # Safety
/// As [`outer`], and there are more than `(V - 1) * LANES` columns.
#[inline(always)]
unsafe fn sweep<S: Simd, const R: usize, const V: usize, const FULL: bool>(s: S, o: &Outer) {
    let mut acc = [[s.splat(0.0); V]; R];
    // SAFETY: the contract of `outer`.
    unsafe {
        for image in 0..o.count[0] {
            for line in 0..o.count[1] {
                let mut x = o.x.add(image * o.x_step[0] + line * o.x_step[1]);
                let mut dy = o.dy.add(image * o.dy_step[0] + line * o.dy_step[1]);
                for _ in 0..o.count[2] {
                    let mut b = [s.splat(0.0); V];
                    for v in 0..V {
                        // A second vector is there only if the columns fill the first: one mask at most, and with two
                        // AVX2 would have a register too few.
                        let whole = FULL || v + 1 < V;
                        b[v] = if whole { s.load(dy.add(v * S::LANES)) } else { load_cols(s, dy, v, o.cols) };
                    }
                    unrolled!(r < R {
                        let a = s.splat(*x.add(r));
                        for v in 0..V {
                            acc[r][v] = s.mul_add(a, b[v], acc[r][v]);
                        }
                    });
                    // The last step may leave the image: wrapping, as it is not followed by a load.
                    x = x.wrapping_add(o.x_step[2]);
                    dy = dy.wrapping_add(o.dy_step[2]);
                }
            }
        }
        unrolled!(r < R {
            for v in 0..V {
                let dw = o.dw.add(r * o.dw_step);
                let sum = s.add(load_cols(s, dw, v, o.cols), acc[r][v]);
                store_cols(s, dw, v, o.cols, sum);
            }
        });
    }
}

/// Adds the outer products of many pixels to a tile of weight gradients; see the top of `micro`.
///
/// # Safety
/// `1 <= rows <= tile_rows` and `1 <= cols <= NR` of `isa`. At every pixel `x` is readable for `rows` floats and `dy` for
/// `cols`; `dw` is writable for `cols` floats at each row. `dw` overlaps neither.
pub(crate) unsafe fn outer(isa: Isa, rows: usize, args: &Outer) {
    let wide = is_wide(isa, args.cols);
    by_rows!(rows, wide, (R, V) => dispatch(isa, OuterTile::<R, V>(args)));
}
