//! 2-d convolution with fused bias, residual and clamp.

use std::ops::Range;

use super::{CHUNKS, Filters, GradOut, Layer, Run, clamp, piece};
use crate::geometry::Conv2dGeometry;
use crate::graph::Activation;
use crate::kernels::conv2d::{Sweep, SweepArgs, WeightGradient};
use crate::kernels::{activation, reduce};
use crate::parallel::Threads;
use crate::plan::arena::{Arena, Slot};
use crate::simd::Isa;

/// Floats of partial weight gradients (16 MiB) that a layer may take: large filters are summed in fewer, larger chunks.
const PARTIAL_FLOATS: usize = 4 << 20;

/// `y [n, oh, ow, cout] = act(conv(x [n, h, w, cin], w) + b (+ residual))`
pub(crate) struct Conv2dLayer {
    pub(crate) geometry: Conv2dGeometry,
    pub(crate) x: Slot,
    pub(crate) y: Slot,
    pub(crate) residual: Option<Slot>,
    pub(crate) act: Option<Activation>,
    pub(crate) filters: Filters,
    pub(crate) sweep: Sweep,
    /// Panels of the forward sweep, then the bias.
    pub(crate) packed: Range<usize>,
    pub(crate) backward: Option<Conv2dBackward>,
}

/// What the backward pass of a [`Conv2dLayer`] needs.
pub(crate) struct Conv2dBackward {
    pub(crate) dy: Slot,
    /// Whether the activation's derivative is applied here, and not by the pool behind this layer.
    pub(crate) mask: bool,
    pub(crate) dx: Option<DataGradient>,
    pub(crate) weights: WeightGradient,
    /// Partial gradients: chunks of `[weights, bias]`.
    pub(crate) partials: Slot,
}

/// The input gradient of a [`Conv2dLayer`].
pub(crate) struct DataGradient {
    pub(crate) out: GradOut,
    pub(crate) sweep: Sweep,
    pub(crate) packed: Range<usize>,
}

/// Chunks of images whose weight gradients are summed apart: as many as fit [`PARTIAL_FLOATS`].
pub(crate) fn weight_chunks(partial_len: usize) -> usize {
    (PARTIAL_FLOATS / partial_len.max(1)).clamp(2, CHUNKS)
}

/// A sweep over a batch: where it reads and writes, and what is fused into it.
struct BatchSweep<'a> {
    sweep: &'a Sweep,
    y: Slot,
    x: Slot,
    packed: &'a [f32],
    bias: Option<&'a [f32]>,
    residual: Option<Slot>,
    clamp: Option<(f32, f32)>,
}

impl BatchSweep<'_> {
    fn run(self, run: &mut Run) {
        let BatchSweep { sweep, packed, bias, clamp, .. } = self;
        let Run { arena, threads, images, .. } = run;
        let (y, x, residual) = split_residual(arena, *images, (self.y, self.x), self.residual);
        let (y_len, x_len) = (y.len() / *images, x.len() / *images);
        let work = sweep.macs() * *images;
        let rows = sweep.output_rows();
        // Enough images keep every thread busy; a few are cut into bands of rows besides.
        let bands = if sweep.splits_rows() { (2 * threads.count()).div_ceil(*images).min(rows) } else { 1 };
        let (band, row_len) = (rows.div_ceil(bands), y_len / rows);
        if bands == 1 {
            threads.pieces(work, y, y_len, |image, y| {
                let residual = residual.map(|r| piece(r, image, y_len));
                let args = SweepArgs { x: piece(x, image, x_len), packed, bias, residual, clamp };
                sweep.run(y, &mut threads.scratch(), args, 0..rows);
            });
            return;
        }
        for (image, y) in y.chunks_exact_mut(y_len).enumerate() {
            let (x, residual) = (piece(x, image, x_len), residual.map(|r| piece(r, image, y_len)));
            threads.pieces(work, y, band * row_len, |i, y| {
                let residual = residual.map(|r| piece(r, i, band * row_len));
                let own = i * band..i * band + y.len() / row_len;
                sweep.run(y, &mut threads.scratch(), SweepArgs { x, packed, bias, residual, clamp }, own);
            });
        }
    }
}

fn split_residual(
    arena: &mut Arena,
    images: usize,
    (y, x): (Slot, Slot),
    residual: Option<Slot>,
) -> (&mut [f32], &[f32], Option<&[f32]>) {
    match residual {
        Some(residual) => {
            let ([y], [x, residual]) = arena.split(images, [y], [x, residual]);
            (y, x, Some(residual))
        }
        None => {
            let ([y], [x]) = arena.split(images, [y], [x]);
            (y, x, None)
        }
    }
}

impl Layer for Conv2dLayer {
    fn pack(&self, params: &[f32], packed: &mut [f32], _isa: Isa, _threads: &Threads) {
        let (panels, bias) = packed[self.packed.clone()].split_at_mut(self.sweep.packed_len());
        self.filters.resolve(params, bias, |w| self.sweep.pack(panels, w));
        if let Some(dx) = self.backward.as_ref().and_then(|b| b.dx.as_ref()) {
            dx.sweep.pack(&mut packed[dx.packed.clone()], &params[self.filters.w.clone()]);
        }
    }

    fn forward(&self, run: &mut Run) {
        let packed = run.packed;
        let (panels, bias) = packed[self.packed.clone()].split_at(self.sweep.packed_len());
        let bias = self.filters.has_bias().then_some(bias);
        let (sweep, y, x, residual) = (&self.sweep, self.y, self.x, self.residual);
        BatchSweep { sweep, y, x, packed: panels, bias, residual, clamp: clamp(self.act) }.run(run);
    }

    fn backward(&self, run: &mut Run) {
        let Some(backward) = &self.backward else { return };
        let Run { arena, threads, isa, images, .. } = run;
        let (isa, images) = (*isa, *images);
        let w_len = self.filters.w.len();
        let partial_len = w_len + self.filters.b.as_ref().map_or(0, ExactSizeIterator::len);
        let chunk = images.div_ceil(weight_chunks(partial_len));
        let (x_len, y_len) = (self.geometry.x_len(), self.geometry.y_len());
        let ([partials, dy], [x, y]) =
            arena.split(images, [backward.partials, backward.dy], [self.x, self.y]);
        let partials = &mut partials[..images.div_ceil(chunk) * partial_len];
        let work = self.geometry.macs() * images;
        threads.pieces2(work, (partials, partial_len), (dy, chunk * y_len), |i, partial, dy| {
            partial.fill(0.0);
            if let (Some(act), true) = (self.act, backward.mask) {
                activation::backward_in_place(isa, dy, piece(y, i, chunk * y_len), act);
            }
            let (dw, db) = partial.split_at_mut(w_len);
            backward.weights.accumulate(dw, &mut threads.scratch(), piece(x, i, chunk * x_len), dy);
            if !db.is_empty() {
                reduce::column_sums(isa, db, dy);
            }
        });
        sum_partials(run, backward.partials, images.div_ceil(chunk), &self.filters);
        if let Some(dx) = &backward.dx {
            let packed = &run.packed[dx.packed.clone()];
            let (sweep, y, x) = (&dx.sweep, dx.out.target(), backward.dy);
            BatchSweep { sweep, y, x, packed, bias: None, residual: None, clamp: None }.run(run);
            dx.out.finish(run);
        }
    }
}

/// Adds partial gradients in the order of their images into the gradients of weights and bias.
pub(super) fn sum_partials(run: &mut Run, partials: Slot, count: usize, filters: &Filters) {
    let w_len = filters.w.len();
    let partial_len = w_len + filters.b.as_ref().map_or(0, ExactSizeIterator::len);
    let partials = &run.arena.read(partials, run.images)[..count * partial_len];
    let (isa, threads) = (run.isa, run.threads);
    let mut sum = |range: &Range<usize>, first: usize| {
        let out = &mut run.grads[range.clone()];
        threads.pieces(out.len() * count, out, super::PIECE, |i, out| {
            let start = first + i * super::PIECE;
            out.copy_from_slice(&partials[start..start + out.len()]);
            for k in 1..count {
                let from = k * partial_len + start;
                crate::kernels::elementwise::accumulate(isa, out, &partials[from..from + out.len()]);
            }
        });
    };
    sum(&filters.w, 0);
    if let Some(b) = &filters.b {
        sum(b, w_len);
    }
}
