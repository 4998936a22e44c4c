//! Register tiles: the two inner loops that all dense arithmetic of the engine comes down to.
//!
//! [`product`] keeps an `R x NR` block of outputs in registers over a whole reduction:
//! ```text
//! y[r][j] = epilogue( sum over taps t, k < run:  x[row[r] + t + k] * w[t, k][j] )
//! ```
//! A row is any place in the input, so one loop serves matrix products (one tap) and convolutions (one tap per
//! kernel row, each `kw * cin` contiguous floats of NHWC). Per `k` it reads `NV` vectors of packed weights and
//! broadcasts `R` floats: `(R + NV) / (R * NV)` loads per multiply-add, 0.67 at 6x2 and 0.58 at 12x2.
//!
//! [`outer`] keeps an `R x NR` block of weight gradients in registers over many pixels:
//! ```text
//! dw[r][j] += sum over pixels p:  x[p + r] * dy[p][j]
//! ```
//! where the `R` input channels of a pixel are contiguous, so their addresses are constants of the loop.
//!
//! Every output is summed in one order whatever tile it falls into, so results do not depend on how work is cut.

use super::pack::panel_width;
use crate::simd::{Isa, Kernel, MAX_MR, Simd, dispatch};

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

/// Where the rows of a tile begin: offsets in the input and in the output.
pub(crate) trait Rows {
    /// Of row `r` in the input.
    fn x(&self, r: usize) -> usize;
    /// Of row `r` in the output.
    fn y(&self, r: usize) -> usize;
}

/// Rows at any places: the pixels of a convolution.
pub(crate) struct Table {
    pub(crate) x: [usize; MAX_MR],
    pub(crate) y: [usize; MAX_MR],
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
}

/// Arguments of [`product`] that many tiles share.
pub(crate) struct Product<'a, A> {
    /// The input; rows, taps and runs are offsets from here.
    pub(crate) x: *const f32,
    /// Where the rows of a tile begin, relative to its place in `x` and `y`.
    pub(crate) rows: A,
    /// Where each run of the reduction begins, relative to its row.
    pub(crate) taps: &'a [usize],
    /// Contiguous floats of a run.
    pub(crate) run: usize,
    /// Packed weights `[taps.len() * run][panel_width]`.
    pub(crate) w: *const f32,
    /// The output.
    pub(crate) y: *mut f32,
    /// Columns to store, at most `NR`.
    pub(crate) cols: usize,
    /// What happens before the store.
    pub(crate) epilogue: Epilogue,
}

impl<'a, A> Product<'a, A> {
    /// The same product with rows at other places.
    pub(crate) fn with_rows<B>(&self, rows: B) -> Product<'a, B> {
        let &Product { x, taps, run, w, y, cols, epilogue, .. } = self;
        Product { x, rows, taps, run, w, y, cols, epilogue }
    }
}

struct ProductTile<'a, 'b, A, const R: usize, const V: usize>(&'a Product<'b, A>, [usize; 2]);

impl<A: Rows, const R: usize, const V: usize> Kernel for ProductTile<'_, '_, A, R, V> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // Keeps the compiler from making tiles that an instruction set never asks for.
        if const { R * V > S::MR * S::NV } {
            unreachable!("a tile fits the registers");
        }
        let ProductTile(p, [x_at, y_at]) = self;
        let (x, y) = (p.x.wrapping_add(x_at), p.y.wrapping_add(y_at));
        let full = p.cols >= V * S::LANES;
        let mut acc = [[s.splat(0.0); V]; R];
        // SAFETY: the contract of `product`, whose caller vouches for every row, tap, weight and output.
        unsafe {
            if p.epilogue.accumulate {
                unrolled!(r < R {
                    for v in 0..V {
                        acc[r][v] = load_cols(s, y.add(p.rows.y(r)), v, p.cols);
                    }
                });
            }
            let mut w = p.w;
            for &tap in p.taps {
                let mut row = [x; R];
                unrolled!(r < R { row[r] = x.add(p.rows.x(r) + tap); });
                for k in 0..p.run {
                    let mut b = [s.splat(0.0); V];
                    for v in 0..V {
                        b[v] = s.load(w.add(v * S::LANES));
                    }
                    unrolled!(r < R {
                        let a = s.splat(*row[r].add(k));
                        for v in 0..V {
                            acc[r][v] = s.mul_add(a, b[v], acc[r][v]);
                        }
                    });
                    w = w.add(V * S::LANES);
                }
            }
            let e = p.epilogue;
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
            if full {
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
unsafe fn load_cols<S: Simd>(s: S, p: *const f32, v: usize, cols: usize) -> S::V {
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
unsafe fn store_cols<S: Simd>(s: S, p: *mut f32, v: usize, cols: usize, y: S::V) {
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

fn product_tile<const R: usize, const V: usize>(isa: Isa, args: &Product<impl Rows>, at: [usize; 2]) {
    dispatch(isa, ProductTile::<_, R, V>(args, at));
}

fn outer_tile<const R: usize, const V: usize>(isa: Isa, args: &Outer) {
    dispatch(isa, OuterTile::<R, V>(args));
}

/// Calls `$tile::<R, V>` for a number of rows that is known at run time; `V` is 1 when one vector holds the columns.
macro_rules! by_rows {
    ($rows:expr, $wide:expr, $tile:ident $args:tt, [$($r:literal)+]) => {
        match ($rows, $wide) {
            $(($r, true) => $tile::<$r, 2> $args,
              ($r, false) => $tile::<$r, 1> $args,)+
            _ => unreachable!("a tile has 1 to 12 rows"),
        }
    };
}

/// Whether a tile of `cols` columns takes both vectors of a row.
fn is_wide(isa: Isa, cols: usize) -> bool {
    panel_width(cols, isa.nr()) == isa.nr()
}

/// Most rows of a tile of `cols` columns: one vector of columns leaves room for twice the rows, whose sums would wait for
/// each other if they were fewer.
pub(crate) fn tile_rows(isa: Isa, cols: usize) -> usize {
    if is_wide(isa, cols) { isa.mr() } else { (2 * isa.mr()).min(MAX_MR) }
}

/// Computes a tile of `rows` outputs at offsets `at` of the input and the output; see the top of this file.
///
/// # Safety
/// `1 <= rows <= tile_rows` and `1 <= cols <= NR` of `isa`. For each of the first `rows` rows and each tap, `x` is readable
/// for `run` floats; `w` for `taps * run * panel_width`; `y` is writable (and a residual readable) for `cols` floats at each
/// row; a bias is readable for `cols`. No output overlaps an input.
pub(crate) unsafe fn product<A: Rows>(isa: Isa, rows: usize, args: &Product<A>, at: [usize; 2]) {
    let wide = is_wide(isa, args.cols);
    by_rows!(rows, wide, product_tile(isa, args, at), [1 2 3 4 5 6 7 8 9 10 11 12]);
}

/// Computes `rows` outputs that lie at equal distances, in even tiles; `at` and the contract are those of [`product`].
///
/// # Safety
/// As [`product`], for any number of rows.
pub(crate) unsafe fn line(isa: Isa, rows: usize, args: &Product<Strided>, at: [usize; 2]) {
    let tiles = rows.div_ceil(tile_rows(isa, args.cols));
    let mut begin = 0;
    for tile in 0..tiles {
        let end = (tile + 1) * rows / tiles;
        let at = [at[0] + begin * args.rows.x, at[1] + begin * args.rows.y];
        // SAFETY: the contract of this function; an even split makes no tile larger than `tile_rows`.
        unsafe { product(isa, end - begin, args, at) }
        begin = end;
    }
}

/// One row of outputs over `P` neighbouring panels: a single row of one panel has two chains of additions, which wait
/// for each other most of the time; those of four panels keep both ports busy and read memory in four streams.
struct RowTile<'a, const P: usize, const V: usize> {
    p: &'a Product<'a, Strided>,
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

/// Panels of a [`RowTile`]: eight chains of two vectors a panel.
const ROW_PANELS: usize = 4;

/// One row over [`ROW_PANELS`] whole panels.
///
/// # Safety
/// As [`product`] with one row and no accumulation, for each of the panels.
unsafe fn row(isa: Isa, p: &Product<Strided>, panel_step: usize, at: [usize; 2]) {
    dispatch(isa, RowTile::<ROW_PANELS, 2> { p, panel_step, at });
}

/// A matrix product on packed weights, `y[rows][cols] = epilogue(x[rows][depth] w[depth][cols])`.
#[derive(Clone, Copy)]
pub(crate) struct Matrix {
    /// The first row of the input and the distance between rows.
    pub(crate) x: *const f32,
    pub(crate) x_step: usize,
    /// Packed weights, the distance between panels, and the row of each panel (`[rows][panel_width]`) where the
    /// reduction begins.
    pub(crate) w: *const f32,
    pub(crate) panel_step: usize,
    pub(crate) panel_row: usize,
    /// The first row of the output and the distance between rows.
    pub(crate) y: *mut f32,
    pub(crate) y_step: usize,
    pub(crate) rows: usize,
    pub(crate) depth: usize,
    pub(crate) cols: usize,
    /// What happens before the store; a residual lies as the output does.
    pub(crate) epilogue: Epilogue,
}

/// Reduction slice. Its panels, 64 KiB with AVX2 and 128 KiB with AVX-512, stream from the second-level cache faster than
/// a tile reads them; slices that fit the first level would cost more, as sums wait in memory between them.
pub(crate) const KC: usize = 1024;
/// Floats of input that pass by all panels before the next rows do: 256 KiB, half of a second-level cache.
const ROWS: usize = 64 * 1024;

/// Computes a [`Matrix`] in blocks of rows and slices of the reduction that stay in the second-level cache. Sums wait in `y` between slices, which rounds nothing: the order of additions is that of
/// one pass.
///
/// # Safety
/// Rows of `x` are readable for `depth` floats, every panel of `w` for `depth` rows from `panel_row` on, rows of `y` are writable (and of a
/// residual readable) for `cols`, a bias is readable for `cols`. No output overlaps an input.
pub(crate) unsafe fn matrix(isa: Isa, m: &Matrix) {
    let (mr, nr) = (isa.mr(), isa.nr());
    let height = (ROWS / m.depth.clamp(1, KC)).next_multiple_of(mr);
    // One row reads every weight once, whatever the slices.
    let slice = if m.rows == 1 { m.depth.max(1) } else { KC };
    for first in (0..m.rows).step_by(height) {
        let rows = height.min(m.rows - first);
        for start in (0..m.depth.max(1)).step_by(slice) {
            let run = slice.min(m.depth - start);
            let mut epilogue = Epilogue { accumulate: start > 0, ..Epilogue::NONE };
            if start + run == m.depth {
                epilogue = Epilogue { accumulate: start > 0 || m.epilogue.accumulate, ..m.epilogue };
            }
            let mut panel = 0;
            while panel * nr < m.cols {
                let column = panel * nr;
                let cols = nr.min(m.cols - column);
                let shift = |p: *const f32, by: usize| if p.is_null() { p } else { p.wrapping_add(by) };
                let args = Product {
                    x: m.x.wrapping_add(start),
                    rows: Strided { x: m.x_step, y: m.y_step },
                    taps: &[0],
                    run,
                    w: m.w.wrapping_add(panel * m.panel_step + (m.panel_row + start) * panel_width(cols, nr)),
                    y: m.y.wrapping_add(column),
                    cols,
                    epilogue: Epilogue {
                        bias: shift(epilogue.bias, column),
                        residual: shift(epilogue.residual, column),
                        ..epilogue
                    },
                };
                let at = [first * m.x_step, first * m.y_step];
                let whole = (m.cols - column) / nr;
                // SAFETY: the contract of this function.
                unsafe {
                    if rows == 1 && whole >= ROW_PANELS && !epilogue.accumulate && run == m.depth {
                        row(isa, &args, m.panel_step, at);
                        panel += ROW_PANELS;
                    } else {
                        line(isa, rows, &args, at);
                        panel += 1;
                    }
                }
            }
        }
    }
}

/// Adds the outer products of many pixels to a tile of weight gradients; see the top of this file.
///
/// # Safety
/// `1 <= rows <= tile_rows` and `1 <= cols <= NR` of `isa`. At every pixel `x` is readable for `rows` floats and `dy` for
/// `cols`; `dw` is writable for `cols` floats at each row. `dw` overlaps neither.
pub(crate) unsafe fn outer(isa: Isa, rows: usize, args: &Outer) {
    let wide = is_wide(isa, args.cols);
    by_rows!(rows, wide, outer_tile(isa, args), [1 2 3 4 5 6 7 8 9 10 11 12]);
}
