//! What layers run on, and what a plan asks of them.

use std::ops::Range;

use super::split::{PIECE, piece};
use crate::arena::{Arena, Slot};
use crate::collective::Team;
use crate::kernels::{Number, elementwise};
use crate::parallel::Threads;
use crate::simd::Isa;

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
    /// The ranks that share the batch.
    pub(crate) team: Team<'a>,
    /// Seed and number of the training step, for dropout.
    pub(crate) seed: u64,
    pub(crate) step: u64,
}

impl Run<'_> {
    /// Adds partial gradients, `count` of `len` floats, in the order of their images: those from `first` on are the
    /// parameters `range`, whose gradients start with what earlier images left.
    pub(super) fn sum_partials(
        &mut self,
        partials: Slot,
        (count, len): (usize, usize),
        (first, range): (usize, &Range<usize>),
    ) {
        let partials = &self.arena.read(partials, self.images)[..count * len];
        let (isa, added) = (self.isa, self.first > 0);
        let out = &mut self.grads[range.clone()];
        self.threads.pieces(out.len() * count, out, PIECE, |i, out| {
            let start = first + i * PIECE;
            if !added {
                out.copy_from_slice(&partials[start..start + out.len()]);
            }
            for k in usize::from(!added)..count {
                let from = k * len + start;
                elementwise::accumulate(isa, out, &partials[from..from + out.len()]);
            }
        });
    }
}

/// What weights are packed from and to, and what gradients are finished with.
pub(crate) struct Weights<'a> {
    /// All parameters.
    pub(crate) params: &'a [f32],
    /// Work space for one layer's filters while a batch normalisation folds into them.
    pub(crate) folding: &'a mut [f32],
    pub(crate) threads: &'a Threads,
    pub(crate) isa: Isa,
}

/// One stage of a plan.
pub(crate) trait Layer: Send + Sync {
    /// Copies weights into the layout that the kernels read; `packed` is the whole packed buffer.
    fn pack(&self, _weights: &mut Weights, _packed: &mut [f32]) {}
    /// Computes the output.
    fn forward(&self, run: &mut Run);
    /// Computes the gradients of the input and the parameters from that of the output, which may be changed.
    fn backward(&self, run: &mut Run);
    /// What of the forward pass a rank takes part in that has no images, as others wait for it.
    fn forward_without_images(&self, _run: &mut Run) {}
    /// As [`Layer::forward_without_images`], of the backward pass; gradients of parameters may be written.
    fn backward_without_images(&self, _run: &mut Run) {}
    /// Turns the gradients of folded filters, which the passes over a batch have added up, into those of the parameters.
    fn finish_gradients(&self, _weights: &mut Weights, _grads: &mut [f32]) {}
}

/// Where a layer writes the gradient of its input.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GradOut<E = f32> {
    /// The gradient.
    pub(crate) slot: Slot<E>,
    /// Where to write first when another consumer of the value has written the gradient already.
    pub(crate) temp: Option<Slot<E>>,
}

impl<E: Number> GradOut<E> {
    /// Where the kernel writes.
    pub(super) fn target(&self) -> Slot<E> {
        self.temp.unwrap_or(self.slot)
    }

    /// Adds what was written to what was there.
    pub(super) fn finish(&self, run: &mut Run) {
        if let Some(temp) = self.temp {
            let Run { arena, threads, isa, images, .. } = run;
            let ([sum], [part]) = arena.split(*images, [self.slot], [temp]);
            threads.pieces(sum.len() * 8, sum, PIECE, |i, sum| {
                elementwise::accumulate(*isa, sum, piece(part, i, PIECE));
            });
        }
    }
}
