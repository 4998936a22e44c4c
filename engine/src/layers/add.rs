//! Residual sums with a fused clamp.

use super::activation::apply_derivative;
use super::run::{GradOut, Layer, Run};
use super::split::{PIECE, piece};
use crate::arena::Slot;
use crate::graph::Activation;
use crate::kernels::{Number, elementwise};

/// `y = act(a + b)`
pub(crate) struct AddLayer<E> {
    pub(crate) a: Slot<E>,
    pub(crate) b: Slot<E>,
    pub(crate) y: Slot<E>,
    pub(crate) act: Option<Activation>,
    pub(crate) backward: Option<AddBackward<E>>,
}

/// What the backward pass of an [`AddLayer`] needs.
pub(crate) struct AddBackward<E> {
    pub(crate) dy: Slot<E>,
    /// Gradient of each input that needs one.
    pub(crate) dx: [Option<GradOut<E>>; 2],
}

impl<E: Number> Layer for AddLayer<E> {
    fn forward(&self, run: &mut Run) {
        let Run { arena, threads, isa, images, .. } = run;
        let ([y], [a, b]) = arena.split(*images, [self.y], [self.a, self.b]);
        threads.pieces(y.len() * 8, y, PIECE, |i, y| {
            elementwise::add(*isa, y, piece(a, i, PIECE), piece(b, i, PIECE), self.act);
        });
    }

    fn backward(&self, run: &mut Run) {
        let Some(AddBackward { dy, dx }) = &self.backward else { return };
        if let Some(act) = self.act {
            apply_derivative(run, *dy, self.y, act);
        }
        for out in dx.iter().flatten() {
            let Run { arena, threads, images, .. } = run;
            let ([dx], [dy]) = arena.split(*images, [out.target()], [*dy]);
            threads.pieces(dx.len() * 8, dx, PIECE, |i, dx| dx.copy_from_slice(piece(dy, i, PIECE)));
            out.finish(run);
        }
    }
}
