//! A convolution as the sum over its taps, over a batch, in f32 or bf16.

use crate::arena::Slot;
use crate::buffer::cast_mut;
use crate::kernels::Number;
use crate::kernels::conv2d::{Sweep, SweepArgs};
use crate::layers::outputs::{Outputs, Take};
use crate::layers::real::Real;
use crate::layers::run::Run;
use crate::layers::split::{band_count, panel_share, piece};

/// Where a convolution reads and writes, and what is fused into it.
pub(crate) struct Call<'a, E = f32> {
    pub(crate) y: Slot<E>,
    pub(crate) x: Slot<E>,
    pub(crate) packed: &'a [E],
    pub(crate) bias: Option<&'a [f32]>,
    pub(crate) residual: Option<Slot<E>>,
    pub(crate) clamp: Option<(f32, f32)>,
    pub(crate) take: Take<E>,
}

/// Computes the sum over taps of a batch.
pub(crate) fn direct<E: Real>(sweep: &Sweep<E::Products>, run: &mut Run, call: Call<E>) {
    let Call { packed, bias, clamp, .. } = call;
    let (threads, images) = (run.threads, run.images);
    let Tensors { y, x, residual, outputs } = tensors(run, &call);
    let (y_len, x_len) = (y.len() / images, x.len() / images);
    let work = sweep.macs().saturating_mul(images);
    let rows = sweep.output_rows();
    let heavy = sweep.packed_len() > x_len;
    let bands = if sweep.splits_rows() { band_count(threads, images, rows, heavy) } else { 1 };
    let (band, row_len) = (rows.div_ceil(bands), y_len / rows);
    if bands > 1 && images == 1 && heavy && outputs.is_nothing() && sweep.splits_channels() {
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
    pub(super) outputs: Outputs<'a, E>,
}

pub(super) fn tensors<'a, E: Number>(run: &'a mut Run, call: &Call<E>) -> Tensors<'a, E> {
    let (isa, images, take) = (run.isa, run.images, &call.take);
    let residual = call.residual.map(|slot| [slot]);
    let writes = ([call.y], take.writes());
    let reads = ([call.x], (residual, take.reads()));
    let (([y], numbers), ([x], (residual, reads))) = run.arena.split(images, writes, reads);
    let outputs = take.outputs((isa, images), numbers, reads);
    Tensors { y, x, residual: residual.map(|[residual]| residual), outputs }
}
