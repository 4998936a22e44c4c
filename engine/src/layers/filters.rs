//! The parameters of a layer with filters, and the batch normalisation that folds into them.

use std::ops::Range;

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
    /// Inference is `y = x * factor + offset` for each channel `c`.
    pub(crate) fn factor_offset(&self, params: &[f32], c: usize) -> (f32, f32) {
        let factor = params[self.scale.start + c] / (params[self.var.start + c] + self.eps).sqrt();
        (factor, params[self.shift.start + c] - params[self.mean.start + c] * factor)
    }
}

/// Weights and bias of a layer with filters, and the batch normalisation folded into them at inference.
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

    /// Hands the effective weights to `pack` and writes the effective bias, `[cout]` or empty, to `bias`.
    pub(crate) fn resolve(&self, params: &[f32], bias: &mut [f32], pack: impl FnOnce(&[f32])) {
        let Some(norm) = &self.norm else {
            if let Some(b) = &self.b {
                bias.copy_from_slice(&params[b.clone()]);
            }
            return pack(&params[self.w.clone()]);
        };
        let mut w = params[self.w.clone()].to_vec();
        for (c, bias) in bias.iter_mut().enumerate() {
            let (factor, offset) = norm.factor_offset(params, c);
            w.iter_mut().skip(c).step_by(self.cout).for_each(|w| *w *= factor);
            let own = self.b.as_ref().map_or(0.0, |b| params[b.start + c]);
            *bias = own * factor + offset;
        }
        pack(&w);
    }
}
