//! The backward pass of a pointwise convolution over bands of pixels: the gradients of the filters and of the input are both
//! computed from a band of `dy` while it is in a cache, and what the layers on either side need is done there: their
//! derivatives are applied, and their sums are taken. Layer by layer the widest tensors of a network would go through memory
//! several times more.
//!
//! Bands are cut where sums over pixels are cut anyway, so that the bits are those of one gradient after the other.

use std::ops::Range;

use super::data_gradient::DataGradient;
use super::direct::Call;
use super::gradient::{FilterMethod, Gradient, Saved};
use super::method::Method;
use crate::geometry::Conv2dGeometry;
use crate::kernels::batchnorm::BnGate;
use crate::kernels::conv2d::{Sweep, SweepArgs, WeightGradient};
use crate::kernels::{activation, reduce};
use crate::layers::batchnorm::NORM_SUMS;
use crate::layers::before::{ImageSums, SumsWith};
use crate::layers::behind::Derivative;
use crate::layers::filters::Filters;
use crate::layers::input::{Input, Rows};
use crate::layers::run::Run;
use crate::layers::split::{are_spread, by_rows, piece, weight_chunks};
use crate::simd::Isa;

/// Floats of a band of `dy` and of the input's gradient: 384 KiB, as much again is read with them.
const BAND: usize = 96 * 1024;

/// The gradients of a pointwise convolution, prepared: those of its filters and of its input.
pub(super) struct Pointwise<'a> {
    geometry: &'a Conv2dGeometry,
    weights: &'a WeightGradient,
    data: &'a Sweep,
    partials: &'a Gradient,
    dx: &'a DataGradient,
}

/// One chunk of images.
struct Chunk<'a> {
    isa: Isa,
    x: &'a [f32],
    /// What is applied to `x`.
    map: Option<BnGate<'a>>,
    y: &'a [f32],
    /// What `dy` still lacks.
    derivative: Derivative<'a, f32>,
    /// What the sums of a batch normalisation that made the input are taken with.
    sums: Option<SumsWith<'a, f32>>,
    /// The chunk's first image.
    first: usize,
    /// Panels of the transposed weights.
    packed: &'a [f32],
}

/// Numbers of scratch that a pointwise convolution needs, besides that of its passes, for what it makes of its input.
pub(crate) fn made_len(geometry: &Conv2dGeometry, weights: &WeightGradient) -> usize {
    weights.units().0 * geometry.x_len()
}

/// The forward pass over what is made where it is read.
pub(super) fn forward(sweep: &Sweep, run: &mut Run, call: Call, input: &Input) {
    let Call { packed, bias, clamp, ref take, .. } = call;
    let (isa, threads, images) = (run.isa, run.threads, run.images);
    let reads = ([input.x], (input.reads(), take.reads()));
    let (([y], numbers), ([x], (saved, reads))) = run.arena.split(images, ([call.y], take.writes()), reads);
    let (outputs, map) = (take.outputs((isa, images), numbers, reads), input.map(saved));
    let (x_len, y_len) = (x.len() / images, y.len() / images);
    let pixels = sweep.output_rows();
    let (cin, cout) = (x_len / pixels, y_len / pixels);
    let compute = |image: usize, y: &mut [f32], own: Range<usize>| {
        let scratch = &mut threads.scratch();
        let (made, scratch) = scratch.split_at_mut(x_len);
        let mut x = Rows::new(isa, (piece(x, image, x_len), cin), map, made);
        let together = (BAND / (cin + cout)).max(1);
        for (start, y) in own.clone().step_by(together).zip(y.chunks_mut(together * cout)) {
            let own = start..own.end.min(start + together);
            let args = SweepArgs { x: x.with(own.clone()), packed, bias, residual: None, clamp };
            sweep.run(y, scratch, args, own);
        }
    };
    let work = sweep.macs().saturating_mul(images);
    if are_spread(threads, images) {
        return outputs.groups(threads, (work, 1), y, |image, y| compute(image, y, 0..pixels));
    }
    by_rows(threads, work, (y, images), (pixels, 1), compute);
    outputs.finish(threads, y);
}

impl<'a> Pointwise<'a> {
    /// What a layer's gradients need for a common pass; `None` for other convolutions.
    pub(super) fn new(
        geometry: &'a Conv2dGeometry,
        gradient: &'a Gradient,
        dx: &'a DataGradient,
    ) -> Option<Self> {
        match (&gradient.method, &dx.method) {
            (FilterMethod::Direct(weights), Method::Direct(data)) if geometry.is_pointwise() => {
                Some(Pointwise { geometry, weights, data, partials: gradient, dx })
            }
            _ => None,
        }
    }

    /// Computes the gradients of filters and bias, or adds to those of earlier images, and that of the input, to which
    /// [`GradOut::finish`](crate::layers::run::GradOut::finish) is still to be applied. `false` when there are fewer chunks of
    /// images than threads and what is read is stored: nothing is done then.
    pub(super) fn run(&self, run: &mut Run, saved: &Saved, filters: &Filters) -> bool {
        let (g, w_len) = (self.geometry, filters.w.len());
        let partial_len = w_len + filters.sums().map_or(0, ExactSizeIterator::len);
        let (isa, images, threads, packed) = (run.isa, run.images, run.threads, run.packed);
        let chunk = images.div_ceil(weight_chunks(partial_len));
        let count = images.div_ceil(chunk);
        let few = count < threads.count() && saved.input.norm.is_none();
        if few || saved.pool.is_some() || saved.behind.has_pool() {
            return false;
        }
        let (x_len, y_len) = (g.x_len(), g.y_len());
        let packed = &packed[self.dx.packed.clone()];
        let take = self.dx.before.take();
        let writes = ([self.partials.partials, saved.dy, self.dx.out.target()], take.writes());
        let reads = (([saved.input.x, saved.y], saved.input.reads()), (saved.behind.reads(), take.reads()));
        let (([partials, dy, dx], sums), (([x, y], norm), (numbers, reads))) =
            run.arena.split(images, writes, reads);
        let map = saved.input.map(norm);
        let derivative = saved.behind.derivative(numbers);
        let with = take.with(reads);
        let partials = (&mut partials[..count * partial_len], partial_len);
        let sums = sums.map(|[sums]| (sums, chunk * NORM_SUMS * g.cin));
        let outs = [(dy, chunk * y_len), (dx, chunk * x_len)];
        let work = g.macs().saturating_mul(2 * images);
        threads.pieces_of(work, partials, sums, outs, |i, (partial, sums), [dy, dx]| {
            let (x, y) = (piece(x, i, chunk * x_len), piece(y, i, chunk * y_len));
            let from = Chunk { isa, x, map, y, derivative, sums: with, first: i * chunk, packed };
            self.chunk((partial, sums), [dy, dx], &mut threads.scratch(), &from);
        });
        run.sum_partials(self.partials.partials, (count, partial_len), (0, &filters.w));
        if let Some(sums) = filters.sums() {
            run.sum_partials(self.partials.partials, (count, partial_len), (w_len, sums));
        }
        true
    }

    /// The images of a chunk, some at a time, or some rows of one.
    fn chunk(
        &self,
        (partial, mut sums): (&mut [f32], Option<&mut [f32]>),
        [dy, dx]: [&mut [f32]; 2],
        scratch: &mut [f32],
        from: &Chunk,
    ) {
        let g = self.geometry;
        partial.fill(0.0);
        let (dw, db) = partial.split_at_mut(g.cin * g.cout);
        let (together, rows) = self.weights.units();
        let images = dy.len() / g.y_len();
        let pixels = g.h * g.w;
        let made = if from.map.is_some() { together * g.x_len() } else { 0 };
        let (made, scratch) = scratch.split_at_mut(made);
        // Pixels whose `dy` is summed.
        let mut summed = 0;
        for first in (0..images).step_by(together) {
            let count = together.min(images - first);
            let x = &from.x[first * g.x_len()..(first + count) * g.x_len()];
            let mut x = Rows::new(from.isa, (x, g.cin), from.map, made);
            if together > 1 {
                self.prepare(dy, first * pixels..(first + count) * pixels, from);
                let x = &x.with(0..count * pixels)[..count * g.x_len()];
                self.weights.accumulate(dw, scratch, x, &dy[first * g.y_len()..(first + count) * g.y_len()]);
                for image in first..first + count {
                    let mut sums = self.image_sums(sums.as_deref_mut(), image, from);
                    self.data((dx, sums.as_mut()), scratch, (dy, image), 0..pixels, from);
                }
                summed = sum_pixels(from.isa, db, dy, summed, (first + count) * pixels);
                continue;
            }
            let band = (BAND / (g.w * (g.cin + g.cout))).max(1).next_multiple_of(rows);
            let mut sums = self.image_sums(sums.as_deref_mut(), first, from);
            for start in (0..g.h).step_by(band) {
                let band = start..g.h.min(start + band);
                let own = band.start * g.w..band.end * g.w;
                self.prepare(dy, first * pixels + own.start..first * pixels + own.end, from);
                let image = (x.with(own.clone()), piece(dy, first, g.y_len()));
                self.weights.accumulate_rows(dw, scratch, image, band);
                self.data((dx, sums.as_mut()), scratch, (dy, first), own.clone(), from);
                summed = sum_pixels(from.isa, db, dy, summed, first * pixels + own.end);
            }
        }
        if !db.is_empty() {
            reduce::column_sums(from.isa, db, &dy[summed * g.cout..]);
        }
    }

    /// The sums of image `image` of the chunk, of those of the chunk.
    fn image_sums<'b>(
        &self,
        sums: Option<&'b mut [f32]>,
        image: usize,
        from: &Chunk<'b>,
    ) -> Option<ImageSums<'b, f32>> {
        let (with, len) = (from.sums?, NORM_SUMS * self.geometry.cin);
        let own = &mut sums?[image * len..(image + 1) * len];
        Some(with.image(from.isa, own, (from.first + image, self.geometry.x_len())))
    }

    /// Makes `dy` of some pixels of the chunk that of the sums.
    fn prepare(&self, dy: &mut [f32], pixels: Range<usize>, from: &Chunk) {
        let range = pixels.start * self.geometry.cout..pixels.end * self.geometry.cout;
        from.derivative.apply(from.isa, &mut dy[range.clone()], &from.y[range], from.first);
    }

    /// The input's gradient of pixels `pixels` of image `image` of the chunk, and what the layer before needs of it.
    fn data(
        &self,
        (dx, sums): (&mut [f32], Option<&mut ImageSums<f32>>),
        scratch: &mut [f32],
        (dy, image): (&[f32], usize),
        pixels: Range<usize>,
        from: &Chunk,
    ) {
        let g = self.geometry;
        let own = image * g.x_len()..(image + 1) * g.x_len();
        let (dx, x) = (&mut dx[own.clone()], &from.x[own]);
        let range = pixels.start * g.cin..pixels.end * g.cin;
        let args = SweepArgs { x: piece(dy, image, g.y_len()), packed: from.packed, ..SweepArgs::default() };
        self.data.run(&mut dx[range.clone()], scratch, args, pixels.clone());
        if let Some(act) = self.dx.before.activation() {
            activation::backward_in_place(from.isa, &mut dx[range.clone()], &x[range], act);
        }
        if let Some(sums) = sums {
            sums.add(dx, pixels.end);
        }
    }
}

/// Adds whole blocks of rows of `dy` from `from` on and up to `to` to `sums`, and gives the first row that is left: sums over
/// rows are added up block by block.
fn sum_pixels(isa: Isa, sums: &mut [f32], dy: &[f32], from: usize, to: usize) -> usize {
    let end = reduce::block_end(from, to);
    if !sums.is_empty() {
        let cols = sums.len();
        reduce::column_sums(isa, sums, &dy[from * cols..end * cols]);
    }
    end
}
