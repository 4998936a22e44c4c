//! The optimisers and their settings.

use super::muon;
use crate::error::EngineError;
use crate::graph::Graph;
use crate::params::ParamLayout;
use crate::simd::Isa;

/// How parameters follow their gradients.
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
    /// Muon (Jordan, 2024) for the weights of convolutions and dense layers between the first and the last, AdamW for all
    /// other parameters.
    Muon {
        /// Share of the last update that is kept, in `0..1`; the gradient is taken where momentum leads.
        momentum: f64,
        /// AdamW's settings; its decay applies to the matrices, too.
        adam: AdamConfig,
    },
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
    /// `sgd`, `adam`, `adamw` or `muon`.
    pub fn name(&self) -> &'static str {
        match self {
            Optimizer::Sgd { .. } => "sgd",
            Optimizer::Adam(_) => "adam",
            Optimizer::AdamW(_) => "adamw",
            Optimizer::Muon { .. } => "muon",
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
        if let Optimizer::Sgd { momentum, .. } | Optimizer::Muon { momentum, .. } = *self {
            check((0.0..1.0).contains(&momentum), "momentum must be in 0..1")?;
        }
        match *self {
            Optimizer::Sgd { weight_decay, .. } => {
                check(weight_decay >= 0.0 && weight_decay.is_finite(), "weight decay must not be negative")
            }
            Optimizer::Adam(c) | Optimizer::AdamW(c) | Optimizer::Muon { adam: c, .. } => {
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

    /// Floats that [`Optimizer::Muon`] takes for making matrices orthogonal, besides its moments.
    pub fn muon_floats(graph: &Graph, layout: &ParamLayout, isa: Isa) -> usize {
        muon::floats(isa, &muon::matrices(graph, layout))
    }

    /// Number of moments that it keeps for each parameter.
    pub(crate) fn moments(&self) -> usize {
        match self {
            Optimizer::Sgd { .. } => 1,
            Optimizer::Adam(_) | Optimizer::AdamW(_) | Optimizer::Muon { .. } => 2,
        }
    }
}
