//! What clients are told before they ask: the service, the model, its configuration, statistics and versions.

use std::time::{Duration, UNIX_EPOCH};

use schemars::JsonSchema;
use serde::Serialize;

use crate::config::Config;
use crate::models::serving::{ModelInfo, Serving};
use crate::models::stats::Total;
use crate::v2::expected::{PIXELS, PROBABILITIES};

/// The protocol's list of platforms has none of our kind; it is information only. The number is that of the model
/// file's format.
const PLATFORM: &str = "ocelli_v1";

/// `GET /v2`.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "V2ServerMetadata")]
pub(crate) struct Server {
    name: &'static str,
    version: &'static str,
    extensions: [&'static str; 5],
}

impl Server {
    pub(crate) const SELF: Server = Server {
        name: "ocelli",
        version: env!("CARGO_PKG_VERSION"),
        extensions: [
            "binary_tensor_data",
            "classification",
            "model_configuration",
            "model_repository",
            "statistics",
        ],
    };
}

/// `GET /v2/health/live`.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "V2Live")]
pub(crate) struct Live {
    pub(crate) live: bool,
}

/// `GET /v2/health/ready`.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "V2Ready")]
pub(crate) struct Ready {
    pub(crate) live: bool,
    pub(crate) ready: bool,
}

/// `GET /v2/models/{model}/ready`.
#[derive(Serialize, JsonSchema)]
pub(crate) struct ModelReady<'a> {
    pub(crate) name: &'a str,
    pub(crate) ready: bool,
}

/// `GET /v2/models/{model}`.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "V2ModelMetadata")]
pub(crate) struct Model<'a> {
    name: &'a str,
    /// All that can be asked for.
    versions: Vec<String>,
    platform: &'static str,
    inputs: [Tensor; 1],
    outputs: [Tensor; 1],
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "V2TensorMetadata")]
struct Tensor {
    name: &'static str,
    datatype: &'static str,
    /// -1 stands for any number of images.
    shape: Vec<i64>,
}

impl<'a> Model<'a> {
    pub(crate) fn new(info: &'a ModelInfo, versions: Vec<String>) -> Model<'a> {
        let image = image_dims(info);
        let batch = |dims: &[i64]| [&[-1], dims].concat();
        Model {
            name: &info.name,
            versions,
            platform: PLATFORM,
            inputs: [Tensor { name: PIXELS, datatype: "FP32", shape: batch(&image) }],
            outputs: [Tensor { name: PROBABILITIES, datatype: "FP32", shape: batch(&[classes(info)]) }],
        }
    }
}

/// `GET /v2/models/{model}/config`: the part of Triton's `ModelConfig` that says something here.
#[derive(Serialize, JsonSchema)]
pub(crate) struct ModelConfig<'a> {
    name: &'a str,
    platform: &'static str,
    backend: &'static str,
    /// Images in one request of FP32 pixels.
    max_batch_size: usize,
    input: [ConfigInput; 1],
    output: [ConfigOutput; 1],
    dynamic_batching: DynamicBatching,
    parameters: Parameters,
}

/// Parameters of our own, in Triton's form.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "V2ModelParameters")]
struct Parameters {
    /// The numbers that it computes with: `f32` or `int8`.
    precision: Text,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "V2Text")]
struct Text {
    string_value: &'static str,
}

#[derive(Serialize, JsonSchema)]
struct ConfigInput {
    name: &'static str,
    data_type: &'static str,
    format: &'static str,
    /// Without the batch.
    dims: [i64; 3],
}

#[derive(Serialize, JsonSchema)]
struct ConfigOutput {
    name: &'static str,
    data_type: &'static str,
    /// Without the batch.
    dims: [i64; 1],
}

/// Requests are joined, and no image waits for others that may come.
#[derive(Serialize, JsonSchema)]
struct DynamicBatching {
    max_queue_delay_microseconds: u64,
}

impl<'a> ModelConfig<'a> {
    pub(crate) fn new(info: &'a ModelInfo, config: &Config) -> ModelConfig<'a> {
        let dims = image_dims(info);
        // A KiB for the JSON in front.
        let fit = config.max_body.saturating_sub(1 << 10) / (4 * dims.iter().product::<i64>() as usize);
        ModelConfig {
            name: &info.name,
            platform: PLATFORM,
            backend: "ocelli",
            max_batch_size: config.images_per_request.min(fit).max(1),
            input: [ConfigInput { name: PIXELS, data_type: "TYPE_FP32", format: "FORMAT_NHWC", dims }],
            output: [ConfigOutput { name: PROBABILITIES, data_type: "TYPE_FP32", dims: [classes(info)] }],
            dynamic_batching: DynamicBatching { max_queue_delay_microseconds: 0 },
            parameters: Parameters { precision: Text { string_value: info.precision } },
        }
    }
}

fn image_dims(info: &ModelInfo) -> [i64; 3] {
    [info.input.height.into(), info.input.width.into(), info.input.channels.into()]
}

fn classes(info: &ModelInfo) -> i64 {
    info.classes.len().try_into().expect("class names are in memory: there are fewer than 2^63")
}

/// `GET /v2/models/{model}/stats`.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Statistics<'a> {
    pub(crate) model_stats: Vec<VersionStatistics<'a>>,
}

/// Since the version was loaded; by `/predict` and `/v2` together. Times are in nanoseconds.
#[derive(Serialize, JsonSchema)]
pub(crate) struct VersionStatistics<'a> {
    name: &'a str,
    version: &'a str,
    /// Milliseconds since 1970-01-01 UTC at which a request was answered last; 0 for never.
    last_inference: u64,
    /// Images classified.
    inference_count: u64,
    /// Runs of the network: inferences over executions is the mean batch.
    execution_count: u64,
    inference_stats: InferenceStats,
    batch_stats: Vec<BatchStats>,
}

/// Requests, by what became of them and by their steps.
#[derive(Serialize, JsonSchema)]
struct InferenceStats {
    success: Total,
    fail: Total,
    /// Waiting for a decoding thread and for the network.
    queue: Total,
    /// Decoding and resizing.
    compute_input: Total,
    /// The network.
    compute_infer: Total,
    /// Part of `success` alone.
    compute_output: Total,
    /// There is no cache.
    cache_hit: Total,
    cache_miss: Total,
}

#[derive(Serialize, JsonSchema)]
struct BatchStats {
    batch_size: usize,
    compute_input: Total,
    compute_infer: Total,
    compute_output: Total,
}

impl<'a> VersionStatistics<'a> {
    pub(crate) fn of(serving: &'a Serving) -> VersionStatistics<'a> {
        let counts = serving.stats.counts();
        let since_epoch = counts.last.and_then(|last| last.duration_since(UNIX_EPOCH).ok());
        let none = Total::default();
        VersionStatistics {
            name: &serving.info.name,
            version: &serving.info.version,
            last_inference: since_epoch.unwrap_or(Duration::ZERO).as_millis() as u64,
            inference_count: counts.images,
            execution_count: counts.executions,
            inference_stats: InferenceStats {
                success: counts.success,
                fail: counts.fail,
                queue: counts.queue,
                compute_input: counts.decode,
                compute_infer: counts.compute,
                compute_output: none,
                cache_hit: none,
                cache_miss: none,
            },
            batch_stats: counts
                .batches
                .into_iter()
                .map(|(batch_size, compute_infer)| BatchStats {
                    batch_size,
                    compute_input: none,
                    compute_infer,
                    compute_output: none,
                })
                .collect(),
        }
    }
}

/// A line of `POST /v2/repository/index`.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Indexed<'a> {
    pub(crate) name: &'a str,
    pub(crate) version: String,
    /// Always READY: a version that is not in memory is loaded by the first request for it.
    pub(crate) state: &'static str,
    pub(crate) reason: &'static str,
}

/// `POST /v2/repository/models/{model}/load`: what serves now.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "V2Loaded")]
pub(crate) struct Loaded<'a> {
    pub(crate) name: &'a str,
    pub(crate) version: String,
}
