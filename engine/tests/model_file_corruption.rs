//! Broken and forged model files: an error or a valid model, never a panic, never more memory than the file
//! accounts for.
//!
//! Weights in f16 take twice their bytes. A counting allocator watches every read. Forgeries carry the hash that fits their content, so that the parser
//! itself is tested and not the hash before it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod model_sample;
mod observed_allocator;

use std::cell::Cell;

use observed_allocator::Observed;
use ocelli_engine::geometry::{Conv2dGeometry, MAX_ELEMENTS, Shape};
use ocelli_engine::graph::{BatchNorm, Conv2d, Dense, Graph, Op, Padding, Pool2d};
use ocelli_engine::model_file::{ModelFile, WeightType};
use ocelli_engine::rng::Rng;
use ocelli_engine::{Exec, Inference, Model, ParamLayout};
use sha2::{Digest, Sha256};

const MIB: usize = 1 << 20;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

/// Counts the bytes of this thread.
fn count(taken: usize, freed: usize) {
    LIVE.set(LIVE.get() + taken as isize - freed as isize);
    PEAK.set(PEAK.get().max(LIVE.get()));
    LARGEST.set(LARGEST.get().max(taken));
}

#[global_allocator]
static ALLOCATOR: Observed = Observed(count);

struct Reading {
    result: Result<ModelFile, String>,
    /// Most bytes allocated at one time.
    peak: usize,
    /// Largest single allocation.
    largest: usize,
}

fn reading(bytes: &[u8]) -> Reading {
    let before = LIVE.get();
    PEAK.set(before);
    LARGEST.set(0);
    let result = ModelFile::from_bytes(bytes);
    let (peak, largest) = ((PEAK.get() - before) as usize, LARGEST.get());
    let result = result.map_err(|error| error.to_string());
    if let Err(message) = &result {
        assert!(!message.contains('\n') && message.len() < 2048, "{message}");
    }
    Reading { result, peak, largest }
}

/// Reads, and asserts that no more memory was taken at any time than the file's size, twice where it has weights in f16,
/// and a mebibyte.
#[track_caller]
fn bounded(bytes: &[u8]) -> Result<ModelFile, String> {
    let reading = reading(bytes);
    let most = if bytes.get(8) == Some(&3) { 2 * bytes.len() } else { bytes.len() };
    assert!(reading.peak <= most + MIB, "{} bytes for a file of {}", reading.peak, bytes.len());
    reading.result
}

fn sign(bytes: &mut [u8]) {
    if let Some(end) = bytes.len().checked_sub(32) {
        let hash = Sha256::digest(&bytes[..end]);
        bytes[end..].copy_from_slice(&hash);
    }
}

/// Forged content is refused, or it is a model whose one file has just these bytes.
#[track_caller]
fn forged(bytes: &mut [u8]) -> bool {
    sign(bytes);
    let model = bounded(bytes);
    if let Ok(model) = &model {
        assert!(model.to_bytes().unwrap() == bytes, "a file that was accepted is written differently");
    }
    model.is_ok()
}

fn samples() -> [Vec<u8>; 11] {
    let files = [
        model_sample::model_file(false),
        model_sample::model_file(true),
        model_sample::probed_file(),
        model_sample::imported_file(),
        model_sample::half_file(),
        model_sample::calibrated_file(),
        model_sample::rejecting_file(),
        model_sample::inner_file(),
        model_sample::multi_label_file(),
        model_sample::activations_file(),
        model_sample::quantized_file(),
    ];
    files.map(|file| file.to_bytes().unwrap())
}

fn below(rng: &mut Rng, end: usize) -> usize {
    (rng.next_u64() % end as u64) as usize
}

fn flip(rng: &mut Rng, bytes: &mut [u8], region: usize) {
    for _ in 0..1 + below(rng, 4) {
        let at = below(rng, region);
        bytes[at] ^= 1 + below(rng, 255) as u8;
    }
}

#[test]
fn random_damage_is_always_found() {
    let mut rng = Rng::new(1, 0);
    let samples = samples();
    for case in 0..10_000 {
        let whole = &samples[case % samples.len()];
        let mut bytes = whole.clone();
        if (case / samples.len()).is_multiple_of(2) {
            bytes.truncate(below(&mut rng, whole.len()));
        } else {
            let region = bytes.len();
            flip(&mut rng, &mut bytes, region);
        }
        // Two flips of one byte may cancel each other.
        assert!(bounded(&bytes).is_err() || bytes == *whole, "case {case}");
    }
}

#[test]
fn random_forgeries_are_refused_or_valid() {
    let mut rng = Rng::new(2, 0);
    let samples = samples();
    let mut accepted = 0;
    for case in 0..10_000 {
        let mut bytes = samples[case % samples.len()].clone();
        let header_end = 32 + u64::from_le_bytes(bytes[16..24].try_into().unwrap()) as usize;
        // Kinds of damage take turns more slowly than samples, so that they meet.
        match case / samples.len() % 5 {
            0 => {
                bytes.truncate(below(&mut rng, bytes.len()));
                let len = bytes.len() as u64;
                if let Some(slot) = bytes.get_mut(24..32) {
                    slot.copy_from_slice(&len.to_le_bytes());
                }
            }
            1 => {
                let region = bytes.len() - 32;
                flip(&mut rng, &mut bytes, region);
            }
            _ => flip(&mut rng, &mut bytes, header_end),
        }
        accepted += usize::from(forged(&mut bytes));
    }
    // Some damage is a change of a weight or of a letter; most is not.
    assert!((100..5_000).contains(&accepted), "{accepted} of 10000 accepted");
}

#[test]
fn lies_about_lengths_cost_no_memory() {
    for whole in samples() {
        for at in 8..whole.len() - 32 - 8 {
            for lie in [u64::MAX, 1 << 63, 1 << 40, 1 << 32, 1 << 25, 1 << 20, 65_536, 4_096] {
                let mut bytes = whole.clone();
                bytes[at..at + 8].copy_from_slice(&lie.to_le_bytes());
                forged(&mut bytes);
            }
        }
    }
}

/// The header that asks for the most memory: as many layers, tensors and classes as may be.
#[test]
fn the_largest_header_stays_within_its_bounds() {
    let mut file = model_sample::model_file(false);
    let mut graph = Graph::new(Shape::new(6, 5, 2));
    graph.then("flat", Op::Flatten);
    for index in 0..4_094 {
        graph.then(format!("n{index}"), Op::BatchNorm(BatchNorm::default()));
    }
    graph.then("head", Op::Dense(Dense { units: 65_536, bias: false }));
    file.model = Model::zeros(graph).unwrap();
    file.meta.classes = (0..65_536).map(|class| format!("{class:x}")).collect();
    let bytes = file.to_bytes().unwrap();
    let reading = reading(&bytes);
    assert!(reading.result.is_ok());
    assert!(reading.largest <= bytes.len() + MIB, "one allocation of {}", reading.largest);
    assert!(reading.peak <= bytes.len() + 8 * MIB, "{} for {}", reading.peak, bytes.len());
}

/// A header that names a large network without its weights.
#[test]
fn weights_that_are_not_there_get_no_memory() {
    let mut file = model_sample::model_file(false);
    let mut graph = Graph::new(Shape::new(6, 5, 2));
    graph.then("flat", Op::Flatten);
    graph.then("wide", Op::Dense(Dense { units: 65_536, bias: true }));
    graph.then("head", Op::Dense(Dense { units: 4, bias: true }));
    file.model = Model::zeros(graph).unwrap();
    for weights in [WeightType::F32, WeightType::F16] {
        file.weights = weights;
        let mut bytes = file.to_bytes().unwrap();
        bytes.truncate(8_192);
        bytes[24..32].copy_from_slice(&8_192u64.to_le_bytes());
        assert!(!forged(&mut bytes));
    }
}

/// Every byte of the probe section on its own, under a fresh hash: refused, or a file with just that content.
#[test]
fn every_byte_of_the_probes_counts() {
    let whole = model_sample::probed_file().to_bytes().unwrap();
    let start = model_sample::model_file(true).to_bytes().unwrap().len() - 32;
    let (mut refused, mut accepted) = (0, 0);
    for at in start..whole.len() - 32 {
        for bit in 0..8 {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << bit;
            if forged(&mut bytes) { accepted += 1 } else { refused += 1 }
        }
    }
    // A hash of 32 bytes and two images of 60 with 4 logits: only these may change, and no logit to what is no number.
    assert!(accepted <= 8 * (32 + 2 * (60 + 16)) && accepted > 8 * (32 + 2 * 60), "{accepted}");
    assert!(refused >= 8 * 72, "{refused}");
}

/// A probe section that declares images which are not there.
#[test]
fn probes_that_are_not_there_get_no_memory() {
    let file = model_sample::probed_file();
    let whole = file.to_bytes().unwrap();
    let start = (model_sample::model_file(true).to_bytes().unwrap().len() - 32).next_multiple_of(64);
    for count in [0, 1, 3, 8, 9, u64::MAX] {
        let mut bytes = whole.clone();
        bytes[start..start + 8].copy_from_slice(&count.to_le_bytes());
        assert!(!forged(&mut bytes), "{count}");
    }
}

/// Every byte of the int8 section on its own, under a fresh hash: refused, or a file with just that content, which
/// answers.
#[test]
fn every_byte_of_the_int8_section_counts() {
    let whole = model_sample::quantized_file().to_bytes().unwrap();
    let start = model_sample::probed_file().to_bytes().unwrap().len() - 32;
    let exec = Exec::new(1).unwrap();
    let (mut refused, mut accepted) = (0, 0);
    for at in start..whole.len() - 32 {
        for bit in 0..8 {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << bit;
            if !forged(&mut bytes) {
                refused += 1;
                continue;
            }
            accepted += 1;
            let file = ModelFile::from_bytes(&bytes).unwrap();
            let quantization = file.quantization.as_ref();
            let mut inference = Inference::quantized(&file.model, quantization, &[], 1, &exec).unwrap();
            let mut logits = vec![0.0; inference.classes()];
            inference.run(&vec![0.5; inference.input_len()], 1, &mut logits).unwrap();
        }
    }
    // Counts and numbers of values and layers may not change, and scales not to what is no positive number.
    assert!(accepted > 400 && refused > 400, "{accepted} accepted, {refused} refused");
}

/// Any numbers in a graph give shapes and places of parameters, or an error; tests run with overflow checks.
#[test]
fn hostile_graphs_never_panic() {
    let mut rng = Rng::new(3, 0);
    let edges = [0, 255, 65_535, 65_536, 65_537, 1 << 28, (1 << 28) + 1, u32::MAX / 2, u32::MAX];
    let mut number = || {
        let n = rng.next_u64();
        let (kind, n) = (n % 16, (n >> 32) as u32);
        match kind {
            0 => edges[n as usize % edges.len()],
            1 => n >> (n % 32),
            _ => 1 + n % 4,
        }
    };
    let mut accepted = 0;
    for _ in 0..200_000 {
        let mut graph = Graph::new(Shape { h: number(), w: number(), c: number() });
        for layer in 0..1 + number() % 3 {
            let padding = match number() % 3 {
                0 => Padding::Valid,
                1 => Padding::Same,
                _ => Padding::Explicit([number(), number(), number(), number()]),
            };
            let (kernel, stride) = ([number(), number()], [number(), number()]);
            let op = match number() % 8 {
                0 => Op::MaxPool2d(Pool2d { kernel, stride, padding }),
                1 => Op::AvgPool2d(Pool2d { kernel, stride, padding }),
                2 => Op::Dense(Dense { units: number(), bias: true }),
                3 => Op::BatchNorm(BatchNorm {
                    momentum: f32::from_bits(number()),
                    eps: f32::from_bits(number()),
                }),
                4 => Op::Flatten,
                5 => Op::GlobalAvgPool,
                _ => Op::Conv2d(Conv2d {
                    filters: number(),
                    kernel,
                    stride,
                    dilation: [number(), number()],
                    padding,
                    groups: number(),
                    bias: true,
                }),
            };
            let input = if number() > 4 { number() } else { layer };
            graph.push(layer.to_string(), op, &[input]);
        }
        if let Ok(layout) = ParamLayout::new(&graph) {
            accepted += 1;
            assert!(layout.total() <= MAX_ELEMENTS);
            let shapes = graph.shapes().unwrap();
            assert!(shapes.iter().all(|shape| shape.len() <= MAX_ELEMENTS));
            for node in &graph.nodes {
                if let Op::Conv2d(conv) = &node.op {
                    let g = Conv2dGeometry::new(&node.name, shapes[node.inputs[0] as usize], conv).unwrap();
                    assert!(g.macs() > 0 && g.x_len().max(g.y_len()).max(g.w_len()) <= MAX_ELEMENTS);
                }
            }
        }
    }
    assert!(accepted > 5_000, "{accepted} graphs accepted: the numbers are too wild to test much");
}
