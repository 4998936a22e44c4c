//! The limits of the service and their defaults.

use std::time::Duration;

use ocelli_pipeline::DecodeLimits;

use crate::error::ServerError;

/// No request may hold more images than this, whatever the configuration says: it bounds what a JSON array
/// can make us allocate before its length is known.
pub(crate) const IMAGES_CEILING: usize = 1024;

/// No body limit may be larger than this (1 GiB): a body is held in memory while its images are decoded.
const BODY_CEILING: usize = 1 << 30;

/// Limits of the service. [`Config::default`] is meant for the open internet behind a balancer.
#[derive(Clone, Debug)]
pub struct Config {
    /// Largest request body in bytes; past it 413. Default 10 MiB.
    pub max_body: usize,
    /// Bytes of request bodies held at any moment by all requests together; past it 429. JSON takes up to
    /// three times its size while it is unpacked, on at most `decode_threads` threads. Default 256 MiB.
    pub body_memory: usize,
    /// From the first byte of a request to the end of its header; past it the connection is closed. Also the
    /// time that a new connection has for its first header. Default 10 s.
    pub header_timeout: Duration,
    /// For the whole request body; past it 408. Default 30 s.
    pub body_timeout: Duration,
    /// A connection without a request is closed after this. Default 75 s.
    pub keep_alive: Duration,
    /// A client that takes no byte of its answer for this long is cut off. Default 30 s.
    pub write_timeout: Duration,
    /// How long requests in flight may take to finish once shutdown has begun. Default 30 s.
    pub drain_timeout: Duration,
    /// Connections served at a time; more wait in the kernel's accept queue. Default 1,024.
    pub max_connections: usize,
    /// Images admitted at a time: being decoded, queued or computed; past it 429. Default 256.
    pub queue: usize,
    /// Most images in one forward pass. Default 64.
    pub max_batch: usize,
    /// Images in one request; past it 413. At most `queue`, so that every allowed request can be admitted.
    /// Default 64.
    pub images_per_request: usize,
    /// Largest image in pixels; past it 422. Read from the image's header before it is decoded. Default 40 million.
    pub max_pixels: u64,
    /// Longest side of an image in pixels; past it 422. Default 16,384.
    pub max_side: u32,
    /// `top_k` of a request that does not say; fewer when the model has fewer classes. Default 5.
    pub default_top_k: usize,
    /// Largest `top_k` a request may ask for; past it 400. Default 100.
    pub max_top_k: usize,
    /// Images decoded at a time. Default: the number of cores.
    pub decode_threads: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            max_body: 10 << 20,
            body_memory: 256 << 20,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            keep_alive: Duration::from_secs(75),
            write_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(30),
            max_connections: 1024,
            queue: 256,
            max_batch: 64,
            images_per_request: 64,
            max_pixels: 40_000_000,
            max_side: 16_384,
            default_top_k: 5,
            max_top_k: 100,
            decode_threads: std::thread::available_parallelism().map_or(1, |n| n.get()),
        }
    }
}

impl Config {
    /// The limits for one image.
    pub(crate) fn decode_limits(&self) -> DecodeLimits {
        let max_bytes = self.max_body as u64;
        DecodeLimits { max_pixels: self.max_pixels, max_side: self.max_side, max_bytes }
    }

    /// Checks every setting against its range and against the others.
    pub(crate) fn validate(&self) -> Result<(), ServerError> {
        let counts = [
            ("max_body", self.max_body, BODY_CEILING),
            ("body_memory", self.body_memory, u32::MAX as usize),
            ("max_connections", self.max_connections, 1 << 20),
            ("queue", self.queue, 1 << 20),
            ("max_batch", self.max_batch, 1 << 12),
            ("images_per_request", self.images_per_request, IMAGES_CEILING.min(self.queue)),
            ("max_top_k", self.max_top_k, 1 << 16),
            ("default_top_k", self.default_top_k, self.max_top_k),
            ("decode_threads", self.decode_threads, 256),
        ];
        for (setting, value, most) in counts {
            if value == 0 || value > most {
                return Err(ServerError::Setting { setting, value, most });
            }
        }
        if self.body_memory < self.max_body {
            return Err(ServerError::BodyMemory { body_memory: self.body_memory, max_body: self.max_body });
        }
        Ok(())
    }
}
