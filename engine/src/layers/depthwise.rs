//! Depthwise convolution with fused bias and clamp.

use std::ops::Range;

use super::filters::Filters;
use super::run::{GradOut, Layer, Run, Weights};
use super::split::{by_rows, piece, weight_chunks};
use crate::arena::Slot;
use crate::geometry::Conv2dGeometry;
use crate::graph::Activation;
use crate::kernels::depthwise::{self, DepthwiseArgs};
use crate::kernels::{activation, reduce};

/// `act(depthwise(x [h, w, c], w [kh, kw, c]) + b)` of an image.
pub(crate) struct DepthwiseFilters {
    pub(crate) geometry: Conv2dGeometry,
    pub(crate) act: Option<Activation>,
    pub(crate) filters: Filters,
    /// The weights, then the bias.
    pub(crate) packed: Range<usize>,
}

impl DepthwiseFilters {
    /// Packed floats of filters and bias.
    pub(crate) fn len(filters: &Filters) -> usize {
        filters.w.len() + if filters.has_bias() { filters.cout } else { 0 }
    }

    /// Fills its part of the packed buffer.
    pub(super) fn pack(&self, weights: &mut Weights, packed: &mut [f32]) {
        let (w, bias) = packed[self.packed.clone()].split_at_mut(self.filters.w.len());
        w.copy_from_slice(self.filters.resolve(weights, bias));
    }

    /// What the kernel reads.
    pub(super) fn args<'a>(&self, packed: &'a [f32]) -> DepthwiseArgs<'a> {
        let (w, bias) = packed[self.packed.clone()].split_at(self.filters.w.len());
        DepthwiseArgs { w, bias: self.filters.has_bias().then_some(bias), act: self.act }
    }
}

/// `y [n, oh, ow, c] = act(depthwise(x [n, h, w, c], w [kh, kw, c]) + b)`
pub(crate) struct DepthwiseLayer {
    pub(crate) depthwise: DepthwiseFilters,
    pub(crate) x: Slot,
    pub(crate) y: Slot,
    pub(crate) backward: Option<DepthwiseBackward>,
}

/// What the backward pass of a [`DepthwiseLayer`] needs.
pub(crate) struct DepthwiseBackward {
    pub(crate) dy: Slot,
    /// Whether the activation's derivative is applied here, and not by the pool behind this layer.
    pub(crate) mask: bool,
    pub(crate) dx: Option<GradOut>,
    /// Partial gradients: chunks of `[weights, bias]`.
    pub(crate) partials: Slot,
}

impl Layer for DepthwiseLayer {
    fn pack(&self, weights: &mut Weights, packed: &mut [f32]) {
        self.depthwise.pack(weights, packed);
    }

    fn forward(&self, run: &mut Run) {
        let args = self.depthwise.args(run.packed);
        let Run { arena, threads, isa, images, .. } = run;
        let ([y], [x]) = arena.split(*images, [self.y], [self.x]);
        let g = &self.depthwise.geometry;
        by_rows(threads, g.macs() * *images, (y, *images), (g.oh, 2), |image, y, rows| {
            depthwise::forward(*isa, y, piece(x, image, g.x_len()), args, g, rows);
        });
    }

    fn backward(&self, run: &mut Run) {
        let Some(backward) = &self.backward else { return };
        let (isa, images, g) = (run.isa, run.images, &self.depthwise.geometry);
        let w_len = self.depthwise.filters.w.len();
        let partial_len = w_len + self.depthwise.filters.sums().map_or(0, ExactSizeIterator::len);
        let chunk = images.div_ceil(weight_chunks(partial_len));
        let (x_len, y_len) = (g.x_len(), g.y_len());
        let work = g.macs() * images;
        let ([partials, dy], [x, y]) =
            run.arena.split(images, [backward.partials, backward.dy], [self.x, self.y]);
        let partials = &mut partials[..images.div_ceil(chunk) * partial_len];
        run.threads.pieces2(work, (partials, partial_len), (dy, chunk * y_len), |i, partial, dy| {
            partial.fill(0.0);
            if let (Some(act), true) = (self.depthwise.act, backward.mask) {
                activation::backward_in_place(isa, dy, piece(y, i, chunk * y_len), act);
            }
            let (dw, db) = partial.split_at_mut(w_len);
            let x = piece(x, i, chunk * x_len);
            for (x, dy) in x.chunks_exact(x_len).zip(dy.chunks_exact(y_len)) {
                depthwise::backward_weights(isa, dw, x, dy, g);
            }
            if !db.is_empty() {
                reduce::column_sums(isa, db, dy);
            }
        });
        let partials = (images.div_ceil(chunk), partial_len);
        run.sum_partials(backward.partials, partials, (0, &self.depthwise.filters.w));
        if let Some(sums) = self.depthwise.filters.sums() {
            run.sum_partials(backward.partials, partials, (w_len, sums));
        }
        if let Some(dx) = backward.dx {
            let w = self.depthwise.args(run.packed).w;
            let ([out], [dy]) = run.arena.split(images, [dx.target()], [backward.dy]);
            by_rows(run.threads, work, (out, images), (g.h, 2), |image, out, rows| {
                depthwise::backward_data(isa, out, piece(dy, image, y_len), w, g, rows);
            });
            dx.finish(run);
        }
    }

    fn finish_gradients(&self, weights: &mut Weights, grads: &mut [f32]) {
        if self.backward.is_some() {
            self.depthwise.filters.finish_gradients(weights, grads);
        }
    }
}
