//! How a convolution, or the gradient of its input, runs over a batch: directly or through Winograd's transforms.

use crate::kernels::conv2d::{Sweep, SweepArgs};
use crate::kernels::winograd::{SharedTiles, Winograd};
use crate::layers::{Run, piece};
use crate::parallel::Threads;
use crate::plan::arena::{Arena, Slot};

/// A prepared convolution.
pub(crate) enum Method {
    /// The sum over taps.
    Direct(Sweep),
    /// Fewer multiplications, for 3x3 filters of stride 1.
    Winograd(Winograd, Option<Shared>),
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

    /// Packs weights `[kh][kw][cin / groups][cout]`.
    pub(super) fn pack(&self, packed: &mut [f32], w: &[f32], threads: &Threads) {
        match self {
            Method::Direct(sweep) => sweep.pack(packed, w),
            Method::Winograd(winograd, _) => {
                threads.pieces(packed.len(), packed, winograd.pack_len(), |i, panel| winograd.pack(panel, w, i));
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
    let Run { arena, threads, images, .. } = run;
    let (y, x, residual) = split_residual(arena, *images, (call.y, call.x), call.residual);
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

fn transformed(winograd: &Winograd, run: &mut Run, call: Call) {
    let Call { packed, bias, clamp, .. } = call;
    let Run { arena, threads, images, .. } = run;
    let (y, x, residual) = split_residual(arena, *images, (call.y, call.x), call.residual);
    let (y_len, work, lines) = (y.len() / *images, winograd.macs() * *images, winograd.lines());
    let args = SweepArgs { x, packed, bias, residual: None, clamp };
    if *images >= threads.count() {
        // Small maps go several images at a time, so that a block of tiles is full.
        let group = even_share(*images, threads.count(), winograd.block().div_ceil(lines));
        threads.pieces(work, y, group * y_len, |i, y| {
            let residual = residual.map(|r| piece(r, i, group * y_len));
            let first = i * group * lines;
            let own = first..first + y.len() / y_len * lines;
            winograd.run(y, &mut threads.scratch(), SweepArgs { residual, ..args }, own);
        });
        return;
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
}

fn one_image(shared: &Shared, run: &mut Run, call: Call) {
    let Call { packed, bias, clamp, .. } = call;
    let Run { arena, threads, .. } = run;
    let (tiles, work) = (&shared.tiles, shared.tiles.macs());
    let ([pixels], [x]) = arena.split(1, [shared.pixels], [call.x]);
    threads.pieces(work, pixels, tiles.group_len(), |i, group| tiles.transform(group, x, i));
    let ([products], [pixels]) = arena.split(1, [shared.products], [shared.pixels]);
    threads.pieces(work, products, tiles.product_len(), |i, products| tiles.multiply(products, pixels, packed, i));
    let (y, products, residual) = split_residual(arena, 1, (call.y, shared.products), call.residual);
    let line = tiles.line_len();
    threads.pieces(work, y, line, |i, y| {
        let residual = residual.map(|r| piece(r, i, line));
        tiles.outputs(y, products, SweepArgs { bias, residual, clamp, ..SweepArgs::default() }, i);
    });
}

/// How many of `total` pieces go to a thread at once, at most `limit`: as many rounds as it takes, all threads alike.
fn even_share(total: usize, threads: usize, limit: usize) -> usize {
    let rounds = total.div_ceil(threads * limit.max(1));
    total.div_ceil(threads * rounds)
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
