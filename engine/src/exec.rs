//! Where and what for a network runs.

use crate::error::EngineError;
use crate::simd::Isa;

/// Most threads that an [`Exec`] takes.
const MAX_THREADS: usize = 256;

/// Where to run: an instruction set and a number of threads.
#[derive(Clone, Copy, Debug)]
pub struct Exec {
    /// The instruction set.
    pub isa: Isa,
    /// The number of threads, at least one.
    pub threads: usize,
    /// Whether every convolution is the plain sum of its products: no algorithm with another rounding error.
    pub exact: bool,
    /// Most images of a pass of training, where the network allows passes over parts of a batch; 0 for as many as suit
    /// the caches. Fewer take less memory. Gradients are summed pass by pass, so it changes results in their last bits.
    pub chunk: usize,
}

impl Exec {
    /// The best instruction set (or the one that `OCELLI_ISA` forces) on `threads` threads; 0 takes all cores
    /// that this process may use.
    ///
    /// # Errors
    /// [`EngineError::Isa`] for a forced instruction set that is not there, [`EngineError::Config`] for more than
    /// 256 threads.
    pub fn new(threads: usize) -> Result<Self, EngineError> {
        Exec::with_isa(Isa::best()?, threads)
    }

    /// A given instruction set on `threads` threads; 0 takes all cores.
    ///
    /// # Errors
    /// [`EngineError::Config`] for more than 256 threads.
    pub fn with_isa(isa: Isa, threads: usize) -> Result<Self, EngineError> {
        if threads > MAX_THREADS {
            return Err(EngineError::Config(format!("{threads} threads are more than {MAX_THREADS}")));
        }
        let all = || std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
        Ok(Exec { isa, threads: if threads == 0 { all() } else { threads }, exact: false, chunk: 0 })
    }
}

impl Exec {
    /// The same place, with or without algorithms that trade rounding for speed.
    pub fn exact(self, exact: bool) -> Self {
        Exec { exact, ..self }
    }

    /// The same place with at most `chunk` images in a pass of training; 0 for as many as suit the caches.
    pub fn chunk(self, chunk: usize) -> Self {
        Exec { chunk, ..self }
    }
}

/// What a plan is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Logits only: batch normalisation folds into the layer before it, memory is used again at once.
    Infer,
    /// Logits, loss and gradients.
    Train,
}
