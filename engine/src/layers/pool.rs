//! Pools: largest and mean value of windows and of whole images.

use super::before::Before;
use super::run::{GradOut, Layer, Run};
use super::split::{by_rows, piece};
use crate::arena::Slot;
use crate::geometry::PoolGeometry;
use crate::kernels::Number;
use crate::kernels::pool::{self, PoolSaved};

/// What a pool computes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PoolKind {
    /// Largest value of each window.
    Max,
    /// Mean of each window, padding left out.
    Avg,
    /// Largest value of each channel over all pixels.
    GlobalMax,
}

/// `y [n, oh, ow, c] = pool(x [n, h, w, c])`
pub(crate) struct PoolLayer<E> {
    pub(crate) kind: PoolKind,
    pub(crate) geometry: PoolGeometry,
    pub(crate) x: Slot<E>,
    pub(crate) y: Slot<E>,
    pub(crate) backward: Option<PoolBackward<E>>,
}

/// What the backward pass of a [`PoolLayer`] needs.
pub(crate) struct PoolBackward<E> {
    pub(crate) dy: Slot<E>,
    pub(crate) dx: GradOut<E>,
    pub(crate) before: Before<E>,
    /// Windows whose largest value is not positive pass no gradient: the derivative of the ReLU before the pool.
    pub(crate) gate: bool,
}

impl<E: Number> PoolLayer<E> {
    fn work(&self, images: usize) -> usize {
        self.geometry.x_len() * images * 8
    }
}

impl<E: Number> Layer for PoolLayer<E> {
    fn forward(&self, run: &mut Run) {
        let Run { arena, threads, isa, images, .. } = run;
        let ([y], [x]) = arena.split(*images, [self.y], [self.x]);
        let g = &self.geometry;
        by_rows(threads, self.work(*images), (y, *images), (g.oh, 2), |image, y, rows| {
            let (g, read) = g.band(rows);
            let row = g.w * g.c;
            let x = &piece(x, image, self.geometry.x_len())[read.start * row..read.end * row];
            match self.kind {
                PoolKind::Max => pool::max_forward(*isa, y, x, &g),
                PoolKind::Avg => pool::avg_forward(*isa, y, x, &g),
                PoolKind::GlobalMax => pool::global_max_forward(*isa, y, x, g.c),
            }
        });
    }

    fn backward(&self, run: &mut Run) {
        let Some(backward) = &self.backward else { return };
        let Run { arena, threads, isa, images, .. } = run;
        let take = backward.before.take();
        let writes = ([backward.dx.target()], take.writes());
        let reads = ([self.x, self.y, backward.dy], take.reads());
        let (([dx], sums), ([x, y, dy], reads)) = arena.split(*images, writes, reads);
        let outputs = take.outputs((*isa, *images), sums, reads);
        let g = &self.geometry;
        outputs.groups(threads, (self.work(*images), 1), dx, |i, dx| {
            let (x, y, dy) = (piece(x, i, g.x_len()), piece(y, i, g.y_len()), piece(dy, i, g.y_len()));
            match self.kind {
                PoolKind::Max => pool::max_backward(*isa, dx, PoolSaved { x, y, dy, gate: backward.gate }, g),
                PoolKind::Avg => pool::avg_backward(*isa, dx, dy, g),
                PoolKind::GlobalMax => {
                    pool::global_max_backward(*isa, dx, PoolSaved { x, y, dy, gate: false }, g.c)
                }
            }
        });
        backward.dx.finish(run);
    }
}

/// `y [n, c] = mean over the pixels of x [n, h, w, c]`, in f32 whatever `x` is.
pub(crate) struct GlobalAvgPoolLayer<E> {
    pub(crate) channels: usize,
    pub(crate) x: Slot<E>,
    pub(crate) y: Slot,
    /// Gradients of the output and the input, and what is before it.
    pub(crate) backward: Option<(Slot, GradOut<E>, Before<E>)>,
}

impl<E: Number> Layer for GlobalAvgPoolLayer<E> {
    fn forward(&self, run: &mut Run) {
        let Run { arena, threads, isa, images, .. } = run;
        let ([y], [x]) = arena.split(*images, [self.y], [self.x]);
        let x_len = x.len() / *images;
        threads.pieces(x.len() * 8, y, self.channels, |image, y| {
            pool::global_avg_forward(*isa, y, piece(x, image, x_len), self.channels);
        });
    }

    fn backward(&self, run: &mut Run) {
        let Some((dy, dx, before)) = self.backward else { return };
        let Run { arena, threads, isa, images, .. } = run;
        let take = before.take();
        let (([out], sums), ([dy], reads)) =
            arena.split(*images, ([dx.target()], take.writes()), ([dy], take.reads()));
        let outputs = take.outputs((*isa, *images), sums, reads);
        outputs.groups(threads, (out.len() * 8, 1), out, |image, out| {
            pool::global_avg_backward(out, piece(dy, image, self.channels), self.channels);
        });
        dx.finish(run);
    }
}
