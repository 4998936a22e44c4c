//! One file per group of routes.

pub(crate) mod audit;
pub(crate) mod datasets;
pub(crate) mod docs;
pub(crate) mod feedback;
pub(crate) mod health;
pub(crate) mod jobs;
pub(crate) mod models;
pub(crate) mod predict;
pub(crate) mod retrain;
pub(crate) mod status;
pub(crate) mod upload;
pub(crate) mod v2;

use tokio::task::spawn_blocking;

use crate::problem::Problem;

/// Runs work that waits for the disk away from the threads that serve connections.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    spawn_blocking(work).await.unwrap_or_else(|_| {
        Err(Problem::Internal {
            reason: "this request failed inside the service; the service goes on".into(),
        })
    })
}
