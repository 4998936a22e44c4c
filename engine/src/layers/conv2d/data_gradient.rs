//! The gradient of a convolution's input: a convolution of the output's gradient with the transposed filters.

use std::ops::Range;

use super::direct::Call;
use super::method::Method;
use crate::arena::Slot;
use crate::graph::Activation;
use crate::layers::activation::apply_derivative;
use crate::layers::run::{GradOut, Run};

/// The gradient of a convolution's input, prepared.
pub(crate) struct DataGradient {
    pub(crate) out: GradOut,
    pub(crate) method: Method,
    pub(crate) packed: Range<usize>,
    /// The activation that made the input, whose derivative is applied here, and not by the layer before.
    pub(crate) gate: Option<Activation>,
}

impl DataGradient {
    /// Computes it from the gradient `dy` before the activation.
    pub(super) fn run(&self, run: &mut Run, x: Slot, dy: Slot) {
        let packed = &run.packed[self.packed.clone()];
        let call = Call {
            y: self.out.target(),
            x: dy,
            packed,
            bias: None,
            residual: None,
            clamp: None,
            moments: None,
        };
        self.method.run(run, call);
        if let Some(act) = self.gate {
            apply_derivative(run, self.out.target(), x, act);
        }
    }
}
