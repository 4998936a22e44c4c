//! What a plan takes, and whether it may.

use crate::error::EngineError;
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
    /// Packed weights and biases, in training with the work space in which filters are folded; the model's own copy is not
    /// among them.
    pub weights: usize,
    /// Work space of all threads, and of a caller that is none of them.
    pub scratch: usize,
    /// What is kept for every parameter besides the model: a copy in an inference, gradients and the optimiser's moments
    /// in a training, a copy and gradients where a layer's gradients are wanted, nothing in a plan alone.
    pub parameters: usize,
}

/// What a plan takes for itself: bytes of tensors, floats of packed weights, of the filters that are folded at a time, and
/// of one thread's scratch.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub(super) tensors: usize,
    pub(super) packed: usize,
    pub(super) folding: usize,
    pub(super) scratch: usize,
}

impl PlanMemory {
    /// Adds up what a plan takes, and the floats of `parameters` that its owner takes for it.
    pub(super) fn new(sizes: Sizes, parameters: usize, exec: &Exec) -> Result<Self, EngineError> {
        let bytes = |floats: usize| floats.checked_mul(size_of::<f32>());
        let of = || {
            let memory = PlanMemory {
                isa: exec.isa,
                threads: exec.threads(),
                tensors: sizes.tensors,
                weights: bytes(sizes.packed.checked_add(sizes.folding)?)?,
                scratch: bytes(sizes.scratch)?.checked_mul(scratch_buffers(exec.threads()))?,
                parameters: bytes(parameters)?,
            };
            memory.parts().iter().try_fold(0usize, |sum, part| sum.checked_add(part.1)).map(|_| memory)
        };
        of().ok_or_else(past_address_space)
    }

    /// All together.
    pub fn total(&self) -> usize {
        self.parts().iter().map(|part| part.1).sum()
    }

    fn parts(&self) -> [(&'static str, usize); 4] {
        [
            ("what is between the layers", self.tensors),
            ("packed weights", self.weights),
            ("work space", self.scratch),
            ("parameters", self.parameters),
        ]
    }

    /// # Errors
    /// [`EngineError::Memory`] when it is more than `limit` bytes.
    pub(super) fn check(&self, limit: usize) -> Result<(), EngineError> {
        if self.total() <= limit { Ok(()) } else { Err(EngineError::Memory { parts: self.parts(), limit }) }
    }
}

/// The error for sizes that no machine has.
pub(super) fn past_address_space() -> EngineError {
    EngineError::Config("the network needs more memory than a machine can address".to_owned())
}
