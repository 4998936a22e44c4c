//! How the gradients of filters and bias are summed over a batch.

use std::ops::Range;

use super::pooled::{Pooled, PooledBackward};
use crate::arena::Slot;
use crate::geometry::{Conv2dGeometry, saturating_product};
use crate::kernels::conv2d::WeightGradient;
use crate::kernels::reduce;
use crate::kernels::winograd::FilterGradient;
use crate::layers::behind::Behind;
use crate::layers::filters::Filters;
use crate::layers::input::Input;
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

/// The saved tensors, and what turns `dy` into the gradient of the sums first.
pub(super) struct Saved<'a> {
    pub(super) input: Input,
    /// What the layer wrote.
    pub(super) y: Slot,
    pub(super) dy: Slot,
    pub(super) behind: Behind<f32>,
    /// A pool computed with the convolution: `dy` is written.
    pub(super) pool: Option<(&'a Pooled, PooledBackward)>,
}

impl Gradient {
    /// Computes the gradients of filters and bias, or adds to those of earlier images; `dy` becomes that before the activation.
    pub(super) fn run(&self, run: &mut Run, saved: Saved, g: &Conv2dGeometry, filters: &Filters) {
        let w_len = match &self.method {
            FilterMethod::Direct(_) => filters.w.len(),
            FilterMethod::Winograd(..) => 0,
        };
        let partial_len = w_len + filters.sums().map_or(0, ExactSizeIterator::len);
        assert!(saved.input.norm.is_none(), "pointwise convolutions alone make what they read");
        let (isa, images, threads) = (run.isa, run.images, run.threads);
        let chunk = images.div_ceil(weight_chunks(partial_len));
        let count = images.div_ceil(chunk);
        let (x_len, y_len) = (g.x_len(), g.y_len());
        let pool = saved.pool.map(|(_, PooledBackward { dy, argmax, .. })| [dy, argmax]);
        // Outputs that a pool has taken were never written.
        let y = if pool.is_some() { saved.input.x } else { saved.y };
        let reads = ([saved.input.x, y], (pool, saved.behind.reads()));
        let ([partials, dy], ([x, y], (pool, numbers))) =
            run.arena.split(images, [self.partials, saved.dy], reads);
        let derivative = saved.behind.derivative(numbers);
        let direct = matches!(self.method, FilterMethod::Direct(_));
        let work = if direct { g.macs().saturating_mul(images) } else { dy.len() * 8 };
        let prepare = |i: usize, partial: &mut [f32], dy: &mut [f32]| {
            partial.fill(0.0);
            match (saved.pool, pool) {
                (Some((own, _)), Some(pool)) => own.backward(isa, dy, pool, i * chunk),
                _ => derivative.apply(isa, dy, piece(y, i, chunk * y_len), i * chunk),
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
        } else if saved.pool.is_some() || !saved.behind.is_nothing() {
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
    let ([chunks, sums], [x, dy]) = run.arena.split(images, [chunks, sums], [saved.input.x, saved.dy]);
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
        let work = saturating_product([value_len, gradient.values(), count, chunk_lines]);
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
