//! From the bytes of an image file to the network's pixels, on the thread where it costs least.
//!
//! Decoding takes from some microseconds to a second, so most of it is not done on the threads that serve connections. A
//! photo goes to the pool that computes, with a limit to the images that are decoded at a time. A thumbnail takes less time
//! than waking a thread of that pool: it is decoded by whoever runs the network when its turn comes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use ocelli_pipeline::{Decoder, Pool};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::http::problem::Problem;
use crate::models::pending::{Pending, Ready};

/// Largest file that may be a thumbnail, in bytes: what a file of this size can inflate to is bounded, too.
const SMALL_BYTES: usize = 8 << 10;

/// Most pixels of one: some 50 us for the slowest format.
const SMALL_PIXELS: u64 = 128 * 128;

/// Where work is done that takes longer than a thread that serves connections may: images that are decoded, and requests
/// that are read.
#[derive(Clone)]
pub(crate) struct Decoding {
    permits: Arc<Semaphore>,
    pool: Pool,
}

impl Decoding {
    /// At most `at_once` images or requests at a time.
    pub(crate) fn new(at_once: usize, pool: Pool) -> Decoding {
        Decoding { permits: Arc::new(Semaphore::new(at_once)), pool }
    }

    /// Waits for one of the permits and hands `work` to the pool; the permit lives as long as the work.
    pub(crate) async fn start(&self, work: impl FnOnce() + Send + 'static) {
        let permit = self.permit().await;
        let started = self.pool.spawn(move || {
            let _permit = permit;
            work();
        });
        if let Err(error) = started {
            tracing::error!("an image cannot be decoded: {error}");
        }
    }

    /// As [`Decoding::start`], for work that waits for a disk: it would keep a thread of the pool from computing.
    pub(crate) async fn start_blocking(&self, work: impl FnOnce() + Send + 'static) {
        let permit = self.permit().await;
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work();
        });
    }

    async fn permit(&self) -> OwnedSemaphorePermit {
        self.permits.clone().acquire_owned().await.expect("this semaphore is never closed")
    }
}

/// An image as it came.
pub(crate) struct Encoded {
    pub(crate) bytes: Bytes,
    /// Its place among the images of its request, and how many there are.
    pub(crate) index: usize,
    pub(crate) images: usize,
    pub(crate) decoder: Arc<Decoder>,
    /// Given back when the last image of the request is decoded.
    pub(crate) _memory: Arc<OwnedSemaphorePermit>,
}

impl Encoded {
    /// Whether it is a thumbnail, by the length of its file and its header.
    pub(crate) fn is_small(&self) -> bool {
        self.bytes.len() <= SMALL_BYTES
            && match self.decoder.probe(&self.bytes) {
                Ok(header) => u64::from(header.width) * u64::from(header.height) <= SMALL_PIXELS,
                // The decoder will say the same, with more care for what exactly is wrong.
                Err(_) => true,
            }
    }

    /// Decodes it; an image that cannot be read is answered here. A panic ends with the image: its request is told when
    /// `pending` goes.
    pub(crate) fn decode(self, mut pending: Pending) -> Option<Ready> {
        let started = Instant::now();
        let decoded = catch_unwind(AssertUnwindSafe(|| self.decoder.prepare(&self.bytes))).ok()?;
        pending.decode = started.elapsed();
        match decoded {
            Ok(image) => Some((image, pending)),
            Err(error) => {
                let Encoded { index, images, .. } = self;
                pending.answer(Err(Problem::Undecodable { index, images, reason: error.to_string() }));
                None
            }
        }
    }

    /// Decodes it on the pool, unless its client has left by then, and gives it to `then`.
    pub(crate) async fn decode_on(
        self,
        decoding: &Decoding,
        pending: Pending,
        then: impl FnOnce(Ready) + Send + 'static,
    ) {
        let work = move || {
            if pending.is_given_up() {
                return;
            }
            if let Some(ready) = self.decode(pending) {
                then(ready);
            }
        };
        decoding.start(work).await;
    }
}
