//! Products by a unit that multiplies tiles of a matrix. It reads pixels where they lie and weights as they are packed for
//! vectors, whose panels have the layout of its operand B; sums pass through 4 KiB on the stack to the same epilogues.

use super::halves::Halves;
use super::outer::Outer;
use super::reals::{self, load_cols, store_cols};
use super::{Arithmetic, ByteEpilogue, Product, Rows, Strided, TileEpilogue};
use crate::bf16::Bf16;
use crate::kernels::lanes::Number;
use crate::kernels::pack::panel_width;
use crate::simd::{
    Bf16Isa, DotIsa, DotKernel, DotProduct, PairKernel, PairProduct, Simd, TILE_BYTES, TILE_SIDE,
    TileNumbers, TileProducts, TileSums, TileUnit, dispatch_dot, dispatch_pairs,
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
unsafe fn multiply<N: Arithmetic, A: Rows>(
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
fn row_of(sums: &TileSums, row: usize, column: usize) -> *const u32 {
    let tile = 2 * (row / TILE_SIDE) + column / TILE_SIDE;
    sums.0[(tile * TILE_SIDE + row % TILE_SIDE) * TILE_SIDE + column % TILE_SIDE..].as_ptr()
}

/// [`Arithmetic::product`] on bf16.
///
/// # Safety
/// As [`Arithmetic::product`].
pub(super) unsafe fn real_tiles<Y: Number, A: Rows>(
    (unit, isa): (TileUnit, Bf16Isa),
    rows: usize,
    args: &Product<Halves<Y>, A>,
    at: [usize; 2],
) {
    debug_assert!(!args.epilogue.accumulate, "no reduction is cut");
    // SAFETY: the contract of this function.
    let sums = unsafe { multiply(unit, TileNumbers::Bf16, rows, args, at[0]) };
    dispatch_pairs(isa, StoreReals { args, sums: &sums, rows, at: at[1] });
}

struct StoreReals<'a, 'b, Y: Number, A> {
    args: &'a Product<'b, Halves<Y>, A>,
    sums: &'a TileSums,
    rows: usize,
    at: usize,
}

impl<Y: Number, A: Rows> PairKernel for StoreReals<'_, '_, Y, A> {
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
fn columns_of<'a, N: Arithmetic, A>(
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

/// [`Arithmetic::product`] on bytes.
///
/// # Safety
/// As [`Arithmetic::product`].
pub(super) unsafe fn byte_tiles<A: Rows>(
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
                    super::bytes::finish::<_, _, 1, 1>(d, &part, [[sums]], self.at + all.rows.y(row));
                }
            }
        }
    }
}

/// Pixels whose sums one call of the unit adds: offsets on the stack.
const MAX_LINES: usize = 256;

/// Adds outer products of bf16, as [`OuterProducts::outer`](super::OuterProducts::outer): columns are the rows of A, which
/// [`fill_line`] has transposed, rows are the columns of B, which is the input itself with its groups of two images.
///
/// # Safety
/// As [`OuterProducts::outer`](super::OuterProducts::outer).
pub(super) unsafe fn outer_tiles<Y: Number>(
    (unit, isa): (TileUnit, Bf16Isa),
    rows: usize,
    args: &Outer<Halves<Y>>,
) {
    let [images, lines, pixels] = args.count;
    let blocks = pixels.div_ceil(TILE_SIDE);
    let mut offsets = [0; MAX_LINES];
    let all = (0..images).flat_map(|image| (0..lines).map(move |line| [image, line]));
    let mut all = all.peekable();
    while let Some(&[image, line]) = all.peek() {
        let mut count = 0;
        for (offset, [image, line]) in offsets.iter_mut().zip(all.by_ref()) {
            *offset = image * args.x_step[0] + line * args.x_step[1];
            count += 1;
        }
        let x_step = args.x_step[2] * size_of::<Bf16>();
        let block = 2 * TILE_SIDE * TILE_BYTES;
        let products = TileProducts {
            numbers: TileNumbers::Bf16,
            base: args.x.cast(),
            offsets: &offsets[..count],
            steps: blocks,
            table_is_a: false,
            other: args.dy.cast::<u8>().wrapping_add((image * lines + line) * blocks * block),
            a_stride: TILE_BYTES,
            b_stride: x_step,
            a_step: block,
            b_step: TILE_SIDE * x_step,
            rows: args.cols,
            depth: TILE_BYTES,
            b_tiles: rows.div_ceil(TILE_SIDE),
        };
        let mut sums = TileSums([0; _]);
        // SAFETY: the contract of this function: the input is readable for whole tiles, the panel has whole blocks.
        unsafe { unit.multiply(&products, &mut sums) }
        dispatch_pairs(isa, AddTransposed { sums: &sums, rows, args });
    }
}

struct AddTransposed<'a, Y: Number> {
    sums: &'a TileSums,
    rows: usize,
    args: &'a Outer<Halves<Y>>,
}

impl<Y: Number> PairKernel for AddTransposed<'_, Y> {
    type Output = ();

    #[inline(always)]
    fn run<P: PairProduct>(self, p: P) {
        let (s, o) = (p.floats(), self.args);
        for row in 0..self.rows {
            let mut line = [0.0; 2 * TILE_SIDE];
            for (column, to) in line.iter_mut().enumerate().take(o.cols) {
                // SAFETY: the sums have a row for every column.
                *to = f32::from_bits(unsafe { *row_of(self.sums, column, row) });
            }
            for v in 0..o.cols.div_ceil(P::LANES) {
                // SAFETY: the contract of `OuterProducts::outer`; the line has whole vectors.
                unsafe {
                    let dw = o.dw.add(row * o.dw_step);
                    let sum = s.add(load_cols(s, dw, v, o.cols), s.load(line.as_ptr().add(v * P::LANES)));
                    store_cols(s, dw, v, o.cols, sum);
                }
            }
        }
    }
}

/// Numbers of a panel that a line of `pixels` of two images takes.
pub(super) fn line_len(pixels: usize) -> usize {
    pixels.div_ceil(TILE_SIDE) * 2 * TILE_SIDE * TILE_BYTES / size_of::<Bf16>()
}

/// Fills the panel of a line: `[block of 16 pixels][32 columns][pixel][image]`, zeros where there is no pixel.
pub(super) fn fill_line(
    panel: &mut [Bf16],
    images: [&[Bf16]; 2],
    step: usize,
    (column, cols): (usize, usize),
) {
    let row = TILE_BYTES / size_of::<Bf16>();
    panel.fill(Bf16::ZERO);
    for (i, image) in images.into_iter().enumerate() {
        for (pixel, numbers) in image.chunks(step).enumerate() {
            let block = pixel / TILE_SIDE * 2 * TILE_SIDE * row;
            let to = panel[block..].iter_mut().skip(2 * (pixel % TILE_SIDE) + i).step_by(row);
            to.zip(&numbers[column..column + cols]).for_each(|(to, &number)| *to = number);
        }
    }
}
