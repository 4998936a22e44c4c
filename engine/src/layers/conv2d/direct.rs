//! A convolution as the sum over its taps, over a batch, in f32 or bf16.

use crate::arena::Slot;
use crate::buffer::cast_mut;
use crate::kernels::conv2d::{Sweep, SweepArgs};
use crate::kernels::{Number, batchnorm};
use crate::layers::real::Real;
use crate::layers::run::Run;
use crate::layers::split::{band_count, panel_share, piece, split_residual};
use crate::parallel::Threads;
use crate::simd::Isa;

/// Where a convolution reads and writes, and what is fused into it.
pub(crate) struct Call<'a, E = f32> {
    pub(crate) y: Slot<E>,
    pub(crate) x: Slot<E>,
    pub(crate) packed: &'a [E],
    pub(crate) bias: Option<&'a [f32]>,
    pub(crate) residual: Option<Slot<E>>,
    pub(crate) clamp: Option<(f32, f32)>,
    /// Where the moments of each image's outputs go, `[mean, m2]` per channel: what a batch normalisation behind needs,
    /// taken while the outputs are still in a cache.
    pub(crate) moments: Option<Slot>,
}

/// Computes the sum over taps of a batch.
pub(crate) fn direct<E: Real>(sweep: &Sweep<E::Products>, run: &mut Run, call: Call<E>) {
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
            sweep.run_columns(y, cast_mut(&mut threads.scratch()), args, 0..rows);
        });
    }
    if bands == 1 {
        return outputs.groups(threads, (work, 1), y, |image, y| {
            let residual = residual.map(|r| piece(r, image, y_len));
            let args = SweepArgs { x: piece(x, image, x_len), packed, bias, residual, clamp };
            sweep.run(y, cast_mut(&mut threads.scratch()), args, 0..rows);
        });
    }
    for (image, y) in y.chunks_exact_mut(y_len).enumerate() {
        let (x, residual) = (piece(x, image, x_len), residual.map(|r| piece(r, image, y_len)));
        threads.pieces(work, y, band * row_len, |i, y| {
            let residual = residual.map(|r| piece(r, i, band * row_len));
            let own = i * band..i * band + y.len() / row_len;
            sweep.run(
                y,
                cast_mut(&mut threads.scratch()),
                SweepArgs { x, packed, bias, residual, clamp },
                own,
            );
        });
    }
    outputs.finish(threads, y);
}

/// What a call reads and writes.
pub(super) struct Tensors<'a, E> {
    pub(super) y: &'a mut [E],
    pub(super) x: &'a [E],
    pub(super) residual: Option<&'a [E]>,
    pub(super) outputs: Outputs<'a>,
}

pub(super) fn tensors<'a, E: Number>(run: &'a mut Run, call: &Call<E>) -> Tensors<'a, E> {
    let (isa, images) = (run.isa, run.images);
    match (call.moments, call.residual) {
        // Moments are of training, residuals of inference.
        (Some(moments), _) => {
            let (([y], [moments]), [x]) = run.arena.split(images, ([call.y], [moments]), [call.x]);
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
pub(super) struct Outputs<'a> {
    isa: Isa,
    images: usize,
    /// `[images][mean, m2]`
    moments: Option<&'a mut [f32]>,
}

impl Outputs<'_> {
    /// Calls `compute` with the outputs of every `group` images and takes their moments at once.
    pub(super) fn groups<E: Number>(
        &mut self,
        threads: &Threads,
        (work, group): (usize, usize),
        y: &mut [E],
        compute: impl Fn(usize, &mut [E]) + Sync,
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
    pub(super) fn finish<E: Number>(&mut self, threads: &Threads, y: &[E]) {
        let (isa, y_len) = (self.isa, y.len() / self.images);
        if let Some(moments) = self.moments.as_deref_mut() {
            let len = moments.len() / self.images;
            threads.pieces(y.len() * 8, moments, len, |i, moments| {
                take_moments(isa, moments, piece(y, i, y_len))
            });
        }
    }
}

fn take_moments<E: Number>(isa: Isa, moments: &mut [f32], y: &[E]) {
    let (mean, m2) = moments.split_at_mut(moments.len() / 2);
    batchnorm::moments(isa, mean, m2, y);
}
