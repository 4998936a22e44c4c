//! A depthwise convolution with the pointwise ones around it, some rows at a time: what it reads and makes stays in a
//! cache and is never written to memory. For inference, and for layers that do not learn.
//!
//! Layers one after the other would send their widest tensors through memory (4.8 MB for one of MobileNetV2's
//! images), and wait for them. The order of evaluation is that of Alwani et al., "Fused-layer CNN accelerators" (2016).

use std::ops::Range;

use super::depthwise::DepthwiseFilters;
use super::panels::Panels;
use super::real::Real;
use super::run::{Layer, Run, Weights};
use super::split::{by_rows, piece, split_residual};
use crate::arena::Slot;
use crate::buffer::cast_mut;
use crate::geometry::{Conv2dGeometry, saturating_product};
use crate::graph::Activation;
use crate::kernels::depthwise;
use crate::kernels::gemm::{self, GemmEpilogue};
use crate::simd::Isa;

/// Bytes of both tensors between the convolutions: most of a 512 KiB second-level cache. Fewer rows at once would move more
/// of those that neighbouring bands share.
const BAND: usize = 384 * 1024;

/// A 1x1 convolution: a matrix product over pixels.
pub(crate) struct Pointwise<E> {
    pub(crate) weights: Panels<E>,
    pub(crate) act: Option<Activation>,
}

/// `y = project(depthwise(expand(x))) (+ residual)`
pub(crate) struct SeparableLayer<E> {
    pub(crate) x: Slot<E>,
    pub(crate) y: Slot<E>,
    pub(crate) residual: Option<Slot<E>>,
    pub(crate) expand: Option<Pointwise<E>>,
    pub(crate) depthwise: DepthwiseFilters,
    pub(crate) project: Pointwise<E>,
}

impl<E: Real> Pointwise<E> {
    fn run(&self, isa: Isa, packed: &[f32], y: &mut [E], x: &[E], residual: Option<&[E]>) {
        let (panels, bias) = self.weights.parts(packed);
        let epilogue = GemmEpilogue { bias, residual, clamp: self.act.and_then(Activation::clamp_range) };
        gemm::gemm(E::products(isa), y, x, panels, self.weights.shape, epilogue);
    }
}

impl<E: Real> SeparableLayer<E> {
    fn geometry(&self) -> &Conv2dGeometry {
        &self.depthwise.geometry
    }

    /// Rows of the depthwise convolution's output that are computed at once.
    fn rows(&self) -> usize {
        let g = self.geometry();
        let (filtered, expanded) = (g.ow * g.cout, if self.expand.is_some() { g.w * g.cin } else { 0 });
        let first = filtered + self.window() * expanded;
        let more = (BAND / size_of::<E>()).saturating_sub(first) / (filtered + g.stride[0] * expanded);
        (1 + more).min(g.oh)
    }

    /// Rows that an output row reads.
    fn window(&self) -> usize {
        let g = self.geometry();
        (g.kernel[0] - 1) * g.dilation[0] + 1
    }

    /// Numbers of expanded and of filtered rows.
    fn buffers(&self) -> [usize; 2] {
        let (g, rows) = (self.geometry(), self.rows());
        let read = ((rows - 1) * g.stride[0] + self.window()).min(g.h);
        [if self.expand.is_some() { read * g.w * g.cin } else { 0 }, rows * g.ow * g.cout]
    }

    /// Numbers of scratch that each thread needs.
    pub(crate) fn scratch_len(&self) -> usize {
        self.buffers().iter().sum()
    }

    /// Multiply-adds of one image.
    fn macs(&self) -> usize {
        let g = self.geometry();
        let pointwise = |p: &Pointwise<E>, pixels: usize| {
            saturating_product([pixels, p.weights.shape.depth, p.weights.shape.cols])
        };
        let expand = self.expand.as_ref().map_or(0, |expand| pointwise(expand, g.h * g.w));
        g.macs().saturating_add(pointwise(&self.project, g.oh * g.ow)).saturating_add(expand)
    }
}

/// A band of one image: what its rows are computed from.
struct Band<'a, E> {
    isa: Isa,
    packed: &'a [f32],
    /// The whole image.
    x: &'a [E],
    /// The band's rows.
    residual: Option<&'a [E]>,
}

impl<E: Real> SeparableLayer<E> {
    /// Computes output rows `rows` of one image.
    fn band(&self, y: &mut [E], scratch: &mut [E], from: &Band<E>, rows: Range<usize>) {
        let &Band { isa, packed, x, residual } = from;
        let g = self.geometry();
        let [expanded_len, filtered_len] = self.buffers();
        let (expanded, filtered) = scratch[..expanded_len + filtered_len].split_at_mut(expanded_len);
        let (wide, narrow) = (g.w * g.cin, x.len() / g.h);
        let y_row = y.len() / rows.len();
        // The rows of the wide tensor that `expanded` holds.
        let mut held = 0..0;
        let together = self.rows();
        for start in rows.clone().step_by(together) {
            let own = start..rows.end.min(start + together);
            let (band, read) = g.band(own.clone());
            let source = match &self.expand {
                None => &x[read.start * wide..read.end * wide],
                Some(expand) => {
                    // Neighbouring windows share rows.
                    if held.contains(&read.start) {
                        expanded.copy_within((read.start - held.start) * wide..held.len() * wide, 0);
                    }
                    let next = read.start.max(held.end)..read.end;
                    if !next.is_empty() {
                        let to = (next.start - read.start) * wide..(next.end - read.start) * wide;
                        let x = &x[next.start * narrow..next.end * narrow];
                        expand.run(isa, packed, &mut expanded[to], x, None);
                    }
                    held = read.clone();
                    &expanded[..read.len() * wide]
                }
            };
            let filtered = &mut filtered[..own.len() * g.ow * g.cout];
            depthwise::forward(isa, filtered, source, self.depthwise.args(packed), &band, 0..own.len());
            let out = (own.start - rows.start) * y_row..(own.end - rows.start) * y_row;
            let residual = residual.map(|r| &r[out.clone()]);
            self.project.run(isa, packed, &mut y[out], filtered, residual);
        }
    }
}

impl<E: Real> Layer for SeparableLayer<E> {
    fn pack(&self, weights: &mut Weights, packed: &mut [f32]) {
        if let Some(expand) = &self.expand {
            expand.weights.pack(weights, packed);
        }
        self.depthwise.pack(weights, packed);
        self.project.weights.pack(weights, packed);
    }

    fn forward(&self, run: &mut Run) {
        let (isa, images, packed, threads) = (run.isa, run.images, run.packed, run.threads);
        let (y, x, residual) = split_residual(run.arena, images, (self.y, self.x), self.residual);
        let (x_len, y_len, height) = (x.len() / images, y.len() / images, self.geometry().oh);
        by_rows(threads, self.macs().saturating_mul(images), (y, images), (height, 1), |image, y, rows| {
            let row = y_len / height;
            let residual = residual.map(|r| &piece(r, image, y_len)[rows.start * row..rows.end * row]);
            let from = Band { isa, packed, x: piece(x, image, x_len), residual };
            self.band(y, cast_mut(&mut threads.scratch()), &from, rows);
        });
    }

    /// Nothing in it learns: what is between its layers is not kept.
    fn backward(&self, _: &mut Run) {}
}
