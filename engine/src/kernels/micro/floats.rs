//! Products of `f32`.

use super::reals::{self, Epilogue, RealUnit, Reals};
use super::{Arithmetic, Product, Rows, Strided, Unit, by_rows, is_wide, tile, unrolled};
use crate::simd::{Isa, Kernel, Simd, dispatch};

impl Arithmetic for Isa {
    type X = f32;
    type W = f32;
    type Y = f32;
    type Epilogue = Epilogue;
    const GROUP: usize = 1;
    const ROW_PANELS: usize = 4;

    fn tile_height(self) -> usize {
        self.mr()
    }

    fn tile_width(self) -> usize {
        self.nr()
    }

    fn slices(self) -> bool {
        true
    }

    // A call of its own would cost as much as a few steps of a short reduction.
    #[inline(always)]
    unsafe fn product<A: Rows>(self, rows: usize, args: &Product<Self, A>, at: [usize; 2]) {
        let wide = is_wide(self, args.cols);
        by_rows!(rows, wide, (R, V) => dispatch(self, ProductTile::<_, R, V>(args, at)));
    }

    unsafe fn row(self, p: &Product<Self, Strided>, panel_step: usize, at: [usize; 2]) {
        dispatch(self, RowTile::<{ Self::ROW_PANELS }, 2> { p, panel_step, at });
    }
}

impl Reals for Isa {
    type Input = f32;
    type Output = f32;
}

struct ProductTile<'a, 'b, A, const R: usize, const V: usize>(&'a Product<'b, Isa, A>, [usize; 2]);

impl<A: Rows, const R: usize, const V: usize> Kernel for ProductTile<'_, '_, A, R, V> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // SAFETY: the contract of `Arithmetic::product`.
        unsafe { tile::<_, _, R, V>(Floats(s), self.0, self.1) }
    }
}

/// Vectors of floats.
#[derive(Clone, Copy)]
pub(super) struct Floats<S>(pub(super) S);

impl<S: Simd> Unit for Floats<S> {
    type Arithmetic = Isa;
    type Sums = S::V;
    type Spread = S::V;
    type Weights = S::V;
    const LANES: usize = S::LANES;
    const SUMS: usize = S::MR * S::NV;

    #[inline(always)]
    unsafe fn start<A: Rows, const R: usize, const V: usize>(
        self,
        p: &Product<Isa, A>,
        y: *const f32,
    ) -> [[S::V; V]; R] {
        // SAFETY: the contract of this function.
        unsafe { reals::start(self.0, p, y) }
    }

    #[inline(always)]
    unsafe fn spread(self, x: *const f32) -> S::V {
        // SAFETY: the contract of this function.
        self.0.splat(unsafe { *x })
    }

    #[inline(always)]
    unsafe fn weights(self, w: *const f32) -> S::V {
        // SAFETY: the contract of this function.
        unsafe { self.0.load(w) }
    }

    #[inline(always)]
    fn multiply_add(self, x: S::V, w: S::V, sums: S::V) -> S::V {
        self.0.mul_add(x, w, sums)
    }

    #[inline(always)]
    unsafe fn finish<A: Rows, const R: usize, const V: usize>(
        self,
        p: &Product<Isa, A>,
        sums: [[S::V; V]; R],
        y_at: usize,
    ) {
        // SAFETY: the contract of this function.
        unsafe { reals::finish(self.0, p, sums, y_at) }
    }
}

impl<S: Simd> RealUnit for Floats<S> {
    type Floats = S;

    #[inline(always)]
    fn floats(self) -> S {
        self.0
    }
}

/// One row of outputs over `P` neighbouring panels of two vectors each: a single row of one panel has two chains of additions, which wait
/// for each other most of the time; those of four panels keep both ports busy and read memory in four streams.
struct RowTile<'a, const P: usize, const V: usize> {
    p: &'a Product<'a, Isa, Strided>,
    panel_step: usize,
    at: [usize; 2],
}

impl<const P: usize, const V: usize> Kernel for RowTile<'_, P, V> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let RowTile { p, panel_step, at: [x_at, y_at] } = self;
        let (x, y, e) = (p.x.wrapping_add(x_at), p.y.wrapping_add(y_at), p.epilogue);
        let mut acc = [[s.splat(0.0); V]; P];
        let (low, high) = (s.splat(e.low), s.splat(e.high));
        // SAFETY: the contract of `row`, whose caller vouches for the row, all panels and all of their columns.
        unsafe {
            for k in 0..p.run {
                let a = s.splat(*x.add(k));
                let w = p.w.add(k * S::NR);
                unrolled!(q < P {
                    for v in 0..V {
                        acc[q][v] = s.mul_add(a, s.load(w.add(q * panel_step + v * S::LANES)), acc[q][v]);
                    }
                });
            }
            unrolled!(q < P {
                for v in 0..V {
                    let column = q * S::NR + v * S::LANES;
                    if !e.bias.is_null() {
                        acc[q][v] = s.add(acc[q][v], s.load(e.bias.add(column)));
                    }
                    if !e.residual.is_null() {
                        acc[q][v] = s.add(acc[q][v], s.load(e.residual.add(y_at + column)));
                    }
                    s.store(y.add(column), s.min(high, s.max(low, acc[q][v])));
                }
            });
        }
    }
}
