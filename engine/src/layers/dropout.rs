//! Dropout in training; at inference the plan leaves it out.

use super::run::{GradOut, Layer, Run};
use super::split::{PIECE, piece};
use crate::arena::Slot;
use crate::kernels::Number;
use crate::kernels::elementwise::{self, DropoutKey};

/// `y = x * mask / (1 - rate)`, the mask a function of seed, step, layer and element.
pub(crate) struct DropoutLayer<E> {
    pub(crate) rate: f32,
    /// Number of the layer, so that no two share a mask.
    pub(crate) node: u64,
    /// Elements of one image.
    pub(crate) image_len: usize,
    pub(crate) x: Slot<E>,
    pub(crate) y: Slot<E>,
    /// Gradients of the output and the input.
    pub(crate) backward: Option<(Slot<E>, GradOut<E>)>,
}

impl<E: Number> DropoutLayer<E> {
    fn key(&self, run: &Run) -> DropoutKey {
        DropoutKey {
            rate: self.rate,
            seed: run.seed,
            step: run.step,
            node: self.node,
            offset: ((run.team.first + run.first) * self.image_len) as u64,
        }
    }
}

impl<E: Number> Layer for DropoutLayer<E> {
    fn forward(&self, run: &mut Run) {
        let key = self.key(run);
        let Run { arena, threads, images, .. } = run;
        let ([y], [x]) = arena.split(*images, [self.y], [self.x]);
        threads.pieces(y.len() * 16, y, PIECE, |i, y| {
            let key = DropoutKey { offset: key.offset + (i * PIECE) as u64, ..key };
            elementwise::dropout_forward(y, piece(x, i, PIECE), key);
        });
    }

    fn backward(&self, run: &mut Run) {
        let Some((dy, dx)) = self.backward else { return };
        let key = self.key(run);
        let Run { arena, threads, images, .. } = run;
        let ([dx_out], [dy]) = arena.split(*images, [dx.target()], [dy]);
        threads.pieces(dx_out.len() * 16, dx_out, PIECE, |i, dx| {
            let key = DropoutKey { offset: key.offset + (i * PIECE) as u64, ..key };
            elementwise::dropout_backward(dx, piece(dy, i, PIECE), key);
        });
        dx.finish(run);
    }
}
