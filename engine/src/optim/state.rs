//! What an optimiser keeps for a network, and the step that it makes.

use crate::buffer::Buffer;
use crate::kernels::reduce;
use crate::kernels::update::{self, AdamArgs, AdamState, SgdArgs, SgdState};
use crate::parallel::Threads;
use crate::simd::Isa;

use super::groups::{Groups, Moving, Rule};
use super::muon::{self, Matrix, MatrixStep, Orthogonal};
use super::optimizer::{AdamConfig, Optimizer};
use crate::error::EngineError;
use crate::params::Model;

/// Floats of a piece of an update: 32 KiB of each of four arrays fit a second-level cache.
const PIECE: usize = 8 * 1024;

/// An optimiser with its moments.
pub(crate) struct OptimizerState {
    optimizer: Optimizer,
    groups: Groups,
    moments: Vec<Buffer>,
    matrices: Vec<Matrix>,
    orthogonal: Orthogonal,
}

/// The tensors of a model that an optimiser makes orthogonal steps for.
fn matrices(optimizer: &Optimizer, model: &Model) -> Vec<Matrix> {
    match optimizer {
        Optimizer::Muon { .. } => muon::matrices(model.graph(), model.layout()),
        Optimizer::Sgd { .. } | Optimizer::Adam(_) | Optimizer::AdamW(_) => Vec::new(),
    }
}

impl OptimizerState {
    /// An optimiser that has made no step.
    ///
    /// # Errors
    /// Those of [`Groups::new`].
    pub(crate) fn new(
        (isa, optimizer): (Isa, Optimizer),
        model: &Model,
        moving: Moving,
    ) -> Result<Self, EngineError> {
        let matrices = matrices(&optimizer, model);
        let groups = Groups::new(model.layout(), model.graph().nodes.len(), moving, &matrices)?;
        let trainable = model.layout().trainable();
        let moments = (0..optimizer.moments()).map(|_| Buffer::zeros(trainable)).collect();
        let orthogonal = Orthogonal::new(isa, &matrices);
        Ok(OptimizerState { optimizer, groups, moments, matrices, orthogonal })
    }

    /// Floats that [`OptimizerState::new`] takes.
    pub(crate) fn floats((isa, optimizer): (Isa, Optimizer), model: &Model) -> usize {
        let moments = model.layout().trainable() * optimizer.moments();
        moments + muon::floats(isa, &matrices(&optimizer, model))
    }

    /// Its moments, each laid out as the learnable parameters are.
    pub(crate) fn moments(&self) -> &[Buffer] {
        &self.moments
    }

    /// As [`OptimizerState::moments`], to restore.
    pub(crate) fn moments_mut(&mut self) -> &mut [Buffer] {
        &mut self.moments
    }

    /// Updates parameters `w` and the moments from gradients `g`, all of one length.
    pub(crate) fn update(
        &mut self,
        (isa, threads): (Isa, &Threads),
        w: &mut [f32],
        g: &[f32],
        Step { lr, step, grad_scale }: Step,
    ) {
        let OptimizerState { optimizer, groups, moments, matrices, orthogonal } = self;
        let piece = |i: usize, len: usize| i * PIECE..i * PIECE + len;
        let settings =
            |rule: Rule, weight_decay: f64| (lr * rule.rate, if rule.decays { weight_decay } else { 0.0 });
        match (*optimizer, &mut moments[..]) {
            (Optimizer::Sgd { momentum, nesterov, weight_decay }, [v]) => {
                threads.pieces2(g.len() * 8, (w, PIECE), (v, PIECE), |i, w, v| {
                    let g = &g[piece(i, w.len())];
                    groups.each(piece(i, w.len()), |part, rule| {
                        let (lr, weight_decay) = settings(rule, weight_decay);
                        let args = SgdArgs { lr, momentum, nesterov, weight_decay, grad_scale };
                        let state = SgdState { w: &mut w[part.clone()], v: &mut v[part.clone()] };
                        update::sgd(isa, state, &g[part], args);
                    });
                });
            }
            (Optimizer::Adam(c) | Optimizer::AdamW(c), [m, v]) => {
                let AdamConfig { beta1, beta2, eps, weight_decay } = c;
                let decoupled = matches!(optimizer, Optimizer::AdamW(_));
                threads.pieces_each(g.len() * 8, [w, m, v], PIECE, |i, [w, m, v]| {
                    let g = &g[piece(i, w.len())];
                    groups.each(piece(i, w.len()), |part, rule| {
                        let (lr, weight_decay) = settings(rule, weight_decay);
                        let args =
                            AdamArgs { lr, beta1, beta2, eps, weight_decay, decoupled, step, grad_scale };
                        let [w, m, v] = [&mut *w, &mut *m, &mut *v].map(|all| &mut all[part.clone()]);
                        update::adam(isa, AdamState { w, m, v }, &g[part], args);
                    });
                });
            }
            (Optimizer::Muon { momentum, adam }, [m, v]) => {
                let AdamConfig { beta1, beta2, eps, weight_decay } = adam;
                threads.pieces_each(g.len() * 8, [&mut *w, m, v], PIECE, |i, [w, m, v]| {
                    let g = &g[piece(i, w.len())];
                    groups.each(piece(i, w.len()), |part, rule| {
                        let (lr, weight_decay) = settings(rule, weight_decay);
                        let g = &g[part.clone()];
                        let [w, m, v] = [&mut *w, &mut *m, &mut *v].map(|all| &mut all[part.clone()]);
                        if rule.matrix {
                            // Only the velocity; the matrix moves as a whole.
                            let args =
                                SgdArgs { lr: 0.0, momentum, nesterov: false, weight_decay: 0.0, grad_scale };
                            update::sgd(isa, SgdState { w, v: m }, g, args);
                        } else {
                            let decoupled = true;
                            let args =
                                AdamArgs { lr, beta1, beta2, eps, weight_decay, decoupled, step, grad_scale };
                            update::adam(isa, AdamState { w, m, v }, g, args);
                        }
                    });
                });
                for matrix in matrices.iter() {
                    let Some(rule) = groups.rule_of(matrix.range.start) else { continue };
                    let (lr, weight_decay) = settings(rule, weight_decay);
                    let (gradient, velocity) = (g, &moments[0][..]);
                    let factors = [grad_scale as f32, momentum as f32];
                    let step = MatrixStep { matrix, gradient, velocity, factors, lr, weight_decay };
                    orthogonal.step((isa, threads), w, step);
                }
            }
            _ => unreachable!("an optimiser has as many moments as it says"),
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
