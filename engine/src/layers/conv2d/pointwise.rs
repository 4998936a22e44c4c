//! The backward pass of a pointwise convolution over bands of pixels: the gradients of the filters and of the input are both
//! computed from a band of `dy` while it is in a cache, and the derivatives of the activations on either side are applied
//! there. Layer by layer the widest tensors of a network would go through memory three times more.
//!
//! Bands are cut where sums over pixels are cut anyway, so that the bits are those of one gradient after the other.

use std::ops::Range;

use super::data_gradient::DataGradient;
use super::gradient::{Behind, FilterMethod, Gradient, Saved};
use super::method::Method;
use crate::geometry::Conv2dGeometry;
use crate::graph::Activation;
use crate::kernels::conv2d::{Sweep, SweepArgs, WeightGradient};
use crate::kernels::{activation, reduce};
use crate::layers::filters::Filters;
use crate::layers::run::Run;
use crate::layers::split::{piece, weight_chunks};
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
    /// Outputs, and the activation behind them whose derivative `dy` still lacks.
    act: Option<(&'a [f32], Activation)>,
    x: &'a [f32],
    /// Panels of the transposed weights.
    packed: &'a [f32],
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
    /// images than threads: nothing is done then.
    pub(super) fn run(&self, run: &mut Run, saved: &Saved, filters: &Filters) -> bool {
        let (g, w_len) = (self.geometry, filters.w.len());
        let partial_len = w_len + filters.sums().map_or(0, ExactSizeIterator::len);
        let (isa, images, threads, packed) = (run.isa, run.images, run.threads, run.packed);
        let chunk = images.div_ceil(weight_chunks(partial_len));
        let count = images.div_ceil(chunk);
        let act = match saved.behind {
            Behind::Nothing => None,
            Behind::Activation(act, y) => Some((act, y)),
            Behind::Pool(..) => return false,
        };
        if count < threads.count() {
            return false;
        }
        let (x_len, y_len) = (g.x_len(), g.y_len());
        let packed = &packed[self.dx.packed.clone()];
        let y = act.map_or(saved.x, |(_, y)| y);
        let ([partials, dy, dx], [x, y]) =
            run.arena.split(images, [self.partials.partials, saved.dy, self.dx.out.target()], [saved.x, y]);
        let partials = (&mut partials[..count * partial_len], partial_len);
        let outs = [(dy, chunk * y_len), (dx, chunk * x_len)];
        threads.pieces3(2 * g.macs() * images, partials, outs, |i, partial, [dy, dx]| {
            let act = act.map(|(act, _)| (piece(y, i, chunk * y_len), act));
            let from = Chunk { isa, act, x: piece(x, i, chunk * x_len), packed };
            self.chunk([partial, dy, dx], &mut threads.scratch(), w_len, &from);
        });
        run.sum_partials(self.partials.partials, (count, partial_len), (0, &filters.w));
        if let Some(sums) = filters.sums() {
            run.sum_partials(self.partials.partials, (count, partial_len), (w_len, sums));
        }
        true
    }

    /// The images of a chunk, some at a time, or some rows of one.
    fn chunk(&self, [partial, dy, dx]: [&mut [f32]; 3], scratch: &mut [f32], w_len: usize, from: &Chunk) {
        let g = self.geometry;
        partial.fill(0.0);
        let (dw, db) = partial.split_at_mut(w_len);
        let (together, rows) = self.weights.units();
        let images = dy.len() / g.y_len();
        let pixels = g.h * g.w;
        // Pixels whose `dy` is summed.
        let mut summed = 0;
        for first in (0..images).step_by(together) {
            let count = together.min(images - first);
            if together > 1 {
                self.prepare(dy, first * pixels..(first + count) * pixels, from);
                let [x, own] = [(from.x, g.x_len()), (&*dy, g.y_len())]
                    .map(|(all, len)| &all[first * len..(first + count) * len]);
                self.weights.accumulate(dw, scratch, x, own);
                for image in first..first + count {
                    self.data(dx, scratch, (dy, image), 0..pixels, from);
                }
                summed = sum_pixels(from.isa, db, dy, summed, (first + count) * pixels);
                continue;
            }
            let band = (BAND / (g.w * (g.cin + g.cout))).max(1).next_multiple_of(rows);
            for start in (0..g.h).step_by(band) {
                let band = start..g.h.min(start + band);
                let own = band.start * g.w..band.end * g.w;
                self.prepare(dy, first * pixels + own.start..first * pixels + own.end, from);
                let image = (piece(from.x, first, g.x_len()), piece(dy, first, g.y_len()));
                self.weights.accumulate_rows(dw, scratch, image, band);
                self.data(dx, scratch, (dy, first), own.clone(), from);
                summed = sum_pixels(from.isa, db, dy, summed, first * pixels + own.end);
            }
        }
        if !db.is_empty() {
            reduce::column_sums(from.isa, db, &dy[summed * g.cout..]);
        }
    }

    /// Makes `dy` of some pixels of the chunk that before the activation.
    fn prepare(&self, dy: &mut [f32], pixels: Range<usize>, from: &Chunk) {
        let range = pixels.start * self.geometry.cout..pixels.end * self.geometry.cout;
        if let Some((y, act)) = from.act {
            activation::backward_in_place(from.isa, &mut dy[range.clone()], &y[range], act);
        }
    }

    /// The input's gradient of pixels `pixels` of image `image` of the chunk.
    fn data(
        &self,
        dx: &mut [f32],
        scratch: &mut [f32],
        (dy, image): (&[f32], usize),
        pixels: Range<usize>,
        from: &Chunk,
    ) {
        let g = self.geometry;
        let start = image * g.x_len();
        let range = start + pixels.start * g.cin..start + pixels.end * g.cin;
        let args = SweepArgs { x: piece(dy, image, g.y_len()), packed: from.packed, ..SweepArgs::default() };
        self.data.run(&mut dx[range.clone()], scratch, args, pixels);
        if let Some(act) = self.dx.gate {
            activation::backward_in_place(from.isa, &mut dx[range.clone()], &from.x[range], act);
        }
    }
}

/// Adds whole blocks of rows of `dy` from `from` on and up to `to` to `sums`, and gives the first row that is left: sums over
/// rows are added up block by block.
fn sum_pixels(isa: Isa, sums: &mut [f32], dy: &[f32], from: usize, to: usize) -> usize {
    let end = from + (to - from) / reduce::ROW_BLOCK * reduce::ROW_BLOCK;
    if !sums.is_empty() {
        let cols = sums.len();
        reduce::column_sums(isa, sums, &dy[from * cols..end * cols]);
    }
    end
}
