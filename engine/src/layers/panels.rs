//! Weights of a matrix product, packed with their bias.

use super::filters::Filters;
use super::packed::Packed;
use super::real::Real;
use super::run::Weights;
use crate::kernels::gemm::{self, GemmShape};

/// `[depth][cols]` weights of a dense layer or a 1x1 convolution as panels, then the bias, in the plan's packed buffer.
pub(crate) struct Panels<E> {
    pub(crate) shape: GemmShape,
    pub(crate) filters: Filters,
    pub(crate) packed: Packed<E>,
}

impl<E: Real> Panels<E> {
    /// Fills its part of the packed buffer, and gives the weights that are in it.
    pub(super) fn pack<'a>(&self, weights: &'a mut Weights, packed: &mut [f32]) -> &'a [f32] {
        let (numbers, threads) = (E::products(weights.isa), weights.threads);
        let (panels, bias) = self.packed.parts_mut(packed);
        let w = self.filters.resolve(weights, bias);
        let len = gemm::panel_step(numbers, self.shape);
        threads.pieces(panels.len(), panels, len, |i, panel| gemm::pack(numbers, panel, w, self.shape, i));
        w
    }

    /// Panels and bias.
    pub(super) fn parts<'a>(&self, packed: &'a [f32]) -> (&'a [E], Option<&'a [f32]>) {
        let (panels, bias) = self.packed.parts(packed);
        (panels, self.filters.has_bias().then_some(bias))
    }
}
