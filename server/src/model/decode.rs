//! From the bytes of an image file to the network's pixels, on the thread where it costs least.
//!
//! Decoding takes from some microseconds to a second, so it is not done on the threads that serve connections. A photo
//! goes to the pool that computes, with a limit to the images that are decoded at a time. A thumbnail takes less time than
//! waking a thread of that pool: it is decoded by the batcher when its turn comes.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use ocelli_pipeline::{DecodeError, Decoder, Pool, Prepared};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::http::problem::Problem;
use crate::model::batcher::{Entry, Image, Pending, Queue};

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
    /// Where its pixels go.
    pub(crate) queue: Queue,
    pub(crate) decoding: Decoding,
    /// The runtime to which the batcher hands what takes too long for it.
    pub(crate) runtime: Handle,
}

impl Encoded {
    /// Whether it may be a thumbnail.
    pub(crate) fn is_small(&self) -> bool {
        self.bytes.len() <= SMALL_BYTES
    }

    /// Decodes it here if it is a thumbnail; hands it to the pool otherwise. An image that cannot be read is answered.
    pub(crate) fn decode_small(self, mut pending: Pending) -> Option<(Prepared, Pending)> {
        let started = Instant::now();
        let small = match self.decoder.probe(&self.bytes) {
            Ok(header) => u64::from(header.width) * u64::from(header.height) <= SMALL_PIXELS,
            // The decoder will say the same, with more care for what exactly is wrong.
            Err(_) => true,
        };
        if !small {
            self.runtime.clone().spawn(self.decode_on_pool(pending));
            return None;
        }
        let decoded = self.decoder.prepare(&self.bytes);
        pending.decode = started.elapsed();
        self.finish(decoded, pending)
    }

    /// Decodes it on the pool and queues it.
    pub(crate) async fn decode_on_pool(self, mut pending: Pending) {
        let decoding = self.decoding.clone();
        let work = move || {
            if pending.reply.is_closed() {
                return;
            }
            let started = Instant::now();
            let decoded = self.decoder.prepare(&self.bytes);
            pending.decode = started.elapsed();
            let queue = self.queue.clone();
            if let Some((image, pending)) = self.finish(decoded, pending) {
                queue.push(Entry { image: Image::Prepared(image), pending });
            }
        };
        decoding.start(work).await;
    }

    fn finish(self, decoded: Result<Prepared, DecodeError>, pending: Pending) -> Option<(Prepared, Pending)> {
        match decoded {
            Ok(image) => Some((image, pending)),
            Err(error) => {
                let Encoded { index, images, .. } = self;
                pending.answer(Err(Problem::Undecodable { index, images, reason: error.to_string() }));
                None
            }
        }
    }
}
