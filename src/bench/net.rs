//! `ocelli bench --model NAME`: median time of one whole training step or forward pass.

use std::time::{Duration, Instant};

use clap::ValueEnum;
use ocelli_engine::rng::Rng;
use ocelli_engine::simd::Bf16Isa;
use ocelli_engine::{
    AdamConfig, Calibration, ClassGradients, DotIsa, Exec, GradientOutputs, Graph, Inference, Model,
    Optimizer, PlanMemory, Precision, TrainConfig, Trainer, zoo,
};
use ocelli_pipeline::Compute;
use serde::Serialize;

use super::common::{DEBUG_BUILD, parse_seconds};
use crate::compute;
use crate::failure::Failure;
use crate::output::Output;

/// Calls that are not counted: the first ones touch memory for the first time.
const WARM_UP: usize = 3;
/// Fewest calls that are counted, whatever the time.
const MIN_STEPS: usize = 5;
/// Most calls that are counted: the median has settled long before.
const MAX_STEPS: usize = 100_000;
/// Largest batch; its images are resident.
const MAX_BATCH: usize = 4096;
/// Images by which int8 gets its scales.
const CALIBRATED: usize = 4;
/// Learning rate of the timed steps: Adam's usual one.
const LR: f32 = 1e-3;

// No doc comment: clap would take it for the text of the command.
// Flattened into the arguments of `bench`, whose group has the name already.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(crate) struct Args {
    /// Network with the size of its images, e.g. keras-cnn-28; an unknown name lists the known ones
    #[arg(short, long, default_value = "keras-cnn-28", value_name = "NAME")]
    model: String,
    /// What is timed
    #[arg(long, value_enum, default_value_t = Mode::Train)]
    mode: Mode,
    /// Statistics of batch normalisations in training: of the batch, or the running ones as in fine-tuning
    #[arg(long, value_enum, default_value_t = Norms::Batch)]
    norms: Norms,
    /// Images in a step; the network's usual number if left out
    #[arg(short, long, value_name = "N")]
    batch: Option<usize>,
    #[command(flatten)]
    compute: compute::Settings,
    #[command(flatten)]
    precision: compute::PrecisionSetting,
    /// About how long to measure
    #[arg(short, long, default_value_t = 3.0, value_parser = parse_seconds)]
    seconds: f64,
    /// One JSON object on standard output
    #[arg(long)]
    json: bool,
}

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
enum Mode {
    /// Forward, loss, backward, update
    Train,
    /// Forward
    Infer,
    /// Forward, and backward to the last layer with more than one pixel, as for a heat map
    Explain,
}

/// Statistics of batch normalisations in training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
enum Norms {
    /// Of each batch
    Batch,
    /// The running ones
    Running,
}

/// Bytes of the plan, which hold for the record's instruction set and threads.
#[derive(Serialize)]
struct Memory {
    total: usize,
    tensors: usize,
    weights: usize,
    scratch: usize,
    parameters: usize,
}

impl From<PlanMemory> for Memory {
    fn from(plan: PlanMemory) -> Self {
        let PlanMemory { tensors, weights, scratch, parameters, .. } = plan;
        Memory { total: plan.total(), tensors, weights, scratch, parameters }
    }
}

#[derive(Serialize)]
struct Record {
    schema: u32,
    r#type: &'static str,
    version: &'static str,
    model: String,
    mode: Mode,
    norms: Norms,
    batch: usize,
    threads: usize,
    isa: &'static str,
    precision: Precision,
    /// What multiplies bytes or bf16; absent in f32.
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'static str>,
    exact: bool,
    parameters: usize,
    memory: Memory,
    steps: usize,
    median_ms: f64,
    p10_ms: f64,
    p90_ms: f64,
    images_per_second: f64,
    debug_build: bool,
}

pub(crate) fn run(args: Args, out: &mut Output) -> Result<(), Failure> {
    let Compute { threads, exact, .. } = args.compute.into();
    let exec = Exec::new(threads)?.exact(exact);
    let (graph, usual) = zoo::bench_net(&args.model)
        .map_err(|error| Failure::usage(error.to_string(), "`ocelli bench --help` lists what it takes"))?;
    let batch = args.batch.unwrap_or(usual);
    if !(1..=MAX_BATCH).contains(&batch) {
        return Err(Failure::usage(format!("--batch {batch} is not in 1..={MAX_BATCH}"), "try --batch 32"));
    }
    // Single images one after the other are timed for their latency.
    let exec = if args.mode != Mode::Train && batch == 1 { exec.latency() } else { exec };
    let precision = args.precision.on(exec.isa);
    let exec = exec.precision(precision);
    if precision == Precision::Int8 && args.mode != Mode::Infer {
        return Err(Failure::usage("int8 is for inference", "add --mode infer, or leave out --precision"));
    }
    if precision == Precision::Bf16 && args.mode == Mode::Explain {
        return Err(Failure::usage("heat maps are computed in f32", "leave out --precision"));
    }
    let model = Model::init(graph, 1)?;
    let parameters = model.layout().count();
    // From a thread of the pool, as a run trains.
    let (memory, times) = exec.pool.install(|| match args.mode {
        Mode::Train => time_training(model, (batch, args.norms), &exec, args.seconds),
        Mode::Infer => time_inference(&model, (batch, precision), &exec, args.seconds),
        Mode::Explain => time_gradients(&model, batch, &exec, args.seconds),
    })??;
    let at = |part: f64| times[((times.len() - 1) as f64 * part).round() as usize].as_secs_f64();
    let record = Record {
        schema: 1,
        r#type: "bench",
        version: env!("CARGO_PKG_VERSION"),
        model: args.model,
        mode: args.mode,
        norms: args.norms,
        batch,
        threads: exec.threads(),
        isa: exec.isa.name(),
        precision,
        unit: match precision {
            Precision::Int8 => Some(DotIsa::of(exec.isa).name()),
            Precision::Bf16 => Some(Bf16Isa::of(exec.isa).name()),
            Precision::Auto | Precision::F32 => None,
        },
        exact,
        parameters,
        memory: memory.into(),
        steps: times.len(),
        median_ms: 1e3 * at(0.5),
        p10_ms: 1e3 * at(0.1),
        p90_ms: 1e3 * at(0.9),
        images_per_second: batch as f64 / at(0.5),
        debug_build: cfg!(debug_assertions),
    };
    if record.debug_build {
        out.warn(DEBUG_BUILD);
    }
    if args.json {
        return out.json(&record);
    }
    let Record { threads, isa, steps, ref memory, .. } = record;
    let mib = |bytes: usize| bytes as f64 / f64::from(1 << 20);
    let unit = record.unit.map_or(String::new(), |unit| format!(", {} by {unit}", precision.name()));
    out.line(format_args!(
        "{} {:?}, batch {batch}, {threads} threads, {isa}{unit}",
        record.model, record.mode
    ))?;
    out.line(format_args!(
        "median {:.3} ms a step (10 %: {:.3}, 90 %: {:.3}, {steps} steps), {:.0} images/s",
        record.median_ms, record.p10_ms, record.p90_ms, record.images_per_second
    ))?;
    out.line(format_args!(
        "memory with {isa} and {threads} threads {:.1} MiB: tensors {:.1}, packed weights {:.1}, work space {:.1}, parameters {:.1}",
        mib(memory.total),
        mib(memory.tensors),
        mib(memory.weights),
        mib(memory.scratch),
        mib(memory.parameters)
    ))
}

/// What a plan takes, and the times of its calls.
type Measured = (PlanMemory, Vec<Duration>);

fn time_training(
    model: Model,
    (batch, norms): (usize, Norms),
    exec: &Exec,
    seconds: f64,
) -> Result<Measured, Failure> {
    let images = random_images(model.graph(), batch);
    let classes = model.graph().classes()?;
    let labels: Vec<u32> = (0..batch).map(|i| (i % classes) as u32).collect();
    let config = TrainConfig {
        batch,
        optimizer: Optimizer::Adam(AdamConfig::default()),
        seed: 1,
        norms: match norms {
            Norms::Batch => ocelli_engine::Norms::Batch,
            Norms::Running => ocelli_engine::Norms::Running,
        },
        ..TrainConfig::default()
    };
    let mut trainer = Trainer::new(model, config, exec)?;
    let times = timed(seconds, || {
        trainer.step(&images, &labels, LR)?;
        Ok(())
    })?;
    Ok((trainer.memory(), times))
}

fn time_inference(
    model: &Model,
    (batch, precision): (usize, Precision),
    exec: &Exec,
    seconds: f64,
) -> Result<Measured, Failure> {
    let images = random_images(model.graph(), batch);
    // Scales of random weights and images mean nothing, and take as long as others.
    let quantization = match precision {
        Precision::Int8 => Some(Calibration::quick(model, &random_images(model.graph(), CALIBRATED), exec)?),
        Precision::F32 | Precision::Bf16 | Precision::Auto => None,
    };
    let mut inference = Inference::quantized(model, quantization.as_ref(), &[], batch, exec)?;
    let mut logits = vec![0.0; batch * inference.classes()];
    let times = timed(seconds, || Ok(inference.run(&images, batch, &mut logits)?))?;
    Ok((inference.memory(), times))
}

fn time_gradients(model: &Model, batch: usize, exec: &Exec, seconds: f64) -> Result<Measured, Failure> {
    let images = random_images(model.graph(), batch);
    let Some(&value) = model.graph().spatial_values().last() else {
        return Err(Failure::usage(
            "no layer of this network has an output of more than one pixel",
            "try --model resnet9",
        ));
    };
    let mut network = ClassGradients::new(model, value, batch, exec)?;
    let (classes, len) = (vec![None; batch], batch * network.shape().len());
    let mut logits = vec![0.0; batch * network.classes()];
    let (mut values, mut gradients) = (vec![0.0; len], vec![0.0; len]);
    let times = timed(seconds, || {
        let (values, gradients) = (&mut values[..], &mut gradients[..]);
        network.run(&images, &classes, GradientOutputs { logits: &mut logits, values, gradients })?;
        Ok(())
    })?;
    Ok((network.memory(), times))
}

/// Standard normal values, as after normalisation.
fn random_images(graph: &Graph, batch: usize) -> Vec<f32> {
    let mut rng = Rng::new(1, 0);
    (0..batch * graph.input.len()).map(|_| rng.normal()).collect()
}

/// The times of single calls, sorted.
fn timed(seconds: f64, mut step: impl FnMut() -> Result<(), Failure>) -> Result<Vec<Duration>, Failure> {
    for _ in 0..WARM_UP {
        step()?;
    }
    let start = Instant::now();
    let mut times = Vec::new();
    while times.len() < MIN_STEPS || (start.elapsed().as_secs_f64() < seconds && times.len() < MAX_STEPS) {
        let before = Instant::now();
        step()?;
        times.push(before.elapsed());
    }
    times.sort();
    Ok(times)
}
