//! Depthwise convolution of bytes.

use std::ops::Range;

use super::conv2d::BYTES_SPEED;
use super::filters::ByteFilters;
use crate::arena::Slot;
use crate::geometry::{Conv2dGeometry, saturating_product};
use crate::kernels::depthwise::{self, DepthwiseByteArgs};
use crate::layers::run::{Layer, Run, Weights};
use crate::layers::split::{by_rows, piece};

/// `y [n, oh, ow, c] = act(depthwise(x [n, h, w, c], w) + b)`, both of them bytes, zero of `x` at 0.
pub(crate) struct DepthwiseBytesLayer {
    pub(crate) geometry: Conv2dGeometry,
    pub(crate) x: Slot<u8>,
    pub(crate) y: Slot<u8>,
    pub(crate) filters: ByteFilters,
    /// Weights, bias and factors, all in floats, in which these sums are exact.
    pub(crate) packed: Range<usize>,
}

impl DepthwiseBytesLayer {
    /// Floats of the packed buffer.
    pub(crate) fn packed_len(filters: &ByteFilters) -> usize {
        filters.filters.w.len() + 2 * filters.filters.cout
    }
}

impl Layer for DepthwiseBytesLayer {
    fn pack(&self, weights: &mut Weights, packed: &mut [f32]) {
        let rounded = self.filters.round(weights);
        let (w, rest) = packed[self.packed.clone()].split_at_mut(rounded.w.len());
        let (bias, scale) = rest.split_at_mut(rounded.bias.len());
        w.iter_mut().zip(&rounded.w).for_each(|(to, &w)| *to = w.into());
        // A bias past 2^24 is rounded: so far from zero every sum is cut off by the store.
        bias.iter_mut().zip(&rounded.bias).for_each(|(to, &b)| *to = b as f32);
        scale.copy_from_slice(&rounded.scale);
    }

    fn forward(&self, run: &mut Run) {
        let g = &self.geometry;
        let (w, rest) = run.packed[self.packed.clone()].split_at(g.w_len());
        let (bias, scale) = rest.split_at(g.cout);
        let args = DepthwiseByteArgs { w, bias, scale, offset: self.filters.output.zero.into() };
        let Run { arena, threads, isa, images, .. } = run;
        let ([y], [x]) = arena.split(*images, [self.y], [self.x]);
        let work = saturating_product([g.macs(), *images, BYTES_SPEED]);
        by_rows(threads, work, (y, *images), (g.oh, 1), |image, y, rows| {
            depthwise::forward_bytes(*isa, y, piece(x, image, g.x_len()), args, g, rows);
        });
    }

    /// Bytes have no gradients.
    fn backward(&self, _: &mut Run) {}
}
