//! Where and what for a network runs.

use serde::Serialize;

use crate::error::EngineError;
use crate::parallel::{Pool, Wait};
use crate::simd::{Bf16Isa, Isa};

/// Most bytes that a plan may take where the caller sets no limit: past 64 GiB a batch is taken for a mistake. Where
/// addresses have 32 bits, what they reach.
const MEMORY_LIMIT: usize = if usize::BITS < 64 { usize::MAX } else { (64u64 << 30) as usize };

/// The numbers that a network computes with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// bf16 where the processor is several times as fast with it ([`Precision::resolve`]), else f32.
    #[default]
    Auto,
    /// Single precision.
    F32,
    /// What lies between layers in bf16, with all sums and the parameters in f32.
    Bf16,
    /// Bytes where a model has scales for them ([`Quantization`](crate::Quantization)); inference alone.
    Int8,
}

impl Precision {
    /// The names of [`Precision::by_name`].
    pub const NAMES: [&'static str; 4] = ["auto", "f32", "bf16", "int8"];

    /// `auto`, `f32`, `bf16` or `int8`.
    pub fn name(self) -> &'static str {
        match self {
            Precision::Auto => "auto",
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
            Precision::Int8 => "int8",
        }
    }

    /// What stands for `auto` on an instruction set, and everything else for itself.
    pub fn resolve(self, isa: Isa) -> Self {
        match self {
            Precision::Auto if Bf16Isa::of(isa).is_faster() => Precision::Bf16,
            Precision::Auto => Precision::F32,
            chosen => chosen,
        }
    }

    /// A precision by name.
    pub fn by_name(name: &str) -> Option<Self> {
        let all = [Precision::Auto, Precision::F32, Precision::Bf16, Precision::Int8];
        all.into_iter().find(|own| own.name() == name)
    }
}

/// Where to run: an instruction set and a pool of threads. Clones share the pool.
#[derive(Clone, Debug)]
pub struct Exec {
    /// The instruction set.
    pub isa: Isa,
    /// The pool.
    pub pool: Pool,
    /// What threads that help do between two passes.
    pub wait: Wait,
    /// The numbers that whoever answers with a model computes with.
    pub precision: Precision,
    /// Whether every convolution is the plain sum of its products: no algorithm with another rounding error.
    pub exact: bool,
    /// Most images of a pass of training, where the network allows passes over parts of a batch; 0 for as many as suit
    /// the caches. Fewer take less memory. Gradients are summed pass by pass, so it changes results in their last bits.
    pub chunk: usize,
    /// Most bytes that a plan and what training keeps for its parameters may take; 64 GiB unless the caller, who knows
    /// the machine and what else it does, sets it.
    pub memory_limit: usize,
}

impl Exec {
    /// The best instruction set (or the one that `OCELLI_ISA` forces) on this process's pool of `threads` threads (see
    /// [`Pool::shared`]); 0 takes as many as `RAYON_NUM_THREADS` says, or all cores that this process may use.
    ///
    /// # Errors
    /// [`EngineError::Isa`] for a forced instruction set that is not there, [`EngineError::Config`] for more threads than
    /// a pool takes.
    pub fn new(threads: usize) -> Result<Self, EngineError> {
        Exec::with_isa(Isa::best()?, threads)
    }

    /// As [`Exec::new`] with a given instruction set.
    ///
    /// # Errors
    /// [`EngineError::Config`] for more threads than a pool takes.
    pub fn with_isa(isa: Isa, threads: usize) -> Result<Self, EngineError> {
        Ok(Exec::with_pool(isa, Pool::shared(threads)?))
    }

    /// A given instruction set on a given pool: with `Pool::from`, the caller's own.
    pub fn with_pool(isa: Isa, pool: Pool) -> Self {
        let (wait, precision) = (Wait::default(), Precision::default());
        Exec { isa, pool, wait, precision, exact: false, chunk: 0, memory_limit: MEMORY_LIMIT }
    }

    /// The number of threads, at least one.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// The same place, with or without algorithms that trade rounding for speed.
    pub fn exact(self, exact: bool) -> Self {
        Exec { exact, ..self }
    }

    /// The same place with other numbers.
    pub fn precision(self, precision: Precision) -> Self {
        Exec { precision, ..self }
    }

    /// The same place with at most `chunk` images in a pass of training; 0 for as many as suit the caches.
    pub fn chunk(self, chunk: usize) -> Self {
        Exec { chunk, ..self }
    }

    /// The same place with at most `bytes` for a plan.
    pub fn memory_limit(self, bytes: usize) -> Self {
        Exec { memory_limit: bytes, ..self }
    }

    /// The same place for single images that follow each other: see [`Wait::Spin`].
    pub fn latency(self) -> Self {
        Exec { wait: Wait::Spin, ..self }
    }
}

/// What a plan is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Logits only: batch normalisation folds into the layer before it, memory is used again at once.
    Infer,
    /// Logits, loss and the gradients of what learns.
    Train(Learning),
    /// Logits, and their gradients with respect to the value `value` of the graph, one of [`Graph::spatial_values`]:
    /// all is computed as at inference, nothing learns, and the backward pass ends at that value.
    ///
    /// [`Graph::spatial_values`]: crate::Graph::spatial_values
    Gradient {
        /// The value.
        value: usize,
    },
}

/// What learns in training, and by which statistics batch normalisations normalise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Learning {
    /// The statistics of the normalisations that learn.
    pub norms: Norms,
    /// The first so many nodes of the graph do not learn. They compute what they compute at inference: their
    /// normalisations have running statistics, which stay, and their dropouts drop nothing.
    pub frozen: usize,
}

/// The statistics by which a batch normalisation normalises in training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Norms {
    /// Those of the batch, which the running ones follow.
    #[default]
    Batch,
    /// The running ones, which stay: for the fine-tuning of a network on few images. Scale and shift still learn.
    Running,
}

impl Mode {
    /// Whether parameters learn, and dropouts drop.
    pub(crate) fn learns(self) -> bool {
        matches!(self, Mode::Train(_))
    }

    /// Whether there is a backward pass.
    pub(crate) fn has_backward(self) -> bool {
        self != Mode::Infer
    }

    /// What is done with a node: a frozen one is computed as at inference, and so is one up to the value whose gradient is
    /// wanted.
    pub(crate) fn of(self, node: usize) -> Mode {
        match self {
            Mode::Train(learning) if learning.frozen <= node => self,
            Mode::Gradient { value } if value <= node => self,
            Mode::Train(_) | Mode::Gradient { .. } | Mode::Infer => Mode::Infer,
        }
    }

    /// Whether the batch normalisation `node` has running statistics.
    pub(crate) fn has_running_statistics(self, node: usize) -> bool {
        match self.of(node) {
            Mode::Train(learning) => learning.norms == Norms::Running,
            Mode::Gradient { .. } | Mode::Infer => true,
        }
    }
}
