//! Layers: what a kernel family needs to run forward and backward inside a plan. Safe code; shapes, saved values and
//! calls, with forward and backward side by side.
//!
//! A layer is made when a plan is compiled, with every place in memory resolved. It never sees an instruction set
//! beyond handing it on, allocates nothing when it runs, and cuts its work into pieces that depend on shapes alone.

pub(crate) mod activation;
pub(crate) mod add;
pub(crate) mod batchnorm;
pub(crate) mod conv2d;
pub(crate) mod dense;
pub(crate) mod depthwise;
pub(crate) mod dropout;
pub(crate) mod panels;
pub(crate) mod pool;
pub(crate) mod separable;

use std::ops::Range;

use crate::arena::{Arena, Slot};
use crate::graph::Activation;
use crate::kernels::elementwise;
use crate::parallel::Threads;
use crate::simd::Isa;

/// Floats of a piece of elementwise work: 64 KiB, small enough to stay in a second-level cache.
const PIECE: usize = 16 * 1024;

/// Pieces into which a batch is cut for sums over images. A constant, so that sums have one order on any number of
/// threads; 16 keep as many cores busy.
const CHUNKS: usize = 16;

/// What a layer runs on.
pub(crate) struct Run<'a> {
    pub(crate) arena: &'a mut Arena,
    /// All parameters; only running statistics are changed.
    pub(crate) params: &'a mut [f32],
    /// Weights as the layers packed them.
    pub(crate) packed: &'a [f32],
    /// Gradients of the learnable parameters; empty at inference.
    pub(crate) grads: &'a mut [f32],
    pub(crate) threads: &'a Threads,
    pub(crate) isa: Isa,
    /// Images of this pass, at most the plan's chunk.
    pub(crate) images: usize,
    /// Images of the batch that earlier passes had: their gradients are added to.
    pub(crate) first: usize,
    /// Seed and number of the training step, for dropout.
    pub(crate) seed: u64,
    pub(crate) step: u64,
}

/// One stage of a plan.
pub(crate) trait Layer: Send + Sync {
    /// Copies weights into the layout that the kernels read; `packed` is the whole packed buffer.
    fn pack(&self, _params: &[f32], _packed: &mut [f32], _isa: Isa, _threads: &Threads) {}
    /// Computes the output.
    fn forward(&self, run: &mut Run);
    /// Computes the gradients of the input and the parameters from that of the output, which may be changed.
    fn backward(&self, run: &mut Run);
}

/// Where a layer writes the gradient of its input.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GradOut {
    /// The gradient.
    pub(crate) slot: Slot,
    /// Where to write first when another consumer of the value has written the gradient already.
    pub(crate) temp: Option<Slot>,
}

impl GradOut {
    /// Where the kernel writes.
    fn target(&self) -> Slot {
        self.temp.unwrap_or(self.slot)
    }

    /// Adds what was written to what was there.
    fn finish(&self, run: &mut Run) {
        if let Some(temp) = self.temp {
            let Run { arena, threads, isa, images, .. } = run;
            let ([sum], [part]) = arena.split(*images, [self.slot], [temp]);
            threads.pieces(sum.len() * 8, sum, PIECE, |i, sum| {
                elementwise::accumulate(*isa, sum, piece(part, i, PIECE));
            });
        }
    }
}

/// Piece `i` of length `len` of a slice; the last one may be shorter.
fn piece<T>(slice: &[T], i: usize, len: usize) -> &[T] {
    &slice[i * len..slice.len().min((i + 1) * len)]
}

/// Images of each of the [`CHUNKS`] pieces of a batch.
fn chunk_images(images: usize) -> usize {
    images.div_ceil(CHUNKS).max(1)
}

/// The range to which a fused activation clamps; `None` for those that are no clamp.
pub(crate) fn clamp(act: Option<Activation>) -> Option<(f32, f32)> {
    match act {
        Some(Activation::Relu) => Some((0.0, f32::INFINITY)),
        Some(Activation::Relu6) => Some((0.0, 6.0)),
        _ => None,
    }
}

/// Learnable ranges of a batch normalisation, and how it folds into the layer before it.
#[derive(Clone, Debug)]
pub(crate) struct NormParams {
    pub(crate) scale: Range<usize>,
    pub(crate) shift: Range<usize>,
    pub(crate) mean: Range<usize>,
    pub(crate) var: Range<usize>,
    pub(crate) eps: f32,
    pub(crate) momentum: f32,
}

impl NormParams {
    /// Inference is `y = x * factor + offset` for each channel `c`.
    pub(crate) fn factor_offset(&self, params: &[f32], c: usize) -> (f32, f32) {
        let factor = params[self.scale.start + c] / (params[self.var.start + c] + self.eps).sqrt();
        (factor, params[self.shift.start + c] - params[self.mean.start + c] * factor)
    }
}

/// Weights and bias of a layer with filters, and the batch normalisation folded into them at inference.
#[derive(Clone, Debug)]
pub(crate) struct Filters {
    pub(crate) w: Range<usize>,
    pub(crate) b: Option<Range<usize>>,
    pub(crate) norm: Option<NormParams>,
    /// Output channels: the last dimension of the weights.
    pub(crate) cout: usize,
}

impl Filters {
    /// Whether outputs have something added.
    pub(crate) fn has_bias(&self) -> bool {
        self.b.is_some() || self.norm.is_some()
    }

    /// Hands the effective weights to `pack` and writes the effective bias, `[cout]` or empty, to `bias`.
    pub(crate) fn resolve(&self, params: &[f32], bias: &mut [f32], pack: impl FnOnce(&[f32])) {
        let Some(norm) = &self.norm else {
            if let Some(b) = &self.b {
                bias.copy_from_slice(&params[b.clone()]);
            }
            return pack(&params[self.w.clone()]);
        };
        let mut w = params[self.w.clone()].to_vec();
        for (c, bias) in bias.iter_mut().enumerate() {
            let (factor, offset) = norm.factor_offset(params, c);
            w.iter_mut().skip(c).step_by(self.cout).for_each(|w| *w *= factor);
            let own = self.b.as_ref().map_or(0.0, |b| params[b.start + c]);
            *bias = own * factor + offset;
        }
        pack(&w);
    }
}
