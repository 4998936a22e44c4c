//! The end of the service, for work that looks at a flag now and then.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

/// Raises a flag once the service stops, so that an import does not hold up the end.
pub(crate) struct Stopper {
    /// The flag.
    pub(crate) stop: Arc<AtomicBool>,
    watch: tokio::task::JoinHandle<()>,
}

impl Stopper {
    pub(crate) fn new(mut stopping: watch::Receiver<bool>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let flag = stop.clone();
        let watch = tokio::spawn(async move {
            if stopping.wait_for(|&stopping| stopping).await.is_ok() {
                // Requests in flight have this long: an import that is nearly done may still finish.
                flag.store(true, Ordering::Relaxed);
            }
        });
        Stopper { stop, watch }
    }
}

impl Drop for Stopper {
    fn drop(&mut self) {
        self.watch.abort();
    }
}
