//! Products by a unit that multiplies tiles of a matrix. It reads pixels where they lie and weights as they are packed for
//! vectors, whose panels have the layout of its operand B; sums pass through 4 KiB on the stack to the same epilogues.

use super::reals::{self, Reals};
use super::{Arithmetic, Product, Rows, Strided, TileEpilogue};
use crate::kernels::pack::panel_width;
use crate::simd::{
    Bf16Isa, PairKernel, PairProduct, Simd, TILE_BYTES, TILE_SIDE, TileNumbers, TileProducts, TileSums,
    TileUnit, dispatch_pairs,
};

/// Bytes of a group of products.
const GROUP_BYTES: usize = 4;

/// Numbers of a run with those of zeros: whole groups and, for tiles, steps of one length.
pub(super) fn padded_run(unit: Option<TileUnit>, run: usize, group: usize) -> usize {
    let groups = run.div_ceil(group);
    if unit.is_some() { groups.next_multiple_of(step_count(groups)) * group } else { groups * group }
}

/// Steps of one length that `groups` of products are multiplied in: as few as there can be, or up to a half more where that
/// leaves no group over.
fn step_count(groups: usize) -> usize {
    let fewest = (groups * GROUP_BYTES).div_ceil(TILE_BYTES).max(1);
    (fewest..=fewest + fewest / 2).find(|&steps| groups.is_multiple_of(steps)).unwrap_or(fewest)
}

/// The sums of a tile of `rows` outputs.
///
/// # Safety
/// As [`Arithmetic::product`].
pub(super) unsafe fn multiply<N: Arithmetic, A: Rows>(
    unit: TileUnit,
    numbers: TileNumbers,
    rows: usize,
    args: &Product<N, A>,
    at: usize,
) -> TileSums {
    let mut sums = TileSums([0; _]);
    if args.run == 0 || args.taps.is_empty() {
        return sums;
    }
    let width = panel_width(args.cols, 2 * TILE_SIDE);
    let groups = args.run / N::GROUP;
    let steps = step_count(groups);
    let (depth, b_stride) = (groups / steps * GROUP_BYTES, width * GROUP_BYTES);
    let products = TileProducts {
        numbers,
        base: args.x.wrapping_add(at).cast(),
        offsets: args.taps,
        steps,
        table_is_a: true,
        other: args.w.cast(),
        a_stride: args.rows.x_step().expect("rows lie at equal distances") * size_of::<N::X>(),
        b_stride,
        a_step: depth,
        b_step: depth / GROUP_BYTES * b_stride,
        rows,
        depth,
        b_tiles: width / TILE_SIDE,
    };
    // SAFETY: the caller vouches for all rows, taps and weights; a run is whole steps, as `padded_run` made it.
    unsafe { unit.multiply(&products, &mut sums) }
    sums
}

/// Row `row` of the sums from column `column` on, all within one tile.
pub(super) fn row_of(sums: &TileSums, row: usize, column: usize) -> *const u32 {
    let tile = 2 * (row / TILE_SIDE) + column / TILE_SIDE;
    sums.0[(tile * TILE_SIDE + row % TILE_SIDE) * TILE_SIDE + column % TILE_SIDE..].as_ptr()
}

/// [`Arithmetic::product`] on real numbers in bf16.
///
/// # Safety
/// As [`Arithmetic::product`].
pub(super) unsafe fn real_tiles<N: Reals, A: Rows>(
    (unit, isa): (TileUnit, Bf16Isa),
    rows: usize,
    args: &Product<N, A>,
    at: [usize; 2],
) {
    debug_assert!(!args.epilogue.accumulate, "no reduction is cut");
    // SAFETY: the contract of this function.
    let sums = unsafe { multiply(unit, TileNumbers::Bf16, rows, args, at[0]) };
    dispatch_pairs(isa, StoreReals { args, sums: &sums, rows, at: at[1] });
}

struct StoreReals<'a, 'b, N: Reals, A> {
    args: &'a Product<'b, N, A>,
    sums: &'a TileSums,
    rows: usize,
    at: usize,
}

impl<N: Reals, A: Rows> PairKernel for StoreReals<'_, '_, N, A> {
    type Output = ();

    #[inline(always)]
    fn run<P: PairProduct>(self, p: P) {
        let (s, all) = (p.floats(), self.args);
        for column in (0..all.cols).step_by(P::LANES) {
            let part = columns_of(all, column, P::LANES);
            for row in (0..self.rows).filter(|&row| all.rows.is_output(row)) {
                // SAFETY: the contract of `Arithmetic::product`; a vector lies within one tile.
                unsafe {
                    let sums = s.load(row_of(self.sums, row, column).cast());
                    reals::finish::<_, _, _, 1, 1>(s, &part, [[sums]], self.at + all.rows.y(row));
                }
            }
        }
    }
}

/// Up to `lanes` columns of a product from `column` on, at whatever place.
#[inline(always)]
pub(super) fn columns_of<'a, N: Arithmetic, A>(
    all: &Product<'a, N, A>,
    column: usize,
    lanes: usize,
) -> Product<'a, N, Strided> {
    Product {
        y: all.y.wrapping_add(column),
        cols: lanes.min(all.cols - column),
        epilogue: all.epilogue.at_column(column),
        ..all.with_rows(Strided { x: 0, y: 0 })
    }
}
