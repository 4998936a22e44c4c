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
//! in the order of the chunks ([`Moments`]), so that they have the same bits on any number of threads.
//!
//! An activation behind the normalisation costs the backward pass nothing but a comparison: its output is computed again
//! from `x` where it is needed ([`BnGate`]), so it is neither read nor is `dy` written.

use super::activation;
use super::lanes::{Number, clamp, load, store};
use super::reduce::{ColumnTerms, add_columns, row_count};
use crate::graph::Activation;
use crate::simd::{Isa, Kernel, Simd, dispatch};

/// Rows whose deviations are summed while the cache still holds them.
const MOMENT_ROWS: usize = 64;
/// Vectors of channels side by side.
const MOMENT_VECTORS: usize = 4;

struct MomentSums<E> {
    mean: *mut f32,
    m2: *mut f32,
    x: *const E,
    rows: usize,
    cols: usize,
}

impl<E: Number> MomentSums<E> {
    /// Takes rows `begin..begin + rows` of `V` vectors of columns from `col` on into their moments; the last vector has
    /// `n` columns.
    ///
    /// # Safety
    /// The rows and columns exist; `n <= LANES`, and `n == LANES` unless `V` is 1.
    #[inline(always)]
    unsafe fn block<S: Simd, const V: usize>(
        &self,
        s: S,
        (begin, rows): (usize, usize),
        col: usize,
        n: usize,
    ) {
        let at = |row: usize, v: usize| (begin + row) * self.cols + col + v * S::LANES;
        let (mut mean, mut m2) = ([s.splat(0.0); V], [s.splat(0.0); V]);
        // SAFETY: the contract of this function.
        unsafe {
            for row in 0..rows {
                for v in 0..V {
                    mean[v] = s.add(mean[v], E::load(s, self.x.add(at(row, v)), n));
                }
            }
            for v in 0..V {
                mean[v] = s.mul(mean[v], s.splat(1.0 / rows as f32));
            }
            for row in 0..rows {
                for v in 0..V {
                    let d = s.sub(E::load(s, self.x.add(at(row, v)), n), mean[v]);
                    m2[v] = s.mul_add(d, d, m2[v]);
                }
            }
            // The merge of `Moments`: `begin` rows are in already.
            let total = (begin + rows) as f32;
            let share = s.splat(rows as f32 / total);
            let weight = s.splat(begin as f32 * (rows as f32 / total));
            for v in 0..V {
                let (mean_at, m2_at) = (self.mean.add(col + v * S::LANES), self.m2.add(col + v * S::LANES));
                let old = load(s, mean_at, n);
                let delta = s.sub(mean[v], old);
                store(s, mean_at, s.mul_add(delta, share, old), n);
                let m2 = s.mul_add(s.mul(delta, delta), weight, m2[v]);
                store(s, m2_at, s.add(load(s, m2_at, n), m2), n);
            }
        }
    }
}

impl<E: Number> Kernel for MomentSums<E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for begin in (0..self.rows).step_by(MOMENT_ROWS) {
            let rows = (begin, MOMENT_ROWS.min(self.rows - begin));
            let mut col = 0;
            // SAFETY: each block ends at the last row and column or before.
            unsafe {
                while col + MOMENT_VECTORS * S::LANES <= self.cols {
                    self.block::<S, MOMENT_VECTORS>(s, rows, col, S::LANES);
                    col += MOMENT_VECTORS * S::LANES;
                }
                while col < self.cols {
                    let n = S::LANES.min(self.cols - col);
                    self.block::<S, 1>(s, rows, col, n);
                    col += n;
                }
            }
        }
    }
}

/// Mean and sum of squared deviations from it, `[c]` each (overwritten), of the rows of `x`.
///
/// A few rows at a time are summed, then their deviations, and both are merged into those of the rows before: a mean far
/// from zero costs no digits, and memory is read once.
///
/// # Panics
/// When `mean` and `m2` differ in length or `x` is not whole rows of it. No rows give zeros.
pub fn moments<E: Number>(isa: Isa, mean: &mut [f32], m2: &mut [f32], x: &[E]) {
    let cols = mean.len();
    assert_eq!(m2.len(), cols, "a mean and a sum of squares for every channel");
    let rows = row_count(x.len(), cols);
    mean.fill(0.0);
    m2.fill(0.0);
    dispatch(isa, MomentSums { mean: mean.as_mut_ptr(), m2: m2.as_mut_ptr(), x: x.as_ptr(), rows, cols });
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
pub(super) trait PerChannel<const N: usize, const P: usize>: Copy {
    /// One vector of results. Implementations are `#[inline(always)]`.
    fn lanes<S: Simd>(self, s: S, x: [S::V; N], p: [S::V; P]) -> S::V;
}

/// `y = f(x[..], p[..][col])` over a matrix of `rows x cols`; an `x` may be `y`.
pub(super) struct RowSweep<E, const N: usize, const P: usize, F> {
    pub(super) y: *mut E,
    pub(super) x: [*const E; N],
    pub(super) p: [*const f32; P],
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) f: F,
}

impl<E: Number, const N: usize, const P: usize, F: PerChannel<N, P>> RowSweep<E, N, P, F> {
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
                *vector = E::load(s, pointer.add(at), n);
            }
            for (vector, pointer) in p.iter_mut().zip(self.p) {
                *vector = load(s, pointer.add(col), n);
            }
            E::store(s, self.y.add(at), self.f.lanes(s, x, p), n);
        }
    }
}

impl<E: Number, const N: usize, const P: usize, F: PerChannel<N, P>> Kernel for RowSweep<E, N, P, F> {
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
/// `y` is writable and every `x` readable for `rows * cols` numbers, every `p` for `cols`; an `x` may be `y`
/// but nothing else overlaps it.
pub(super) unsafe fn sweep_rows<E: Number, const N: usize, const P: usize, F: PerChannel<N, P>>(
    isa: Isa,
    rows: RowSweep<E, N, P, F>,
) {
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
pub fn affine<E: Number>(isa: Isa, y: &mut [E], x: &[E], a: &[f32], b: &[f32], act: Option<Activation>) {
    assert_eq!(x.len(), y.len(), "the input is as long as the output");
    // SAFETY: lengths were compared.
    unsafe { affine_from(isa, (y.as_mut_ptr(), y.len()), x.as_ptr(), (a, b), act) }
    finish_act(isa, y, act);
}

/// As [`affine`] with `x` in place of `y`.
///
/// # Panics
/// When lengths do not fit.
pub fn affine_in_place<E: Number>(isa: Isa, y: &mut [E], a: &[f32], b: &[f32], act: Option<Activation>) {
    let to = y.as_mut_ptr();
    // SAFETY: an input may be the output.
    unsafe { affine_from(isa, (to, y.len()), to, (a, b), act) }
    finish_act(isa, y, act);
}

/// [`affine`] with a clamp; other activations are left to [`finish_act`].
///
/// # Safety
/// `y` is writable and `x` readable for the numbers that `y` comes with; `x` may be `y` but not overlap it otherwise.
unsafe fn affine_from<E: Number>(
    isa: Isa,
    (y, len): (*mut E, usize),
    x: *const E,
    (a, b): (&[f32], &[f32]),
    act: Option<Activation>,
) {
    let cols = a.len();
    assert_eq!(b.len(), cols, "a factor and an addend for every channel");
    let rows = row_count(len, cols);
    let f = Affine(activation::clamp_range(act).unwrap_or(activation::NO_CLAMP));
    // SAFETY: the contract of this function; `y` is `rows x cols`, `a` and `b` have `cols` floats.
    unsafe { sweep_rows(isa, RowSweep { y, x: [x], p: [a.as_ptr(), b.as_ptr()], rows, cols, f }) }
}

/// Applies an activation that is no clamp.
fn finish_act<E: Number>(isa: Isa, y: &mut [E], act: Option<Activation>) {
    if let (None, Some(act)) = (activation::clamp_range(act), act) {
        activation::forward_in_place(isa, y, act);
    }
}

/// The activation behind a normalisation, `act(x a + b)`: gradients pass where the result lies within its range.
#[derive(Clone, Copy)]
pub struct BnGate<'a> {
    /// Factor of each channel `[c]`, as [`affine`] had it.
    pub a: &'a [f32],
    /// Addend of each channel `[c]`, as [`affine`] had it.
    pub b: &'a [f32],
    /// None, or one that clamps.
    pub act: Option<Activation>,
}

impl BnGate<'_> {
    /// # Panics
    /// For an activation that is no clamp, or without a factor and an addend for each of `c` channels.
    fn range(&self, c: usize) -> (f32, f32) {
        assert!(self.a.len() == c && self.b.len() == c, "a factor and an addend for every channel");
        activation::clamp_range(self.act).expect("the plan takes in no other activation")
    }
}

/// `dy` where `low < z < high`, else zero.
#[inline(always)]
fn gated<S: Simd>(s: S, dy: S::V, z: S::V, (low, high): (f32, f32)) -> S::V {
    let zero = s.splat(0.0);
    s.select_gt(z, s.splat(low), s.select_gt(s.splat(high), z, dy, zero), zero)
}

/// Sums over rows, `[c]` each.
pub struct BnSums<'a> {
    /// `sum dy`, which is `dbeta`.
    pub dy: &'a mut [f32],
    /// `sum dy (x - mean)`, which is `dgamma / inv_std`.
    pub dy_x: &'a mut [f32],
}

/// What the forward pass saved, `[c]` each.
#[derive(Clone, Copy)]
pub struct BnSaved<'a> {
    /// Mean of the batch.
    pub mean: &'a [f32],
    /// The activation.
    pub gate: BnGate<'a>,
}

#[derive(Clone, Copy)]
struct BackwardTerms<E> {
    x: *const E,
    dy: *const E,
    mean: *const f32,
    a: *const f32,
    b: *const f32,
    range: (f32, f32),
}

impl<E: Number> ColumnTerms<2> for BackwardTerms<E> {
    #[inline(always)]
    unsafe fn terms<S: Simd>(self, s: S, at: usize, col: usize, n: usize) -> [S::V; 2] {
        // SAFETY: the contract of this function; the pointers are those of whole matrices and of numbers for each
        // column.
        unsafe {
            let x = E::load(s, self.x.add(at), n);
            let z = s.mul_add(x, load(s, self.a.add(col), n), load(s, self.b.add(col), n));
            let dy = gated(s, E::load(s, self.dy.add(at), n), z, self.range);
            [dy, s.mul(dy, s.sub(x, load(s, self.mean.add(col), n)))]
        }
    }
}

/// Adds `sum dy` and `sum dy (x - mean)` over some rows to what is in `sums`, `dy` being the gradient behind the activation.
///
/// # Panics
/// When lengths do not fit.
pub fn backward_sums<E: Number>(isa: Isa, sums: BnSums, x: &[E], dy: &[E], saved: BnSaved) {
    let BnSaved { mean, gate } = saved;
    let c = mean.len();
    assert!(sums.dy.len() == c && sums.dy_x.len() == c, "all statistics have one length");
    assert_eq!(dy.len(), x.len(), "x and dy have one length");
    let rows = row_count(x.len(), c);
    let range = gate.range(c);
    let (a, b) = (gate.a.as_ptr(), gate.b.as_ptr());
    let terms = BackwardTerms { x: x.as_ptr(), dy: dy.as_ptr(), mean: mean.as_ptr(), a, b, range };
    // SAFETY: `x` and `dy` hold `rows` rows of `c` numbers, and there is a mean, factor and addend for every column.
    unsafe { add_columns(isa, [sums.dy.as_mut_ptr(), sums.dy_x.as_mut_ptr()], rows, c, terms) }
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
struct BackwardDx((f32, f32));

impl PerChannel<2, 5> for BackwardDx {
    #[inline(always)]
    fn lanes<S: Simd>(self, s: S, [x, dy]: [S::V; 2], [a, b, c, factor, addend]: [S::V; 5]) -> S::V {
        let dy = gated(s, dy, s.mul_add(x, factor, addend), self.0);
        s.mul_add(dy, a, s.mul_add(x, b, c))
    }
}

/// `dx = dy a + x b + c` (overwritten) with coefficients per channel, `dy` being the gradient behind the activation.
///
/// # Panics
/// When lengths do not fit.
pub fn backward_dx<E: Number>(isa: Isa, dx: &mut [E], x: &[E], dy: &[E], with: (BnCoef, BnGate)) {
    assert_eq!(dy.len(), dx.len(), "dy is as long as the output");
    // SAFETY: lengths were compared.
    unsafe { backward_dx_from(isa, (dx.as_mut_ptr(), dx.len()), x, dy.as_ptr(), with) }
}

/// As [`backward_dx`] with `dy` in place of `dx`.
///
/// # Panics
/// When lengths do not fit.
pub fn backward_dx_in_place<E: Number>(isa: Isa, d: &mut [E], x: &[E], with: (BnCoef, BnGate)) {
    let dx = d.as_mut_ptr();
    // SAFETY: an input may be the output.
    unsafe { backward_dx_from(isa, (dx, d.len()), x, dx, with) }
}

/// # Safety
/// `dx` is writable and `dy` readable for the numbers that `dx` comes with; `dy` may be `dx`, but nothing else overlaps.
unsafe fn backward_dx_from<E: Number>(
    isa: Isa,
    (dx, len): (*mut E, usize),
    x: &[E],
    dy: *const E,
    (coef, gate): (BnCoef, BnGate),
) {
    let cols = coef.a.len();
    assert!(coef.b.len() == cols && coef.c.len() == cols, "all coefficients have one length");
    assert_eq!(x.len(), len, "x is as long as the output");
    let rows = row_count(len, cols);
    let f = BackwardDx(gate.range(cols));
    let p = [coef.a, coef.b, coef.c, gate.a, gate.b].map(<[f32]>::as_ptr);
    // SAFETY: the contract of this function; all matrices are `rows x cols`, and there is a coefficient of each kind for
    // every column.
    unsafe { sweep_rows(isa, RowSweep { y: dx, x: [x.as_ptr(), dy], p, rows, cols, f }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::{
        CHANNELS, Guarded, Twins, UNIT_ROUNDOFF, assert_bits, assert_close, assert_exact, assert_same,
        for_each_isa, integers, normal, special, sum_bound, widen,
    };
    use crate::kernels::{reduce, reference};

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
            moments::<f32>(isa, &mut mean, &mut m2, &[]);
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

        fn statistics_of_bf16_are_those_of_floats(isa: Isa) {
            for (n, c) in ROWS.into_iter().flat_map(|n| CHANNELS.map(|c| (n, c))) {
                let (x, dy) = (Twins::of(&rows(1, n, c, 0.5)), Twins::of(&normal(2, n * c)));
                let mut found = [0; 4].map(|_| Guarded::of(&vec![0.0; c]));
                let mut expected = [0; 4].map(|_| Guarded::of(&vec![0.0; c]));
                let [mean, a, b] = [3, 5, 6].map(|seed| normal(seed, c));
                let gate = BnGate { a: &a, b: &b, act: Some(Activation::Relu6) };
                let saved = BnSaved { mean: &mean, gate };
                let [mean, m2, sum, dy_x] = &mut found;
                moments(isa, mean, m2, &x.halves);
                backward_sums(isa, BnSums { dy: sum, dy_x }, &x.halves, &dy.halves, saved);
                let [mean, m2, sum, dy_x] = &mut expected;
                moments(isa, mean, m2, &x.floats);
                backward_sums(isa, BnSums { dy: sum, dy_x }, &x.floats, &dy.floats, saved);
                for (what, (found, expected)) in
                    ["mean", "m2", "sum of dy", "sum of dy x"].into_iter().zip(found.iter().zip(&expected))
                {
                    assert_bits(what, found, expected);
                }
            }
        }

        fn maps_of_bf16_are_rounded_once(isa: Isa) {
            for (n, c) in [0, 1, 5].into_iter().flat_map(|n| CHANNELS.map(|c| (n, c))) {
                let (x, dy) = (Twins::of(&special(1, n * c, 1.0)), Twins::of(&special(2, n * c, 1.0)));
                let [a, b, offset, factor, addend] = [3, 4, 5, 6, 7].map(|seed| Guarded::of(&normal(seed, c)));
                for act in [None, Some(Activation::Relu), Some(Activation::Relu6)] {
                    let mut y = Twins::nan(n * c);
                    affine(isa, &mut y.halves, &x.halves, &a, &b, act);
                    affine(isa, &mut y.floats, &x.floats, &a, &b, act);
                    y.assert_rounded_once("y");
                    let mut in_place = Twins::of(&x.floats);
                    affine_in_place(isa, &mut in_place.halves, &a, &b, act);
                    in_place.floats.copy_from_slice(&y.floats);
                    in_place.assert_rounded_once("y in place");

                    let with = (BnCoef { a: &a, b: &b, c: &offset }, BnGate { a: &factor, b: &addend, act });
                    let mut dx = Twins::nan(n * c);
                    backward_dx(isa, &mut dx.halves, &x.halves, &dy.halves, with);
                    backward_dx(isa, &mut dx.floats, &x.floats, &dy.floats, with);
                    dx.assert_rounded_once("dx");
                    let mut in_place = Twins::of(&dy.floats);
                    backward_dx_in_place(isa, &mut in_place.halves, &x.halves, with);
                    in_place.floats.copy_from_slice(&dx.floats);
                    in_place.assert_rounded_once("dx in place");
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

        /// The coefficients of this file's top, computed in f64, give the oracle's gradients, whatever activation is
        /// behind.
        fn backward_follows_the_definition(isa: Isa) {
            let acts = [None, Some(Activation::Relu), Some(Activation::Relu6)];
            for (i, (n, c)) in ROWS.into_iter().skip(1).flat_map(|n| CHANNELS.map(|c| (n, c))).enumerate() {
                let (x, dy) = (rows(1, n, c, 0.5), Guarded::of(&normal(2, n * c)));
                let (gamma, beta) = (widen(&normal(3, c)), widen(&normal(4, c)));
                let (mean, var) = reference::batch_statistics(&widen(&x), c);
                let inv_std: Vec<f64> = var.iter().map(|var| 1.0 / (var + EPS).sqrt()).collect();
                let a: Vec<f64> = (0..c).map(|i| gamma[i] * inv_std[i]).collect();
                let (factor, addend) = (narrow(&a), narrow(&beta));
                let act = acts[i % acts.len()];
                let gate = BnGate { a: &factor, b: &addend, act };
                let (low, high) = activation::clamp_range(act).unwrap();
                // The gradient before the activation, whose output the kernel computes in f32 as the forward pass did.
                let mut z = Guarded::nan(n * c);
                affine(isa, &mut z, &x, &factor, &addend, None);
                let open = |i: usize| low < z[i] && z[i] < high;
                let inner: Vec<f32> = (0..n * c).map(|i| if open(i) { dy[i] } else { 0.0 }).collect();
                let (dx_exact, dgamma_exact, dbeta_exact) =
                    reference::batch_norm_backward(&widen(&x), &gamma, &widen(&inner), EPS);

                let saved = BnSaved { mean: &narrow(&mean), gate };
                let (mut dbeta, mut dgamma) = (Guarded::of(&vec![0.0; c]), Guarded::of(&vec![0.0; c]));
                backward_sums(isa, BnSums { dy: &mut dbeta, dy_x: &mut dgamma }, &x, &dy, saved);
                // Part by part, up to the end of a block each, the sums have the same bits.
                let (mut first, mut second) = (Guarded::of(&vec![0.0; c]), Guarded::of(&vec![0.0; c]));
                let mut start = 0;
                for end in [n / 3, n / 2, n] {
                    let end = if end == n { n } else { reduce::block_end(start, end) };
                    let part = start * c..end * c;
                    let sums = BnSums { dy: &mut first, dy_x: &mut second };
                    backward_sums(isa, sums, &x[part.clone()], &dy[part], saved);
                    start = end;
                }
                assert_bits("sums of dy, in parts", &first, &dbeta);
                assert_bits("sums of dy x, in parts", &second, &dgamma);
                dgamma.iter_mut().zip(&inv_std).for_each(|(sum, inv_std)| *sum *= *inv_std as f32);
                let column = |i: usize| (i..n * c).step_by(c);
                let dbeta_size = |i: usize| column(i).map(|j| f64::from(inner[j]).abs()).sum::<f64>();
                // The rounded mean shifts every deviation by up to an ulp of the largest x.
                let size = |i: usize| {
                    let largest = mean[i].abs() + 6.0;
                    let term = |j: usize| f64::from(inner[j]).abs() * (f64::from(x[j]) - mean[i]).abs();
                    column(i).map(term).sum::<f64>() + largest * dbeta_size(i) * 2.0 / n as f64
                };
                assert_close("dbeta", &dbeta, &dbeta_exact, |i| sum_bound(n, dbeta_size(i)));
                let shift = |i: usize| UNIT_ROUNDOFF * (mean[i].abs() + 6.0) * 2.0 * dbeta_size(i);
                assert_close("dgamma", &dgamma, &dgamma_exact, |i| {
                    (sum_bound(n + 4, size(i)) + shift(i)) * inv_std[i]
                });

                let b: Vec<f64> = (0..c).map(|i| -a[i] * inv_std[i] * dgamma_exact[i] / n as f64).collect();
                let offset: Vec<f64> =
                    (0..c).map(|i| -a[i] * dbeta_exact[i] / n as f64 - b[i] * mean[i]).collect();
                let mut dx = Guarded::nan(n * c);
                let (a32, b32, c32) = (narrow(&a), narrow(&b), narrow(&offset));
                let with = (BnCoef { a: &a32, b: &b32, c: &c32 }, gate);
                backward_dx(isa, &mut dx, &x, &dy, with);
                let mut in_place = Guarded::of(&dy);
                backward_dx_in_place(isa, &mut in_place, &x, with);
                assert_bits("dx in place", &in_place, &dx);
                assert_close("dx", &dx, &dx_exact, |i| {
                    let k = i % c;
                    let [dy, x] = [inner[i], x[i]].map(f64::from);
                    sum_bound(3, (dy * a[k]).abs() + (x * b[k]).abs() + offset[k].abs())
                });
            }
        }
    }
}
