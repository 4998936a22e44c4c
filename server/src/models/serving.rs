//! A version of the model that is loaded, warm, and has a thread of its own for what takes long.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use ocelli_common::text::chain;
use ocelli_pipeline::{Decoder, PipelineError, Predictor, Prepared};
use serde::Serialize;

use crate::config::Config;
use crate::error::ServerError;
use crate::metrics::Metrics;
use crate::models::batcher::{Queue, Sizes, inline_images};
use crate::models::budget::Lease;
use crate::models::pass::{Pass, Predict};
use crate::models::stats::Stats;

/// A black PNG of one pixel: the smallest image that takes the whole way through decoder and network.
const PIXEL: &[u8] =
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x00\x00\x00\x00\
\x3a\x7e\x9b\x55\x00\x00\x00\x0aIDAT\x78\xda\x63\x60\x00\x00\x00\x02\x00\x01\xe5\x27\xde\xfc\
\x00\x00\x00\x00IEND\xae\x42\x60\x82";

/// Runs of the network before it serves: the first one touches its memory, the others show its time.
const RUNS: usize = 4;

/// What answers and `/status` say about a version.
#[derive(Clone, Debug, Serialize, schemars::JsonSchema)]
pub(crate) struct ModelInfo {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) classes: Vec<String>,
    /// For each class the probability from which an image has it, of a model that says any number of labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) thresholds: Option<Vec<f32>>,
    pub(crate) input: Input,
    pub(crate) isa: &'static str,
    /// The numbers that it computes with: `f32` or `int8`.
    pub(crate) precision: &'static str,
    pub(crate) threads: usize,
    /// Only direct convolutions.
    pub(crate) exact: bool,
    /// Whether answers have a score of how little an image looks like any class.
    pub(crate) scores: bool,
}

/// Size every image is brought to.
#[derive(Clone, Copy, Debug, Serialize, schemars::JsonSchema)]
#[schemars(rename = "InputSize")]
pub(crate) struct Input {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) channels: u8,
}

impl ModelInfo {
    pub(crate) fn of(predictor: &Predictor, name: &str) -> ModelInfo {
        let meta = predictor.meta();
        let input = &meta.preprocessing;
        ModelInfo {
            name: name.to_owned(),
            version: predictor.version().to_owned(),
            classes: meta.classes.clone(),
            thresholds: meta.multi_label.as_ref().map(|labels| labels.thresholds.clone()),
            input: Input { width: input.width, height: input.height, channels: input.channels },
            isa: predictor.exec().isa.name(),
            precision: predictor.precision().name(),
            threads: predictor.exec().threads(),
            exact: predictor.exec().exact,
            scores: meta.rejection.is_some(),
        }
    }
}

/// A version that answers. Requests hold on to the one they began with; when the last of them is done with a version
/// that no longer serves, its thread ends and its memory is free.
pub(crate) struct Serving {
    pub(crate) info: ModelInfo,
    /// Length of an image's features; `None` for a network that has none.
    pub(crate) features: Option<usize>,
    pub(crate) decoder: Arc<Decoder>,
    pub(crate) queue: Queue,
    pub(crate) stats: Arc<Stats>,
    /// Bytes of memory that it takes; 0 where nobody counts.
    pub(crate) bytes: u64,
    /// Number of its lease, where it has one.
    pub(crate) lease: Option<u64>,
    /// When it was last asked, by the clock of the memory for models.
    pub(crate) used: AtomicU64,
}

/// A network with the memory that it takes, which is given back when the network is gone.
struct Held {
    predictor: Predictor,
    _lease: Option<Lease>,
}

impl Serving {
    /// Takes a model, warms it up with a blank image, which shows whether it may run inline, and starts its thread.
    ///
    /// # Errors
    /// A model that fails on a blank image, or no thread.
    pub(crate) fn start(
        mut predictor: Predictor,
        lease: Option<Lease>,
        name: &str,
        config: &Config,
        metrics: &Metrics,
    ) -> Result<Serving, ServerError> {
        let decoder = predictor.decoder().with_limits(config.decode_limits());
        let inline = match decoder.prepare(PIXEL) {
            Ok(pixel) => inline_images(time_of_one(&mut predictor, &pixel).map_err(ServerError::WarmUp)?),
            Err(_) => 0,
        };
        let info = ModelInfo::of(&predictor, name);
        let features = predictor.feature_len().ok();
        let (bytes, number) = (predictor.memory(), lease.as_ref().map(Lease::number));
        let mut held = Held { predictor, _lease: lease };
        let predict: Predict = Box::new(move |images, ask| {
            // The whole of it moves in here, so that the lease goes with the network.
            let held = &mut held;
            held.predictor.answer(images, ask).map_err(|error| chain(&error))
        });
        let serving = Serving::with_predict(decoder, info, (predict, inline), config, metrics)?;
        Ok(Serving { features, bytes, lease: number, ..serving })
    }

    /// The part that does not care what stands behind `predict`, and runs at most `inline` of its images at a time on a thread
    /// that serves connections.
    pub(crate) fn with_predict(
        decoder: Decoder,
        info: ModelInfo,
        (predict, inline): (Predict, usize),
        config: &Config,
        metrics: &Metrics,
    ) -> Result<Serving, ServerError> {
        let stats = Arc::new(Stats::default());
        let pass = Pass::new(predict, metrics.clone(), stats.clone());
        let sizes = Sizes { batch: config.max_batch, inline: inline.min(config.max_batch) };
        let queue = Queue::start(pass, sizes).map_err(ServerError::Thread)?;
        let decoder = Arc::new(decoder);
        Ok(Serving {
            info,
            features: None,
            decoder,
            queue,
            stats,
            bytes: 0,
            lease: None,
            used: AtomicU64::new(0),
        })
    }
}

/// How long an image takes that comes alone: the shortest of some runs, as others may have the processor during one of them.
fn time_of_one(predictor: &mut Predictor, image: &Prepared) -> Result<Duration, PipelineError> {
    let mut shortest = Duration::MAX;
    for _ in 0..RUNS {
        let started = Instant::now();
        predictor.predict_prepared(std::slice::from_ref(image), 1)?;
        shortest = shortest.min(started.elapsed());
    }
    Ok(shortest)
}
