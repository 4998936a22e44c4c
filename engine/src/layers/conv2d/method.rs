//! How a convolution, or the gradient of its input, runs over a batch: directly or through Winograd's transforms.

use super::direct::{Call, Tensors, direct, tensors};
use crate::arena::Slot;
use crate::kernels::conv2d::{Sweep, SweepArgs};
use crate::kernels::winograd::{SharedTiles, Winograd};
use crate::layers::run::Run;
use crate::layers::split::{even_share, piece, split_residual};
use crate::parallel::Threads;

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

fn transformed(winograd: &Winograd, run: &mut Run, call: Call) {
    let Call { packed, bias, clamp, .. } = call;
    let (threads, images) = (run.threads, run.images);
    let Tensors { y, x, residual, outputs } = tensors(run, &call);
    let (y_len, work, lines) = (y.len() / images, winograd.macs().saturating_mul(images), winograd.lines());
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
