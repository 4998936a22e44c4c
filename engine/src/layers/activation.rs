//! Activations that no layer before them could take in.

use super::run::{GradOut, Layer, Run};
use super::split::{PIECE, piece};
use crate::arena::Slot;
use crate::graph::Activation;
use crate::kernels::{Number, activation};

/// `y = act(x)`
pub(crate) struct ActivationLayer<E> {
    pub(crate) act: Activation,
    pub(crate) x: Slot<E>,
    pub(crate) y: Slot<E>,
    /// What the derivative is computed from: the output for clamps, the input for the others.
    pub(crate) saved: Slot<E>,
    /// Gradients of the output and the input.
    pub(crate) backward: Option<(Slot<E>, GradOut<E>)>,
}

/// `d *= act'`, where `y` is what the activation gave.
pub(super) fn apply_derivative<E: Number>(run: &mut Run, d: Slot<E>, y: Slot<E>, act: Activation) {
    let Run { arena, threads, isa, images, .. } = run;
    let ([d], [y]) = arena.split(*images, [d], [y]);
    threads.pieces(d.len() * 8, d, PIECE, |i, d| {
        activation::backward_in_place(*isa, d, piece(y, i, PIECE), act);
    });
}

impl<E: Number> Layer for ActivationLayer<E> {
    fn forward(&self, run: &mut Run) {
        let Run { arena, threads, isa, images, .. } = run;
        let ([y], [x]) = arena.split(*images, [self.y], [self.x]);
        threads.pieces(y.len() * 16, y, PIECE, |i, y| {
            activation::forward(*isa, y, piece(x, i, PIECE), self.act)
        });
    }

    fn backward(&self, run: &mut Run) {
        let Some((dy, dx)) = self.backward else { return };
        let Run { arena, threads, isa, images, .. } = run;
        let ([dx_out], [saved, dy]) = arena.split(*images, [dx.target()], [self.saved, dy]);
        threads.pieces(dx_out.len() * 16, dx_out, PIECE, |i, dx| {
            activation::backward(*isa, dx, piece(saved, i, PIECE), piece(dy, i, PIECE), self.act);
        });
        dx.finish(run);
    }
}
