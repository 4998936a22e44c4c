//! From the bytes of an image file to the network's pixels, on the thread where it costs least.
//!
//! Decoding takes from some microseconds to a second, so it is not done on the threads that serve connections. A photo
//! goes to a pool of as many threads as there may be images decoded at a time. A thumbnail takes less time than waking
//! a thread of that pool: it is decoded by the batcher when its turn comes.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use ocelli_pipeline::{DecodeError, Decoder, Prepared};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::http::problem::Problem;
use crate::model::batcher::{Entry, Image, Pending, Queue};

/// Largest file that may be a thumbnail, in bytes: what a file of this size can inflate to is bounded, too.
const SMALL_BYTES: usize = 8 << 10;

/// Most pixels of one: some 50 us for the slowest format.
const SMALL_PIXELS: u64 = 128 * 128;

/// Threads for work that takes longer than a thread that serves connections may.
#[derive(Clone)]
pub(crate) struct Pool {
    permits: Arc<Semaphore>,
}

impl Pool {
    pub(crate) fn new(threads: usize) -> Pool {
        Pool { permits: Arc::new(Semaphore::new(threads)) }
    }

    /// Waits for one of the permits and starts `work`; the permit lives as long as the work.
    pub(crate) async fn start(&self, work: impl FnOnce() + Send + 'static) {
        let permit = self.permits.clone().acquire_owned().await.expect("this semaphore is never closed");
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work();
        });
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
    pub(crate) pool: Pool,
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
        let pool = self.pool.clone();
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
        pool.start(work).await;
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
