//! Optimiser steps: one pass over parameters, gradients and moments.
//!
//! Hyper-parameters are f64 and become f32 after the arithmetic on them (`1 - beta` and the like), as in PyTorch.

use super::elementwise::{load, store};
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
            let v = s.mul_add(load(s, self.v.add(i), n), constant(args.momentum), g);
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
/// v = momentum v + g
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
            let m = s.mul_add(g, s.splat(self.one_minus_betas[0]), m);
            let v = s.mul(load(s, self.v.add(i), n), s.splat(self.betas[1]));
            let v = s.mul_add(s.mul(g, g), s.splat(self.one_minus_betas[1]), v);
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
/// m = beta1 m + (1 - beta1) g,   v = beta2 v + (1 - beta2) g^2
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
