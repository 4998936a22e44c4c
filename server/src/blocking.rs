//! Work that waits for the disk, away from the threads that serve connections.

use tokio::task::spawn_blocking;

use crate::http::problem::Problem;

/// Runs `work` on a thread that may block. It goes on to its end when the caller is dropped.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    spawn_blocking(work).await.unwrap_or_else(|_| Err(Problem::panicked()))
}
