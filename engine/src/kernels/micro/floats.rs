//! Products of `f32`.

use super::{Arithmetic, Product, Rows, Strided, TileEpilogue, Unit, tile, unrolled};
use crate::simd::{Isa, Kernel, Simd, dispatch};

/// What happens to a tile of outputs before it is stored.
#[derive(Clone, Copy)]
pub(crate) struct Epilogue {
    /// Added to each column, or null.
    pub(crate) bias: *const f32,
    /// Added to each output, at the offsets of the output itself, or null.
    pub(crate) residual: *const f32,
    /// Outputs are clamped to `low..=high`; NaN stays NaN.
    pub(crate) low: f32,
    /// See `low`.
    pub(crate) high: f32,
    /// Start the sum with what the output holds.
    pub(crate) accumulate: bool,
}

impl Epilogue {
    /// Stores sums as they are.
    pub(crate) const NONE: Epilogue = Epilogue {
        bias: std::ptr::null(),
        residual: std::ptr::null(),
        low: f32::NEG_INFINITY,
        high: f32::INFINITY,
        accumulate: false,
    };
}

impl TileEpilogue for Epilogue {
    fn at_column(self, column: usize) -> Self {
        let shift = |p: *const f32| if p.is_null() { p } else { p.wrapping_add(column) };
        Epilogue { bias: shift(self.bias), residual: shift(self.residual), ..self }
    }

    fn at_output(self, offset: usize) -> Self {
        let residual = self.residual;
        Epilogue {
            residual: if residual.is_null() { residual } else { residual.wrapping_add(offset) },
            ..self
        }
    }

    fn of_slice(self, first: bool, last: bool) -> Self {
        if last {
            return Epilogue { accumulate: !first || self.accumulate, ..self };
        }
        Epilogue { accumulate: !first, ..Epilogue::NONE }
    }

    fn accumulates(self) -> bool {
        self.accumulate
    }
}

impl Arithmetic for Isa {
    type X = f32;
    type W = f32;
    type Y = f32;
    type Epilogue = Epilogue;
    const GROUP: usize = 1;
    const SLICES: bool = true;
    const ROW_PANELS: usize = 4;

    fn tile_height(self) -> usize {
        self.mr()
    }

    fn tile_width(self) -> usize {
        self.nr()
    }

    unsafe fn tile<A: Rows, const R: usize, const V: usize>(self, args: &Product<Self, A>, at: [usize; 2]) {
        dispatch(self, ProductTile::<_, R, V>(args, at));
    }

    unsafe fn row(self, p: &Product<Self, Strided>, panel_step: usize, at: [usize; 2]) {
        dispatch(self, RowTile::<{ Self::ROW_PANELS }, 2> { p, panel_step, at });
    }
}

struct ProductTile<'a, 'b, A, const R: usize, const V: usize>(&'a Product<'b, Isa, A>, [usize; 2]);

impl<A: Rows, const R: usize, const V: usize> Kernel for ProductTile<'_, '_, A, R, V> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // SAFETY: the contract of `product`.
        unsafe { tile::<_, _, R, V>(Floats(s), self.0, self.1) }
    }
}

/// Vectors of floats.
#[derive(Clone, Copy)]
struct Floats<S>(S);

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
        let mut acc = [[self.0.splat(0.0); V]; R];
        if p.epilogue.accumulate {
            // SAFETY: the contract of `product`.
            unsafe {
                unrolled!(r < R {
                    for v in 0..V {
                        acc[r][v] = load_cols(self.0, y.add(p.rows.y(r)), v, p.cols);
                    }
                });
            }
        }
        acc
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
        mut acc: [[S::V; V]; R],
        y_at: usize,
    ) {
        let (s, e, y) = (self.0, p.epilogue, p.y.wrapping_add(y_at));
        // SAFETY: the contract of `product`.
        unsafe {
            if !e.bias.is_null() {
                for v in 0..V {
                    let bias = load_cols(s, e.bias, v, p.cols);
                    unrolled!(r < R { acc[r][v] = s.add(acc[r][v], bias); });
                }
            }
            if !e.residual.is_null() {
                unrolled!(r < R {
                    for v in 0..V {
                        let residual = load_cols(s, e.residual.add(y_at + p.rows.y(r)), v, p.cols);
                        acc[r][v] = s.add(acc[r][v], residual);
                    }
                });
            }
            let (low, high) = (s.splat(e.low), s.splat(e.high));
            unrolled!(r < R {
                for v in 0..V {
                    acc[r][v] = s.min(high, s.max(low, acc[r][v]));
                }
            });
            if p.cols >= V * S::LANES {
                unrolled!(r < R {
                    for v in 0..V {
                        s.store(y.add(p.rows.y(r) + v * S::LANES), acc[r][v]);
                    }
                });
            } else {
                unrolled!(r < R {
                    for v in 0..V {
                        store_cols(s, y.add(p.rows.y(r)), v, p.cols, acc[r][v]);
                    }
                });
            }
        }
    }
}

/// Vector `v` of a row of `cols` floats, zeros past its end.
///
/// # Safety
/// `p` is readable for `cols` floats.
#[inline(always)]
pub(super) unsafe fn load_cols<S: Simd>(s: S, p: *const f32, v: usize, cols: usize) -> S::V {
    let first = v * S::LANES;
    // SAFETY: both branches touch floats below `cols` only.
    unsafe {
        if first + S::LANES <= cols {
            s.load(p.add(first))
        } else {
            s.load_tail(p.wrapping_add(first), cols.saturating_sub(first))
        }
    }
}

/// Stores vector `v` of a row of `cols` floats.
///
/// # Safety
/// `p` is writable for `cols` floats.
#[inline(always)]
pub(super) unsafe fn store_cols<S: Simd>(s: S, p: *mut f32, v: usize, cols: usize, y: S::V) {
    let first = v * S::LANES;
    // SAFETY: both branches touch floats below `cols` only.
    unsafe {
        if first + S::LANES <= cols {
            s.store(p.add(first), y);
        } else {
            s.store_tail(p.wrapping_add(first), y, cols.saturating_sub(first));
        }
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
