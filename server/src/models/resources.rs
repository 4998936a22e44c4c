//! What all models of a service share.

use std::sync::Arc;

use ocelli_pipeline::{Compute, Pool};
use tokio::sync::watch;

use crate::config::Config;
use crate::error::ServerError;
use crate::metrics::Metrics;
use crate::models::budget::Budget;
use crate::models::loader::Loader;

/// See the module.
pub(crate) struct Resources {
    pub(crate) loader: Loader,
    pub(crate) compute: Compute,
    /// What all versions compute on, and images are decoded on.
    pub(crate) pool: Pool,
    pub(crate) budget: Arc<Budget>,
    pub(crate) metrics: Metrics,
    /// Counts changes of models, versions and labels.
    changes: watch::Sender<u64>,
}

impl Resources {
    /// # Errors
    /// No thread.
    pub(crate) fn new(
        compute: Compute,
        config: &Config,
        metrics: Metrics,
    ) -> Result<Arc<Resources>, ServerError> {
        Ok(Arc::new(Resources {
            loader: Loader::start().map_err(ServerError::Thread)?,
            compute,
            pool: compute.pool().map_err(ServerError::WarmUp)?,
            budget: Budget::new(config.models_memory),
            metrics,
            changes: watch::channel(0).0,
        }))
    }

    /// A model, a version or a label came, went or changed.
    pub(crate) fn changed(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Becomes ready with every change.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}
