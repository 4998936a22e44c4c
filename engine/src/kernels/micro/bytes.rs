//! Products of unsigned bytes with signed ones, summed in `i32`, and stored as bytes again.
//!
//! ```text
//! y[r][j] = saturate(round( (sum + bias[j]) * scale[j] (+ residual[r][j] * residual_scale) + offset ))
//! ```
//! Sums are exact, and behind them there is one rounding for each of the written operations: the bits are the same on every
//! instruction set.

use super::tiles::{columns_of, multiply, padded_run, row_of};
use super::{Arithmetic, Product, Rows, Strided, TileEpilogue, Unit, by_rows, is_wide, tile, unrolled};
use crate::kernels::pack::panel_width;
use crate::simd::{
    DotIsa, DotKernel, DotProduct, Simd, TILE_SIDE, TileNumbers, TileSums, TileUnit, dispatch_dot,
};

/// What happens to a tile of sums before it is stored.
#[derive(Clone, Copy)]
pub(crate) struct ByteEpilogue {
    /// What the sum of each column starts with, for whole panels.
    pub(crate) bias: *const i32,
    /// Factors of the columns, for whole panels.
    pub(crate) scale: *const f32,
    /// Added to each output, at the offsets of the output itself, or null.
    pub(crate) residual: *const u8,
    /// Factor of the residual.
    pub(crate) residual_scale: f32,
    /// Added to all outputs.
    pub(crate) offset: f32,
}

impl TileEpilogue for ByteEpilogue {
    fn at_column(self, column: usize) -> Self {
        let ByteEpilogue { bias, scale, residual, .. } = self;
        let residual = if residual.is_null() { residual } else { residual.wrapping_add(column) };
        ByteEpilogue { bias: bias.wrapping_add(column), scale: scale.wrapping_add(column), residual, ..self }
    }

    fn at_output(self, offset: usize) -> Self {
        let residual = self.residual;
        ByteEpilogue {
            residual: if residual.is_null() { residual } else { residual.wrapping_add(offset) },
            ..self
        }
    }

    fn of_slice(self, first: bool, last: bool) -> Self {
        debug_assert!(first && last, "an output of bytes holds no sum");
        self
    }

    fn accumulates(self) -> bool {
        false
    }
}

impl Arithmetic for DotIsa {
    type X = u8;
    type W = i8;
    type Y = u8;
    type Epilogue = ByteEpilogue;
    const GROUP: usize = 4;
    const ROW_PANELS: usize = 0;

    fn tile_height(self) -> usize {
        self.mr()
    }

    fn tile_width(self) -> usize {
        self.nr()
    }

    fn padded_run(self, run: usize) -> usize {
        padded_run(self.tiles(), run, Self::GROUP)
    }

    fn multiplies_tiles(self) -> bool {
        self.tiles().is_some()
    }

    fn slices(self) -> bool {
        false
    }

    // A call of its own would cost as much as a few steps of a short reduction.
    #[inline(always)]
    unsafe fn product<A: Rows>(self, rows: usize, args: &Product<Self, A>, at: [usize; 2]) {
        if let Some(unit) = self.tiles() {
            // SAFETY: the contract of this function.
            return unsafe { byte_tiles((unit, self), rows, args, at) };
        }
        let wide = is_wide(self, args.cols);
        by_rows!(rows, wide, (R, V) => dispatch_dot(self, ByteTile::<_, R, V>(args, at)));
    }

    unsafe fn row(self, _: &Product<Self, Strided>, _: usize, _: [usize; 2]) {
        unreachable!("a row of bytes is a tile");
    }
}

struct ByteTile<'a, 'b, A, const R: usize, const V: usize>(&'a Product<'b, DotIsa, A>, [usize; 2]);

impl<A: Rows, const R: usize, const V: usize> DotKernel for ByteTile<'_, '_, A, R, V> {
    type Output = ();

    #[inline(always)]
    fn run<D: DotProduct>(self, d: D) {
        // SAFETY: the contract of `Arithmetic::product`.
        unsafe { tile::<_, _, R, V>(Bytes(d), self.0, self.1) }
    }
}

/// Vectors of sums of four products of bytes.
#[derive(Clone, Copy)]
struct Bytes<D>(D);

impl<D: DotProduct> Unit for Bytes<D> {
    type Arithmetic = DotIsa;
    type Sums = D::Sums;
    type Spread = D::Bytes;
    type Weights = D::Weights;
    const LANES: usize = D::LANES;
    const SUMS: usize = D::MR * D::NV;

    #[inline(always)]
    unsafe fn start<A: Rows, const R: usize, const V: usize>(
        self,
        p: &Product<DotIsa, A>,
        _: *const u8,
    ) -> [[D::Sums; V]; R] {
        // SAFETY: the contract of `Arithmetic::product`; there is a bias for whole panels.
        unsafe {
            let mut bias = [self.0.load_sums(p.epilogue.bias); V];
            for v in 1..V {
                bias[v] = self.0.load_sums(p.epilogue.bias.add(v * D::LANES));
            }
            [bias; R]
        }
    }

    #[inline(always)]
    unsafe fn spread(self, x: *const u8) -> D::Bytes {
        // SAFETY: the contract of this function.
        unsafe { self.0.spread(x) }
    }

    #[inline(always)]
    unsafe fn weights(self, w: *const i8) -> D::Weights {
        // SAFETY: the contract of this function.
        unsafe { self.0.load_weights(w) }
    }

    #[inline(always)]
    fn multiply_add(self, x: D::Bytes, w: D::Weights, sums: D::Sums) -> D::Sums {
        self.0.dot(x, w, sums)
    }

    #[inline(always)]
    unsafe fn finish<A: Rows, const R: usize, const V: usize>(
        self,
        p: &Product<DotIsa, A>,
        sums: [[D::Sums; V]; R],
        y_at: usize,
    ) {
        // SAFETY: the contract of this function.
        unsafe { finish(self.0, p, sums, y_at) }
    }
}

/// Stores a tile.
///
/// # Safety
/// As [`Unit::finish`].
#[inline(always)]
pub(super) unsafe fn finish<D: DotProduct, A: Rows, const R: usize, const V: usize>(
    d: D,
    p: &Product<DotIsa, A>,
    sums: [[D::Sums; V]; R],
    y_at: usize,
) {
    let (s, e, y) = (d.floats(), p.epilogue, p.y.wrapping_add(y_at));
    // SAFETY: the contract of `Arithmetic::product`; there are factors for whole panels.
    unsafe {
        let mut scale = [s.load(e.scale); V];
        for v in 1..V {
            scale[v] = s.load(e.scale.add(v * D::LANES));
        }
        let (offset, residual_scale) = (s.splat(e.offset), s.splat(e.residual_scale));
        unrolled!(r < R {
            for v in 0..V {
                let column = v * D::LANES;
                let n = D::LANES.min(p.cols.saturating_sub(column));
                let at = p.rows.y(r) + column;
                let mut out = s.mul(d.to_floats(sums[r][v]), scale[v]);
                if !e.residual.is_null() {
                    let residual = s.load_u8(e.residual.wrapping_add(y_at + at), n);
                    out = s.add(out, s.mul(residual, residual_scale));
                }
                s.store_u8(y.wrapping_add(at), s.add(out, offset), n);
            }
        });
    }
}

/// [`Arithmetic::product`] by a unit that multiplies tiles.
///
/// # Safety
/// As [`Arithmetic::product`].
unsafe fn byte_tiles<A: Rows>(
    (unit, isa): (TileUnit, DotIsa),
    rows: usize,
    args: &Product<DotIsa, A>,
    at: [usize; 2],
) {
    // SAFETY: the contract of this function.
    let sums = unsafe { multiply(unit, TileNumbers::Bytes, rows, args, at[0]) };
    dispatch_dot(isa, StoreBytes { args, sums, rows, at: at[1] });
}

struct StoreBytes<'a, 'b, A> {
    args: &'a Product<'b, DotIsa, A>,
    sums: TileSums,
    rows: usize,
    at: usize,
}

impl<A: Rows> DotKernel for StoreBytes<'_, '_, A> {
    type Output = ();

    #[inline(always)]
    fn run<D: DotProduct>(mut self, d: D) {
        let all = self.args;
        let ByteEpilogue { bias, .. } = all.epilogue;
        let width = panel_width(all.cols, 2 * TILE_SIDE);
        // SAFETY: there is a bias for whole panels.
        let bias = unsafe { std::slice::from_raw_parts(bias, width) };
        for (tile, sums) in self.sums.0.chunks_exact_mut(TILE_SIDE * TILE_SIDE).enumerate() {
            let Some(bias) = bias.get(tile % 2 * TILE_SIDE..(tile % 2 + 1) * TILE_SIDE) else { continue };
            for row in sums.chunks_exact_mut(TILE_SIDE) {
                row.iter_mut().zip(bias).for_each(|(sum, &bias)| *sum = sum.wrapping_add(bias as u32));
            }
        }
        for column in (0..all.cols).step_by(D::LANES) {
            let part = columns_of(all, column, D::LANES);
            for row in (0..self.rows).filter(|&row| all.rows.is_output(row)) {
                // SAFETY: the contract of `Arithmetic::product`; a vector lies within one tile.
                unsafe {
                    let sums = d.load_sums(row_of(&self.sums, row, column).cast());
                    finish::<_, _, 1, 1>(d, &part, [[sums]], self.at + all.rows.y(row));
                }
            }
        }
    }
}
