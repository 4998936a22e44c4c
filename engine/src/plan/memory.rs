//! What a plan takes.

use crate::exec::Exec;
use crate::parallel::scratch_buffers;
use crate::simd::Isa;

/// Bytes that a plan takes, where it was compiled for: weights are packed in panels of whole vectors, so the same graph
/// takes more with a wider instruction set, and scratch belongs to threads.
#[derive(Clone, Copy, Debug)]
pub struct PlanMemory {
    /// The instruction set of these numbers.
    pub isa: Isa,
    /// The threads of these numbers.
    pub threads: usize,
    /// Activations, in training with gradients and what they are summed from.
    pub tensors: usize,
    /// Packed weights and biases; the model's own copy is not among them.
    pub weights: usize,
    /// Work space of all threads, and of a caller that is none of them.
    pub scratch: usize,
}

impl PlanMemory {
    /// Floats of tensors, packed weights and one thread's scratch, where they are to be used.
    pub(super) fn of_floats([tensors, weights, scratch]: [usize; 3], exec: &Exec) -> PlanMemory {
        let bytes = |floats: usize| floats.saturating_mul(size_of::<f32>());
        PlanMemory {
            isa: exec.isa,
            threads: exec.threads(),
            tensors: bytes(tensors),
            weights: bytes(weights),
            scratch: bytes(scratch).saturating_mul(scratch_buffers(exec.threads())),
        }
    }

    /// All together.
    pub fn total(&self) -> usize {
        self.tensors + self.weights + self.scratch
    }
}
