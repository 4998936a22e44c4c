//! The max pool behind a batch normalisation, in training: both are computed some rows at a time, so that the normalised
//! values, in most networks the largest tensors, are never written to memory. Besides the normalisation's input, kept are the
//! pool's output, which pixel of each window won, and a copy of the input at those pixels: the sums of the backward pass need no
//! more than that copy.

use std::ops::Range;

use super::split::PIECE;
use crate::arena::Slot;
use crate::geometry::PoolGeometry;
use crate::graph::Activation;
use crate::kernels::Number;
use crate::kernels::batchnorm::{self, BnCoef, BnGate};
use crate::kernels::pool::argmax;
use crate::simd::Isa;

/// A max pool, with what it keeps for the backward pass.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NormPool<E> {
    pub(crate) geometry: PoolGeometry,
    /// Which pixel of each window won.
    pub(crate) argmax: Slot,
    /// The normalisation's input at that pixel.
    pub(crate) picked: Slot<E>,
}

/// Rows of a pool's output that are computed at once.
fn rows(g: &PoolGeometry) -> usize {
    (PIECE / (g.kernel[0] * g.w * g.c)).clamp(1, g.oh)
}

impl<E: Number> NormPool<E> {
    /// Whether a pool can be computed with the normalisation before it and the activation between them: windows lie side by
    /// side, and what of the activation's outputs, rounded as they are, passes a gradient does so before it, too.
    pub(crate) fn fits(g: &PoolGeometry, act: Option<Activation>) -> bool {
        let exact = size_of::<E>() == size_of::<f32>()
            || !matches!(act, Some(Activation::Relu6 | Activation::Clip { .. }));
        exact && argmax::fits(g)
    }

    /// Numbers of scratch that each thread needs.
    pub(crate) fn scratch_len(&self) -> usize {
        let g = &self.geometry;
        rows(g) * g.kernel[0] * g.w * g.c
    }

    /// Normalises an image and pools it.
    pub(super) fn forward(
        &self,
        isa: Isa,
        scratch: &mut [E],
        [y, picked]: [&mut [E]; 2],
        argmax: &mut [f32],
        (x, gate): (&[E], BnGate),
    ) {
        for (own, band, read) in bands(&self.geometry) {
            let (x, normalised) = (&x[read.clone()], &mut scratch[..read.len()]);
            batchnorm::affine(isa, normalised, x, gate.a, gate.b, gate.act);
            let y = &mut y[own.clone()];
            argmax::forward(isa, y, &mut argmax[own.clone()], normalised, &band, gate.act);
            argmax::pick(isa, &mut picked[own], x, (y, normalised), &band);
        }
    }
}

/// The gradients of an image of a pool's outputs, on the way to those of the normalisation's input.
pub(super) fn backward<E: Number>(
    isa: Isa,
    dx: &mut [E],
    x: &[E],
    (dy, argmax): (&[E], &[f32]),
    (g, coef): (&PoolGeometry, BnCoef),
) {
    let mut end = 0;
    // The argmax has the derivative of the activation in it.
    let with = (coef, BnGate { a: coef.a, b: coef.c, act: None });
    for (own, band, read) in bands(g) {
        let dx = &mut dx[read.clone()];
        argmax::backward(isa, dx, &argmax[own.clone()], &dy[own], &band);
        batchnorm::backward_dx_in_place(isa, dx, &x[read.clone()], with);
        end = read.end;
    }
    // Rows below the last window.
    dx[end..].fill(E::ZERO);
    batchnorm::backward_dx_in_place(isa, &mut dx[end..], &x[end..], with);
}

/// The bands of a pool's rows: outputs, the geometry, and the input that they cover.
fn bands(g: &PoolGeometry) -> impl Iterator<Item = (Range<usize>, PoolGeometry, Range<usize>)> {
    let (rows, out, row) = (rows(g), g.ow * g.c, g.w * g.c);
    (0..g.oh).step_by(rows).map(move |start| {
        let own = start..g.oh.min(start + rows);
        let (band, read) = g.band(own.clone());
        (own.start * out..own.end * out, band, read.start * row..read.end * row)
    })
}
