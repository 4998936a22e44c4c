//! Why a model is not brought up to date.

use crate::http::problem::Problem;
use crate::shared_store::objects::ObjectError;

/// See the module.
pub(super) enum Fault {
    /// The store does not do what it should: nothing of it can be used now.
    Store(ObjectError),
    /// This model alone: what is wrong with it.
    Model(String),
}

impl From<ObjectError> for Fault {
    fn from(error: ObjectError) -> Self {
        Fault::Store(error)
    }
}

impl From<Problem> for Fault {
    fn from(problem: Problem) -> Self {
        Fault::Model(problem.to_string())
    }
}
