//! Optimiser steps: one pass over parameters, gradients and moments.
//!
//! Hyper-parameters are f64 and become f32 after the arithmetic on them (`1 - beta` and the like), as in
//! PyTorch.
//!
//! Velocities and moments below the least normal float become zero: without gradients (a layer whose activations are
//! all cut off) they shrink by a constant factor in each step, and arithmetic on subnormal numbers takes the
//! processor a hundred cycles an instruction. The bit for this in the processor's control word is the caller's.

use super::lanes::{load, store};
use crate::simd::{Isa, Kernel, Simd, dispatch};

/// Parameters and their state under [`sgd`].
pub struct SgdState<'a> {
    /// Parameters.
    pub w: &'a mut [f32],
    /// Velocities; zeros before the first step.
    pub v: &'a mut [f32],
}

/// Settings of [`sgd`].
#[derive(Clone, Copy, Debug)]
pub struct SgdArgs {
    /// Learning rate.
    pub lr: f64,
    /// Share of the last velocity that is kept.
    pub momentum: f64,
    /// Whether to look ahead by one velocity (Sutskever et al., 2013).
    pub nesterov: bool,
    /// Multiple of the parameters that is added to the gradient.
    pub weight_decay: f64,
    /// Factor of the gradient: that of clipping.
    pub grad_scale: f64,
}

struct Sgd {
    w: *mut f32,
    v: *mut f32,
    g: *const f32,
    len: usize,
    args: SgdArgs,
}

impl Sgd {
    /// Updates `n` parameters from `i` on.
    ///
    /// # Safety
    /// `n <= LANES` and `i + n <= len`.
    #[inline(always)]
    unsafe fn step<S: Simd>(&self, s: S, i: usize, n: usize) {
        let args = &self.args;
        let constant = |x: f64| s.splat(x as f32);
        // SAFETY: the contract of this function; `sgd` compared the lengths.
        unsafe {
            let w = load(s, self.w.add(i), n);
            let g = s.mul(load(s, self.g.add(i), n), constant(args.grad_scale));
            let g = s.mul_add(w, constant(args.weight_decay), g);
            let v = s.flush(s.mul_add(load(s, self.v.add(i), n), constant(args.momentum), g));
            let step = if args.nesterov { s.mul_add(v, constant(args.momentum), g) } else { v };
            store(s, self.v.add(i), v, n);
            store(s, self.w.add(i), s.mul_add(step, constant(-args.lr), w), n);
        }
    }
}

impl Kernel for Sgd {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let rest = self.len % S::LANES;
        let whole = self.len - rest;
        // SAFETY: every step ends at `len` or before.
        unsafe {
            for i in (0..whole).step_by(S::LANES) {
                self.step(s, i, S::LANES);
            }
            if rest > 0 {
                self.step(s, whole, rest);
            }
        }
    }
}

/// One step of stochastic gradient descent with momentum, as `torch.optim.SGD` with dampening 0:
/// ```text
/// g = grad_scale g + weight_decay w
/// v = momentum v + g, zero where that is subnormal
/// w = w - lr (g + momentum v  if nesterov, else v)
/// ```
///
/// # Panics
/// When lengths differ.
pub fn sgd(isa: Isa, state: SgdState, g: &[f32], args: SgdArgs) {
    let SgdState { w, v } = state;
    assert!(w.len() == g.len() && v.len() == g.len(), "a gradient and a velocity for every parameter");
    dispatch(isa, Sgd { w: w.as_mut_ptr(), v: v.as_mut_ptr(), g: g.as_ptr(), len: g.len(), args });
}

/// Parameters and their state under [`adam`].
pub struct AdamState<'a> {
    /// Parameters.
    pub w: &'a mut [f32],
    /// Running means of gradients; zeros before the first step.
    pub m: &'a mut [f32],
    /// Running means of squared gradients; zeros before the first step.
    pub v: &'a mut [f32],
}

/// Settings of [`adam`].
#[derive(Clone, Copy, Debug)]
pub struct AdamArgs {
    /// Learning rate.
    pub lr: f64,
    /// Share of the last mean that is kept.
    pub beta1: f64,
    /// Share of the last mean of squares that is kept.
    pub beta2: f64,
    /// Added to the root of the mean of squares.
    pub eps: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Whether parameters decay by themselves (AdamW) instead of through the gradient (Adam with L2).
    pub decoupled: bool,
    /// Number of this step, 1 for the first.
    pub step: u64,
    /// Factor of the gradient: that of clipping.
    pub grad_scale: f64,
}

struct Adam {
    w: *mut f32,
    m: *mut f32,
    v: *mut f32,
    g: *const f32,
    len: usize,
    /// Factor of the parameters before the step.
    decay: f32,
    /// Multiple of the parameters that is added to the gradient.
    l2: f32,
    grad_scale: f32,
    betas: [f32; 2],
    one_minus_betas: [f32; 2],
    /// `lr / (1 - beta1^step)`
    rate: f32,
    /// `1 / sqrt(1 - beta2^step)`
    root_correction: f32,
    eps: f32,
}

impl Adam {
    /// Updates `n` parameters from `i` on.
    ///
    /// # Safety
    /// `n <= LANES` and `i + n <= len`.
    #[inline(always)]
    unsafe fn step<S: Simd>(&self, s: S, i: usize, n: usize) {
        // SAFETY: the contract of this function; `adam` compared the lengths.
        unsafe {
            let w = load(s, self.w.add(i), n);
            let g = s.mul(load(s, self.g.add(i), n), s.splat(self.grad_scale));
            let g = s.mul_add(w, s.splat(self.l2), g);
            let m = s.mul(load(s, self.m.add(i), n), s.splat(self.betas[0]));
            let m = s.flush(s.mul_add(g, s.splat(self.one_minus_betas[0]), m));
            let v = s.mul(load(s, self.v.add(i), n), s.splat(self.betas[1]));
            let v = s.flush(s.mul_add(s.mul(g, g), s.splat(self.one_minus_betas[1]), v));
            let root = s.mul_add(s.sqrt(v), s.splat(self.root_correction), s.splat(self.eps));
            let w = s.mul(w, s.splat(self.decay));
            store(s, self.m.add(i), m, n);
            store(s, self.v.add(i), v, n);
            store(s, self.w.add(i), s.sub(w, s.mul(s.splat(self.rate), s.div(m, root))), n);
        }
    }
}

impl Kernel for Adam {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let rest = self.len % S::LANES;
        let whole = self.len - rest;
        // SAFETY: every step ends at `len` or before.
        unsafe {
            for i in (0..whole).step_by(S::LANES) {
                self.step(s, i, S::LANES);
            }
            if rest > 0 {
                self.step(s, whole, rest);
            }
        }
    }
}

/// One step of Adam (Kingma and Ba, 2015) as `torch.optim.Adam`, or of AdamW (Loshchilov and Hutter, 2019) as
/// `torch.optim.AdamW` when `decoupled`:
/// ```text
/// g = grad_scale g (+ weight_decay w, unless decoupled)
/// w = (1 - lr weight_decay) w, if decoupled
/// m = beta1 m + (1 - beta1) g,   v = beta2 v + (1 - beta2) g^2,   each zero where that is subnormal
/// w = w - lr / (1 - beta1^step) * m / (sqrt(v) / sqrt(1 - beta2^step) + eps)
/// ```
///
/// # Panics
/// When lengths differ or `step` is 0.
pub fn adam(isa: Isa, state: AdamState, g: &[f32], args: AdamArgs) {
    let AdamState { w, m, v } = state;
    let len = g.len();
    assert!(w.len() == len && m.len() == len && v.len() == len, "a gradient and moments for every parameter");
    assert!(args.step > 0, "steps are counted from 1");
    let AdamArgs { lr, beta1, beta2, .. } = args;
    let correction = |beta: f64| 1.0 - beta.powf(args.step as f64);
    let (decay, l2) =
        if args.decoupled { (1.0 - lr * args.weight_decay, 0.0) } else { (1.0, args.weight_decay) };
    let step = Adam {
        w: w.as_mut_ptr(),
        m: m.as_mut_ptr(),
        v: v.as_mut_ptr(),
        g: g.as_ptr(),
        len,
        decay: decay as f32,
        l2: l2 as f32,
        grad_scale: args.grad_scale as f32,
        betas: [beta1, beta2].map(|beta| beta as f32),
        one_minus_betas: [beta1, beta2].map(|beta| (1.0 - beta) as f32),
        rate: (lr / correction(beta1)) as f32,
        root_correction: (1.0 / correction(beta2).sqrt()) as f32,
        eps: args.eps as f32,
    };
    dispatch(isa, step);
}

struct Average {
    average: *mut f32,
    w: *const f32,
    len: usize,
    share: f32,
}

impl Average {
    /// Updates `n` averages from `i` on.
    ///
    /// # Safety
    /// `n <= LANES` and `i + n <= len`.
    #[inline(always)]
    unsafe fn step<S: Simd>(&self, s: S, i: usize, n: usize) {
        // SAFETY: the contract of this function; `average` compared the lengths.
        unsafe {
            let old = load(s, self.average.add(i), n);
            let distance = s.sub(load(s, self.w.add(i), n), old);
            store(s, self.average.add(i), s.mul_add(distance, s.splat(self.share), old), n);
        }
    }
}

impl Kernel for Average {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let rest = self.len % S::LANES;
        let whole = self.len - rest;
        // SAFETY: every step ends at `len` or before.
        unsafe {
            for i in (0..whole).step_by(S::LANES) {
                self.step(s, i, S::LANES);
            }
            if rest > 0 {
                self.step(s, whole, rest);
            }
        }
    }
}

/// `average += share (w - average)`: what does not change is its own average, bit for bit.
///
/// # Panics
/// When lengths differ.
pub fn average(isa: Isa, average: &mut [f32], w: &[f32], share: f32) {
    assert_eq!(average.len(), w.len(), "an average for every parameter");
    dispatch(isa, Average { average: average.as_mut_ptr(), w: w.as_ptr(), len: w.len(), share });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::reference;
    use crate::kernels::testing::{
        Guarded, LENGTHS, UNIT_ROUNDOFF, assert_close, for_each_isa, normal, widen,
    };

    const STEPS: usize = 10;

    for_each_isa! {
        /// Each step rounds a dozen numbers no larger than the parameters, velocities and gradients at hand.
        fn sgd_follows_the_definition(isa: Isa) {
            for (len, nesterov) in LENGTHS.into_iter().flat_map(|len| [(len, false), (len, true)]) {
                let (mut w, mut v) = (Guarded::of(&normal(1, len)), Guarded::of(&vec![0.0; len]));
                let (mut w_exact, mut v_exact) = (widen(&w), widen(&v));
                for step in 0..STEPS {
                    let g = Guarded::of(&normal(10 + step as u64, len));
                    let args =
                        SgdArgs { lr: 0.1, momentum: 0.9, nesterov, weight_decay: 5e-4, grad_scale: 0.5 };
                    sgd(isa, SgdState { w: &mut w, v: &mut v }, &g, args);
                    let g: Vec<f64> = g.iter().map(|&g| 0.5 * f64::from(g)).collect();
                    reference::sgd(&mut w_exact, &mut v_exact, &g, [0.1, 0.9, 5e-4], nesterov);
                }
                // Velocities stay below 10 gradients of at most 5: magnitudes of 50, 12 roundings in each
                // step.
                let bound = (STEPS * 12) as f64 * UNIT_ROUNDOFF * 50.0;
                assert_close("w", &w, &w_exact, |_| bound);
                assert_close("v", &v, &v_exact, |_| bound);
            }
        }

        fn adam_follows_the_definition(isa: Isa) {
            for (len, decoupled) in LENGTHS.into_iter().flat_map(|len| [(len, false), (len, true)]) {
                let mut w = Guarded::of(&normal(1, len));
                let (mut m, mut v) = (Guarded::of(&vec![0.0; len]), Guarded::of(&vec![0.0; len]));
                let (mut w_exact, mut m_exact, mut v_exact) = (widen(&w), widen(&m), widen(&v));
                let betas = [0.9, 0.999];
                let settings = reference::Adam { lr: 1e-3, betas, eps: 1e-8, weight_decay: 0.01, decoupled };
                for step in 1..=STEPS {
                    let g = Guarded::of(&normal(10 + step as u64, len));
                    let args = AdamArgs {
                        lr: settings.lr,
                        beta1: settings.betas[0],
                        beta2: settings.betas[1],
                        eps: settings.eps,
                        weight_decay: settings.weight_decay,
                        decoupled,
                        step: step as u64,
                        grad_scale: 0.5,
                    };
                    adam(isa, AdamState { w: &mut w, m: &mut m, v: &mut v }, &g, args);
                    let g: Vec<f64> = g.iter().map(|&g| 0.5 * f64::from(g)).collect();
                    reference::adam([&mut w_exact, &mut m_exact, &mut v_exact], &g, step as i32, settings);
                }
                // Moments of gradients below 2.5 and parameters below 5, a dozen roundings in each step. A
                // step is lr times a ratio of moments near 1; while few gradients are in, m may be a small
                // difference of large ones: its error is that of magnitude 2.5 over a root that is rarely
                // below 0.1.
                let bound = (STEPS * 12) as f64 * UNIT_ROUNDOFF;
                assert_close("m", &m, &m_exact, |_| 2.5 * bound);
                assert_close("v", &v, &v_exact, |_| 6.25 * bound);
                assert_close("w", &w, &w_exact, |_| (5.0 + 25.0 * settings.lr) * bound);
            }
        }
    }

    for_each_isa! {
        fn averages_follow_the_definition(isa: Isa) {
            for (len, share) in LENGTHS.into_iter().flat_map(|len| [0.0, 0.1, 1.0].map(|share| (len, share))) {
                let (mut averages, w) = (Guarded::of(&normal(1, len)), Guarded::of(&normal(2, len)));
                let exact: Vec<f64> = widen(&averages).iter().zip(widen(&w))
                    .map(|(a, w)| (1.0 - f64::from(share)) * a + f64::from(share) * w).collect();
                average(isa, &mut averages, &w, share);
                // Three roundings of numbers below 10.
                assert_close("average", &averages, &exact, |_| 30.0 * UNIT_ROUNDOFF);
                let kept = w.to_vec();
                average(isa, &mut Guarded::of(&kept), &w, share);
                assert_eq!(kept, &w[..], "what stays is its own average");
            }
        }
    }

    /// Settings of the tests below: with zero gradients moments shrink by a factor of two, velocities too.
    const HALVING: AdamArgs = AdamArgs {
        lr: 0.0,
        beta1: 0.5,
        beta2: 0.5,
        eps: 1e-8,
        weight_decay: 0.0,
        decoupled: false,
        step: 1,
        grad_scale: 1.0,
    };
    const HALVING_SGD: SgdArgs =
        SgdArgs { lr: 0.0, momentum: 0.5, nesterov: false, weight_decay: 0.0, grad_scale: 1.0 };

    /// Numbers from 1 down to the least normal float, both signs.
    fn down_to_the_least_normal() -> Vec<f32> {
        (0..=126).flat_map(|power| [2f32.powi(-power), -1.5 * 2f32.powi(-power)]).collect()
    }

    for_each_isa! {
        /// Halving is exact: each value is itself times a power of two, until that is below the least normal float.
        fn moments_without_gradients_end_at_zero(isa: Isa) {
            let start = down_to_the_least_normal();
            let squares: Vec<f32> = start.iter().map(|m| m.abs()).collect();
            let zeros = vec![0.0; start.len()];
            let (mut m, mut v, mut w) = (Guarded::of(&start), Guarded::of(&squares), Guarded::of(&zeros));
            let (mut velocity, mut w_sgd) = (Guarded::of(&start), Guarded::of(&zeros));
            for step in 1..=130 {
                adam(isa, AdamState { w: &mut w, m: &mut m, v: &mut v }, &zeros, AdamArgs { step, ..HALVING });
                sgd(isa, SgdState { w: &mut w_sgd, v: &mut velocity }, &zeros, HALVING_SGD);
                for (i, &first) in start.iter().enumerate() {
                    let exact = f64::from(first) * 0.5f64.powi(step as i32);
                    let expected = if exact.abs() < f64::from(f32::MIN_POSITIVE) { 0.0 } else { exact as f32 };
                    assert_eq!((m[i], v[i], velocity[i]), (expected, expected.abs(), expected), "step {step}, {first:e}");
                }
            }
            assert!(m.iter().chain(&v[..]).chain(&velocity[..]).all(|&moment| moment == 0.0));
        }

        fn a_nan_moment_stays(isa: Isa) {
            let (mut w, mut m, mut v, mut velocity) = ([0.0; 3], [f32::NAN; 3], [f32::NAN; 3], [f32::NAN; 3]);
            adam(isa, AdamState { w: &mut w, m: &mut m, v: &mut v }, &[0.0; 3], HALVING);
            sgd(isa, SgdState { w: &mut [0.0; 3], v: &mut velocity }, &[0.0; 3], HALVING_SGD);
            assert!(m.iter().chain(&v).chain(&velocity).all(|moment| moment.is_nan()));
        }

        /// Gradients whose squares are subnormal leave no trace in the mean of squares.
        fn small_gradients_follow_the_definition(isa: Isa) {
            let g: Vec<f32> = (0..60).map(|i| 1e-10 * 0.1f32.powi(i / 2) * if i % 2 == 0 { 1.0 } else { -3.0 }).collect();
            let zeros = vec![0.0; g.len()];
            let (mut w, mut m, mut v) = (zeros.clone(), zeros.clone(), zeros.clone());
            let (mut w_exact, mut m_exact, mut v_exact) = (widen(&w), widen(&m), widen(&v));
            let settings = reference::Adam { lr: 0.0, betas: [0.5; 2], eps: 1e-8, weight_decay: 0.0, decoupled: false };
            for step in 1..=20 {
                let state = AdamState { w: &mut w, m: &mut m, v: &mut v };
                adam(isa, state, &g, AdamArgs { step, ..HALVING });
                reference::adam([&mut w_exact, &mut m_exact, &mut v_exact], &widen(&g), step as i32, settings);
            }
            assert!(m.iter().chain(&v).all(|moment| !moment.is_subnormal()));
            // A moment near the least normal float may be on its other side, or not, for a rounding.
            let bound = |exact: f64| 80.0 * UNIT_ROUNDOFF * exact.abs() + f64::from(f32::MIN_POSITIVE);
            assert_close("m", &m, &m_exact, |i| bound(m_exact[i]));
            assert_close("v", &v, &v_exact, |i| bound(v_exact[i]));
        }
    }

    #[test]
    #[should_panic(expected = "steps are counted from 1")]
    fn adam_refuses_step_zero() {
        let args = AdamArgs {
            lr: 1.0,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.0,
            decoupled: false,
            step: 0,
            grad_scale: 1.0,
        };
        let isa = Isa::Portable(crate::simd::Portable);
        adam(isa, AdamState { w: &mut [], m: &mut [], v: &mut [] }, &[], args);
    }
}
