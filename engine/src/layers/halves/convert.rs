//! Between bf16 and f32.

use crate::arena::Slot;
use crate::kernels::{Number, elementwise};
use crate::layers::run::{GradOut, Layer, Run};
use crate::layers::split::{PIECE, piece};

/// `y = x`, rounded where `y` is bf16.
pub(crate) struct ConvertLayer<A, B> {
    pub(crate) x: Slot<A>,
    pub(crate) y: Slot<B>,
    /// Gradients of the output and the input.
    pub(crate) backward: Option<(Slot<B>, GradOut<A>)>,
}

fn convert<A: Number, B: Number>(run: &mut Run, y: Slot<B>, x: Slot<A>) {
    let Run { arena, threads, isa, images, .. } = run;
    let ([y], [x]) = arena.split(*images, [y], [x]);
    threads.pieces(y.len() * 4, y, PIECE, |i, y| elementwise::convert(*isa, y, piece(x, i, PIECE)));
}

impl<A: Number, B: Number> Layer for ConvertLayer<A, B> {
    fn forward(&self, run: &mut Run) {
        convert(run, self.y, self.x);
    }

    fn backward(&self, run: &mut Run) {
        if let Some((dy, dx)) = self.backward {
            convert(run, dx.target(), dy);
            dx.finish(run);
        }
    }
}
