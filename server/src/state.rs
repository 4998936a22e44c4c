//! What all connections share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use ocelli_pipeline::{Decoder, Predictor};
use serde::Serialize;
use tokio::sync::Semaphore;

use crate::batcher::Predict;
use crate::classifier::Classifier;
use crate::config::Config;
use crate::error::ServerError;

/// A black PNG of one pixel: the smallest image that takes the whole way through decoder and network.
const PIXEL: &[u8] =
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x00\x00\x00\x00\
\x3a\x7e\x9b\x55\x00\x00\x00\x0aIDAT\x78\xda\x63\x60\x00\x00\x00\x02\x00\x01\xe5\x27\xde\xfc\
\x00\x00\x00\x00IEND\xae\x42\x60\x82";

/// The service without its sockets: model, limits, counters. Shared by every connection.
pub struct State {
    pub(crate) config: Config,
    pub(crate) model: ModelInfo,
    pub(crate) classifier: Classifier,
    /// One permit per byte of request bodies in memory.
    pub(crate) body_memory: Arc<Semaphore>,
    /// One permit per connection.
    pub(crate) connections: Arc<Semaphore>,
    pub(crate) requests: Requests,
    pub(crate) started: Instant,
    ready: AtomicBool,
}

/// What answers and `/status` say about the model.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ModelInfo {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) classes: Vec<String>,
    pub(crate) input: Input,
    pub(crate) isa: &'static str,
    pub(crate) threads: usize,
    /// Only direct convolutions.
    pub(crate) exact: bool,
}

impl ModelInfo {
    pub(crate) fn of(predictor: &Predictor) -> ModelInfo {
        let meta = predictor.meta();
        let input = &meta.preprocessing;
        ModelInfo {
            name: meta.name.clone(),
            version: predictor.version().to_owned(),
            classes: meta.classes.clone(),
            input: Input { width: input.width, height: input.height, channels: input.channels },
            isa: predictor.exec().isa.name(),
            threads: predictor.exec().threads,
            exact: predictor.exec().exact,
        }
    }
}

/// Size every image is brought to.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Input {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) channels: u8,
}

/// Requests since the start. Those that are running or were given up by their client are in `total` only.
#[derive(Default)]
pub(crate) struct Requests {
    pub(crate) total: AtomicU64,
    pub(crate) ok: AtomicU64,
    pub(crate) error: AtomicU64,
}

impl State {
    /// Takes the model, warms it up with one blank image and starts the thread that owns it.
    ///
    /// # Errors
    /// A setting out of range, a model that fails on a blank image, or no thread.
    pub fn new(mut predictor: Predictor, config: Config) -> Result<State, ServerError> {
        config.validate()?;
        let decoder = predictor.decoder().with_limits(config.decode_limits());
        if let Ok(pixel) = decoder.prepare(PIXEL) {
            predictor.predict_prepared(&[pixel], 1).map_err(ServerError::WarmUp)?;
        }
        let model = ModelInfo::of(&predictor);
        let predict: Predict = Box::new(move |images, top_k| {
            predictor.predict_prepared(images, top_k).map_err(|e| e.to_string())
        });
        State::with_predict(decoder, model, predict, config)
    }

    /// The part of [`State::new`] that does not care what stands behind `predict`.
    pub(crate) fn with_predict(
        decoder: Decoder,
        model: ModelInfo,
        predict: Predict,
        config: Config,
    ) -> Result<State, ServerError> {
        config.validate()?;
        Ok(State {
            classifier: Classifier::new(decoder, predict, &config)?,
            model,
            body_memory: Arc::new(Semaphore::new(config.body_memory)),
            connections: Arc::new(Semaphore::new(config.max_connections)),
            requests: Requests::default(),
            started: Instant::now(),
            ready: AtomicBool::new(true),
            config,
        })
    }

    /// False once shutdown has begun.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    pub(crate) fn set_not_ready(&self) {
        self.ready.store(false, Ordering::Relaxed);
    }

    /// Connections that are open now.
    pub(crate) fn open_connections(&self) -> usize {
        self.config.max_connections - self.connections.available_permits()
    }
}
