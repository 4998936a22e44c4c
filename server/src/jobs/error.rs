//! Why the work on a job ends early.

use ocelli_common::text::chain;
use ocelli_pipeline::PipelineError;
use ocelli_pipeline::store::StoreError;

use crate::http::problem::Problem;

/// See the module.
pub(super) enum JobError {
    /// The stop flag was raised.
    Stopped,
    /// For the record, in our own words.
    Failed(String),
}

impl From<StoreError> for JobError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Stopped => JobError::Stopped,
            error => JobError::Failed(Problem::from(error).to_string()),
        }
    }
}

impl From<PipelineError> for JobError {
    fn from(error: PipelineError) -> Self {
        match error {
            PipelineError::Stopped => JobError::Stopped,
            error => JobError::Failed(chain(&error)),
        }
    }
}

impl From<Problem> for JobError {
    fn from(problem: Problem) -> Self {
        JobError::Failed(problem.to_string())
    }
}
