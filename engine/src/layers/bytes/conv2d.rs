//! 2-d convolution of bytes with fused bias, residual and clamp: bytes below zero or above 255 are cut off by the store.

use std::ops::Range;

use super::filters::ByteFilters;
use crate::arena::Slot;
use crate::buffer::{cast, cast_mut};
use crate::kernels::conv2d::{ByteArgs, Sweep};
use crate::layers::run::{Layer, Run, Weights};
use crate::layers::split::{even_bands, panel_share, piece, split_residual};
use crate::parallel::Columns;
use crate::simd::DotIsa;

/// `y [n, oh, ow, cout] = act(conv(x [n, h, w, cin], w) + b (+ residual))`, all of them bytes.
pub(crate) struct Conv2dBytesLayer {
    pub(crate) x: Slot<u8>,
    pub(crate) y: Slot<u8>,
    pub(crate) residual: Option<ByteResidual>,
    pub(crate) filters: ByteFilters,
    pub(crate) sweep: Sweep<DotIsa>,
    /// Panels of bytes, then a bias and a factor for each channel.
    pub(crate) packed: Range<usize>,
}

/// What is added to the output.
#[derive(Clone, Copy)]
pub(crate) struct ByteResidual {
    pub(crate) slot: Slot<u8>,
    /// Steps of the output in one of its own.
    pub(crate) scale: f32,
    pub(crate) zero: u8,
}

/// Products of bytes that take as long as one of floats, on which the work of a region is measured.
pub(super) const BYTES_SPEED: usize = 3;

impl Conv2dBytesLayer {
    /// Floats of the packed buffer.
    pub(crate) fn packed_len(sweep: &Sweep<DotIsa>) -> usize {
        sweep.packed_len().div_ceil(size_of::<f32>()) + 2 * sweep.channels_len()
    }

    /// Floats of scratch that each thread needs.
    pub(crate) fn scratch_len(sweep: &Sweep<DotIsa>) -> usize {
        sweep.scratch_len().div_ceil(size_of::<f32>())
    }

    /// Added to all outputs: the byte that is zero, less what the zero of the residual would add.
    fn offset(&self) -> f32 {
        let zero = f32::from(self.filters.output.zero);
        self.residual.map_or(zero, |r| zero - f32::from(r.zero) * r.scale)
    }

    /// Panels, bias and factors.
    fn parts<'a>(&self, packed: &'a [f32]) -> (&'a [i8], &'a [i32], &'a [f32]) {
        let (panels, rest) = packed[self.packed.clone()].split_at(self.panels_len());
        let (bias, scale) = rest.split_at(self.sweep.channels_len());
        (&cast(panels)[..self.sweep.packed_len()], cast(bias), scale)
    }

    /// Floats of the panels.
    fn panels_len(&self) -> usize {
        self.sweep.packed_len().div_ceil(size_of::<f32>())
    }
}

impl Layer for Conv2dBytesLayer {
    fn pack(&self, weights: &mut Weights, packed: &mut [f32]) {
        let rounded = self.filters.round(weights);
        let (panels, rest) = packed[self.packed.clone()].split_at_mut(self.panels_len());
        let (bias, scale) = rest.split_at_mut(self.sweep.channels_len());
        let (bias, cout) = (cast_mut(bias), rounded.bias.len());
        bias[..cout].copy_from_slice(&rounded.bias);
        bias[cout..].fill(0);
        self.sweep.pack_bytes(&mut cast_mut(panels)[..self.sweep.packed_len()], bias, &rounded.w);
        scale[..cout].copy_from_slice(&rounded.scale);
        scale[cout..].fill(0.0);
    }

    fn forward(&self, run: &mut Run) {
        let (packed, bias, scale) = self.parts(run.packed);
        let (zero, offset) = (self.filters.input.zero, self.offset());
        let Run { arena, threads, images, .. } = run;
        let images = *images;
        let residual_slot = self.residual.map(|r| r.slot);
        let (y, x, residual) = split_residual(arena, images, (self.y, self.x), residual_slot);
        let factor = self.residual.map_or(0.0, |r| r.scale);
        let sweep = &self.sweep;
        let (y_len, x_len) = (y.len() / images, x.len() / images);
        let rows = sweep.output_rows();
        let row = y_len / rows;
        let heavy = sweep.packed_len() > x_len;
        let work = sweep.macs() / BYTES_SPEED;
        if images == 1 && heavy && threads.count() > 1 && sweep.splits_channels() {
            // Each thread reads its own weights alone.
            let channels = sweep.out_channels();
            let width = panel_share(channels, sweep.panel_width(), threads.count());
            return threads.columns(work, (y, channels), width, |y| {
                let residual = residual.map(|r| (r, factor));
                let args = ByteArgs { x, zero, packed, bias, scale, residual, offset };
                sweep.run_bytes(y, cast_mut(&mut threads.scratch()), args, 0..rows);
            });
        }
        even_bands(threads, (work, heavy), (y, images), rows, |image, y, own| {
            let residual =
                residual.map(|r| (&piece(r, image, y_len)[own.start * row..own.end * row], factor));
            let x = piece(x, image, x_len);
            let args = ByteArgs { x, zero, packed, bias, scale, residual, offset };
            let y = Columns::all(y, sweep.out_channels());
            sweep.run_bytes(y, cast_mut(&mut threads.scratch()), args, own);
        });
    }

    /// Bytes have no gradients.
    fn backward(&self, _: &mut Run) {}
}
