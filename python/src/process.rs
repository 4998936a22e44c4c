//! Processes that were forked: the threads that compute stay behind in the process that started them.

use std::process;
use std::sync::OnceLock;

use pyo3::PyResult;

use crate::error::told;

/// The process that opened a model first.
static OPENED_IN: OnceLock<u32> = OnceLock::new();

/// Refuses to compute where the threads are missing: a call would wait for ever.
///
/// # Errors
/// In a process that was forked after a model had been opened.
pub(crate) fn check() -> PyResult<()> {
    let own = process::id();
    if *OPENED_IN.get_or_init(|| own) == own {
        return Ok(());
    }
    Err(told(
        "this process was forked from one that had opened a model, whose threads it does not have: start it with \
         multiprocessing.get_context(\"spawn\"), or open models only after the fork",
    ))
}
