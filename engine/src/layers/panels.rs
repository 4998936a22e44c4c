//! Weights of a matrix product, packed with their bias.

use std::ops::Range;

use super::filters::Filters;
use super::run::Weights;
use crate::kernels::gemm::{self, GemmShape};
use crate::simd::Isa;

/// `[depth][cols]` weights of a dense layer or a 1x1 convolution as panels, then the bias, in the plan's packed buffer.
pub(crate) struct Panels {
    pub(crate) shape: GemmShape,
    pub(crate) filters: Filters,
    pub(crate) packed: Range<usize>,
}

impl Panels {
    /// Packed floats of weights and bias.
    pub(crate) fn len(isa: Isa, shape: GemmShape, filters: &Filters) -> usize {
        gemm::packed_len(isa, shape) + if filters.has_bias() { shape.cols } else { 0 }
    }

    /// Fills its part of the packed buffer, and gives the weights that are in it.
    pub(super) fn pack<'a>(&self, weights: &'a mut Weights, packed: &mut [f32]) -> &'a [f32] {
        let (isa, threads) = (weights.isa, weights.threads);
        let (panels, bias) = packed[self.packed.clone()].split_at_mut(gemm::packed_len(isa, self.shape));
        let w = self.filters.resolve(weights, bias);
        let len = self.shape.depth * isa.nr();
        threads.pieces(panels.len(), panels, len, |i, panel| gemm::pack(isa, panel, w, self.shape, i));
        w
    }

    /// Panels and bias.
    pub(super) fn parts<'a>(&self, packed: &'a [f32], isa: Isa) -> (&'a [f32], Option<&'a [f32]>) {
        let (panels, bias) = packed[self.packed.clone()].split_at(gemm::packed_len(isa, self.shape));
        (panels, self.filters.has_bias().then_some(bias))
    }
}
