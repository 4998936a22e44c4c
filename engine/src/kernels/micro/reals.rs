//! What sums in f32 have in common, whatever was multiplied: how they start and how they are stored.

use super::{Arithmetic, Product, Rows, TileEpilogue, Unit, unrolled};
use crate::kernels::lanes::{Number, Stored};
use crate::simd::Simd;

/// Arithmetic on real numbers, with sums in f32.
#[expect(private_bounds, reason = "the kinds of numbers are those of this crate")]
pub trait Reals:
    Arithmetic<X = Self::Input, W = Self::Input, Y = Self::Output, Epilogue = Epilogue<Self::Output>>
{
    /// Numbers of the input, and weights.
    type Input: Number;
    /// Numbers of the output.
    type Output: Number;
}

/// The epilogue of arithmetic on real numbers.
pub(crate) type RealEpilogue<N> = Epilogue<<N as Arithmetic>::Y>;

/// What happens to a tile of outputs before it is stored.
#[derive(Clone, Copy)]
pub(crate) struct Epilogue<Y = f32> {
    /// Added to each column, or null.
    pub(crate) bias: *const f32,
    /// Added to each output, at the offsets of the output itself, or null.
    pub(crate) residual: *const Y,
    /// Outputs are clamped to `low..=high`; NaN stays NaN.
    pub(crate) low: f32,
    /// See `low`.
    pub(crate) high: f32,
    /// Start the sum with what the output holds.
    pub(crate) accumulate: bool,
}

impl<Y> Epilogue<Y> {
    /// Stores sums as they are.
    pub(crate) const NONE: Self = Epilogue {
        bias: std::ptr::null(),
        residual: std::ptr::null(),
        low: f32::NEG_INFINITY,
        high: f32::INFINITY,
        accumulate: false,
    };
}

impl<Y: Number> TileEpilogue for Epilogue<Y> {
    fn at_column(self, column: usize) -> Self {
        let Epilogue { bias, residual, .. } = self;
        let bias = if bias.is_null() { bias } else { bias.wrapping_add(column) };
        let residual = if residual.is_null() { residual } else { residual.wrapping_add(column) };
        Epilogue { bias, residual, ..self }
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

/// A [`Unit`] whose sums are vectors of floats.
pub(super) trait RealUnit: Unit<Sums = <Self::Floats as Simd>::V> {
    /// The token of the floats.
    type Floats: Simd;

    /// The token of the floats.
    fn floats(self) -> Self::Floats;
}

/// What sums start with.
///
/// # Safety
/// As [`Unit::start`].
#[inline(always)]
pub(super) unsafe fn start<S: Simd, N: Reals, A: Rows, const R: usize, const V: usize>(
    s: S,
    p: &Product<N, A>,
    y: *const N::Y,
) -> [[S::V; V]; R] {
    let mut acc = [[s.splat(0.0); V]; R];
    if p.epilogue.accumulate {
        // SAFETY: the contract of `Arithmetic::product`.
        unsafe {
            unrolled!(r < R {
                for v in 0..V {
                    acc[r][v] = load_cols(s, y.add(p.rows.y(r)), v, p.cols);
                }
            });
        }
    }
    acc
}

/// Stores a tile.
///
/// # Safety
/// As [`Unit::finish`].
#[inline(always)]
pub(super) unsafe fn finish<S: Simd, N: Reals, A: Rows, const R: usize, const V: usize>(
    s: S,
    p: &Product<N, A>,
    mut acc: [[S::V; V]; R],
    y_at: usize,
) {
    let (e, y) = (p.epilogue, p.y.wrapping_add(y_at));
    // SAFETY: the contract of `Arithmetic::product`.
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
                    N::Y::store(s, y.add(p.rows.y(r) + v * S::LANES), acc[r][v], S::LANES);
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

/// Vector `v` of a row of `cols` numbers, zeros past its end.
///
/// # Safety
/// `p` is readable for `cols` numbers.
#[inline(always)]
pub(super) unsafe fn load_cols<S: Simd, Y: Number>(s: S, p: *const Y, v: usize, cols: usize) -> S::V {
    let first = v * S::LANES;
    // SAFETY: both branches touch numbers below `cols` only.
    unsafe {
        if first + S::LANES <= cols {
            Y::load(s, p.add(first), S::LANES)
        } else {
            Y::load(s, p.wrapping_add(first), cols.saturating_sub(first))
        }
    }
}

/// Stores vector `v` of a row of `cols` numbers.
///
/// # Safety
/// `p` is writable for `cols` numbers.
#[inline(always)]
pub(super) unsafe fn store_cols<S: Simd, Y: Number>(s: S, p: *mut Y, v: usize, cols: usize, y: S::V) {
    let first = v * S::LANES;
    // SAFETY: both branches touch numbers below `cols` only.
    unsafe {
        if first + S::LANES <= cols {
            Y::store(s, p.add(first), y, S::LANES);
        } else {
            Y::store(s, p.wrapping_add(first), y, cols.saturating_sub(first));
        }
    }
}
