//! Register tiles: the two inner loops that all dense arithmetic of the engine comes down to.
//!
//! A [`Product`] keeps an `R x NR` block of outputs in registers over a whole reduction:
//! ```text
//! y[r][j] = epilogue( sum over taps t, k < run:  x[row[r] + t + k] * w[t, k][j] )
//! ```
//! A row is any place in the input, so one loop serves matrix products (one tap) and convolutions (one tap per
//! kernel row, each `kw * cin` contiguous floats of NHWC). Per `k` it reads `NV` vectors of packed weights and
//! broadcasts `R` floats: `(R + NV) / (R * NV)` loads per multiply-add, 0.67 at 6x2 and 0.58 at 12x2.
//!
//! An [`Outer`] product keeps an `R x NR` block of weight gradients in registers over many pixels:
//! ```text
//! dw[r][j] += sum over pixels p:  x[p + r] * dy[p][j]
//! ```
//! where the `R` input channels of a pixel are contiguous, so their addresses are constants of the loop.
//!
//! Every output is summed in one order whatever tile it falls into, so results do not depend on how work is cut.
//!
//! All of the first, its loop and how it is cut into tiles, is written once for every kind of number: [`Arithmetic`] says
//! which numbers and which instruction set, [`Unit`] how vectors of them are multiplied, added and stored. `floats` is f32,
//! `halves` bf16 with sums in f32, `bytes` u8 x s8 with sums in i32. Where a unit multiplies tiles of a matrix (`tiles`), it
//! takes the place of the loop, for the same operands in the same packing.

mod bytes;
mod floats;
mod halves;
mod outer;
mod reals;
mod tiles;

use std::fmt::Debug;

use super::pack::panel_width;
use crate::buffer::Element;
use crate::simd::{MAX_MR, MAX_ROWS};
pub(crate) use bytes::ByteEpilogue;
pub use halves::Halves;
pub(crate) use outer::{Outer, OuterProducts};
pub use reals::Reals;
pub(crate) use reals::{Epilogue, RealEpilogue};

/// `$body` for each `$r` below the constant `$n`, written out: accumulators stay in registers only if every index is
/// a constant, and a loop is unrolled only as long as the compiler finds it small.
macro_rules! unrolled {
    ($r:ident < $n:ident $body:block) => {
        unrolled!(@ $r < $n $body [0 1 2 3 4 5 6 7 8 9 10 11])
    };
    (@ $r:ident < $n:ident $body:block [$($index:literal)+]) => {
        $(if $index < $n {
            let $r: usize = $index;
            $body
        })+
    };
}
use unrolled;

/// Which numbers are multiplied, what their products are summed in, and the instruction set that does it.
pub(crate) trait Arithmetic: Copy + Debug + Send + Sync + 'static {
    /// Numbers of the input.
    type X: Element;
    /// Weights.
    type W: Element;
    /// Numbers of the output.
    type Y: Element;
    /// What happens to sums before they are stored.
    type Epilogue: TileEpilogue;
    /// Neighbouring products of a sum that one instruction adds. Weights are packed in groups of so many rows, and a run of the
    /// reduction is a multiple of it.
    const GROUP: usize;
    /// Whole panels that [`Arithmetic::row`] takes at once; 0 where it does not exist.
    const ROW_PANELS: usize;

    /// Rows of the register tile.
    fn tile_height(self) -> usize;
    /// Columns of the register tile.
    fn tile_width(self) -> usize;
    /// Most rows of a tile of `cols` columns: one vector of columns leaves room for twice the rows, whose sums would wait for
    /// each other if they were fewer.
    fn tile_rows(self, cols: usize) -> usize {
        let height = self.tile_height();
        if is_wide(self, cols) || self.multiplies_tiles() { height } else { (2 * height).min(MAX_MR) }
    }
    /// Numbers of a run of the reduction, with those of zeros.
    fn padded_run(self, run: usize) -> usize {
        run.next_multiple_of(Self::GROUP)
    }
    /// Whether a unit multiplies tiles: the rows of one then lie at equal distances, those of a convolution along its lines.
    fn multiplies_tiles(self) -> bool {
        false
    }

    /// Whether a reduction can be cut into slices: an output holds a sum that is not complete, at no cost in bits.
    fn slices(self) -> bool;

    /// Computes a tile of `rows` outputs at offsets `at` of the input and the output; see the top of this file.
    ///
    /// # Safety
    /// `1 <= rows <= tile_rows` and `1 <= cols <= tile_width`. For each of the first `rows` rows and each tap, `x` is readable
    /// for `run` numbers; `w` for `taps * run * panel_width`; `y` is writable (and a residual readable) for `cols` numbers at
    /// each row; what the epilogue has for columns is readable for `cols`. No output overlaps an input. The rows of the input
    /// lie at equal distances if the arithmetic asks for that.
    unsafe fn product<A: Rows>(self, rows: usize, args: &Product<Self, A>, at: [usize; 2]);

    /// Computes one row over [`Arithmetic::ROW_PANELS`] whole panels, which are `panel_step` weights apart.
    ///
    /// # Safety
    /// As [`Arithmetic::product`] with one row and no accumulation, for each of the panels.
    unsafe fn row(self, args: &Product<Self, Strided>, panel_step: usize, at: [usize; 2]);
}

/// What happens to a tile of sums before it is stored.
pub(crate) trait TileEpilogue: Copy {
    /// The same for the columns from `column` on.
    fn at_column(self, column: usize) -> Self;
    /// The same for an output that begins `offset` numbers later.
    fn at_output(self, offset: usize) -> Self;
    /// This one for the last slice of a reduction, or one that stores sums as they are; sums start with what the output
    /// holds unless the slice is the `first`.
    fn of_slice(self, first: bool, last: bool) -> Self;
    /// Whether sums start with what the output holds.
    fn accumulates(self) -> bool;
}

/// Vectors of one instruction set as a register tile uses them. Everything is `#[inline(always)]`.
trait Unit: Copy {
    /// The numbers.
    type Arithmetic: Arithmetic;
    /// A vector of sums.
    type Sums: Copy;
    /// Neighbouring numbers of a row, in all lanes.
    type Spread: Copy;
    /// A vector of packed weights.
    type Weights: Copy;
    /// Sums in a vector.
    const LANES: usize;
    /// Accumulators of the largest tile.
    const SUMS: usize;

    /// What sums start with.
    ///
    /// # Safety
    /// As [`Arithmetic::product`]; `y` is the first output of the tile.
    unsafe fn start<A: Rows, const R: usize, const V: usize>(
        self,
        args: &Product<Self::Arithmetic, A>,
        y: *const <Self::Arithmetic as Arithmetic>::Y,
    ) -> [[Self::Sums; V]; R];
    /// `GROUP` numbers of a row, in all lanes.
    ///
    /// # Safety
    /// `x` is readable for `GROUP` numbers.
    unsafe fn spread(self, x: *const <Self::Arithmetic as Arithmetic>::X) -> Self::Spread;
    /// `GROUP` weights for each lane.
    ///
    /// # Safety
    /// `w` is readable for `GROUP * LANES` weights.
    unsafe fn weights(self, w: *const <Self::Arithmetic as Arithmetic>::W) -> Self::Weights;
    /// Adds the products of a group to each lane.
    fn multiply_add(self, x: Self::Spread, w: Self::Weights, sums: Self::Sums) -> Self::Sums;
    /// Stores the tile at offset `y` of the output.
    ///
    /// # Safety
    /// As [`Arithmetic::product`].
    unsafe fn finish<A: Rows, const R: usize, const V: usize>(
        self,
        args: &Product<Self::Arithmetic, A>,
        sums: [[Self::Sums; V]; R],
        y: usize,
    );
}

/// Where the rows of a tile begin: offsets in the input and in the output.
pub(crate) trait Rows {
    /// Of row `r` in the input.
    fn x(&self, r: usize) -> usize;
    /// Of row `r` in the output, if it has a place there.
    fn y(&self, r: usize) -> usize;
    /// The distance between rows of the input where all are equal.
    fn x_step(&self) -> Option<usize> {
        None
    }
    /// Whether row `r` is an output, and not computed only because it lies between two that are.
    fn is_output(&self, _: usize) -> bool {
        true
    }
}

/// Rows at any places: the pixels of a convolution.
pub(crate) struct Table {
    pub(crate) x: [usize; MAX_ROWS],
    pub(crate) y: [usize; MAX_ROWS],
}

impl Rows for Table {
    #[inline(always)]
    fn x(&self, r: usize) -> usize {
        self.x[r]
    }
    #[inline(always)]
    fn y(&self, r: usize) -> usize {
        self.y[r]
    }
}

/// Rows at equal distances: a matrix. Nothing to fill in for a tile, which counts when reductions are short.
#[derive(Clone, Copy)]
pub(crate) struct Strided {
    pub(crate) x: usize,
    pub(crate) y: usize,
}

impl Rows for Strided {
    #[inline(always)]
    fn x(&self, r: usize) -> usize {
        r * self.x
    }
    #[inline(always)]
    fn y(&self, r: usize) -> usize {
        r * self.y
    }
    #[inline(always)]
    fn x_step(&self) -> Option<usize> {
        Some(self.x)
    }
}

/// Rows of the input at equal distances, outputs of some of them at any places: lines of a convolution with the border between
/// them.
pub(crate) struct Line {
    pub(crate) x: usize,
    /// [`Line::NO_OUTPUT`] where there is none.
    pub(crate) y: [usize; MAX_ROWS],
}

impl Line {
    pub(crate) const NO_OUTPUT: usize = usize::MAX;
}

impl Rows for Line {
    fn x(&self, r: usize) -> usize {
        r * self.x
    }
    fn y(&self, r: usize) -> usize {
        self.y[r]
    }
    fn x_step(&self) -> Option<usize> {
        Some(self.x)
    }
    fn is_output(&self, r: usize) -> bool {
        self.y[r] != Line::NO_OUTPUT
    }
}

/// Arguments of [`Arithmetic::product`] that many tiles share.
pub(crate) struct Product<'a, N: Arithmetic, A> {
    /// The input; rows, taps and runs are offsets from here.
    pub(crate) x: *const N::X,
    /// Where the rows of a tile begin, relative to its place in `x` and `y`.
    pub(crate) rows: A,
    /// Where each run of the reduction begins, relative to its row.
    pub(crate) taps: &'a [usize],
    /// Contiguous numbers of a run, a multiple of [`Arithmetic::GROUP`].
    pub(crate) run: usize,
    /// Packed weights `[taps.len() * run / GROUP][panel_width][GROUP]`.
    pub(crate) w: *const N::W,
    /// The output.
    pub(crate) y: *mut N::Y,
    /// Columns to store, at most `NR`.
    pub(crate) cols: usize,
    /// What happens before the store.
    pub(crate) epilogue: N::Epilogue,
}

impl<'a, N: Arithmetic, A> Product<'a, N, A> {
    /// The same product with rows at other places.
    pub(crate) fn with_rows<B>(&self, rows: B) -> Product<'a, N, B> {
        let &Product { x, taps, run, w, y, cols, epilogue, .. } = self;
        Product { x, rows, taps, run, w, y, cols, epilogue }
    }
}

/// The loop of [`Arithmetic::product`] on one instruction set.
///
/// # Safety
/// As [`Arithmetic::product`].
#[inline(always)]
unsafe fn tile<U: Unit, A: Rows, const R: usize, const V: usize>(
    unit: U,
    p: &Product<U::Arithmetic, A>,
    [x_at, y_at]: [usize; 2],
) {
    // Keeps the compiler from making tiles that an instruction set never asks for.
    if const { R * V > U::SUMS } {
        unreachable!("a tile fits the registers");
    }
    let group = const { <U::Arithmetic as Arithmetic>::GROUP };
    let x = p.x.wrapping_add(x_at);
    // SAFETY: the contract of `product`, whose caller vouches for every row, tap, weight and output.
    unsafe {
        let mut acc = unit.start::<A, R, V>(p, p.y.wrapping_add(y_at));
        let mut w = p.w;
        for &tap in p.taps {
            let mut row = [x; R];
            unrolled!(r < R { row[r] = x.add(p.rows.x(r) + tap); });
            for k in 0..p.run / group {
                let mut b = [unit.weights(w); V];
                for v in 1..V {
                    b[v] = unit.weights(w.add(v * U::LANES * group));
                }
                unrolled!(r < R {
                    let a = unit.spread(row[r].add(k * group));
                    for v in 0..V {
                        acc[r][v] = unit.multiply_add(a, b[v], acc[r][v]);
                    }
                });
                w = w.add(V * U::LANES * group);
            }
        }
        unit.finish(p, acc, y_at);
    }
}

/// `$call` with `R` for `$rows` rows, known at run time, and `V` 2 or, when one vector holds the columns, 1.
macro_rules! by_rows {
    ($rows:expr, $wide:expr, ($r:ident, $v:ident) => $call:expr) => {
        by_rows!(@ $rows, $wide, ($r, $v) => $call, [1 2 3 4 5 6 7 8 9 10 11 12])
    };
    (@ $rows:expr, $wide:expr, ($r:ident, $v:ident) => $call:expr, [$($n:literal)+]) => {
        match ($rows, $wide) {
            $(($n, true) => {
                const $r: usize = $n;
                const $v: usize = 2;
                $call
            }
            ($n, false) => {
                const $r: usize = $n;
                const $v: usize = 1;
                $call
            })+
            _ => unreachable!("a tile has 1 to 12 rows"),
        }
    };
}
use by_rows;

/// Whether a tile of `cols` columns takes both vectors of a row.
fn is_wide(numbers: impl Arithmetic, cols: usize) -> bool {
    panel_width(cols, numbers.tile_width()) == numbers.tile_width()
}

/// Computes `rows` outputs that lie at equal distances, in even tiles; `at` and the contract are those of
/// [`Arithmetic::product`].
///
/// # Safety
/// As [`Arithmetic::product`], for any number of rows.
pub(crate) unsafe fn line<N: Arithmetic>(
    numbers: N,
    rows: usize,
    args: &Product<N, Strided>,
    at: [usize; 2],
) {
    let tiles = rows.div_ceil(numbers.tile_rows(args.cols));
    let mut begin = 0;
    for tile in 0..tiles {
        let end = (tile + 1) * rows / tiles;
        let at = [at[0] + begin * args.rows.x, at[1] + begin * args.rows.y];
        // SAFETY: the contract of this function; an even split makes no tile larger than `tile_rows`.
        unsafe { numbers.product(end - begin, args, at) }
        begin = end;
    }
}

/// A matrix product on packed weights, `y[rows][cols] = epilogue(x[rows][depth] w[depth][cols])`.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<N: Arithmetic> {
    /// The first row of the input and the distance between rows.
    pub(crate) x: *const N::X,
    pub(crate) x_step: usize,
    /// Packed weights, the distance between panels, and the row of each panel (`[rows][panel_width]`) where the
    /// reduction begins.
    pub(crate) w: *const N::W,
    pub(crate) panel_step: usize,
    pub(crate) panel_row: usize,
    /// The first row of the output and the distance between rows.
    pub(crate) y: *mut N::Y,
    pub(crate) y_step: usize,
    pub(crate) rows: usize,
    pub(crate) depth: usize,
    pub(crate) cols: usize,
    /// What happens before the store; a residual lies as the output does.
    pub(crate) epilogue: N::Epilogue,
}

/// Reduction slice. Its panels, 64 KiB with AVX2 and 128 KiB with AVX-512, stream from the second-level cache faster than
/// a tile reads them; slices that fit the first level would cost more, as sums wait in memory between them.
pub(crate) const KC: usize = 1024;
/// Bytes of input that pass by all panels before the next rows do: half of a second-level cache.
const ROWS: usize = 256 * 1024;

/// Computes a [`Matrix`] in blocks of rows and slices of the reduction that stay in the second-level cache. Sums wait in `y`
/// between slices, which rounds nothing: the order of additions is that of one pass.
///
/// # Safety
/// Rows of `x` are readable for `depth` numbers, every panel of `w` for `depth` rows from `panel_row` on, rows of `y` are writable (and of a
/// residual readable) for `cols`, what the epilogue has for columns is readable for `cols`. No output overlaps an input.
pub(crate) unsafe fn matrix<N: Arithmetic>(numbers: N, m: &Matrix<N>) {
    let (mr, nr) = (numbers.tile_height(), numbers.tile_width());
    let longest = ROWS / (size_of::<N::X>() * m.depth.clamp(1, KC));
    let height = longest.next_multiple_of(mr).max(mr);
    // One row reads every weight once, whatever the slices.
    let slice = if m.rows == 1 || !numbers.slices() { m.depth.max(1) } else { KC };
    for first in (0..m.rows).step_by(height) {
        let rows = height.min(m.rows - first);
        for start in (0..m.depth.max(1)).step_by(slice) {
            let run = slice.min(m.depth - start);
            let epilogue = m.epilogue.of_slice(start == 0, start + run == m.depth);
            let mut panel = 0;
            while panel * nr < m.cols {
                let column = panel * nr;
                let cols = nr.min(m.cols - column);
                let args = Product {
                    x: m.x.wrapping_add(start),
                    rows: Strided { x: m.x_step, y: m.y_step },
                    taps: &[0],
                    run,
                    w: m.w.wrapping_add(panel * m.panel_step + (m.panel_row + start) * panel_width(cols, nr)),
                    y: m.y.wrapping_add(column),
                    cols,
                    epilogue: epilogue.at_column(column),
                };
                let at = [first * m.x_step, first * m.y_step];
                let whole = (m.cols - column) / nr;
                let panels = const { N::ROW_PANELS };
                // SAFETY: the contract of this function.
                unsafe {
                    if panels > 0 && rows == 1 && whole >= panels && !epilogue.accumulates() && run == m.depth
                    {
                        numbers.row(&args, m.panel_step, at);
                        panel += panels;
                    } else {
                        line(numbers, rows, &args, at);
                        panel += 1;
                    }
                }
            }
        }
    }
}
