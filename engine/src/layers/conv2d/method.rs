//! How a convolution, or the gradient of its input, runs over a batch: directly or through Winograd's transforms.

use crate::arena::Slot;
use crate::kernels::batchnorm;
use crate::kernels::conv2d::{Sweep, SweepArgs};
use crate::kernels::winograd::{SharedTiles, Winograd};
use crate::layers::run::Run;
use crate::layers::split::{band_count, even_share, panel_share, piece, split_residual};
use crate::parallel::Threads;
use crate::simd::Isa;

/// A prepared convolution.
pub(crate) enum Method {
    /// The sum over taps.
    Direct(Sweep),
    /// Fewer multiplications, for 3x3 filters of stride 1.
    Winograd(Box<Winograd>, Option<Box<Shared>>),
}

/// How a single image is shared between threads, with its memory: transformed pixels and products.
pub(crate) struct Shared {
    pub(crate) tiles: SharedTiles,
    pub(crate) pixels: Slot,
    pub(crate) products: Slot,
}

/// Where a convolution reads and writes, and what is fused into it.
pub(super) struct Call<'a> {
    pub(super) y: Slot,
    pub(super) x: Slot,
    pub(super) packed: &'a [f32],
    pub(super) bias: Option<&'a [f32]>,
    pub(super) residual: Option<Slot>,
    pub(super) clamp: Option<(f32, f32)>,
    /// Where the moments of each image's outputs go, `[mean, m2]` per channel: what a batch normalisation behind needs,
    /// taken while the outputs are still in a cache.
    pub(super) moments: Option<Slot>,
}

impl Method {
    /// Floats of packed weights.
    pub(crate) fn packed_len(&self) -> usize {
        match self {
            Method::Direct(sweep) => sweep.packed_len(),
            Method::Winograd(winograd, _) => winograd.packed_len(),
        }
    }

    /// Floats of scratch that each thread needs.
    pub(crate) fn scratch_len(&self) -> usize {
        match self {
            Method::Direct(sweep) => sweep.scratch_len(),
            Method::Winograd(winograd, _) => winograd.scratch_len(winograd.block()),
        }
    }

    /// Multiply-adds of one image.
    pub(super) fn macs(&self) -> usize {
        match self {
            Method::Direct(sweep) => sweep.macs(),
            Method::Winograd(winograd, _) => winograd.macs(),
        }
    }

    /// Packs weights `[kh][kw][cin / groups][cout]`.
    pub(super) fn pack(&self, packed: &mut [f32], w: &[f32], threads: &Threads) {
        match self {
            Method::Direct(sweep) => sweep.pack(packed, w),
            Method::Winograd(winograd, _) => {
                threads
                    .pieces(packed.len(), packed, winograd.pack_len(), |i, panel| winograd.pack(panel, w, i));
            }
        }
    }

    pub(super) fn run(&self, run: &mut Run, call: Call) {
        match self {
            Method::Direct(sweep) => direct(sweep, run, call),
            Method::Winograd(_, Some(shared)) if run.images == 1 && run.threads.count() > 1 => {
                one_image(shared, run, call)
            }
            Method::Winograd(winograd, _) => transformed(winograd, run, call),
        }
    }
}

fn direct(sweep: &Sweep, run: &mut Run, call: Call) {
    let Call { packed, bias, clamp, .. } = call;
    let (threads, images) = (run.threads, run.images);
    let Tensors { y, x, residual, mut outputs } = tensors(run, &call);
    let (y_len, x_len) = (y.len() / images, x.len() / images);
    let work = sweep.macs() * images;
    let rows = sweep.output_rows();
    let heavy = sweep.packed_len() > x_len;
    let bands = if sweep.splits_rows() { band_count(threads, images, rows, heavy) } else { 1 };
    let (band, row_len) = (rows.div_ceil(bands), y_len / rows);
    if bands > 1 && images == 1 && heavy && outputs.moments.is_none() && sweep.splits_channels() {
        // Each thread reads its own weights alone.
        let channels = sweep.out_channels();
        let width = panel_share(channels, sweep.panel_width(), threads.count());
        return threads.columns(work, (y, channels), width, |y| {
            let args = SweepArgs { x, packed, bias, residual, clamp };
            sweep.run_columns(y, &mut threads.scratch(), args, 0..rows);
        });
    }
    if bands == 1 {
        return outputs.groups(threads, (work, 1), y, |image, y| {
            let residual = residual.map(|r| piece(r, image, y_len));
            let args = SweepArgs { x: piece(x, image, x_len), packed, bias, residual, clamp };
            sweep.run(y, &mut threads.scratch(), args, 0..rows);
        });
    }
    for (image, y) in y.chunks_exact_mut(y_len).enumerate() {
        let (x, residual) = (piece(x, image, x_len), residual.map(|r| piece(r, image, y_len)));
        threads.pieces(work, y, band * row_len, |i, y| {
            let residual = residual.map(|r| piece(r, i, band * row_len));
            let own = i * band..i * band + y.len() / row_len;
            sweep.run(y, &mut threads.scratch(), SweepArgs { x, packed, bias, residual, clamp }, own);
        });
    }
    outputs.finish(threads, y);
}

fn transformed(winograd: &Winograd, run: &mut Run, call: Call) {
    let Call { packed, bias, clamp, .. } = call;
    let (threads, images) = (run.threads, run.images);
    let Tensors { y, x, residual, mut outputs } = tensors(run, &call);
    let (y_len, work, lines) = (y.len() / images, winograd.macs() * images, winograd.lines());
    let args = SweepArgs { x, packed, bias, residual: None, clamp };
    if images >= threads.count() {
        // Small maps go several images at a time, so that a block of tiles is full.
        let group = even_share(images, threads.count(), winograd.block().div_ceil(lines));
        return outputs.groups(threads, (work, group), y, |i, y| {
            let residual = residual.map(|r| piece(r, i, group * y_len));
            let first = i * group * lines;
            let own = first..first + y.len() / y_len * lines;
            winograd.run(y, &mut threads.scratch(), SweepArgs { residual, ..args }, own);
        });
    }
    let band = even_share(lines, threads.count(), lines);
    let row_len = band * winograd.line_rows() * winograd.row_len();
    for (image, y) in y.chunks_exact_mut(y_len).enumerate() {
        let residual = residual.map(|r| piece(r, image, y_len));
        threads.pieces(work, y, row_len, |i, y| {
            let residual = residual.map(|r| piece(r, i, row_len));
            let own = image * lines + i * band..image * lines + lines.min((i + 1) * band);
            winograd.run(y, &mut threads.scratch(), SweepArgs { residual, ..args }, own);
        });
    }
    outputs.finish(threads, y);
}

impl Shared {
    /// The first two steps: pixels, then products.
    pub(super) fn multiply(&self, run: &mut Run, call: &Call) {
        let Run { arena, threads, .. } = run;
        let (tiles, work) = (&self.tiles, self.tiles.macs());
        let ([pixels], [x]) = arena.split(1, [self.pixels], [call.x]);
        threads.pieces(work, pixels, tiles.group_len(), |i, group| tiles.transform(group, x, i));
        let ([products], [pixels]) = arena.split(1, [self.products], [self.pixels]);
        threads.pieces(work, products, tiles.product_len(), |i, products| {
            tiles.multiply(products, pixels, call.packed, i)
        });
    }
}

fn one_image(shared: &Shared, run: &mut Run, call: Call) {
    shared.multiply(run, &call);
    let Call { bias, clamp, .. } = call;
    let Run { arena, threads, .. } = run;
    let (tiles, work) = (&shared.tiles, shared.tiles.macs());
    let (y, products, residual) = split_residual(arena, 1, (call.y, shared.products), call.residual);
    let line = tiles.line_len();
    threads.pieces(work, y, line, |i, y| {
        let residual = residual.map(|r| piece(r, i, line));
        tiles.outputs(y, products, SweepArgs { bias, residual, clamp, ..SweepArgs::default() }, i);
    });
}

/// What a call reads and writes.
struct Tensors<'a> {
    y: &'a mut [f32],
    x: &'a [f32],
    residual: Option<&'a [f32]>,
    outputs: Outputs<'a>,
}

fn tensors<'a>(run: &'a mut Run, call: &Call) -> Tensors<'a> {
    let (isa, images) = (run.isa, run.images);
    match (call.moments, call.residual) {
        // Moments are of training, residuals of inference.
        (Some(moments), _) => {
            let ([y, moments], [x]) = run.arena.split(images, [call.y, moments], [call.x]);
            let outputs = Outputs { isa, images, moments: Some(moments) };
            Tensors { y, x, residual: None, outputs }
        }
        (None, residual) => {
            let (y, x, residual) = split_residual(run.arena, images, (call.y, call.x), residual);
            Tensors { y, x, residual, outputs: Outputs { isa, images, moments: None } }
        }
    }
}

/// What is done with the outputs of each image.
struct Outputs<'a> {
    isa: Isa,
    images: usize,
    /// `[images][mean, m2]`
    moments: Option<&'a mut [f32]>,
}

impl Outputs<'_> {
    /// Calls `compute` with the outputs of every `group` images and takes their moments at once.
    fn groups(
        &mut self,
        threads: &Threads,
        (work, group): (usize, usize),
        y: &mut [f32],
        compute: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        let (isa, y_len) = (self.isa, y.len() / self.images);
        let Some(moments) = self.moments.as_deref_mut() else {
            return threads.pieces(work, y, group * y_len, compute);
        };
        let len = moments.len() / self.images;
        threads.pieces2(work, (y, group * y_len), (moments, group * len), |i, y, moments| {
            compute(i, y);
            for (y, moments) in y.chunks_exact(y_len).zip(moments.chunks_exact_mut(len)) {
                take_moments(isa, moments, y);
            }
        });
    }

    /// Takes the moments of outputs that were computed in parts of images.
    fn finish(&mut self, threads: &Threads, y: &[f32]) {
        let (isa, y_len) = (self.isa, y.len() / self.images);
        if let Some(moments) = self.moments.as_deref_mut() {
            let len = moments.len() / self.images;
            threads.pieces(y.len() * 8, moments, len, |i, moments| {
                take_moments(isa, moments, piece(y, i, y_len))
            });
        }
    }
}

fn take_moments(isa: Isa, moments: &mut [f32], y: &[f32]) {
    let (mean, m2) = moments.split_at_mut(moments.len() / 2);
    batchnorm::moments(isa, mean, m2, y);
}
