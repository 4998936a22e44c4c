//! The limits of the service and their defaults.

use std::collections::BTreeMap;
use std::time::Duration;

use ocelli_pipeline::store::Name;
use ocelli_pipeline::{DecodeLimits, UploadLimits};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::ServerError;
use crate::machine;

/// No request may hold more images than this, whatever the configuration says: it bounds what a JSON array
/// can make us allocate before its length is known.
pub(crate) const IMAGES_CEILING: usize = 1024;

/// No body limit may be larger than this (1 GiB): a body is held in memory while its images are decoded.
const BODY_CEILING: usize = 1 << 30;

/// The highest niceness.
const MAX_NICE: usize = 19;

/// Memory without which no training begins: the program alone takes a part of it.
const LEAST_JOB_MEMORY: u64 = 64 << 20;

/// Limits of the service. [`Config::default`] is meant for the open internet behind a balancer. In files, times are
/// numbers of seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Largest request body in bytes; past it 413. Default 10 MiB.
    pub max_body: usize,
    /// Bytes of request bodies held at any moment by all requests together; past it 429. JSON takes up to
    /// three times its size while it is unpacked, on at most `decode_threads` threads. Default 256 MiB.
    pub body_memory: usize,
    /// From the first byte of a request to the end of its header; past it the connection is closed. Also the
    /// time that a new connection has for its first header. Default 10 s.
    #[serde(with = "seconds")]
    pub header_timeout: Duration,
    /// For the whole body of a request that is no upload; past it 408. Default 30 s.
    #[serde(with = "seconds")]
    pub body_timeout: Duration,
    /// Bytes a second that a body must bring, averaged over any 10 s; below it 408. Default 1 KiB.
    pub min_body_rate: u64,
    /// Largest upload in bytes, which goes to the disk and not to memory; past it 413. Default 1 GiB.
    pub max_upload: u64,
    /// Files and folders in an uploaded ZIP; past it 413. Default 100,000.
    pub zip_entries: u64,
    /// Inflated bytes of an uploaded ZIP, counted while it inflates; past it 413. Default 4 GiB.
    pub zip_bytes: u64,
    /// Inflated bytes for one packed byte of a ZIP, after the first MiB; past it 413. Default 100.
    pub zip_ratio: u64,
    /// Uploads that are received or taken in at a time; past it 429. Default 2.
    pub uploads: usize,
    /// Deepest nesting of arrays and objects in JSON; past it 400. Default 32.
    pub json_depth: usize,
    /// A connection without a request is closed after this. Default 75 s.
    #[serde(with = "seconds")]
    pub keep_alive: Duration,
    /// A client that takes no byte of its answer for this long is cut off. Default 30 s.
    #[serde(with = "seconds")]
    pub write_timeout: Duration,
    /// How long requests in flight may take to finish once shutdown has begun. Default 30 s.
    #[serde(with = "seconds")]
    pub drain_timeout: Duration,
    /// Connections served at a time; more are answered 503 and closed. Default 1,024.
    pub max_connections: usize,
    /// Connections of one address at a time; more are answered 503 and closed. Loopback is exempt, as a proxy on this machine
    /// speaks for many. Default 128.
    pub max_connections_per_address: usize,
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
    /// Bytes of memory that all models may take together; the one that was asked least recently is unloaded for another one.
    /// The default model is always loaded. Default: half of the machine's memory, or of the limit of its control group.
    pub models_memory: u64,
    /// Largest model file that is taken, in bytes; past it 413. Default 1 GiB.
    pub max_model_bytes: u64,
    /// Limits of single models, by name, over those of the service.
    pub models: BTreeMap<String, ModelLimits>,
    /// Versions besides the one that serves that are kept in memory for requests that ask for them. Default 2.
    pub extra_versions: usize,
    /// Training jobs that may wait; past it 429. Default 4.
    pub job_queue: usize,
    /// Threads of a training job. Default: one less than the number of cores, at least 1.
    pub job_threads: usize,
    /// Percent of a core that a training job gets beside a service under full load, 1 to 100; decides its niceness.
    /// Default 10.
    pub job_share: usize,
    /// What is added to the niceness of a training job, 0 to 19, whatever `job_share` says; at 19 it takes what serving
    /// leaves. Default: none.
    pub job_nice: Option<usize>,
    /// Bytes of memory that the process of a training job may take; a job that needs more is refused, past it its process
    /// ends. Default: three quarters of the machine's, or of the limit of its control group.
    pub job_memory: u64,
    /// A training job that shows no progress is ended after this. Default 900 s.
    #[serde(with = "seconds")]
    pub job_stuck: Duration,
    /// Train as soon as a data set has got this many new images by uploads; 0 for never. Default 0.
    pub retrain_on_upload: usize,
    /// Whether a training that an upload set off may be promoted by the gate; else a person promotes it. Default false.
    pub upload_may_promote: bool,
    /// Held-out images that each class needs before the gate promotes by itself. Default 5.
    pub gate_min_per_class: usize,
    /// Held-out images that are needed in all before the gate promotes by itself. Default 30.
    pub gate_min_images: usize,
    /// Versions of the model that are kept; the oldest go first, but never the one that serves, the one before it, its
    /// parent, or one that a job needs. Default 50.
    pub keep_versions: usize,
    /// Run folders that are kept; the oldest go first, but none that a job needs. Default 20.
    pub keep_runs: usize,
    /// Events of jobs, and entries of the audit log, that are kept. Default 100,000.
    pub keep_events: usize,
    /// Bytes that the data folder may hold; past it 507. 0 for as many as the disk takes. Default 0.
    pub max_data_bytes: u64,
    /// How often a shared store is looked at, give or take a quarter. Default 2 s.
    #[serde(with = "seconds")]
    pub poll_interval: Duration,
    /// Pointers of each model that are kept in a shared store, and with them the models that they name. Default 20.
    pub keep_pointers: usize,
    /// Refuse with 403 all that would change something: data sets, jobs, feedback, which version serves. Default false.
    pub read_only: bool,
}

/// Limits of one model, over those of the service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelLimits {
    /// Images of this model that are admitted at a time; past it 429. At most the `queue` of the service.
    pub queue: Option<usize>,
    /// Most images in one forward pass.
    pub max_batch: Option<usize>,
    /// `top_k` of a request that does not say.
    pub default_top_k: Option<usize>,
    /// Held-out images that each class needs before the gate promotes by itself.
    pub gate_min_per_class: Option<usize>,
    /// Held-out images that are needed in all before the gate promotes by itself.
    pub gate_min_images: Option<usize>,
    /// Versions that are kept.
    pub keep_versions: Option<usize>,
    /// Whether a training that an upload set off may be promoted by the gate.
    pub upload_may_promote: Option<bool>,
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get())
}

impl Default for Config {
    fn default() -> Self {
        Config {
            max_body: 10 << 20,
            body_memory: 256 << 20,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            min_body_rate: 1 << 10,
            max_upload: 1 << 30,
            zip_entries: 100_000,
            zip_bytes: 4 << 30,
            zip_ratio: 100,
            uploads: 2,
            json_depth: 32,
            keep_alive: Duration::from_secs(75),
            write_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(30),
            max_connections: 1024,
            max_connections_per_address: 128,
            queue: 256,
            max_batch: 64,
            images_per_request: 64,
            max_pixels: 40_000_000,
            max_side: 16_384,
            default_top_k: 5,
            max_top_k: 100,
            decode_threads: cores(),
            models_memory: ocelli_pipeline::memory_share() / 3 * 2,
            max_model_bytes: 1 << 30,
            models: BTreeMap::new(),
            extra_versions: 2,
            job_queue: 4,
            job_threads: cores().saturating_sub(1).max(1),
            job_share: 10,
            job_nice: None,
            job_memory: ocelli_pipeline::memory_share(),
            job_stuck: Duration::from_secs(900),
            retrain_on_upload: 0,
            upload_may_promote: false,
            gate_min_per_class: 5,
            gate_min_images: 30,
            keep_versions: 50,
            keep_runs: 20,
            keep_events: 100_000,
            max_data_bytes: 0,
            poll_interval: Duration::from_secs(2),
            keep_pointers: 20,
            read_only: false,
        }
    }
}

impl Config {
    /// The limits for one image.
    pub(crate) fn decode_limits(&self) -> DecodeLimits {
        let max_bytes = self.max_body as u64;
        DecodeLimits { max_pixels: self.max_pixels, max_side: self.max_side, max_bytes }
    }

    /// The limits for one image of an upload: its file may be larger than a body of `/predict`.
    pub(crate) fn upload_image_limits(&self) -> DecodeLimits {
        DecodeLimits { max_bytes: DecodeLimits::default().max_bytes, ..self.decode_limits() }
    }

    /// What an uploaded archive may cost.
    pub(crate) fn upload_limits(&self) -> UploadLimits {
        UploadLimits {
            max_entries: self.zip_entries,
            max_total_bytes: self.zip_bytes,
            max_ratio: self.zip_ratio,
            image: self.upload_image_limits(),
            max_parallel: self.decode_threads,
            ..UploadLimits::default()
        }
    }

    /// The limits that hold for one model.
    pub(crate) fn of_model(&self, name: &str) -> Config {
        let own = self.models.get(name).cloned().unwrap_or_default();
        Config {
            queue: own.queue.unwrap_or(self.queue),
            max_batch: own.max_batch.unwrap_or(self.max_batch),
            default_top_k: own.default_top_k.unwrap_or(self.default_top_k),
            gate_min_per_class: own.gate_min_per_class.unwrap_or(self.gate_min_per_class),
            gate_min_images: own.gate_min_images.unwrap_or(self.gate_min_images),
            keep_versions: own.keep_versions.unwrap_or(self.keep_versions),
            upload_may_promote: own.upload_may_promote.unwrap_or(self.upload_may_promote),
            models: BTreeMap::new(),
            ..self.clone()
        }
    }

    /// What is added to the niceness of a training job.
    pub fn job_niceness(&self) -> u8 {
        let by_share = || machine::niceness(self.job_share as f64);
        self.job_nice.map_or_else(by_share, |nice| nice.min(MAX_NICE) as u8)
    }

    /// Checks every setting against its range and against the others, also those of single models.
    pub(crate) fn validate(&self) -> Result<(), ServerError> {
        self.validate_one()?;
        for (name, own) in &self.models {
            if name.parse::<Name>().is_err() {
                return Err(ServerError::ModelName { name: name.clone() });
            }
            if let Some(value) = own.queue.filter(|&queue| queue > self.queue) {
                return Err(ServerError::Setting { setting: "models.queue", value, most: self.queue });
            }
            // A request may hold as many images as the service says, whatever model it asks.
            let of_model = self.of_model(name);
            let images_per_request = of_model.images_per_request.min(of_model.queue);
            Config { images_per_request, ..of_model }.validate_one()?;
        }
        Ok(())
    }

    fn validate_one(&self) -> Result<(), ServerError> {
        let counts = [
            ("max_body", self.max_body, BODY_CEILING),
            ("body_memory", self.body_memory, u32::MAX as usize),
            ("max_connections", self.max_connections, 1 << 20),
            ("max_connections_per_address", self.max_connections_per_address, 1 << 20),
            ("uploads", self.uploads, 64),
            ("json_depth", self.json_depth, 127),
            ("extra_versions", self.extra_versions, 64),
            ("job_queue", self.job_queue, 1000),
            ("job_threads", self.job_threads, 256),
            ("job_share", self.job_share, 100),
            ("queue", self.queue, 1 << 20),
            ("max_batch", self.max_batch, 1 << 12),
            ("images_per_request", self.images_per_request, IMAGES_CEILING.min(self.queue)),
            ("max_top_k", self.max_top_k, 1 << 16),
            ("default_top_k", self.default_top_k, self.max_top_k),
            ("decode_threads", self.decode_threads, 256),
            ("keep_versions", self.keep_versions, 100_000),
            ("keep_runs", self.keep_runs, 100_000),
            ("keep_events", self.keep_events, 100_000_000),
            ("keep_pointers", self.keep_pointers, 1000),
        ];
        for (setting, value, most) in counts {
            if value == 0 || value > most {
                return Err(ServerError::Setting { setting, value, most });
            }
        }
        if let Some(value) = self.job_nice.filter(|&nice| nice > MAX_NICE) {
            return Err(ServerError::Setting { setting: "job_nice", value, most: MAX_NICE });
        }
        for (setting, value) in
            [("models_memory", self.models_memory), ("max_model_bytes", self.max_model_bytes)]
        {
            if value == 0 {
                return Err(ServerError::Setting { setting, value: 0, most: usize::MAX });
            }
        }
        if self.job_memory < LEAST_JOB_MEMORY {
            return Err(ServerError::JobMemory { value: self.job_memory, least: LEAST_JOB_MEMORY });
        }
        if self.body_memory < self.max_body {
            return Err(ServerError::BodyMemory { body_memory: self.body_memory, max_body: self.max_body });
        }
        Ok(())
    }
}

/// Durations as numbers of seconds.
mod seconds {
    use super::*;

    pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(duration.as_secs_f64())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        // A day is longer than any connection lives; zero would refuse everybody.
        let sound = seconds > 0.0 && seconds <= 86_400.0;
        sound
            .then(|| Duration::from_secs_f64(seconds))
            .ok_or_else(|| serde::de::Error::custom("a time is above 0 and at most 86400 seconds"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_documented_and_read_from_a_file() {
        let limits = include_str!("../../SECURITY.md");
        let serde_json::Value::Object(settings) = serde_json::to_value(Config::default()).unwrap() else {
            panic!("a configuration is a struct")
        };
        for setting in settings.keys() {
            assert!(limits.contains(&format!("`{setting}`")), "{setting} is not in SECURITY.md");
        }
        let read: Config = serde_json::from_value(settings.into()).unwrap();
        assert_eq!(read, Config::default());
        assert!(serde_json::from_str::<Config>("{\"header_timeout\": 0}").is_err());
        assert!(serde_json::from_str::<Config>("{\"header_timeouts\": 1}").is_err());
    }
}
