//! Dense layers: `y = x w + b` and its two gradients on packed weights.
//!
//! A dense layer is a convolution of one tap. Rows are images, so all three passes are cut over rows or, for a
//! single image, over columns.

use super::micro::{self, Epilogue, Matrix, Outer, OuterProducts, RealEpilogue, Reals};
use super::pack::{Source, panels_len};
use crate::buffer::Element;

/// Shape of a dense layer's product: `y[rows][cols] = x[rows][depth] w[depth][cols]`.
#[derive(Clone, Copy, Debug)]
pub struct GemmShape {
    /// Reduction length.
    pub depth: usize,
    /// Columns of `y` and `w`.
    pub cols: usize,
}

/// What is added to and done with the result of [`gemm`].
#[derive(Clone, Copy, Default)]
pub struct GemmEpilogue<'a, Y = f32> {
    /// Added to every row `[cols]`.
    pub bias: Option<&'a [f32]>,
    /// Added to each output; it lies as the output does.
    pub residual: Option<&'a [Y]>,
    /// Outputs are clamped to this range.
    pub clamp: Option<(f32, f32)>,
}

/// `y[rows][cols] = x[rows][depth] w[depth][cols] (+ bias, clamped)`, `w` packed by [`pack`]; `depth` is that of
/// [`depth`](depth()), with zeros in the last columns of `x`.
///
/// # Panics
/// When a slice does not have the length that the shape gives.
pub fn gemm<N: Reals>(
    numbers: N,
    y: &mut [N::Output],
    x: &[N::Input],
    w: &[N::Input],
    shape: GemmShape,
    epilogue: GemmEpilogue<N::Output>,
) {
    let rows = y.len() / shape.cols;
    assert_eq!(y.len(), rows * shape.cols, "y holds whole rows");
    assert_eq!(x.len(), rows * depth(numbers, shape), "x holds as many rows as y");
    let range = ColumnRange { shape, first: 0, stride: shape.cols, cols: shape.cols };
    gemm_columns(numbers, y, x, w, range, epilogue);
}

/// Columns of `x`: the depth of the product, and as many zeros as make whole groups of it.
pub fn depth<N: Reals>(numbers: N, shape: GemmShape) -> usize {
    numbers.padded_run(shape.depth)
}

/// Columns `first .. first + cols` of a product: `y` is `[rows][stride]` from its first column on.
pub(crate) struct ColumnRange {
    pub(crate) shape: GemmShape,
    pub(crate) first: usize,
    pub(crate) stride: usize,
    pub(crate) cols: usize,
}

/// Some columns of [`gemm`]; `range.first` is a multiple of the panel width.
pub(crate) fn gemm_columns<N: Reals>(
    numbers: N,
    y: &mut [N::Output],
    x: &[N::Input],
    w: &[N::Input],
    range: ColumnRange,
    epilogue: GemmEpilogue<N::Output>,
) {
    let ColumnRange { shape, first, stride, cols } = range;
    let depth = depth(numbers, shape);
    let rows = x.len() / depth;
    let nr = numbers.tile_width();
    if rows == 0 || cols == 0 {
        return;
    }
    assert!(first.is_multiple_of(nr) && first + cols <= shape.cols, "columns start at a panel and exist");
    assert!(y.len() >= (rows - 1) * stride + cols, "y holds the columns of every row");
    assert!(w.len() >= packed_len(numbers, shape), "w holds all panels");
    if let Some(bias) = epilogue.bias {
        assert_eq!(bias.len(), shape.cols, "a bias for every column");
    }
    assert!(epilogue.residual.is_none_or(|r| r.len() == y.len()), "a residual for every output");
    let (low, high) = epilogue.clamp.unwrap_or((f32::NEG_INFINITY, f32::INFINITY));
    let residual = epilogue.residual.map_or(std::ptr::null(), <[N::Output]>::as_ptr);
    let bias = epilogue.bias.map_or(std::ptr::null(), |b| b[first..].as_ptr());
    let epilogue: RealEpilogue<N> = Epilogue { bias, residual, low, high, accumulate: false };
    let args = Matrix {
        x: x.as_ptr(),
        x_step: depth,
        w: w[first / nr * depth * nr..].as_ptr(),
        panel_step: depth * nr,
        panel_row: 0,
        y: y.as_mut_ptr(),
        y_step: stride,
        rows,
        depth,
        cols,
        epilogue,
    };
    // SAFETY: rows, columns, panels and bias were checked above; `y` is borrowed mutably, so it overlaps nothing.
    unsafe { micro::matrix(numbers, &args) }
}

/// Images whose outer products one tile sums in registers: a panel of their `dy` is half of a first-level cache.
const CHAIN: usize = 256;
/// Rows of weights whose tiles of `x` stay in a second-level cache: 96 KiB. A multiple of every register tile's height.
pub(crate) const WEIGHT_ROWS: usize = 96;
/// Places between images of a copy of `x`: an odd number of cache lines in f32, so that images lie in all places of a cache.
const COPY_STEP: usize = WEIGHT_ROWS + 16;

/// Numbers of scratch that [`weight_gradient`] needs.
#[expect(private_bounds, reason = "the kinds of numbers are those of this crate")]
pub fn weight_gradient_scratch<N: OuterProducts>(numbers: N) -> usize {
    panel_len(numbers) + CHAIN * COPY_STEP + numbers.excess(COPY_STEP * N::GROUP)
}

/// Numbers of a panel of `dy`.
fn panel_len<N: OuterProducts>(numbers: N) -> usize {
    numbers.line_len(CHAIN / N::GROUP)
}

/// `dw[first..][cols] += x^T dy` for the rows of `dw` that are given: `x` is `[batch][depth]`, `dy` is
/// `[batch][cols]`, `dw` the rows `first ..` of `[depth][cols]`.
///
/// Tiles read copies, `x` as `[images][rows of a tile]` and `dy` as `[images][NR]`: in place each image is in another
/// page or, with lengths that are powers of two, in the same few places of a cache.
///
/// # Panics
/// When a slice does not have the length that the shape gives, or `scratch` is shorter than [`weight_gradient_scratch`].
#[expect(private_bounds, reason = "the kinds of numbers are those of this crate")]
pub fn weight_gradient<N: OuterProducts>(
    numbers: N,
    dw: &mut [f32],
    scratch: &mut [N::Input],
    (x, dy): (&[N::Input], &[N::Input]),
    shape: GemmShape,
    first: usize,
) {
    let rows = dw.len() / shape.cols;
    let batch = dy.len() / shape.cols;
    assert_eq!(dw.len(), rows * shape.cols, "dw holds whole rows");
    assert_eq!(dy.len(), batch * shape.cols, "dy holds whole rows");
    assert_eq!(x.len(), batch * shape.depth, "x and dy have one row per image");
    assert!(first + rows <= shape.depth, "the rows of dw exist");
    for (block, dw) in dw.chunks_mut(WEIGHT_ROWS * shape.cols).enumerate() {
        let first = first + block * WEIGHT_ROWS;
        let x = x.chunks(CHAIN * shape.depth);
        for (x, dy) in x.zip(dy.chunks(CHAIN * shape.cols)) {
            weight_block(numbers, dw, scratch, (x, dy), shape, first);
        }
    }
}

/// [`weight_gradient`] of at most [`WEIGHT_ROWS`] rows and [`CHAIN`] images.
fn weight_block<N: OuterProducts>(
    numbers: N,
    dw: &mut [f32],
    scratch: &mut [N::Input],
    (x, dy): (&[N::Input], &[N::Input]),
    shape: GemmShape,
    first: usize,
) {
    let (nr, group) = (numbers.tile_width(), N::GROUP);
    let rows = dw.len() / shape.cols;
    let groups = (dy.len() / shape.cols).div_ceil(group);
    let tiles = rows.div_ceil(numbers.tile_rows(nr));
    let scratch = &mut scratch[..weight_gradient_scratch(numbers)];
    let (panel, copy) = scratch.split_at_mut(panel_len(numbers));
    for (to, x) in copy.chunks_exact_mut(COPY_STEP * group).zip(x.chunks(shape.depth * group)) {
        let mut images = [&[][..]; 2];
        images.iter_mut().zip(x.chunks_exact(shape.depth)).for_each(|(to, x)| *to = &x[first..first + rows]);
        numbers.interleave(&mut to[..rows * group], &images);
    }
    // Multiplied with zeros, which what is no number would not survive.
    copy[groups * COPY_STEP * group..][..numbers.excess(COPY_STEP * group)].fill(N::Input::ZERO);
    // The images of a group lie a row apart, groups as many rows as they have images.
    let second = if group > 1 { dy.get(shape.cols..).unwrap_or_default() } else { &[] };
    for column in (0..shape.cols).step_by(nr) {
        let cols = nr.min(shape.cols - column);
        numbers.fill_line(panel, &[dy, second], shape.cols * group, (column, cols));
        for tile in 0..tiles {
            let (begin, end) = (tile * rows / tiles, (tile + 1) * rows / tiles);
            let args = Outer {
                x: copy[begin * group..].as_ptr(),
                dy: panel.as_ptr(),
                count: [1, 1, groups],
                x_step: [0, 0, COPY_STEP * group],
                dy_step: [0, 0, nr * group],
                dw: dw[begin * shape.cols + column..].as_mut_ptr(),
                dw_step: shape.cols,
                cols,
            };
            // SAFETY: the copies hold `groups` rows of the block and of the panel, `dw` whole rows of all columns; it is
            // borrowed mutably, and an even split makes no tile larger than `tile_rows`.
            unsafe { numbers.outer(end - begin, &args) }
        }
    }
}

/// Numbers of one of its panels that has all of its columns.
pub(crate) fn panel_step<N: Reals>(numbers: N, shape: GemmShape) -> usize {
    depth(numbers, shape) * numbers.tile_width()
}

/// Numbers of a packed `depth x cols` matrix.
pub fn packed_len<N: Reals>(numbers: N, shape: GemmShape) -> usize {
    panels_len(depth(numbers, shape), shape.cols, numbers.tile_width())
}

/// Packs row-major `w[depth][cols]` for [`gemm`]: the panels from `first` on that `packed` has room for.
#[expect(private_bounds, reason = "the kinds of numbers are those of this crate")]
pub fn pack<N: OuterProducts>(
    numbers: N,
    packed: &mut [N::Input],
    w: &[f32],
    shape: GemmShape,
    first: usize,
) {
    pack_steps(numbers, packed, w, shape, (first, shape.cols, 1));
}

/// Packs the transpose of row-major `w[cols][depth]` for [`gemm`]: `dx = dy w^T` is `gemm` with it.
#[expect(private_bounds, reason = "the kinds of numbers are those of this crate")]
pub fn pack_transposed<N: OuterProducts>(
    numbers: N,
    packed: &mut [N::Input],
    w: &[f32],
    shape: GemmShape,
    first: usize,
) {
    pack_steps(numbers, packed, w, shape, (first, 1, shape.depth));
}

fn pack_steps<N: OuterProducts>(
    numbers: N,
    packed: &mut [N::Input],
    w: &[f32],
    shape: GemmShape,
    (first, row_step, col_step): (usize, usize, usize),
) {
    let source = Source {
        w,
        base: 0,
        blocks: &[0],
        inner: shape.depth,
        row_step,
        col_step,
        cols: shape.cols,
        run: 1,
        group: N::GROUP,
        padded_run: depth(numbers, shape),
    };
    numbers.pack_panels(packed, first, &source);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::micro::KC;
    use crate::kernels::testing::{
        Guarded, GuardedNumbers, assert_exact, assert_same, for_each_isa, integers, normal, rounded, widen,
    };
    use crate::kernels::{Halves, reference};
    use crate::simd::Bf16Isa;

    /// Rows, depth, columns around the seams of tiles (4, 6, 12 rows; 8, 16, 32 columns) and of slices of the reduction.
    fn shapes() -> Vec<(usize, GemmShape)> {
        let mut shapes = Vec::new();
        for rows in [1, 2, 3, 5, 6, 7, 11, 12, 13, 25] {
            for cols in [1, 7, 8, 9, 16, 17, 31, 33, 65] {
                shapes.push((rows, GemmShape { depth: rows + cols, cols }));
            }
        }
        for depth in [1, KC - 1, KC, KC + 1, 2 * KC + 3] {
            shapes.push((7, GemmShape { depth, cols: 10 }));
        }
        shapes
    }

    /// Rows with as many zeros behind them as make whole groups.
    fn padded<N: Reals>(numbers: N, x: &[f32], shape: GemmShape) -> GuardedNumbers<N::Input> {
        let depth = depth(numbers, shape);
        let mut rows = vec![N::Input::ZERO; x.len() / shape.depth * depth];
        for (to, from) in rows.chunks_mut(depth).zip(x.chunks(shape.depth)) {
            to[..shape.depth].copy_from_slice(&rounded::<N::Input>(from));
        }
        GuardedNumbers::of(&rows)
    }

    /// All passes on whole numbers, whose sums are exact in any order.
    fn exact<N: OuterProducts<Output = f32>>(numbers: N) {
        for (rows, shape) in shapes() {
            let GemmShape { depth, cols } = shape;
            let what = format!("{numbers:?} {rows} x {depth} x {cols}");
            let x = integers(1, rows * depth, 4);
            let w = integers(2, depth * cols, 4);
            let dy = integers(3, rows * cols, 4);
            let bias = Guarded::of(&integers(4, cols, 50));
            let mut packed = GuardedNumbers::nan(packed_len(numbers, shape));
            pack(numbers, &mut packed, &w, shape, 0);
            let mut y = Guarded::nan(rows * cols);
            let from = padded(numbers, &x, shape);
            let epilogue = GemmEpilogue { bias: Some(&bias), ..GemmEpilogue::default() };
            gemm(numbers, &mut y, &from, &packed, shape, epilogue);
            let expected = reference::dense(&widen(&x), &widen(&w), &widen(&bias), depth);
            assert_exact(&what, &y, &expected);
            let (residual, clamp) = (Some(&dy[..]), Some((0.0, 6.0)));
            gemm(numbers, &mut y, &from, &packed, shape, GemmEpilogue { bias: Some(&bias), residual, clamp });
            let expected: Vec<f64> =
                expected.iter().zip(&dy).map(|(y, &r)| (y + f64::from(r)).clamp(0.0, 6.0)).collect();
            assert_exact(&what, &y, &expected);

            let (expected_dx, expected_dw, _) =
                reference::dense_backward(&widen(&x), &widen(&w), &widen(&dy), depth);
            let transposed = GemmShape { depth: cols, cols: depth };
            let mut packed = GuardedNumbers::nan(packed_len(numbers, transposed));
            pack_transposed(numbers, &mut packed, &w, transposed, 0);
            let mut dx = Guarded::nan(rows * depth);
            let gradient = padded(numbers, &dy, transposed);
            gemm(numbers, &mut dx, &gradient, &packed, transposed, GemmEpilogue::default());
            assert_exact(&what, &dx, &expected_dx);
            let mut dw = Guarded::of(&vec![0.0; depth * cols]);
            let mut scratch = GuardedNumbers::nan(weight_gradient_scratch(numbers));
            let [x, dy] = [&x, &dy].map(|x| GuardedNumbers::of(&rounded(x)));
            weight_gradient(numbers, &mut dw, &mut scratch, (&x, &dy), shape, 0);
            assert_exact(&what, &dw, &expected_dw);
        }
    }

    for_each_isa! {
        fn all_passes_are_exact_on_whole_numbers(isa: Isa) {
            exact(isa);
            Bf16Isa::all(isa).into_iter().for_each(|bf16| exact(Halves::<f32>::new(bf16)));
        }

        fn weights_are_packed_to_whole_vectors_and_no_further(isa: Isa) {
            let lanes = isa.nr() / 2;
            for cols in 1..=2 * isa.nr() + 1 {
                let vectors = cols.div_ceil(lanes);
                assert_eq!(packed_len(isa, GemmShape { depth: 7, cols }), 7 * vectors * lanes, "{cols} columns");
            }
        }

        fn a_row_has_the_same_bits_in_any_product(isa: Isa) {
            let shape = GemmShape { depth: KC + 50, cols: 37 };
            let (rows, nr) = (13, isa.nr());
            let x = normal(1, rows * shape.depth);
            let mut packed = vec![0.0; packed_len(isa, shape)];
            pack(isa, &mut packed, &normal(2, shape.depth * shape.cols), shape, 0);
            let mut all = vec![0.0; rows * shape.cols];
            gemm(isa, &mut all, &x, &packed, shape, GemmEpilogue::default());
            for (x, all) in x.chunks(shape.depth).zip(all.chunks(shape.cols)) {
                let mut one = vec![0.0; shape.cols];
                for first in (0..shape.cols).step_by(nr) {
                    let range = ColumnRange { shape, first, stride: shape.cols, cols: nr.min(shape.cols - first) };
                    gemm_columns(isa, &mut one[first..], x, &packed, range, GemmEpilogue::default());
                }
                assert_same("a row alone, by columns", &one, all);
            }
        }
    }
}
