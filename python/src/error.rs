//! The one exception of the module.

use std::error::Error;

use ocelli_common::text::chain;
use pyo3::PyErr;
use pyo3::exceptions::PyValueError;

pyo3::create_exception!(
    ocelli,
    OcelliError,
    PyValueError,
    "What cannot be read, decoded or computed, and what to do about it."
);

/// An error of one of the libraries, with its causes.
pub(crate) fn refused(error: &dyn Error) -> PyErr {
    OcelliError::new_err(chain(error))
}

/// An error that a text says.
pub(crate) fn told(text: impl Into<String>) -> PyErr {
    OcelliError::new_err(text.into())
}
