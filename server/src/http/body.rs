//! Reading a request body within a size, a time, a pace, and the memory that all bodies share.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::config::Config;
use crate::http::problem::Problem;

/// Time over which the rate of a body is averaged.
const WINDOW: Duration = Duration::from_secs(10);

/// Longest body that is read in order to be thrown away; a longer one costs the client its connection.
const SKIPPED: u64 = 64 << 10;

/// A request body that remembers whether it was read to its end.
pub(crate) struct RequestBody {
    incoming: Incoming,
    ended: bool,
    /// The client sends nothing before it is told to go on, which the first look at the body does (RFC 9110, section
    /// 10.1.1): a request that is refused must not cause that.
    held_back: bool,
}

/// A whole body together with its share of the memory for bodies: it counts until this is dropped.
pub(crate) struct Buffered {
    pub(crate) bytes: Bytes,
    pub(crate) share: OwnedSemaphorePermit,
}

impl RequestBody {
    /// `held_back`: the client waits for `100 Continue`.
    pub(crate) fn new(incoming: Incoming, held_back: bool) -> Self {
        RequestBody { ended: incoming.is_end_stream(), incoming, held_back }
    }

    /// False while the client may still be sending: the connection cannot be used for another request then.
    pub(crate) fn ended(&self) -> bool {
        self.ended
    }

    /// Bytes that the client says it sends; none where it does not say.
    pub(crate) fn declared(&self) -> Option<u64> {
        self.incoming.size_hint().exact()
    }

    /// Reads to the end. A length that is declared over the limit is refused before a byte is read, a chunked
    /// body at the chunk that passes the limit. Memory counts as bytes arrive, not as announced.
    pub(crate) async fn read(
        &mut self,
        config: &Config,
        memory: &Arc<Semaphore>,
    ) -> Result<Buffered, Problem> {
        let limit = config.max_body as u64;
        self.check_length(limit)?;
        if self.held_back && self.incoming.size_hint().lower() > memory.available_permits() as u64 {
            return Err(no_memory());
        }
        let deadline = Instant::now() + config.body_timeout;
        let mut pace = Pace::new(config);
        let mut share = take(memory, 0)?;
        let mut bytes = BytesMut::new();
        while let Some(data) = self.next(&mut pace, Some((deadline, config.body_timeout))).await? {
            if data.len() as u64 > limit - bytes.len() as u64 {
                return Err(Problem::BodyTooLarge { limit });
            }
            share.merge(take(memory, data.len())?);
            bytes.extend_from_slice(&data);
        }
        Ok(Buffered { bytes: bytes.freeze(), share })
    }

    /// The body as a stream of pieces, at most `limit` bytes in all, for what goes to the disk.
    pub(crate) fn pieces<'b>(
        &'b mut self,
        config: &Config,
        limit: u64,
    ) -> Result<impl Stream<Item = Result<Bytes, Problem>> + Send + 'b, Problem> {
        self.check_length(limit)?;
        let start = (self, Pace::new(config), 0);
        Ok(futures_util::stream::try_unfold(start, move |(body, mut pace, mut length)| async move {
            let Some(data) = body.next(&mut pace, None).await? else { return Ok(None) };
            length += data.len() as u64;
            if length > limit {
                return Err(Problem::BodyTooLarge { limit });
            }
            Ok(Some((data, (body, pace, length))))
        }))
    }

    /// Throws away what is left of a short body, so that the connection can be used again; not one that the client still
    /// holds back.
    pub(crate) async fn skip(&mut self, config: &Config) {
        if !self.held_back && self.incoming.size_hint().upper().is_some_and(|length| length <= SKIPPED) {
            let mut pace = Pace::new(config);
            while let Ok(Some(_)) = self.next(&mut pace, None).await {}
        }
    }

    fn check_length(&self, limit: u64) -> Result<(), Problem> {
        if self.incoming.size_hint().lower() > limit { Err(Problem::BodyTooLarge { limit }) } else { Ok(()) }
    }

    /// The next piece; `None` at the end.
    async fn next(
        &mut self,
        pace: &mut Pace,
        deadline: Option<(Instant, Duration)>,
    ) -> Result<Option<Bytes>, Problem> {
        self.held_back = false;
        loop {
            let until = deadline.map_or(pace.until, |(at, _)| at.min(pace.until));
            let Ok(frame) = timeout_at(until, self.incoming.frame()).await else {
                if let Some((at, limit)) = deadline
                    && Instant::now() >= at
                {
                    return Err(Problem::BodyTimeout { seconds: limit.as_secs_f64() });
                }
                pace.next_window()?;
                continue;
            };
            let Some(frame) = frame else {
                self.ended = true;
                return Ok(None);
            };
            // Trailers follow the last byte and say nothing this service reads.
            let Ok(data) = frame.map_err(|_| Problem::BodyBroken)?.into_data() else { continue };
            pace.bytes += data.len() as u64;
            if Instant::now() >= pace.until {
                pace.next_window()?;
            }
            return Ok(Some(data));
        }
    }
}

/// Watches how fast a body comes, window by window.
struct Pace {
    rate: u64,
    bytes: u64,
    until: Instant,
}

impl Pace {
    fn new(config: &Config) -> Self {
        Pace { rate: config.min_body_rate, bytes: 0, until: Instant::now() + WINDOW }
    }

    /// The window is over: a new one begins, if enough came in this one.
    fn next_window(&mut self) -> Result<(), Problem> {
        if self.bytes < self.rate.saturating_mul(WINDOW.as_secs()) {
            return Err(Problem::BodyTooSlow { bytes_per_second: self.rate });
        }
        *self = Pace { rate: self.rate, bytes: 0, until: Instant::now() + WINDOW };
        Ok(())
    }
}

fn take(memory: &Arc<Semaphore>, bytes: usize) -> Result<OwnedSemaphorePermit, Problem> {
    let count =
        u32::try_from(bytes).expect("a frame is no larger than the body limit, which is checked to fit");
    memory.clone().try_acquire_many_owned(count).map_err(|_| no_memory())
}

fn no_memory() -> Problem {
    Problem::busy("the memory for request bodies is full")
}
