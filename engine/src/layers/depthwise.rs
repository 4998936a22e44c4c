//! Depthwise convolution with fused bias and clamp.

use std::ops::Range;

use super::activation::apply_derivative;
use super::filters::Filters;
use super::run::{GradOut, Layer, Run, Weights};
use super::split::{by_rows, piece, weight_chunks};
use crate::arena::Slot;
use crate::geometry::Conv2dGeometry;
use crate::graph::Activation;
use crate::kernels::depthwise::{self, DepthwiseArgs};
use crate::kernels::{Number, activation, reduce};
use crate::simd::Isa;

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
pub(crate) struct DepthwiseLayer<E> {
    pub(crate) depthwise: DepthwiseFilters,
    pub(crate) x: Slot<E>,
    pub(crate) y: Slot<E>,
    pub(crate) backward: Option<DepthwiseBackward<E>>,
}

/// What the backward pass of a [`DepthwiseLayer`] needs.
pub(crate) struct DepthwiseBackward<E> {
    pub(crate) dy: Slot<E>,
    /// Whether the activation's derivative is applied here, and not by the pool behind this layer.
    pub(crate) mask: bool,
    /// Gradient of the input, and the activation that made the input, if its derivative is applied here.
    pub(crate) dx: Option<(GradOut<E>, Option<Activation>)>,
    /// Partial gradients: chunks of `[weights, bias]`.
    pub(crate) partials: Slot,
}

/// Floats of the input's gradient that are computed before the derivative of the activation before them is applied.
const GATED: usize = 64 * 1024;

impl<E: Number> DepthwiseLayer<E> {
    /// The input's gradient of an image from its `dy`, in the activation `gate` that made the input `x`.
    fn image_data(
        &self,
        isa: Isa,
        dx: &mut [E],
        (dy, w): (&[E], &[f32]),
        (x, gate): (&[E], Option<Activation>),
    ) {
        let g = &self.depthwise.geometry;
        let row = g.w * g.cin;
        let rows = if gate.is_some() { (GATED / row).max(1) } else { g.h };
        for (i, (dx, x)) in dx.chunks_mut(rows * row).zip(x.chunks(rows * row)).enumerate() {
            let own = i * rows..i * rows + dx.len() / row;
            depthwise::backward_data(isa, dx, dy, w, g, own);
            if let Some(act) = gate {
                activation::backward_in_place(isa, dx, x, act);
            }
        }
    }
}

impl<E: Number> Layer for DepthwiseLayer<E> {
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
        // Image by image both gradients read `dy` while it is in a cache, where there are enough images for all threads.
        let count = images.div_ceil(chunk);
        let common = backward.dx.filter(|_| count >= run.threads.count());
        let w = self.depthwise.args(run.packed).w;
        let chunk_gradients =
            |i: usize, partial: &mut [f32], dy: &mut [E], [x, y]: [&[E]; 2], mut dx: &mut [E]| {
                partial.fill(0.0);
                let (dw, db) = partial.split_at_mut(w_len);
                let (x, y) = (piece(x, i, chunk * x_len), piece(y, i, chunk * y_len));
                let saved = x.chunks_exact(x_len).zip(y.chunks_exact(y_len));
                for ((x, y), dy) in saved.zip(dy.chunks_exact_mut(y_len)) {
                    if let (Some(act), true) = (self.depthwise.act, backward.mask) {
                        activation::backward_in_place(isa, dy, y, act);
                    }
                    depthwise::backward_weights(isa, dw, x, dy, g);
                    if let Some((_, gate)) = common {
                        let (own, rest) = std::mem::take(&mut dx).split_at_mut(x_len);
                        dx = rest;
                        self.image_data(isa, own, (dy, w), (x, gate));
                    }
                }
                if !db.is_empty() {
                    reduce::column_sums(isa, db, dy);
                }
            };
        let saved = [self.x, self.y];
        if let Some((dx, _)) = common {
            let writes = ([backward.partials], [backward.dy, dx.target()]);
            let (([partials], [dy, dx]), saved) = run.arena.split(images, writes, saved);
            let partials = &mut partials[..count * partial_len];
            let outs = [(dy, chunk * y_len), (dx, chunk * x_len)];
            run.threads.pieces3(2 * work, (partials, partial_len), outs, |i, partial, [dy, dx]| {
                chunk_gradients(i, partial, dy, saved, dx);
            });
        } else {
            let writes = ([backward.partials], [backward.dy]);
            let (([partials], [dy]), saved) = run.arena.split(images, writes, saved);
            let partials = &mut partials[..count * partial_len];
            run.threads.pieces2(work, (partials, partial_len), (dy, chunk * y_len), |i, partial, dy| {
                chunk_gradients(i, partial, dy, saved, &mut []);
            });
        }
        let partials = (count, partial_len);
        run.sum_partials(backward.partials, partials, (0, &self.depthwise.filters.w));
        if let Some(sums) = self.depthwise.filters.sums() {
            run.sum_partials(backward.partials, partials, (w_len, sums));
        }
        let Some((dx, gate)) = backward.dx else { return };
        if common.is_none() {
            let ([out], [dy]) = run.arena.split(images, [dx.target()], [backward.dy]);
            by_rows(run.threads, work, (out, images), (g.h, 2), |image, out, rows| {
                depthwise::backward_data(isa, out, piece(dy, image, y_len), w, g, rows);
            });
            if let Some(act) = gate {
                apply_derivative(run, dx.target(), self.x, act);
            }
        }
        dx.finish(run);
    }

    fn finish_gradients(&self, weights: &mut Weights, grads: &mut [f32]) {
        if self.backward.is_some() {
            self.depthwise.filters.finish_gradients(weights, grads);
        }
    }
}
