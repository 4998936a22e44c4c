//! Optimisers over flat parameters: SGD with momentum, Adam, AdamW, and clipping by the global norm.

use crate::buffer::Buffer;
use crate::error::EngineError;
use crate::kernels::reduce;
use crate::kernels::update::{self, AdamArgs, AdamState, SgdArgs, SgdState};
use crate::parallel::Threads;
use crate::simd::Isa;

/// Floats of a piece of an update: 32 KiB of each of four arrays fit a second-level cache.
const PIECE: usize = 8 * 1024;

/// How parameters follow their gradients. Every form decays all learnable parameters alike, as PyTorch does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Optimizer {
    /// Stochastic gradient descent with momentum (Sutskever et al., 2013); the decay is added to the gradient.
    Sgd {
        /// Share of the last update that is kept, in `0..1`.
        momentum: f64,
        /// Whether the gradient is taken where momentum leads.
        nesterov: bool,
        /// Decay of the weights.
        weight_decay: f64,
    },
    /// Adam (Kingma and Ba, 2015); the decay is added to the gradient.
    Adam(AdamConfig),
    /// AdamW (Loshchilov and Hutter, 2019): the decay is applied to the weights themselves.
    AdamW(AdamConfig),
}

/// Settings of Adam and AdamW.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamConfig {
    /// Decay rate of the first moment, in `0..1`.
    pub beta1: f64,
    /// Decay rate of the second moment, in `0..1`.
    pub beta2: f64,
    /// Added to the root of the second moment; positive.
    pub eps: f64,
    /// Decay of the weights.
    pub weight_decay: f64,
}

impl Default for AdamConfig {
    fn default() -> Self {
        AdamConfig { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0 }
    }
}

impl Optimizer {
    /// `sgd`, `adam` or `adamw`.
    pub fn name(&self) -> &'static str {
        match self {
            Optimizer::Sgd { .. } => "sgd",
            Optimizer::Adam(_) => "adam",
            Optimizer::AdamW(_) => "adamw",
        }
    }

    /// Refuses settings out of range.
    ///
    /// # Errors
    /// [`EngineError::Config`] that names the setting.
    pub fn validate(&self) -> Result<(), EngineError> {
        let check = |ok: bool, what: &str| {
            if ok { Ok(()) } else { Err(EngineError::Config(format!("{}: {what}", self.name()))) }
        };
        match *self {
            Optimizer::Sgd { momentum, weight_decay, .. } => {
                check((0.0..1.0).contains(&momentum), "momentum must be in 0..1")?;
                check(weight_decay >= 0.0 && weight_decay.is_finite(), "weight decay must not be negative")
            }
            Optimizer::Adam(c) | Optimizer::AdamW(c) => {
                check(
                    (0.0..1.0).contains(&c.beta1) && (0.0..1.0).contains(&c.beta2),
                    "betas must be in 0..1",
                )?;
                check(c.eps > 0.0 && c.eps.is_finite(), "eps must be positive")?;
                check(
                    c.weight_decay >= 0.0 && c.weight_decay.is_finite(),
                    "weight decay must not be negative",
                )
            }
        }
    }

    /// Number of moments that it keeps for each parameter.
    pub(crate) fn moments(&self) -> usize {
        match self {
            Optimizer::Sgd { .. } => 1,
            Optimizer::Adam(_) | Optimizer::AdamW(_) => 2,
        }
    }

    /// Updates parameters `w` and `moments` from gradients `g`, all of one length; `step` counts from 1.
    pub(crate) fn update(
        &self,
        (isa, threads): (Isa, &Threads),
        w: &mut [f32],
        moments: &mut [Buffer],
        g: &[f32],
        Step { lr, step, grad_scale }: Step,
    ) {
        let piece = |i: usize, len: usize| &g[i * PIECE..i * PIECE + len];
        match (*self, moments) {
            (Optimizer::Sgd { momentum, nesterov, weight_decay }, [v]) => {
                let args = SgdArgs { lr, momentum, nesterov, weight_decay, grad_scale };
                threads.pieces2(g.len() * 8, (w, PIECE), (v, PIECE), |i, w, v| {
                    let g = piece(i, w.len());
                    update::sgd(isa, SgdState { w, v }, g, args);
                });
            }
            (Optimizer::Adam(c) | Optimizer::AdamW(c), [m, v]) => {
                let AdamConfig { beta1, beta2, eps, weight_decay } = c;
                let decoupled = matches!(self, Optimizer::AdamW(_));
                let args = AdamArgs { lr, beta1, beta2, eps, weight_decay, decoupled, step, grad_scale };
                threads.pieces_each(g.len() * 8, [w, m, v], PIECE, |i, [w, m, v]| {
                    let g = piece(i, w.len());
                    update::adam(isa, AdamState { w, m, v }, g, args);
                });
            }
            _ => unreachable!("a trainer keeps as many moments as its optimiser has"),
        }
    }
}

/// What changes from step to step.
#[derive(Clone, Copy)]
pub(crate) struct Step {
    pub(crate) lr: f64,
    /// Counts from 1.
    pub(crate) step: u64,
    /// Factor on the gradients.
    pub(crate) grad_scale: f64,
}

/// The factor that brings the global norm of the gradients down to `limit` (Pascanu et al., 2013), at most 1.
pub(crate) fn clip_factor(g: &[f32], limit: Option<f32>) -> f64 {
    let Some(limit) = limit else { return 1.0 };
    let norm = reduce::sum_of_squares(g).sqrt();
    // PyTorch's clip_grad_norm_ adds the same constant.
    (f64::from(limit) / (norm + 1e-6)).min(1.0)
}
