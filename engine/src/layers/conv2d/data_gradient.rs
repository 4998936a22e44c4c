//! The gradient of a convolution's input: a convolution of the output's gradient with the transposed filters.

use std::ops::Range;

use super::direct::Call;
use super::method::Method;
use crate::arena::Slot;
use crate::layers::activation::apply_derivative;
use crate::layers::before::Before;
use crate::layers::run::{GradOut, Run};

/// The gradient of a convolution's input, prepared.
pub(crate) struct DataGradient {
    pub(crate) out: GradOut,
    pub(crate) method: Method,
    pub(crate) packed: Range<usize>,
    pub(crate) before: Before<f32>,
}

impl DataGradient {
    /// Computes it from the gradient `dy` of the sums.
    pub(super) fn run(&self, run: &mut Run, x: Slot, dy: Slot) {
        let packed = &run.packed[self.packed.clone()];
        let call = Call {
            y: self.out.target(),
            x: dy,
            packed,
            bias: None,
            residual: None,
            clamp: None,
            take: self.before.take(),
        };
        self.method.run(run, call);
        if let Some(act) = self.before.activation() {
            apply_derivative(run, self.out.target(), x, act);
        }
    }
}
