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
//! The caller cuts rows into chunks, calls [`moments`] or [`backward_sums`] for each and merges the results
//! in the order of the chunks: [`Moments`].

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
        // SAFETY: the contract of this function; the pointers are those of the whole matrix and its column
        // means.
        let d = unsafe { s.sub(load(s, self.x.add(at), n), load(s, self.mean.add(col), n)) };
        [s.mul(d, d)]
    }
}

/// Mean and sum of squared deviations from it, `[c]` each (overwritten), of the rows of `x`.
///
/// Two passes, so that a mean far from zero costs no digits; a chunk that stays in the second-level cache is
/// read from memory once.
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
/// `y` is writable and every `x` readable for `rows * cols` floats, every `p` for `cols`; an `x` may be `y`
/// but nothing else overlaps it.
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
        // SAFETY: the contract of this function; the pointers are those of whole matrices and the column
        // means.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::reference;
    use crate::kernels::testing::{
        CHANNELS, Guarded, UNIT_ROUNDOFF, assert_close, assert_exact, assert_same, for_each_isa, integers,
        normal, sum_bound, widen,
    };

    const EPS: f64 = 1e-5;
    const ROWS: [usize; 6] = [1, 2, 7, 255, 257, 520];

    /// Rows of normal numbers around a mean that differs from channel to channel.
    fn rows(seed: u64, rows: usize, c: usize, mean: f32) -> Guarded {
        let mut x = Guarded::of(&normal(seed, rows * c));
        x.iter_mut().enumerate().for_each(|(i, x)| *x += mean * (i % c) as f32);
        x
    }

    fn narrow(x: &[f64]) -> Vec<f32> {
        x.iter().map(|&x| x as f32).collect()
    }

    for_each_isa! {
        fn moments_of_rows(isa: Isa) {
            for (n, c) in ROWS.into_iter().flat_map(|n| CHANNELS.map(|c| (n, c))) {
                // Means of up to 1000 standard deviations.
                for spread in [0.0, 1000.0 / c as f32] {
                    let x = rows(1, n, c, spread);
                    let (mut mean, mut m2) = (Guarded::nan(c), Guarded::nan(c));
                    moments(isa, &mut mean, &mut m2, &x);
                    let (mean_exact, var_exact) = reference::batch_statistics(&widen(&x), c);
                    let largest = 6.0 + f64::from(spread) * c as f64;
                    let off = sum_bound(n, largest);
                    assert_close("mean", &mean, &mean_exact, |_| off);
                    // A mean that is off by d adds n d^2; each deviation carries the rounding of x - mean.
                    let bound = |i: usize| {
                        let m2 = n as f64 * var_exact[i];
                        let rounding = 2.0 * UNIT_ROUNDOFF * largest * (n as f64 * m2).sqrt();
                        sum_bound(n + 4, m2) + n as f64 * off * off + rounding
                    };
                    let m2_exact: Vec<f64> = var_exact.iter().map(|var| var * n as f64).collect();
                    assert_close("m2", &m2, &m2_exact, bound);
                }
            }
        }

        fn moments_of_no_rows(isa: Isa) {
            let (mut mean, mut m2) = (Guarded::nan(9), Guarded::nan(9));
            moments(isa, &mut mean, &mut m2, &[]);
            assert!(mean.iter().chain(m2.iter()).all(|&x| x == 0.0));
        }

        fn merged_moments_are_those_of_all_rows(isa: Isa) {
            let c = 9;
            let x = rows(2, 600, c, 3.0);
            let (mean_exact, var_exact) = reference::batch_statistics(&widen(&x), c);
            for chunk in [1, 7, 100, 599, 600] {
                let mut all = vec![Moments::default(); c];
                for piece in x.chunks(chunk * c) {
                    let (mut mean, mut m2) = (Guarded::nan(c), Guarded::nan(c));
                    moments(isa, &mut mean, &mut m2, piece);
                    for (i, all) in all.iter_mut().enumerate() {
                        let count = (piece.len() / c) as f64;
                        all.merge(Moments { count, mean: mean[i].into(), m2: m2[i].into() });
                        all.merge(Moments::default());
                    }
                }
                for (i, all) in all.iter().enumerate() {
                    assert_eq!(all.count, 600.0);
                    assert!((all.mean - mean_exact[i]).abs() < sum_bound(chunk, 30.0));
                    let error = (all.m2 / 600.0 - var_exact[i]).abs();
                    assert!(error < sum_bound(chunk + 600, 4.0), "chunks of {chunk}: off by {error:e}");
                }
            }
        }

        fn affine_map(isa: Isa) {
            for (n, c) in [0, 1, 5].into_iter().flat_map(|n| CHANNELS.map(|c| (n, c))) {
                let x = Guarded::of(&integers(1, n * c, 9));
                let (a, b) = (Guarded::of(&integers(2, c, 9)), Guarded::of(&integers(3, c, 9)));
                let plain: Vec<f64> =
                    (0..n * c).map(|i| f64::from(x[i]) * f64::from(a[i % c]) + f64::from(b[i % c])).collect();
                let mut y = Guarded::nan(n * c);
                affine(isa, &mut y, &x, &a, &b, None);
                assert_exact("affine", &y, &plain);
                for act in [Activation::Relu, Activation::Relu6, Activation::Gelu, Activation::Silu] {
                    affine(isa, &mut y, &x, &a, &b, Some(act));
                    assert_close("act", &y, &reference::activation(&plain, act), |i| 4e-7 * plain[i].abs());
                    let mut in_place = Guarded::of(&x);
                    affine_in_place(isa, &mut in_place, &a, &b, Some(act));
                    assert_same("in place", &in_place, &y);
                }
            }
        }

        /// The coefficients of this file's top, computed in f64, give the oracle's gradients.
        fn backward_follows_the_definition(isa: Isa) {
            for (n, c) in ROWS.into_iter().skip(1).flat_map(|n| CHANNELS.map(|c| (n, c))) {
                let (x, dy) = (rows(1, n, c, 0.5), Guarded::of(&normal(2, n * c)));
                let gamma = widen(&normal(3, c));
                let (mean, var) = reference::batch_statistics(&widen(&x), c);
                let inv_std: Vec<f64> = var.iter().map(|var| 1.0 / (var + EPS).sqrt()).collect();
                let (dx_exact, dgamma_exact, dbeta_exact) =
                    reference::batch_norm_backward(&widen(&x), &gamma, &widen(&dy), EPS);

                let (mut dbeta, mut dgamma) = (Guarded::nan(c), Guarded::nan(c));
                let sums = BnSums { dbeta: &mut dbeta, dgamma: &mut dgamma };
                backward_sums(isa, sums, &x, &dy, &narrow(&mean), &narrow(&inv_std));
                let column = |i: usize| (i..n * c).step_by(c);
                let dbeta_size = |i: usize| column(i).map(|j| f64::from(dy[j]).abs()).sum::<f64>();
                // The rounded mean shifts every deviation by up to an ulp of the largest x.
                let size = |i: usize| {
                    let largest = mean[i].abs() + 6.0;
                    column(i).map(|j| f64::from(dy[j]).abs() * (f64::from(x[j]) - mean[i]).abs()).sum::<f64>()
                        + largest * dbeta_size(i) * 2.0 / n as f64
                };
                assert_close("dbeta", &dbeta, &dbeta_exact, |i| sum_bound(n, dbeta_size(i)));
                let shift = |i: usize| UNIT_ROUNDOFF * (mean[i].abs() + 6.0) * 2.0 * dbeta_size(i);
                assert_close("dgamma", &dgamma, &dgamma_exact, |i| {
                    (sum_bound(n + 4, size(i)) + shift(i)) * inv_std[i]
                });

                let a: Vec<f64> = (0..c).map(|i| gamma[i] * inv_std[i]).collect();
                let b: Vec<f64> = (0..c).map(|i| -a[i] * inv_std[i] * dgamma_exact[i] / n as f64).collect();
                let offset: Vec<f64> =
                    (0..c).map(|i| -a[i] * dbeta_exact[i] / n as f64 - b[i] * mean[i]).collect();
                let mut dx = Guarded::nan(n * c);
                let (a32, b32, c32) = (narrow(&a), narrow(&b), narrow(&offset));
                backward_dx(isa, &mut dx, &x, &dy, BnCoef { a: &a32, b: &b32, c: &c32 });
                assert_close("dx", &dx, &dx_exact, |i| {
                    let k = i % c;
                    let [dy, x] = [dy[i], x[i]].map(f64::from);
                    sum_bound(3, (dy * a[k]).abs() + (x * b[k]).abs() + offset[k].abs())
                });
            }
        }
    }
}
