//! Batch normalisation (Ioffe and Szegedy, 2015) in pieces: moments, a per-channel affine map, backward sums.
//!
//! With `N` rows (pixels of all images of the batch) of `c` channels, `mean` and the biased `var` over rows,
//! `inv_std = 1 / sqrt(var + eps)` and `xhat = (x - mean) inv_std`:
//! ```text
//! y      = gamma xhat + beta              = x a + b,  a = gamma inv_std,  b = beta - mean a
//! dbeta  = sum dy,   dgamma = sum dy xhat
//! dx     = gamma inv_std (dy - dbeta / N - xhat dgamma / N)
//!        = dy a + x b + c,   a = gamma inv_std,   b = -a inv_std dgamma / N,   c = -a dbeta / N - b mean
//! ```
//! In inference `mean` and `var` are constants, so `dx = dy a`, which is [`affine`] without an activation.
//! The caller cuts rows into chunks, calls [`moments`] or [`backward_sums`] for each and merges the results in the
//! order of the chunks: [`Moments`].

use super::activation;
use super::elementwise::{clamp, load, store};
use super::reduce::{ColumnTerms, Element, add_columns, row_count};
use crate::graph::Activation;
use crate::simd::{Isa, Kernel, Simd, dispatch};

/// `(x - mean)^2` of every element.
#[derive(Clone, Copy)]
struct SquaredDeviations {
    x: *const f32,
    mean: *const f32,
}

impl ColumnTerms<1> for SquaredDeviations {
    #[inline(always)]
    unsafe fn terms<S: Simd>(self, s: S, at: usize, col: usize, n: usize) -> [S::V; 1] {
        // SAFETY: the contract of this function; the pointers are those of the whole matrix and its column means.
        let d = unsafe { s.sub(load(s, self.x.add(at), n), load(s, self.mean.add(col), n)) };
        [s.mul(d, d)]
    }
}

/// Mean and sum of squared deviations from it, `[c]` each (overwritten), of the rows of `x`.
///
/// Two passes, so that a mean far from zero costs no digits; a chunk that stays in the second-level cache is read
/// from memory once.
///
/// # Panics
/// When `mean` and `m2` differ in length or `x` is not whole rows of it. No rows give zeros.
pub fn moments(isa: Isa, mean: &mut [f32], m2: &mut [f32], x: &[f32]) {
    let c = mean.len();
    assert_eq!(m2.len(), c, "a mean and a sum of squares for every channel");
    let rows = row_count(x.len(), c);
    mean.fill(0.0);
    m2.fill(0.0);
    if rows == 0 {
        return;
    }
    // SAFETY: `x` holds `rows` rows of `c` floats.
    unsafe { add_columns(isa, [mean.as_mut_ptr()], rows, c, Element(x.as_ptr())) }
    mean.iter_mut().for_each(|mean| *mean /= rows as f32);
    let deviations = SquaredDeviations { x: x.as_ptr(), mean: mean.as_ptr() };
    // SAFETY: as above; there is a mean for every column.
    unsafe { add_columns(isa, [m2.as_mut_ptr()], rows, c, deviations) }
}

/// Statistics of one channel over the rows seen so far, in f64.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moments {
    /// Number of rows.
    pub count: f64,
    /// Their mean.
    pub mean: f64,
    /// Sum of their squared deviations from the mean.
    pub m2: f64,
}

impl Moments {
    /// Takes in the statistics of further rows (Chan, Golub and LeVeque, 1979).
    ///
    /// Exact up to rounding but not associative: to get the same bits, merge in the same order.
    pub fn merge(&mut self, other: Moments) {
        let total = self.count + other.count;
        if total == 0.0 {
            return;
        }
        let (delta, share) = (other.mean - self.mean, other.count / total);
        self.mean += delta * share;
        self.m2 += other.m2 + delta * delta * self.count * share;
        self.count = total;
    }
}

/// A function of the element in each of `N` matrices and of `P` parameters of its column.
trait PerChannel<const N: usize, const P: usize>: Copy {
    /// One vector of results. Implementations are `#[inline(always)]`.
    fn lanes<S: Simd>(self, s: S, x: [S::V; N], p: [S::V; P]) -> S::V;
}

/// `y = f(x[..], p[..][col])` over a matrix of `rows x cols`; an `x` may be `y`.
struct RowSweep<const N: usize, const P: usize, F> {
    y: *mut f32,
    x: [*const f32; N],
    p: [*const f32; P],
    rows: usize,
    cols: usize,
    f: F,
}

impl<const N: usize, const P: usize, F: PerChannel<N, P>> RowSweep<N, P, F> {
    /// Computes `n` elements of one row.
    ///
    /// # Safety
    /// `n <= LANES`, `row < rows`, `col + n <= cols`, and the pointers hold what the struct says.
    #[inline(always)]
    unsafe fn step<S: Simd>(&self, s: S, row: usize, col: usize, n: usize) {
        let at = row * self.cols + col;
        let (mut x, mut p) = ([s.splat(0.0); N], [s.splat(0.0); P]);
        // SAFETY: the contract of this function.
        unsafe {
            for (vector, pointer) in x.iter_mut().zip(self.x) {
                *vector = load(s, pointer.add(at), n);
            }
            for (vector, pointer) in p.iter_mut().zip(self.p) {
                *vector = load(s, pointer.add(col), n);
            }
            store(s, self.y.add(at), self.f.lanes(s, x, p), n);
        }
    }
}

impl<const N: usize, const P: usize, F: PerChannel<N, P>> Kernel for RowSweep<N, P, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let rest = self.cols % S::LANES;
        let whole = self.cols - rest;
        for row in 0..self.rows {
            // SAFETY: every step ends within its row; the safe functions below checked the extents.
            unsafe {
                for col in (0..whole).step_by(S::LANES) {
                    self.step(s, row, col, S::LANES);
                }
                if rest > 0 {
                    self.step(s, row, whole, rest);
                }
            }
        }
    }
}

/// Runs a [`RowSweep`].
///
/// # Safety
/// `y` is writable and every `x` readable for `rows * cols` floats, every `p` for `cols`; an `x` may be `y` but nothing
/// else overlaps it.
unsafe fn sweep_rows<const N: usize, const P: usize, F: PerChannel<N, P>>(isa: Isa, rows: RowSweep<N, P, F>) {
    dispatch(isa, rows);
}

#[derive(Clone, Copy)]
struct Affine((f32, f32));

impl PerChannel<1, 2> for Affine {
    #[inline(always)]
    fn lanes<S: Simd>(self, s: S, [x]: [S::V; 1], [a, b]: [S::V; 2]) -> S::V {
        clamp(s, s.mul_add(x, a, b), self.0)
    }
}

/// `y = act(x a + b)` with `a` and `b` per channel `[c]`.
///
/// # Panics
/// When lengths do not fit.
pub fn affine(isa: Isa, y: &mut [f32], x: &[f32], a: &[f32], b: &[f32], act: Option<Activation>) {
    assert_eq!(x.len(), y.len(), "the input is as long as the output");
    // SAFETY: lengths were compared.
    unsafe { affine_from(isa, y, x.as_ptr(), (a, b), act) }
}

/// As [`affine`] with `x` in place of `y`.
///
/// # Panics
/// When lengths do not fit.
pub fn affine_in_place(isa: Isa, y: &mut [f32], a: &[f32], b: &[f32], act: Option<Activation>) {
    let x = y.as_mut_ptr().cast_const();
    // SAFETY: an input may be the output.
    unsafe { affine_from(isa, y, x, (a, b), act) }
}

/// # Safety
/// `x` is readable for as many floats as `y` has; it may be `y` but not overlap it otherwise.
unsafe fn affine_from(
    isa: Isa,
    y: &mut [f32],
    x: *const f32,
    (a, b): (&[f32], &[f32]),
    act: Option<Activation>,
) {
    let cols = a.len();
    assert_eq!(b.len(), cols, "a factor and an addend for every channel");
    let rows = row_count(y.len(), cols);
    let range = activation::clamp_range(act);
    let f = Affine(range.unwrap_or(activation::NO_CLAMP));
    // SAFETY: the contract of this function; `y` is `rows x cols`, `a` and `b` have `cols` floats.
    unsafe {
        sweep_rows(isa, RowSweep { y: y.as_mut_ptr(), x: [x], p: [a.as_ptr(), b.as_ptr()], rows, cols, f })
    }
    if let (None, Some(act)) = (range, act) {
        activation::forward_in_place(isa, y, act);
    }
}

/// Parameter gradients of a chunk of rows, `[c]` each.
pub struct BnSums<'a> {
    /// `sum dy`
    pub dbeta: &'a mut [f32],
    /// `sum dy (x - mean) inv_std`
    pub dgamma: &'a mut [f32],
}

#[derive(Clone, Copy)]
struct BackwardTerms {
    x: *const f32,
    dy: *const f32,
    mean: *const f32,
}

impl ColumnTerms<2> for BackwardTerms {
    #[inline(always)]
    unsafe fn terms<S: Simd>(self, s: S, at: usize, col: usize, n: usize) -> [S::V; 2] {
        // SAFETY: the contract of this function; the pointers are those of whole matrices and the column means.
        unsafe {
            let dy = load(s, self.dy.add(at), n);
            let d = s.sub(load(s, self.x.add(at), n), load(s, self.mean.add(col), n));
            [dy, s.mul(dy, d)]
        }
    }
}

/// `dbeta = sum dy` and `dgamma = sum dy (x - mean) inv_std` (overwritten) over the rows of a chunk.
///
/// # Panics
/// When lengths do not fit.
pub fn backward_sums(isa: Isa, sums: BnSums, x: &[f32], dy: &[f32], mean: &[f32], inv_std: &[f32]) {
    let BnSums { dbeta, dgamma } = sums;
    let c = mean.len();
    assert!(dbeta.len() == c && dgamma.len() == c && inv_std.len() == c, "all statistics have one length");
    assert_eq!(dy.len(), x.len(), "x and dy have one length");
    let rows = row_count(x.len(), c);
    dbeta.fill(0.0);
    dgamma.fill(0.0);
    let terms = BackwardTerms { x: x.as_ptr(), dy: dy.as_ptr(), mean: mean.as_ptr() };
    // SAFETY: `x` and `dy` hold `rows` rows of `c` floats, and there is a mean for every column.
    unsafe { add_columns(isa, [dbeta.as_mut_ptr(), dgamma.as_mut_ptr()], rows, c, terms) }
    dgamma.iter_mut().zip(inv_std).for_each(|(dgamma, inv_std)| *dgamma *= inv_std);
}

/// Coefficients of [`backward_dx`], `[c]` each; the top of this file has their formulas.
#[derive(Clone, Copy)]
pub struct BnCoef<'a> {
    /// Factor of `dy`.
    pub a: &'a [f32],
    /// Factor of `x`.
    pub b: &'a [f32],
    /// Addend.
    pub c: &'a [f32],
}

#[derive(Clone, Copy)]
struct BackwardDx;

impl PerChannel<2, 3> for BackwardDx {
    #[inline(always)]
    fn lanes<S: Simd>(self, s: S, [x, dy]: [S::V; 2], [a, b, c]: [S::V; 3]) -> S::V {
        s.mul_add(dy, a, s.mul_add(x, b, c))
    }
}

/// `dx = dy a + x b + c` (overwritten) with coefficients per channel.
///
/// # Panics
/// When lengths do not fit.
pub fn backward_dx(isa: Isa, dx: &mut [f32], x: &[f32], dy: &[f32], coef: BnCoef) {
    let cols = coef.a.len();
    assert!(coef.b.len() == cols && coef.c.len() == cols, "all coefficients have one length");
    assert!(x.len() == dx.len() && dy.len() == dx.len(), "inputs are as long as the output");
    let rows = row_count(dx.len(), cols);
    let p = [coef.a.as_ptr(), coef.b.as_ptr(), coef.c.as_ptr()];
    let x = [x.as_ptr(), dy.as_ptr()];
    // SAFETY: all matrices are `rows x cols`, and there is a coefficient of each kind for every column.
    unsafe { sweep_rows(isa, RowSweep { y: dx.as_mut_ptr(), x, p, rows, cols, f: BackwardDx }) }
}
