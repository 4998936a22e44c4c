//! Depthwise convolution with fused bias and clamp.

use std::ops::Range;

use super::activation::apply_derivative;
use super::batchnorm::NORM_SUMS;
use super::before::{Before, ImageSums};
use super::behind::Behind;
use super::filters::Filters;
use super::input::{Input, Rows};
use super::outputs::Take;
use super::run::{GradOut, Layer, Run, Weights};
use super::split::{are_spread, by_rows, piece, weight_chunks};
use crate::arena::Slot;
use crate::buffer::cast_mut;
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
    pub(crate) input: Input<E>,
    pub(crate) y: Slot<E>,
    /// What is taken of the outputs.
    pub(crate) take: Take<E>,
    pub(crate) backward: Option<DepthwiseBackward<E>>,
}

/// Partial gradients of a chunk of images, and the sums that the layer before needs.
type Sums<'a> = (&'a mut [f32], Option<&'a mut [f32]>);

/// What the backward pass of a [`DepthwiseLayer`] needs.
pub(crate) struct DepthwiseBackward<E> {
    pub(crate) dy: Slot<E>,
    pub(crate) behind: Behind<E>,
    /// Gradient of the input.
    pub(crate) dx: Option<(GradOut<E>, Before<E>)>,
    /// Partial gradients: chunks of `[weights, bias]`.
    pub(crate) partials: Slot,
}

/// Numbers of a band: of the output, where its input is made in scratch; of the input's gradient, where something is applied to
/// it or summed from it.
const BAND: usize = 64 * 1024;

impl<E: Number> DepthwiseLayer<E> {
    /// Numbers of scratch that each thread needs.
    pub(crate) fn scratch_len(&self) -> usize {
        if self.input.norm.is_some() { self.depthwise.geometry.x_len() } else { 0 }
    }

    /// The input's gradient of an image from its `dy`, and what the layer before needs of it.
    fn image_data(
        &self,
        isa: Isa,
        (dx, mut sums): (&mut [E], Option<ImageSums<E>>),
        (dy, w): (&[E], &[f32]),
        (x, act): (&[E], Option<Activation>),
    ) {
        let g = &self.depthwise.geometry;
        let row = g.w * g.cin;
        let rows = if act.is_some() || sums.is_some() { (BAND / row).max(1) } else { g.h };
        for start in (0..g.h).step_by(rows) {
            let own = start..g.h.min(start + rows);
            let range = own.start * row..own.end * row;
            depthwise::backward_data(isa, &mut dx[range.clone()], dy, w, g, own.clone());
            if let Some(act) = act {
                activation::backward_in_place(isa, &mut dx[range.clone()], &x[range], act);
            }
            if let Some(sums) = &mut sums {
                sums.add(dx, own.end * g.w);
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
        let reads = ([self.input.x], (self.input.reads(), self.take.reads()));
        let (([y], numbers), ([x], (saved, reads))) =
            arena.split(*images, ([self.y], self.take.writes()), reads);
        let outputs = self.take.outputs((*isa, *images), numbers, reads);
        let map = self.input.map(saved);
        let g = &self.depthwise.geometry;
        let work = g.macs().saturating_mul(*images);
        let compute = |image: usize, y: &mut [E], rows: Range<usize>| {
            let scratch = &mut threads.scratch();
            let x = (piece(x, image, g.x_len()), g.w * g.cin);
            let mut x = Rows::new(*isa, x, map, cast_mut(scratch));
            let (first, row) = (rows.start, g.ow * g.cout);
            let together = if map.is_some() { (BAND / row).max(1) } else { rows.len() };
            for start in rows.clone().step_by(together) {
                let own = start..rows.end.min(start + together);
                let y = &mut y[(own.start - first) * row..(own.end - first) * row];
                let (_, read) = g.band(own.clone());
                depthwise::forward(*isa, y, x.with(read), args, g, own);
            }
        };
        if are_spread(threads, *images) {
            return outputs.groups(threads, (work, 1), y, |image, y| compute(image, y, 0..g.oh));
        }
        by_rows(threads, work, (y, *images), (g.oh, 2), compute);
        outputs.finish(threads, y);
    }

    fn backward(&self, run: &mut Run) {
        let Some(backward) = &self.backward else { return };
        let (isa, images, g) = (run.isa, run.images, &self.depthwise.geometry);
        let w_len = self.depthwise.filters.w.len();
        let partial_len = w_len + self.depthwise.filters.sums().map_or(0, ExactSizeIterator::len);
        let chunk = images.div_ceil(weight_chunks(partial_len));
        let (x_len, y_len) = (g.x_len(), g.y_len());
        let work = g.macs().saturating_mul(images);
        // Image by image both gradients read `dy` while it is in a cache, where there are enough images for all threads.
        let count = images.div_ceil(chunk);
        let common = backward.dx.filter(|_| count >= run.threads.count());
        let take = common.map_or(Take::Nothing, |(_, before)| before.take());
        let act = backward.dx.and_then(|(_, before)| before.activation());
        let w = self.depthwise.args(run.packed).w;
        let out = common.map(|(dx, _)| [dx.target()]);
        let writes = (([backward.partials], take.writes()), ([backward.dy], out));
        let reads = (([self.input.x, self.y], self.input.reads()), (backward.behind.reads(), take.reads()));
        let ((([partials], sums), ([dy], out)), (([x, y], saved), (numbers, reads))) =
            run.arena.split(images, writes, reads);
        let (threads, map) = (run.threads, self.input.map(saved));
        let derivative = backward.behind.derivative(numbers);
        let with = take.with(reads);
        let sums_len = NORM_SUMS * g.cin;
        let gradients = |i: usize, (partial, mut sums): Sums, dy: &mut [E], mut dx: Option<&mut [E]>| {
            partial.fill(0.0);
            let (dw, db) = partial.split_at_mut(w_len);
            let (x, y) = (piece(x, i, chunk * x_len), piece(y, i, chunk * y_len));
            let saved = x.chunks_exact(x_len).zip(y.chunks_exact(y_len));
            for (image, ((x, y), dy)) in saved.zip(dy.chunks_exact_mut(y_len)).enumerate() {
                derivative.apply(isa, dy, y, i * chunk + image);
                let scratch = &mut threads.scratch();
                let mut made = Rows::new(isa, (x, g.w * g.cin), map, cast_mut(scratch));
                depthwise::backward_weights(isa, dw, made.with(0..g.h), dy, g);
                if let Some(dx) = &mut dx {
                    let own = &mut dx[image * x_len..(image + 1) * x_len];
                    let sums = sums.as_deref_mut().zip(with).map(|(sums, with)| {
                        let sums = &mut sums[image * sums_len..(image + 1) * sums_len];
                        with.image(isa, sums, (i * chunk + image, x_len))
                    });
                    self.image_data(isa, (own, sums), (dy, w), (x, act));
                }
            }
            if !db.is_empty() {
                reduce::column_sums(isa, db, dy);
            }
        };
        let partials = (&mut partials[..count * partial_len], partial_len);
        let sums = sums.map(|[sums]| (sums, chunk * sums_len));
        let dy = (dy, chunk * y_len);
        match out {
            Some([dx]) => {
                let outs = [dy, (dx, chunk * x_len)];
                threads.pieces_of(work.saturating_mul(2), partials, sums, outs, |i, partial, [dy, dx]| {
                    gradients(i, partial, dy, Some(dx));
                });
            }
            None => threads.pieces_of(work, partials, None, [dy], |i, partial, [dy]| {
                gradients(i, partial, dy, None);
            }),
        }
        let partials = (count, partial_len);
        run.sum_partials(backward.partials, partials, (0, &self.depthwise.filters.w));
        if let Some(sums) = self.depthwise.filters.sums() {
            run.sum_partials(backward.partials, partials, (w_len, sums));
        }
        let Some((dx, before)) = backward.dx else { return };
        if common.is_none() {
            let take = before.take();
            let (([out], sums), ([dy], reads)) =
                run.arena.split(images, ([dx.target()], take.writes()), ([backward.dy], take.reads()));
            by_rows(run.threads, work, (out, images), (g.h, 2), |image, out, rows| {
                depthwise::backward_data(isa, out, piece(dy, image, y_len), w, g, rows);
            });
            take.outputs((isa, images), sums, reads).finish(run.threads, out);
            if let Some(act) = act {
                apply_derivative(run, dx.target(), self.input.x, act);
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
