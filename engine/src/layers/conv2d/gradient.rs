//! How the gradients of filters and bias are summed over a batch.

use std::ops::Range;

use super::pooled::{Pooled, PooledBackward};
use crate::arena::Slot;
use crate::geometry::Conv2dGeometry;
use crate::graph::Activation;
use crate::kernels::conv2d::WeightGradient;
use crate::kernels::winograd::FilterGradient;
use crate::kernels::{activation, reduce};
use crate::layers::filters::Filters;
use crate::layers::run::Run;
use crate::layers::split::{PIECE, piece, weight_chunks};

/// A prepared gradient of filters, with its memory.
pub(crate) enum FilterMethod {
    /// Sums over pixels.
    Direct(WeightGradient),
    /// Sums over transformed tiles: the chunks in flight, and the sums of all values.
    Winograd(FilterGradient, Slot, Slot),
}

/// Where the gradients of a convolution come from.
pub(crate) struct Gradient {
    pub(crate) method: FilterMethod,
    /// Partial gradients of chunks of images: `[weights, bias]`, or the bias alone where tiles are summed.
    pub(crate) partials: Slot,
}

/// The saved tensors and the derivative that is taken on the way.
pub(super) struct Saved<'a> {
    pub(super) x: Slot,
    pub(super) dy: Slot,
    pub(super) behind: Behind<'a>,
}

/// What is fused behind the sums of a convolution, and turns `dy` into their gradient first.
pub(super) enum Behind<'a> {
    /// Nothing, or a layer behind has done it.
    Nothing,
    /// An activation, and its output: `dy` is changed.
    Activation(Activation, Slot),
    /// A pool, and the activation before it: `dy` is written.
    Pool(&'a Pooled, PooledBackward),
}

impl Gradient {
    /// Computes the gradients of filters and bias, or adds to those of earlier images; `dy` becomes that before the activation.
    pub(super) fn run(&self, run: &mut Run, saved: Saved, g: &Conv2dGeometry, filters: &Filters) {
        let w_len = match &self.method {
            FilterMethod::Direct(_) => filters.w.len(),
            FilterMethod::Winograd(..) => 0,
        };
        let partial_len = w_len + filters.sums().map_or(0, ExactSizeIterator::len);
        let (isa, images, threads) = (run.isa, run.images, run.threads);
        let chunk = images.div_ceil(weight_chunks(partial_len));
        let count = images.div_ceil(chunk);
        let (x_len, y_len) = (g.x_len(), g.y_len());
        let behind = match saved.behind {
            Behind::Nothing => [saved.x; 2],
            Behind::Activation(_, y) => [y; 2],
            Behind::Pool(_, PooledBackward { dy, argmax, .. }) => [dy, argmax],
        };
        let ([partials, dy], [x, a, b]) =
            run.arena.split(images, [self.partials, saved.dy], [saved.x, behind[0], behind[1]]);
        let direct = matches!(self.method, FilterMethod::Direct(_));
        let work = if direct { g.macs() * images } else { dy.len() * 8 };
        let prepare = |i: usize, partial: &mut [f32], dy: &mut [f32]| {
            partial.fill(0.0);
            match saved.behind {
                Behind::Nothing => {}
                Behind::Activation(act, _) => {
                    activation::backward_in_place(isa, dy, piece(a, i, chunk * y_len), act);
                }
                Behind::Pool(pool, _) => pool.backward(isa, dy, [a, b], i * chunk),
            }
            let (dw, db) = partial.split_at_mut(w_len);
            if let FilterMethod::Direct(weights) = &self.method {
                weights.accumulate(dw, &mut threads.scratch(), piece(x, i, chunk * x_len), dy);
            }
            if !db.is_empty() {
                reduce::column_sums(isa, db, dy);
            }
        };
        if partial_len > 0 {
            let partials = &mut partials[..count * partial_len];
            threads.pieces2(work, (partials, partial_len), (dy, chunk * y_len), prepare);
        } else if !matches!(saved.behind, Behind::Nothing) {
            threads.pieces(work, dy, chunk * y_len, |i, dy| prepare(i, &mut [], dy));
        }
        match &self.method {
            FilterMethod::Direct(_) => {
                run.sum_partials(self.partials, (count, partial_len), (0, &filters.w));
            }
            &FilterMethod::Winograd(ref gradient, chunks, sums) => {
                sum_tiles(run, gradient, (chunks, sums), &saved, &filters.w);
            }
        }
        if let Some(sums) = filters.sums() {
            run.sum_partials(self.partials, (count, partial_len), (w_len, sums));
        }
    }
}

/// Sums transformed tiles, some chunks at a time, and turns the sums into the gradient `range`.
fn sum_tiles(
    run: &mut Run,
    gradient: &FilterGradient,
    (chunks, sums): (Slot, Slot),
    saved: &Saved,
    range: &Range<usize>,
) {
    let (images, threads, added) = (run.images, run.threads, run.first > 0);
    let ([chunks, sums], [x, dy]) = run.arena.split(images, [chunks, sums], [saved.x, saved.dy]);
    let lines = gradient.line_count(images);
    let (chunk_len, chunk_lines) = (gradient.chunk_len(), gradient.chunk_lines());
    let value_len = sums.len() / gradient.values();
    let rows = gradient.piece_rows();
    let row_len = value_len / gradient.rows();
    let block_lines = gradient.block_chunks() * chunk_lines;
    for first in (0..lines).step_by(block_lines) {
        let count = (lines - first).min(block_lines).div_ceil(chunk_lines);
        let chunks = &mut chunks[..count * chunk_len];
        threads.pieces(chunks.len() * 16, chunks, chunk_len, |i, chunk| {
            let begin = first + i * chunk_lines;
            gradient.transform(chunk, x, dy, begin..lines.min(begin + chunk_lines));
        });
        let work = value_len * gradient.values() * count * chunk_lines;
        let chunks = &*chunks;
        threads.pieces(work, sums, rows * row_len, |i, sums| {
            let pieces = gradient.rows() / rows;
            let (value, begin) = (i / pieces, i % pieces * rows);
            if first == 0 {
                sums.fill(0.0);
            }
            gradient.accumulate(sums, chunks, value, begin..begin + rows);
        });
    }
    let sums = &*sums;
    let mut taps = run.grads[range.clone()].chunks_exact_mut(value_len);
    let dw: [&mut [f32]; 9] = std::array::from_fn(|_| taps.next().expect("a 3x3 filter has nine taps"));
    threads.pieces_each(sums.len() * 4, dw, PIECE, |i, dw| gradient.finish(dw, sums, i * PIECE, added));
}
