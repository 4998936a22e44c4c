//! What `/metrics` counts, in the OpenMetrics text form that Prometheus reads.
//!
//! Names follow Prometheus' conventions: seconds and bytes, `_total` for counters. Labels take few values: operations of
//! the table in `endpoint.rs`, and status codes.

use std::sync::Arc;
use std::time::Duration;

use ocelli_pipeline::store::Usage;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::answer::Answer;
use crate::history::History;
use crate::model_load::ModelLoad;
use crate::shared_status::SharedStore;

/// Media type of the answer.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Bounds in seconds, from a tenth of a millisecond to the longest that clients usually wait.
const SECONDS: [f64; 14] =
    [1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1.0, 5.0];

/// Operations that predict: what the history counts.
const PREDICTING: [&str; 4] = ["predict", "embed", "v2Infer", "v2VersionInfer"];

const BATCHES: [f64; 8] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Served {
    operation: &'static str,
    code: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Operation {
    operation: &'static str,
}

/// The limit that a connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    All,
    Address,
}

impl Refused {
    const ALL: [Refused; 2] = [Refused::All, Refused::Address];

    fn label(self) -> Limit {
        Limit {
            reason: match self {
                Refused::All => "max_connections",
                Refused::Address => "max_connections_per_address",
            },
        }
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Limit {
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Model {
    model: String,
    version: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfModel {
    model: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Named {
    model: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

/// What is told of one moment beside the counters.
pub(crate) struct Gauges<'a> {
    pub(crate) ready: bool,
    pub(crate) uptime: Duration,
    pub(crate) requests_in_flight: u64,
    pub(crate) queue_length: usize,
    pub(crate) queue_capacity: usize,
    pub(crate) connections: usize,
    pub(crate) jobs_running: usize,
    pub(crate) jobs_waiting: usize,
    pub(crate) stored: Usage,
    pub(crate) models: &'a ModelLoad,
    pub(crate) shared: Option<&'a SharedStore>,
    /// Another version serves than the one that is to.
    pub(crate) stands_in: bool,
    pub(crate) model: &'a str,
    pub(crate) version: &'a str,
}

/// Counters of the service; cheap to clone, all clones count the same.
#[derive(Clone)]
pub(crate) struct Metrics {
    requests: Family<Served, Counter>,
    durations: Family<Operation, Histogram, fn() -> Histogram>,
    images: Counter,
    decode: Histogram,
    queue: Histogram,
    compute: Histogram,
    batches: Histogram,
    swaps: Counter,
    loads: Family<OfModel, Counter>,
    connections_refused: Family<Limit, Counter>,
    history: Arc<History>,
}

fn seconds() -> Histogram {
    Histogram::new(SECONDS)
}

impl Default for Metrics {
    fn default() -> Self {
        let connections_refused = Family::default();
        for reason in Refused::ALL {
            // From zero on, so that the first one is an increase.
            drop(connections_refused.get_or_create(&reason.label()));
        }
        Metrics {
            connections_refused,
            requests: Family::default(),
            durations: Family::new_with_constructor(seconds as fn() -> Histogram),
            images: Counter::default(),
            decode: seconds(),
            queue: seconds(),
            compute: seconds(),
            batches: Histogram::new(BATCHES),
            swaps: Counter::default(),
            loads: Family::default(),
            history: Arc::new(History::new()),
        }
    }
}

impl Metrics {
    /// A request was answered.
    pub(crate) fn answered(&self, operation: &'static str, code: u16, took: Duration) {
        self.requests.get_or_create(&Served { operation, code }).inc();
        self.durations.get_or_create(&Operation { operation }).observe(took.as_secs_f64());
        if PREDICTING.contains(&operation) {
            self.history.answered(code < 400, took);
        }
    }

    /// Images were classified.
    pub(crate) fn classified(&self, answers: &[Answer]) {
        self.images.inc_by(answers.len() as u64);
        self.history.classified(answers.iter().map(|answer| &answer.prediction));
        for answer in answers {
            self.decode.observe(answer.decode.as_secs_f64());
            self.queue.observe(answer.queue.as_secs_f64());
            self.compute.observe(answer.compute.as_secs_f64());
        }
    }

    /// Images went through the network together.
    pub(crate) fn batch(&self, images: usize) {
        self.batches.observe(images as f64);
    }

    /// A connection was turned away.
    pub(crate) fn refused(&self, reason: Refused) {
        self.connections_refused.get_or_create(&reason.label()).inc();
    }

    /// What was answered over the last day.
    pub(crate) fn history(&self) -> &History {
        &self.history
    }

    /// Another version took over.
    pub(crate) fn swapped(&self) {
        self.swaps.inc();
    }

    /// A version was loaded, as somebody asked for it.
    pub(crate) fn loaded(&self, model: &str) {
        self.loads.get_or_create(&OfModel { model: model.to_owned() }).inc();
    }

    /// All of it as text, with what is so at this moment.
    pub(crate) fn text(&self, now: &Gauges<'_>) -> String {
        let mut registry = Registry::with_prefix("ocelli");
        let r = &mut registry;
        r.register("http_requests", "Requests answered, by operation and status", self.requests.clone());
        let durations = self.durations.clone();
        r.register_with_unit("http_request_duration", "From header to answer", Unit::Seconds, durations);
        r.register("images", "Images classified", self.images.clone());
        r.register_with_unit("decode", "Decoding and resizing an image", Unit::Seconds, self.decode.clone());
        r.register_with_unit(
            "queue",
            "Time that an image waits for the network",
            Unit::Seconds,
            self.queue.clone(),
        );
        r.register_with_unit(
            "compute",
            "The forward pass an image was in",
            Unit::Seconds,
            self.compute.clone(),
        );
        r.register("batch_size", "Images of a forward pass", self.batches.clone());
        let refused = self.connections_refused.clone();
        r.register("connections_refused", "Connections refused, by the limit that they exceeded", refused);
        r.register("model_swaps", "Times that another version began to serve", self.swaps.clone());
        r.register("model_loads", "Times that a version was loaded, by model", self.loads.clone());
        let models = now.models;
        gauge(r, "models", "Models of the service", models.count);
        gauge(r, "models_loaded", "Versions in memory", models.loaded);
        let evicted: Counter = Counter::default();
        evicted.inc_by(models.evicted);
        r.register("model_evictions", "Versions that were unloaded for others", evicted);
        for (name, help, bytes) in [
            ("model_memory", "Memory that versions take", models.memory),
            ("model_memory_limit", "Memory that versions may take", models.memory_limit),
        ] {
            let memory: Gauge = Gauge::default();
            memory.set(i64::try_from(bytes).unwrap_or(i64::MAX));
            r.register_with_unit(name, help, Unit::Bytes, memory);
        }
        let (asked, agree) = (Family::<OfModel, Gauge>::default(), Family::<OfModel, Gauge>::default());
        for (model, images, same) in &models.shadows {
            let labels = OfModel { model: model.clone() };
            asked.get_or_create(&labels).set(*images as i64);
            agree.get_or_create(&labels).set(*same as i64);
        }
        r.register("shadow_images", "Images that the shadow of a model was asked about", asked);
        r.register("shadow_agreements", "Images that it named the same class for", agree);
        gauge(r, "queue_length", "Images admitted and not answered", now.queue_length);
        gauge(r, "queue_capacity", "Images that may be admitted", now.queue_capacity);
        gauge(r, "connections", "Open connections", now.connections);
        gauge(
            r,
            "http_requests_in_flight",
            "Requests without an answer yet",
            now.requests_in_flight as usize,
        );
        gauge(r, "jobs_running", "Running training jobs", now.jobs_running);
        gauge(r, "jobs_waiting", "Queued training jobs", now.jobs_waiting);
        gauge(r, "ready", "1 while new requests are accepted", usize::from(now.ready));
        if let Some(shared) = now.shared {
            tell_shared(r, shared);
        }
        let stored = Family::<Kind, Gauge>::default();
        for (kind, bytes) in [
            ("images", now.stored.images),
            ("models", now.stored.models),
            ("runs", now.stored.runs),
            ("database", now.stored.database),
            ("quarantine", now.stored.quarantine),
        ] {
            stored.get_or_create(&Kind { kind }).set(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
        r.register_with_unit("stored", "Size of the data folder, by kind", Unit::Bytes, stored);
        let stands_in = usize::from(now.stands_in);
        gauge(r, "stand_in", "1 while another version serves than the one that should", stands_in);
        let uptime = Gauge::<f64, std::sync::atomic::AtomicU64>::default();
        uptime.set(now.uptime.as_secs_f64());
        r.register_with_unit("uptime", "Time since the start", Unit::Seconds, uptime);
        let info = Family::<Model, Gauge>::default();
        let labels = Model { model: now.model.to_owned(), version: now.version.to_owned() };
        info.get_or_create(&labels).set(1);
        r.register("serving", "The version that serves", info);
        if let Some(bytes) = resident_memory() {
            let memory: Gauge = Gauge::default();
            memory.set(bytes);
            r.register_with_unit("resident_memory", "Memory of the process", Unit::Bytes, memory);
        }
        let mut text = String::new();
        encode(&mut text, &registry).expect("writing to a string cannot fail");
        text
    }
}

/// What is told of a shared store.
fn tell_shared(r: &mut Registry, shared: &SharedStore) {
    gauge(r, "shared_store_up", "1 while the shared store can be read", usize::from(shared.is_up()));
    if let Some(age) = shared.age() {
        let since: Gauge = Gauge::default();
        since.set(i64::try_from(age).unwrap_or(i64::MAX));
        let help = "Time since the shared store was read to the end";
        r.register_with_unit("shared_store_last_look", help, Unit::Seconds, since);
    }
    let pointers = Family::<Named, Gauge>::default();
    for (model, told) in &shared.models {
        let number = told.pointer.and_then(|number| i64::try_from(number).ok());
        pointers.get_or_create(&Named { model: model.clone() }).set(number.unwrap_or(0));
    }
    r.register("shared_store_pointer", "Number of the pointer in force, by model", pointers);
    let help = "Models whose newest pointer is not in force, or that are not published";
    gauge(r, "shared_store_problems", help, shared.problems());
    let refused = Counter::<u64>::default();
    refused.inc_by(shared.refused);
    r.register("shared_store_refused", "Pointers that were refused", refused);
}

fn gauge(registry: &mut Registry, name: &str, help: &str, value: usize) {
    let gauge: Gauge = Gauge::default();
    gauge.set(value as i64);
    registry.register(name, help, gauge);
}

/// Memory of this process in bytes, where the system tells.
fn resident_memory() -> Option<i64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<i64>().ok().map(|kib| kib * 1024)
}
