//! How many uploads go on at a time, and when there should be room for another one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::http::problem::Problem;

/// Seconds that an upload is thought to go on of which nothing better is known: its length was not declared, or it is
/// here and being taken in.
const UNKNOWN_S: f64 = 5.0;

/// The uploads under way.
pub(crate) struct Uploads {
    permits: Arc<Semaphore>,
    under_way: Mutex<Vec<Arc<Upload>>>,
}

/// One of them.
pub(crate) struct Upload {
    started: Instant,
    declared: Option<u64>,
    received: AtomicU64,
}

/// Held by an upload for as long as it takes.
pub(crate) struct UploadPermit {
    uploads: Arc<Uploads>,
    upload: Arc<Upload>,
    _permit: OwnedSemaphorePermit,
}

impl Uploads {
    pub(crate) fn new(most: usize) -> Arc<Uploads> {
        Arc::new(Uploads { permits: Arc::new(Semaphore::new(most)), under_way: Mutex::default() })
    }

    /// Takes a permit for an upload of a declared length, or says when there should be one.
    pub(crate) fn begin(self: &Arc<Self>, declared: Option<u64>) -> Result<UploadPermit, Problem> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(permit) = self.permits.clone().try_acquire_owned() else {
            let left = under_way.iter().map(|upload| upload.seconds_left(upload.started.elapsed()));
            let seconds = left.min_by(f64::total_cmp).unwrap_or(0.0);
            return Err(Problem::busy_for("the maximum number of uploads is under way", seconds));
        };
        let upload = Arc::new(Upload { started: Instant::now(), declared, received: AtomicU64::new(0) });
        under_way.push(upload.clone());
        Ok(UploadPermit { uploads: self.clone(), upload, _permit: permit })
    }
}

impl Upload {
    /// Bytes have come.
    pub(crate) fn count(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Seconds until the rest is here, at the pace of the part that came in `elapsed`.
    fn seconds_left(&self, elapsed: Duration) -> f64 {
        let received = self.received.load(Ordering::Relaxed);
        match self.declared {
            Some(declared) if received > 0 && received < declared => {
                (declared - received) as f64 * elapsed.as_secs_f64() / received as f64
            }
            _ => UNKNOWN_S,
        }
    }
}

impl UploadPermit {
    pub(crate) fn upload(&self) -> &Upload {
        &self.upload
    }
}

impl Drop for UploadPermit {
    fn drop(&mut self) {
        let mut under_way = self.uploads.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.retain(|own| !Arc::ptr_eq(own, &self.upload));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_so_far_says_when_the_rest_is_here() {
        for (declared, received, expected) in [
            (Some(1000), 250, 30.0),
            (Some(1000), 999, 0.01),
            (Some(1000), 1000, UNKNOWN_S),
            (Some(1000), 0, UNKNOWN_S),
            (None, 500, UNKNOWN_S),
        ] {
            let upload = Upload { started: Instant::now(), declared, received: AtomicU64::new(received) };
            let left = upload.seconds_left(Duration::from_secs(10));
            assert!((left - expected).abs() < 0.001, "{declared:?} {received}: {left}");
        }
    }

    #[test]
    fn an_upload_that_is_over_makes_room() {
        let uploads = Uploads::new(2);
        let (first, second) = (uploads.begin(None).unwrap(), uploads.begin(Some(9)).unwrap());
        second.upload().count(4);
        let full = uploads.begin(None).err().expect("there are two");
        assert!(matches!(full, Problem::Busy { retry_after_s: 1..=5, .. }), "{full:?}");
        drop(first);
        let third = uploads.begin(None).unwrap();
        drop((second, third));
        assert!(uploads.under_way.lock().unwrap().is_empty());
    }
}
