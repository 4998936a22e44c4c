//! Reading a request body within a size, a time, and the memory that all bodies share.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::config::Config;
use crate::problem::Problem;

/// A request body that remembers whether it was read to its end.
pub(crate) struct RequestBody {
    incoming: Incoming,
    ended: bool,
}

/// A whole body together with its share of the memory for bodies: it counts until this is dropped.
pub(crate) struct Buffered {
    pub(crate) bytes: Bytes,
    pub(crate) share: OwnedSemaphorePermit,
}

impl RequestBody {
    pub(crate) fn new(incoming: Incoming) -> Self {
        RequestBody { ended: incoming.is_end_stream(), incoming }
    }

    /// False while the client may still be sending: the connection cannot be used for another request then.
    pub(crate) fn ended(&self) -> bool {
        self.ended
    }

    /// Reads to the end. A length that is declared over the limit is refused before a byte is read, a chunked
    /// body at the chunk that passes the limit. Memory counts as bytes arrive, not as announced.
    pub(crate) async fn read(
        &mut self,
        config: &Config,
        memory: &Arc<Semaphore>,
    ) -> Result<Buffered, Problem> {
        if self.incoming.size_hint().lower() > config.max_body as u64 {
            return Err(Problem::BodyTooLarge { limit: config.max_body });
        }
        timeout(config.body_timeout, self.read_all(config.max_body, memory))
            .await
            .unwrap_or(Err(Problem::BodyTimeout { seconds: config.body_timeout.as_secs_f64() }))
    }

    async fn read_all(&mut self, limit: usize, memory: &Arc<Semaphore>) -> Result<Buffered, Problem> {
        let mut share = take(memory, 0)?;
        let mut bytes = BytesMut::new();
        while let Some(frame) = self.incoming.frame().await {
            let Ok(data) = frame.map_err(|_| Problem::BodyBroken)?.into_data() else {
                // Trailers follow the last byte and say nothing this service reads.
                continue;
            };
            if data.len() > limit - bytes.len() {
                return Err(Problem::BodyTooLarge { limit });
            }
            share.merge(take(memory, data.len())?);
            bytes.extend_from_slice(&data);
        }
        self.ended = true;
        Ok(Buffered { bytes: bytes.freeze(), share })
    }
}

fn take(memory: &Arc<Semaphore>, bytes: usize) -> Result<OwnedSemaphorePermit, Problem> {
    let count =
        u32::try_from(bytes).expect("a frame is no larger than the body limit, which is checked to fit");
    memory
        .clone()
        .try_acquire_many_owned(count)
        .map_err(|_| Problem::Busy { what: "the memory for uploads is full" })
}
