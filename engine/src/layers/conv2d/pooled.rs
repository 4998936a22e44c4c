//! A convolution and the max pool behind it: some rows of outputs at a time are pooled while they are in a cache, and
//! are never written to memory.

use std::ops::Range;

use super::direct::Call;
use super::method::{Method, Shared};
use crate::arena::Slot;
use crate::exec::Mode;
use crate::geometry::PoolGeometry;
use crate::graph::Activation;
use crate::kernels::conv2d::SweepArgs;
use crate::kernels::pool::{self, argmax};
use crate::layers::run::Run;
use crate::layers::split::{even_share, piece, split_residual};
use crate::parallel::Threads;
use crate::simd::Isa;

/// Floats of the convolution's outputs that wait for the pool: 128 KiB leave room for what they are computed from in a
/// 512 KiB second-level cache.
const BAND: usize = 32 * 1024;

/// Most floats that one row of windows may cover, or nothing is left of that cache.
const WIDEST: usize = 2 * BAND;

/// One in so many rows may be computed twice when one image is cut for all threads.
const REPEATED: usize = 8;

/// A max pool that is computed with the convolution before it.
pub(crate) struct Pooled {
    geometry: PoolGeometry,
    /// Rows of the convolution that are computed together: those of a line of tiles, or one.
    line: usize,
    /// Rows of the pool whose windows are computed at once.
    rows: usize,
    /// Images that are computed at once, if these are all rows.
    images: usize,
    pub(crate) backward: Option<PooledBackward>,
}

/// What the backward pass of a [`Pooled`] needs.
#[derive(Clone, Copy)]
pub(crate) struct PooledBackward {
    /// The gradient of the pool's output.
    pub(crate) dy: Slot,
    /// Which pixel of each window won.
    pub(crate) argmax: Slot,
    /// The activation before the pool, whose derivative is applied on the way.
    pub(crate) act: Option<Activation>,
}

impl Pooled {
    /// Whether a pool can be computed with the convolution before it. Windows must not cross lines of tiles, nor, in
    /// training, each other.
    pub(crate) fn fits(method: &Method, g: &PoolGeometry, mode: Mode, threads: usize) -> bool {
        let (line, stride) = (line_rows(method), g.stride[0]);
        let overlap = g.kernel[0].saturating_sub(stride);
        let in_lines = line == 1 || (g.padding[0] == 0 && overlap == 0 && line.is_multiple_of(stride));
        // Rows in which the windows of two threads overlap are computed by both.
        let computed_once = threads == 1 || overlap * REPEATED <= g.oh.div_ceil(threads) * stride;
        let in_cache = g.kernel[0] * g.w * g.c <= WIDEST;
        in_lines && computed_once && in_cache && (mode == Mode::Infer || argmax::fits(g))
    }

    /// Prepares a pool that [fits](Pooled::fits), for inference.
    pub(crate) fn new(method: &Method, geometry: PoolGeometry) -> Self {
        let g = &geometry;
        let line = line_rows(method);
        let (rows, images) = match method {
            Method::Direct(_) => {
                let more = (BAND / (g.w * g.c)).saturating_sub(g.kernel[0]) / g.stride[0];
                (1 + more, 1)
            }
            // A block of tiles, as without a pool.
            Method::Winograd(winograd, _) => {
                let block = winograd.block();
                (block * line / g.stride[0], block / winograd.lines())
            }
        };
        Pooled { geometry, line, rows: rows.min(g.oh), images: images.max(1), backward: None }
    }

    /// Rows that two neighbours among the windows have in common.
    fn overlap(&self) -> usize {
        self.geometry.kernel[0].saturating_sub(self.geometry.stride[0])
    }

    /// Rows of the pool that one line gives.
    fn unit(&self) -> usize {
        (self.line / self.geometry.stride[0]).max(1)
    }

    /// Floats of scratch that each thread needs, those of the convolution included.
    pub(crate) fn scratch_len(&self, method: &Method) -> usize {
        let g = &self.geometry;
        let rows = ((self.rows - 1) * g.stride[0] + g.kernel[0]).next_multiple_of(self.line).min(g.h);
        own_scratch(method) + if self.images > 1 { self.images * g.x_len() } else { rows * g.w * g.c }
    }

    pub(super) fn run(&self, method: &Method, run: &mut Run, call: Call) {
        let Call { packed, bias, clamp, .. } = call;
        let (isa, threads, images, g) = (run.isa, run.threads, run.images, &self.geometry);
        let args = SweepArgs { packed, bias, clamp, ..SweepArgs::default() };
        if let (Method::Winograd(_, Some(shared)), 1) = (method, images)
            && threads.count() > 1
        {
            return self.one_image(shared, args, run, call);
        }
        let (y, argmax, x, residual) = match self.backward {
            Some(PooledBackward { argmax, .. }) => {
                let ([y, argmax], [x]) = run.arena.split(images, [call.y, argmax], [call.x]);
                (y, Some(argmax), x, None)
            }
            None => {
                let (y, x, residual) = split_residual(run.arena, images, (call.y, call.x), call.residual);
                (y, None, x, residual)
            }
        };
        let pass = Pass { pool: self, method, isa, images, args: SweepArgs { x, residual, ..args } };
        let (y_len, work) = (g.y_len(), method.macs().saturating_mul(images));
        let mut out = Out { y, argmax };
        // As without a pool, enough images keep every thread busy, and a few are cut into bands; into no more than
        // needed where bands repeat rows.
        let units = g.oh.div_ceil(self.unit());
        let count = threads.count();
        let is_direct = matches!(method, Method::Direct(_));
        let fine =
            is_direct && packed.len() <= x.len() / images && units >= 16 * count && self.overlap() == 0;
        let bands = (if fine { 2 * count } else { count }).div_ceil(images).min(units);
        if bands == 1 {
            let group = even_share(images, count, self.images);
            out.pieces(threads, (work, group * y_len), |i, out| {
                pass.images(out, &mut threads.scratch(), i * group)
            });
            return;
        }
        let band = units.div_ceil(bands) * self.unit();
        for image in 0..images {
            out.part(image * y_len..(image + 1) * y_len).pieces(
                threads,
                (work, band * g.ow * g.c),
                |i, out| pass.rows(out, &mut threads.scratch(), image, i * band),
            );
        }
    }

    /// One image in the form that threads share: the pool goes into the third step.
    fn one_image(&self, shared: &Shared, args: SweepArgs, run: &mut Run, call: Call) {
        shared.multiply(run, &call);
        let (isa, threads, g, tiles) = (run.isa, run.threads, &self.geometry, &shared.tiles);
        let (y, products, residual) = split_residual(run.arena, 1, (call.y, shared.products), call.residual);
        let (unit, row) = (self.unit(), g.w * g.c);
        threads.pieces(tiles.macs(), y, unit * g.ow * g.c, |i, y| {
            let (band, read) = g.band(i * unit..i * unit + y.len() / (g.ow * g.c));
            let line = i * self.line..g.h.min((i + 1) * self.line);
            let residual = residual.map(|r| &r[line.start * row..line.end * row]);
            let scratch = &mut threads.scratch();
            let outputs = &mut scratch[..line.len() * row];
            tiles.outputs(outputs, products, SweepArgs { residual, ..args }, i);
            pool::max_forward(isa, y, &outputs[..read.len() * row], &band);
        });
    }

    /// Gives the gradients of the pool's outputs to the argmax, times the derivative of the activation: `dx` is that
    /// of whole images of the convolution from `first` on, gradients and argmax those of the batch.
    pub(super) fn backward(&self, isa: Isa, dx: &mut [f32], [dy, argmax]: [&[f32]; 2], first: usize) {
        let g = &self.geometry;
        for (i, dx) in dx.chunks_exact_mut(g.x_len()).enumerate() {
            let [dy, argmax] = [dy, argmax].map(|all| piece(all, first + i, g.y_len()));
            argmax::backward(isa, dx, argmax, dy, g);
        }
    }
}

/// Output rows that a method computes together.
fn line_rows(method: &Method) -> usize {
    match method {
        Method::Direct(_) => 1,
        Method::Winograd(winograd, _) => winograd.line_rows(),
    }
}

/// Where the pool's scratch begins behind that of the convolution: at a multiple of 64 bytes.
fn own_scratch(method: &Method) -> usize {
    method.scratch_len().next_multiple_of(16)
}

/// Outputs of the pool, and in training their argmax.
struct Out<'a> {
    y: &'a mut [f32],
    argmax: Option<&'a mut [f32]>,
}

impl Out<'_> {
    fn part(&mut self, range: Range<usize>) -> Out<'_> {
        let argmax = self.argmax.as_deref_mut().map(|argmax| &mut argmax[range.clone()]);
        Out { y: &mut self.y[range], argmax }
    }

    /// `f(i, piece)` for every piece of `len` outputs.
    fn pieces(&mut self, threads: &Threads, (work, len): (usize, usize), f: impl Fn(usize, Out) + Sync) {
        match self.argmax.as_deref_mut() {
            Some(argmax) => threads.pieces2(work, (&mut *self.y, len), (argmax, len), |i, y, argmax| {
                f(i, Out { y, argmax: Some(argmax) })
            }),
            None => threads.pieces(work, self.y, len, |i, y| f(i, Out { y, argmax: None })),
        }
    }
}

/// A [`Pooled`] at work on a batch.
struct Pass<'a> {
    pool: &'a Pooled,
    method: &'a Method,
    isa: Isa,
    images: usize,
    /// The whole batch, residual included.
    args: SweepArgs<'a>,
}

impl Pass<'_> {
    /// Computes whole images from `first` on.
    fn images(&self, mut out: Out, scratch: &mut [f32], first: usize) {
        let (g, together) = (&self.pool.geometry, self.pool.images);
        let (y_len, x_len) = (g.y_len(), g.x_len());
        let count = out.y.len() / y_len;
        for start in (0..count).step_by(together) {
            let own = start..count.min(start + together);
            if together == 1 {
                self.rows(out.part(start * y_len..own.end * y_len), scratch, first + start, 0);
                continue;
            }
            let (scratch, outputs) = scratch.split_at_mut(own_scratch(self.method));
            let outputs = &mut outputs[..own.len() * x_len];
            self.convolve(outputs, scratch, (first + own.start) * g.h..(first + own.end) * g.h);
            for (image, x) in own.zip(outputs.chunks_exact(x_len)) {
                self.max(out.part(image * y_len..(image + 1) * y_len), x, g);
            }
        }
    }

    /// Computes rows of the pool of one image from `first` on.
    fn rows(&self, mut out: Out, scratch: &mut [f32], image: usize, first: usize) {
        let &Pooled { geometry: ref g, line, rows: together, .. } = self.pool;
        let (row, y_row) = (g.w * g.c, g.ow * g.c);
        let (scratch, outputs) = scratch.split_at_mut(own_scratch(self.method));
        let end = first + out.y.len() / y_row;
        // The rows of the convolution that `outputs` holds.
        let mut held = 0..0;
        for start in (first..end).step_by(together) {
            let own = start..end.min(start + together);
            let (band, read) = g.band(own.clone());
            // Where windows overlap, the last rows are read again.
            if held.contains(&read.start) {
                outputs.copy_within((read.start - held.start) * row..held.len() * row, 0);
            }
            let next = read.start.max(held.end)..read.end.next_multiple_of(line).min(g.h);
            if !next.is_empty() {
                let place = (next.start - read.start) * row..(next.end - read.start) * row;
                self.convolve(&mut outputs[place], scratch, image * g.h + next.start..image * g.h + next.end);
            }
            held = read.start..next.end.max(held.end);
            let part = out.part((own.start - first) * y_row..(own.end - first) * y_row);
            self.max(part, &outputs[..read.len() * row], &band);
        }
    }

    /// Computes rows of the convolution's output, counted over all images: whole lines.
    fn convolve(&self, y: &mut [f32], scratch: &mut [f32], rows: Range<usize>) {
        let g = &self.pool.geometry;
        let row = g.w * g.c;
        let residual = self.args.residual.map(|r| &r[rows.start * row..rows.end * row]);
        let args = SweepArgs { residual, ..self.args };
        match self.method {
            Method::Direct(sweep) => {
                let x = piece(args.x, rows.start / g.h, args.x.len() / self.images);
                let first = rows.start % g.h;
                // A sweep over single pixels counts these as rows.
                let per_row = sweep.output_rows() / g.h;
                let own = first * per_row..(first + rows.len()) * per_row;
                sweep.run(y, scratch, SweepArgs { x, ..args }, own);
            }
            Method::Winograd(winograd, _) => {
                let line = |row: usize| row / g.h * winograd.lines() + (row % g.h).div_ceil(self.pool.line);
                winograd.run(y, scratch, args, line(rows.start)..line(rows.end));
            }
        }
    }

    fn max(&self, out: Out, x: &[f32], g: &PoolGeometry) {
        match (out.argmax, self.pool.backward) {
            (Some(argmax), Some(PooledBackward { act, .. })) => {
                argmax::forward(self.isa, out.y, argmax, x, g, act)
            }
            _ => pool::max_forward(self.isa, out.y, x, g),
        }
    }
}
