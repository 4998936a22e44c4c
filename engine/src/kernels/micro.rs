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

use crate::simd::{Isa, Kernel, MAX_MR, Simd, dispatch};

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

/// Arguments of [`product`].
pub(crate) struct Product<'a, A> {
    /// The input; rows, taps and runs are offsets from here.
    pub(crate) x: *const f32,
    /// Where the rows of the tile begin in `x` and `y`.
    pub(crate) rows: A,
    /// Where each run of the reduction begins, relative to its row.
    pub(crate) taps: &'a [usize],
    /// Contiguous floats of a run.
    pub(crate) run: usize,
    /// Packed weights `[taps.len() * run][NR]`.
    pub(crate) w: *const f32,
    /// The output.
    pub(crate) y: *mut f32,
    /// Columns to store, at most `NR`.
    pub(crate) cols: usize,
    /// What happens before the store.
    pub(crate) epilogue: Epilogue,
}

struct ProductTile<'a, 'b, A, const R: usize, const V: usize>(&'a Product<'b, A>);

impl<A: Rows, const R: usize, const V: usize> Kernel for ProductTile<'_, '_, A, R, V> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // Keeps the compiler from making tiles that an instruction set never asks for.
        if const { R > S::MR } {
            unreachable!("a tile has at most MR rows");
        }
        let p = self.0;
        let mut acc = [[s.splat(0.0); V]; R];
        // SAFETY: the contract of `product`, whose caller vouches for every row, tap, weight and output.
        unsafe {
            if p.epilogue.accumulate {
                for r in 0..R {
                    for v in 0..V {
                        acc[r][v] = load_cols(s, p.y.add(p.rows.y(r)), v, p.cols);
                    }
                }
            }
            let mut w = p.w;
            for &tap in p.taps {
                let mut row = [p.x; R];
                for r in 0..R {
                    row[r] = p.x.add(p.rows.x(r) + tap);
                }
                for k in 0..p.run {
                    let mut b = [s.splat(0.0); V];
                    for v in 0..V {
                        b[v] = s.load(w.add(v * S::LANES));
                    }
                    for r in 0..R {
                        let a = s.splat(*row[r].add(k));
                        for v in 0..V {
                            acc[r][v] = s.mul_add(a, b[v], acc[r][v]);
                        }
                    }
                    w = w.add(S::NR);
                }
            }
            let e = p.epilogue;
            if !e.bias.is_null() {
                for v in 0..V {
                    let bias = load_cols(s, e.bias, v, p.cols);
                    for r in 0..R {
                        acc[r][v] = s.add(acc[r][v], bias);
                    }
                }
            }
            let (low, high) = (s.splat(e.low), s.splat(e.high));
            for r in 0..R {
                for v in 0..V {
                    if !e.residual.is_null() {
                        acc[r][v] = s.add(acc[r][v], load_cols(s, e.residual.add(p.rows.y(r)), v, p.cols));
                    }
                    let y = s.min(high, s.max(low, acc[r][v]));
                    store_cols(s, p.y.add(p.rows.y(r)), v, p.cols, y);
                }
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
        if const { R > S::MR } {
            unreachable!("a tile has at most MR rows");
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
/// As [`outer`].
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
                        b[v] = if FULL { s.load(dy.add(v * S::LANES)) } else { load_cols(s, dy, v, o.cols) };
                    }
                    for r in 0..R {
                        let a = s.splat(*x.add(r));
                        for v in 0..V {
                            acc[r][v] = s.mul_add(a, b[v], acc[r][v]);
                        }
                    }
                    // The last step may leave the image: wrapping, as it is not followed by a load.
                    x = x.wrapping_add(o.x_step[2]);
                    dy = dy.wrapping_add(o.dy_step[2]);
                }
            }
        }
        for r in 0..R {
            for v in 0..V {
                let dw = o.dw.add(r * o.dw_step);
                let sum = s.add(load_cols(s, dw, v, o.cols), acc[r][v]);
                store_cols(s, dw, v, o.cols, sum);
            }
        }
    }
}

fn product_tile<const R: usize, const V: usize>(isa: Isa, args: &Product<impl Rows>) {
    dispatch(isa, ProductTile::<_, R, V>(args));
}

fn outer_tile<const R: usize, const V: usize>(isa: Isa, args: &Outer) {
    dispatch(isa, OuterTile::<R, V>(args));
}

/// Calls `$tile::<R, V>` for a number of rows that is known at run time; `V` is 1 when one vector holds the columns.
macro_rules! by_rows {
    ($isa:expr, $rows:expr, $wide:expr, $tile:ident, $args:expr, [$($r:literal)+]) => {
        match ($rows, $wide) {
            $(($r, true) => $tile::<$r, 2>($isa, $args),
              ($r, false) => $tile::<$r, 1>($isa, $args),)+
            _ => unreachable!("a tile has 1 to 12 rows"),
        }
    };
}

/// Computes a tile of `rows` outputs; see the top of this file.
///
/// # Safety
/// `1 <= rows <= MR` and `1 <= cols <= NR` of `isa`. For each of the first `rows` rows and each tap, `x` is readable
/// for `run` floats; `w` for `taps * run * NR`; `y` is writable (and a residual readable) for `cols` floats at each
/// `out`; a bias is readable for `cols`. No output overlaps an input.
pub(crate) unsafe fn product<A: Rows>(isa: Isa, rows: usize, args: &Product<A>) {
    let wide = args.cols > isa.nr() / 2;
    by_rows!(isa, rows, wide, product_tile, args, [1 2 3 4 5 6 7 8 9 10 11 12]);
}

/// Arguments of [`panel`].
#[derive(Clone, Copy)]
pub(crate) struct Panel {
    /// The first row of the input and the distance between rows.
    pub(crate) x: *const f32,
    pub(crate) x_step: usize,
    /// Packed weights `[depth][NR]`.
    pub(crate) w: *const f32,
    /// The first row of the output and the distance between rows.
    pub(crate) y: *mut f32,
    pub(crate) y_step: usize,
    /// Rows, length of the reduction and columns, at most `NR`.
    pub(crate) rows: usize,
    pub(crate) depth: usize,
    pub(crate) cols: usize,
    /// What happens before the store; a residual lies as the output does.
    pub(crate) epilogue: Epilogue,
}

/// One panel of a matrix product, `y[rows][cols] = epilogue(x[rows][depth] w[depth][cols])`, in even tiles.
///
/// # Safety
/// `1 <= cols <= NR` of `isa`; rows of `x` are readable for `depth` floats, `w` for `depth * NR`, rows of `y` are
/// writable (and of a residual readable) for `cols`, a bias is readable for `cols`. No output overlaps an input.
pub(crate) unsafe fn panel(isa: Isa, p: &Panel) {
    let tiles = p.rows.div_ceil(isa.mr());
    for tile in 0..tiles {
        let (begin, end) = (tile * p.rows / tiles, (tile + 1) * p.rows / tiles);
        let mut epilogue = p.epilogue;
        if !epilogue.residual.is_null() {
            epilogue.residual = epilogue.residual.wrapping_add(begin * p.y_step);
        }
        let args = Product {
            x: p.x.wrapping_add(begin * p.x_step),
            rows: Strided { x: p.x_step, y: p.y_step },
            taps: &[0],
            run: p.depth,
            w: p.w,
            y: p.y.wrapping_add(begin * p.y_step),
            cols: p.cols,
            epilogue,
        };
        // SAFETY: the contract of this function; an even split makes no tile larger than MR.
        unsafe { product(isa, end - begin, &args) }
    }
}

/// Adds the outer products of many pixels to a tile of weight gradients; see the top of this file.
///
/// # Safety
/// `1 <= rows <= MR` and `1 <= cols <= NR` of `isa`. At every pixel `x` is readable for `rows` floats and `dy` for
/// `cols`; `dw` is writable for `cols` floats at each row. `dw` overlaps neither.
pub(crate) unsafe fn outer(isa: Isa, rows: usize, args: &Outer) {
    let wide = args.cols > isa.nr() / 2;
    by_rows!(isa, rows, wide, outer_tile, args, [1 2 3 4 5 6 7 8 9 10 11 12]);
}
