//! How evaluation and prediction compute.

use ocelli_engine::{Exec, Pool, Precision};

use crate::error::PipelineError;
use crate::machine;

/// How to compute; the instruction set is the machine's best one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compute {
    /// Threads; 0 for all cores. Changes the time, not the result.
    pub threads: usize,
    /// Only direct convolutions, without Winograd's transforms; changes results in their last bits.
    pub exact: bool,
    /// The numbers to compute with: int8 where it is asked for and the model has scales for it, bf16 where it is asked for, f32
    /// everywhere else.
    pub precision: Precision,
}

impl Compute {
    /// The defaults on `threads` threads; 0 for all cores.
    pub fn on(threads: usize) -> Self {
        Compute { threads, ..Compute::default() }
    }

    /// The pool that computes: the same for all in this process that compute on as many threads.
    ///
    /// # Errors
    /// [`PipelineError::Engine`] for a number of threads that the engine refuses.
    pub fn pool(self) -> Result<Pool, PipelineError> {
        Ok(Pool::shared(self.threads)?)
    }

    /// Where to compute, with at most this process's share of the machine's memory: a model file may come from anybody.
    ///
    /// # Errors
    /// [`PipelineError::Engine`] for a number of threads that the engine refuses, or a forced instruction set that is
    /// not there.
    pub(crate) fn exec(self) -> Result<Exec, PipelineError> {
        let memory = usize::try_from(machine::memory_share()).unwrap_or(usize::MAX);
        let exec = Exec::new(self.threads)?.exact(self.exact).precision(self.precision);
        Ok(exec.memory_limit(memory))
    }
}
