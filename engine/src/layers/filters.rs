//! The parameters of a layer with filters, and the batch normalisation that folds into them.

use std::ops::Range;

use super::run::Weights;
use super::split::{PIECE, piece};
use crate::kernels::fold;

/// Learnable ranges of a batch normalisation, and how it folds into the layer before it.
#[derive(Clone, Debug)]
pub(crate) struct NormParams {
    pub(crate) scale: Range<usize>,
    pub(crate) shift: Range<usize>,
    pub(crate) mean: Range<usize>,
    pub(crate) var: Range<usize>,
    pub(crate) eps: f32,
    pub(crate) momentum: f32,
}

impl NormParams {
    /// With running statistics it is `y = x * factor + offset` for each channel `c`.
    pub(crate) fn factor_offset(&self, params: &[f32], c: usize) -> (f32, f32) {
        let factor = params[self.scale.start + c] / (params[self.var.start + c] + self.eps).sqrt();
        (factor, params[self.shift.start + c] - params[self.mean.start + c] * factor)
    }

    /// The running mean and `1 / sqrt(var + eps)` of channel `c`.
    pub(crate) fn mean_inv_std(&self, params: &[f32], c: usize) -> (f32, f32) {
        (params[self.mean.start + c], 1.0 / (params[self.var.start + c] + self.eps).sqrt())
    }
}

/// Weights and bias of a layer with filters, and the batch normalisation folded into them, which has running statistics.
///
/// The layer computes with the folded filters in both directions, and the backward pass finds the gradients of those:
/// `kernels/fold.rs` says how they become the gradients of all parameters.
#[derive(Clone, Debug)]
pub(crate) struct Filters {
    pub(crate) w: Range<usize>,
    pub(crate) b: Option<Range<usize>>,
    pub(crate) norm: Option<NormParams>,
    /// Output channels: the last dimension of the weights.
    pub(crate) cout: usize,
}

impl Filters {
    /// Whether outputs have something added.
    pub(crate) fn has_bias(&self) -> bool {
        self.b.is_some() || self.norm.is_some()
    }

    /// Where the sums over pixels of the gradients of the outputs go: the gradient of what is added to them.
    pub(crate) fn sums(&self) -> Option<&Range<usize>> {
        self.norm.as_ref().map(|norm| &norm.shift).or(self.b.as_ref())
    }

    /// Floats of [`Weights::folding`] that it needs.
    pub(crate) fn folding_len(&self) -> usize {
        if self.norm.is_some() { self.cout + self.w.len() } else { 0 }
    }

    /// The effective weights; the effective bias, `[cout]` or empty, goes to `bias`.
    pub(crate) fn resolve<'a>(&self, weights: &'a mut Weights, bias: &mut [f32]) -> &'a [f32] {
        let Weights { params, folding, threads, isa } = weights;
        let w = &params[self.w.clone()];
        let Some(norm) = &self.norm else {
            if let Some(b) = &self.b {
                bias.copy_from_slice(&params[b.clone()]);
            }
            return w;
        };
        let (factors, folded) = folding[..self.folding_len()].split_at_mut(self.cout);
        for (c, (bias, to)) in bias.iter_mut().zip(&mut *factors).enumerate() {
            let (factor, offset) = norm.factor_offset(params, c);
            let own = self.b.as_ref().map_or(0.0, |b| params[b.start + c]);
            (*to, *bias) = (factor, own * factor + offset);
        }
        let len = self.rows() * self.cout;
        threads.pieces(folded.len() * 8, folded, len, |i, folded| {
            fold::forward(*isa, folded, piece(w, i, len), factors)
        });
        folded
    }

    /// Turns the gradients of the effective weights and bias into those of the parameters.
    pub(super) fn finish_gradients(&self, weights: &mut Weights, grads: &mut [f32]) {
        let Some(norm) = &self.norm else { return };
        let Weights { params, folding, threads, isa } = weights;
        let w = &params[self.w.clone()];
        let (factors, dots) = folding[..self.folding_len()].split_at_mut(self.cout);
        for (c, factor) in factors.iter_mut().enumerate() {
            *factor = norm.factor_offset(params, c).0;
        }
        let len = self.rows() * self.cout;
        let dots = &mut dots[..w.len().div_ceil(len) * self.cout];
        let dw = &mut grads[self.w.clone()];
        threads.pieces2(dw.len() * 8, (dw, len), (&mut *dots, self.cout), |i, dw, dots| {
            fold::backward(*isa, dw, dots, piece(w, i, len), factors);
        });
        for c in 0..self.cout {
            let (mean, inv_std) = norm.mean_inv_std(params, c);
            let dshift = f64::from(grads[norm.shift.start + c]);
            let dot: f64 = dots.iter().skip(c).step_by(self.cout).map(|&dot| f64::from(dot)).sum();
            let mut centre = -f64::from(mean);
            if let Some(b) = &self.b {
                centre += f64::from(params[b.start + c]);
                grads[b.start + c] = (dshift * f64::from(factors[c])) as f32;
            }
            grads[norm.scale.start + c] = ((dot + dshift * centre) * f64::from(inv_std)) as f32;
        }
    }

    /// Rows of the weights `[.., cout]` that are folded at once.
    fn rows(&self) -> usize {
        (PIECE / self.cout).max(1)
    }
}
