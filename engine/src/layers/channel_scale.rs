//! Channels scaled by another value, as in squeeze-and-excitation: a depthwise convolution of one tap whose filter was
//! computed for each image.

use super::run::{GradOut, Layer, Run};
use super::split::{by_rows, piece};
use crate::arena::Slot;
use crate::geometry::Conv2dGeometry;
use crate::kernels::Number;
use crate::kernels::depthwise::{self, DepthwiseArgs};

/// `y [n, h, w, c] = x [n, h, w, c] * s [n, c]`, `s` in f32
pub(crate) struct ChannelScaleLayer<E> {
    /// One tap a channel.
    pub(crate) geometry: Conv2dGeometry,
    pub(crate) x: Slot<E>,
    pub(crate) s: Slot,
    pub(crate) y: Slot<E>,
    pub(crate) backward: Option<ChannelScaleBackward<E>>,
}

/// Gradient of the output, and of each input that needs one.
pub(crate) struct ChannelScaleBackward<E> {
    pub(crate) dy: Slot<E>,
    pub(crate) dx: Option<GradOut<E>>,
    pub(crate) ds: Option<GradOut>,
}

impl<E: Number> Layer for ChannelScaleLayer<E> {
    fn forward(&self, run: &mut Run) {
        let Run { arena, threads, isa, images, .. } = run;
        let ([y], ([x], [s])) = arena.split(*images, [self.y], ([self.x], [self.s]));
        let (g, work) = (&self.geometry, y.len() * 8);
        by_rows(threads, work, (y, *images), (g.oh, 2), |image, y, rows| {
            let args = DepthwiseArgs { w: piece(s, image, g.cin), bias: None, act: None };
            depthwise::forward(*isa, y, piece(x, image, g.x_len()), args, g, rows);
        });
    }

    /// `dx = dy * s`, `ds [c] = sum over pixels of dy * x`
    fn backward(&self, run: &mut Run) {
        let Some(ChannelScaleBackward { dy, dx, ds }) = &self.backward else { return };
        let (isa, images, g) = (run.isa, run.images, &self.geometry);
        let len = g.x_len();
        if let Some(dx) = dx {
            let ([out], ([dy], [s])) = run.arena.split(images, [dx.target()], ([*dy], [self.s]));
            by_rows(run.threads, out.len() * 8, (out, images), (g.h, 2), |image, out, rows| {
                let s = piece(s, image, g.cin);
                depthwise::backward_data(isa, out, piece(dy, image, len), s, g, rows);
            });
            dx.finish(run);
        }
        if let Some(ds) = ds {
            let ([out], [dy, x]) = run.arena.split(images, [ds.target()], [*dy, self.x]);
            run.threads.pieces(x.len() * 8, out, g.cin, |image, out| {
                out.fill(0.0);
                depthwise::backward_weights(isa, out, piece(x, image, len), piece(dy, image, len), g);
            });
            ds.finish(run);
        }
    }
}
