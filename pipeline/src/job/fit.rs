//! Whether a job fits into its memory.

use super::spec::JobSpec;
use crate::error::PipelineError;
use crate::memory::{self, Fitted, MemoryEstimate};

/// What the training of a job takes. Opens the data and reads the headers of some images, decodes none.
///
/// # Errors
/// Those of the settings, the start model and the data.
pub fn memory_needed(spec: &JobSpec) -> Result<MemoryEstimate, PipelineError> {
    memory::needed(&spec.options()?)
}

/// Whether a job can be done with `limit` bytes, and with passes of how many images.
///
/// # Errors
/// [`PipelineError::Memory`] when it cannot; else as [`memory_needed`].
pub fn fit_into(spec: &JobSpec, limit: u64) -> Result<Fitted, PipelineError> {
    memory::fit(&spec.options()?, limit)
}
