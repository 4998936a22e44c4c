//! Ten training steps against PyTorch, in f32 and in bf16: `fixtures/torch_trajectory.py` made the numbers and explains the
//! cases.

use std::collections::BTreeMap;

use ocelli_engine::graph::{BatchNorm, Conv2d, Dense, Padding, Pool2d};
use ocelli_engine::{
    Activation, AdamConfig, Exec, Graph, Inference, Model, Op, Optimizer, ParamKind, Precision, Shape,
    TrainConfig, Trainer, zoo,
};
use serde::{Deserialize, de::DeserializeOwned};

use crate::instruction_sets::instruction_sets;

/// The script's generator: the upper 24 bits of a linear congruential one, in -1..1.
fn stream(seed: u64, count: usize) -> Vec<f32> {
    let mut state = (seed.wrapping_mul(2_654_435_761).wrapping_add(12_345)) as u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (f64::from(state >> 8) / f64::from(1 << 23) - 1.0) as f32
    };
    std::iter::repeat_with(next).take(count).collect()
}

/// The script's weights.
fn filled(graph: Graph) -> Model {
    let mut model = Model::init(graph, 0).expect("the graph is sound");
    let entries: Vec<_> = model.layout().entries().to_vec();
    for (number, entry) in entries.iter().filter(|e| e.kind.is_trainable()).enumerate() {
        let fan_in: usize = entry.shape[..entry.shape.len() - 1].iter().product();
        let scale = |x: f32| match entry.kind {
            ParamKind::Weight => x * 0.5f32.powi((fan_in.ilog2() / 2) as i32),
            ParamKind::Bias => x / 16.0,
            ParamKind::Scale => 1.0 + x / 8.0,
            _ => x / 8.0,
        };
        let values = stream(number as u64, entry.len()).into_iter().map(scale);
        model.params_mut()[entry.range()].iter_mut().zip(values).for_each(|(p, v)| *p = v);
    }
    model
}

/// The script's `Mixed`.
pub(crate) fn mixed() -> Graph {
    let mut g = Graph::new(Shape::new(13, 11, 3));
    let padded = |filters, kernel, pad| Conv2d {
        padding: Padding::Explicit([pad; 4]),
        ..Conv2d::new(filters, kernel)
    };
    let norm = || Op::BatchNorm(BatchNorm::default());
    g.then("conv1", Op::Conv2d(Conv2d { bias: false, ..padded(16, 3, 1) }));
    g.then("norm1", norm());
    let a = g.then("relu1", Op::Activation(Activation::Relu));
    g.then("depthwise", Op::Conv2d(Conv2d { bias: false, groups: 16, ..padded(16, 3, 1) }));
    g.then("norm2", norm());
    g.then("relu2", Op::Activation(Activation::Relu6));
    let b = g.then("point", Op::Conv2d(Conv2d::new(16, 1)));
    g.push("add", Op::Add, &[a, b]);
    g.then("relu3", Op::Activation(Activation::Relu));
    g.then(
        "pool",
        Op::MaxPool2d(Pool2d { kernel: [3; 2], stride: [2; 2], padding: Padding::Explicit([1; 4]) }),
    );
    g.then("grouped", Op::Conv2d(Conv2d { stride: [2; 2], groups: 2, ..padded(24, 3, 1) }));
    g.then("silu", Op::Activation(Activation::Silu));
    g.then("dilated", Op::Conv2d(Conv2d { dilation: [2; 2], ..padded(20, 3, 2) }));
    g.then("gelu", Op::Activation(Activation::Gelu));
    g.then("average", Op::AvgPool2d(Pool2d { stride: [1; 2], ..Pool2d::new(2) }));
    g.then("strided", Op::Conv2d(Conv2d { kernel: [3, 2], stride: [2, 3], ..padded(12, 3, 1) }));
    g.then("global", Op::GlobalAvgPool);
    g.then("dense1", Op::Dense(Dense { units: 18, bias: true }));
    g.then("relu4", Op::Activation(Activation::Relu));
    g.then("dense2", Op::Dense(Dense { units: 5, bias: true }));
    g
}

/// The tutorial CNN without its dropout, which draws other numbers in PyTorch.
fn keras_cnn() -> Graph {
    let mut graph = zoo::build("keras-cnn", Shape::new(28, 28, 1), 10).expect("a known network");
    for node in &mut graph.nodes {
        if let Op::Dropout { rate } = &mut node.op {
            *rate = 0.0;
        }
    }
    graph
}

/// One of the script's trainings.
struct Case {
    name: &'static str,
    graph: Graph,
    config: TrainConfig,
    lr: f32,
}

fn config(batch: usize, optimizer: Optimizer) -> TrainConfig {
    TrainConfig { batch, optimizer, ..TrainConfig::default() }
}

fn tutorial_cnn() -> Case {
    let config = config(16, Optimizer::Adam(AdamConfig::default()));
    Case { name: "keras-cnn adam", graph: keras_cnn(), config, lr: 1e-3 }
}

fn mixed_with_sgd() -> Case {
    let sgd = Optimizer::Sgd { momentum: 0.9, nesterov: true, weight_decay: 5e-4 };
    let config = TrainConfig {
        clip_norm: Some(1.0),
        label_smoothing: 0.1,
        class_weights: Some(vec![1.0, 2.0, 0.5, 1.5, 1.0]),
        ..config(12, sgd)
    };
    Case { name: "mixed sgd", graph: mixed(), config, lr: 0.05 }
}

fn mixed_with_adamw() -> Case {
    let config = config(12, Optimizer::AdamW(AdamConfig { weight_decay: 0.05, ..AdamConfig::default() }));
    Case { name: "mixed adamw", graph: mixed(), config, lr: 2e-3 }
}

/// The losses of ten steps, and two images' logits afterwards.
#[derive(Deserialize)]
struct Trajectory {
    /// Norms of the gradients of all tensors at the first step; in f32 the losses say enough.
    #[serde(default)]
    gradients: Vec<f64>,
    losses: Vec<f64>,
    logits: Vec<f64>,
}

impl Trajectory {
    /// Trains as the script does.
    fn of(case: &Case, exec: &Exec) -> Self {
        let Case { graph, config, lr, .. } = case;
        let classes = graph.classes().expect("the graph is sound");
        let mut trainer =
            Trainer::new(filled(graph.clone()), config.clone(), exec).expect("a sound configuration");
        let (mut x, mut losses) = (Vec::new(), Vec::new());
        for step in 0..10 {
            x = stream(1000 + step as u64, config.batch * graph.input.len());
            let labels: Vec<u32> = (0..config.batch).map(|i| ((7 * i + 3 * step) % classes) as u32).collect();
            losses.push(f64::from(trainer.step(&x, &labels, *lr).expect("a sound batch").loss));
        }
        let mut inference = Inference::new(trainer.model(), 2, exec).expect("the model compiles");
        let mut logits = vec![0.0; 2 * classes];
        inference.run(&x[..2 * graph.input.len()], 2, &mut logits).expect("two images");
        let gradients = first_gradients(case, exec);
        Trajectory { gradients, losses, logits: logits.into_iter().map(f64::from).collect() }
    }

    /// The largest distance of a loss, relative to it, and of a logit, relative to the largest one.
    fn distance(&self, other: &Trajectory) -> [f64; 2] {
        assert_eq!((self.losses.len(), self.logits.len()), (other.losses.len(), other.logits.len()));
        let losses = self.losses.iter().zip(&other.losses).map(|(a, b)| (a - b).abs() / b);
        let size = other.logits.iter().fold(0.0f64, |m, x| m.max(x.abs()));
        let logits = self.logits.iter().zip(&other.logits).map(|(a, b)| (a - b).abs() / size);
        // A NaN is the largest.
        let largest = |m: f64, x: f64| if m >= x { m } else { x };
        [losses.fold(0.0, largest), logits.fold(0.0, largest)]
    }
}

/// Norms of the gradients of all tensors at the first step: what a step of plain SGD changes.
fn first_gradients(case: &Case, exec: &Exec) -> Vec<f64> {
    let Case { graph, config, .. } = case;
    let optimizer = Optimizer::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 };
    let config = TrainConfig { optimizer, clip_norm: None, ..config.clone() };
    let (batch, classes) = (config.batch, graph.classes().expect("the graph is sound"));
    let before = filled(graph.clone());
    let mut trainer = Trainer::new(before.clone(), config, exec).expect("a sound configuration");
    let labels: Vec<u32> = (0..batch).map(|i| (7 * i % classes) as u32).collect();
    trainer.step(&stream(1000, batch * graph.input.len()), &labels, 1.0).expect("a sound batch");
    let trainable = before.layout().entries().iter().filter(|e| e.kind.is_trainable());
    let norm = |range: std::ops::Range<usize>| {
        let pairs = before.params()[range.clone()].iter().zip(&trainer.model().params()[range]);
        pairs.map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt()
    };
    trainable.map(|e| norm(e.range())).collect()
}

/// What PyTorch found.
#[derive(Deserialize)]
struct Fixture<T> {
    cases: BTreeMap<String, T>,
}

impl<T: DeserializeOwned> Fixture<T> {
    fn case(text: &str, case: &Case) -> T {
        let mut fixture: Fixture<T> = serde_json::from_str(text).expect("the fixture is JSON");
        fixture.cases.remove(case.name).expect("the case is in the fixture")
    }
}

/// Trains with direct convolutions and with the default ones, and compares every loss and two images' logits.
fn check(case: &Case) {
    let expected: Trajectory = Fixture::case(include_str!("fixtures/torch_trajectory.json"), case);
    for (isa, exact) in instruction_sets().into_iter().flat_map(|isa| [(isa, true), (isa, false)]) {
        let exec = Exec::with_isa(isa, 2).expect("two threads").exact(exact);
        let found = Trajectory::of(case, &exec);
        let [losses, logits] = found.distance(&expected);
        let case = format!("{} on {isa:?}, {}", case.name, if exact { "exact" } else { "default" });
        assert!(losses <= BOUND, "{case}: losses {:?}, PyTorch {:?}", found.losses, expected.losses);
        assert!(logits <= 20.0 * BOUND, "{case}: logits {:?}, PyTorch {:?}", found.logits, expected.logits);
    }
}

/// Ten steps let a rounding of 6e-8 grow through the weights; a wrong formula shows at 1e-3 and above.
const BOUND: f64 = 2e-5;

#[test]
fn tutorial_cnn_with_adam() {
    check(&tutorial_cnn());
}

#[test]
fn every_layer_with_sgd_smoothing_weights_and_clipping() {
    check(&mixed_with_sgd());
}

#[test]
fn every_layer_with_adamw() {
    check(&mixed_with_adamw());
}

/// The same training by PyTorch, once in f32 and once under autocast.
#[derive(Deserialize)]
struct Both {
    f32: Trajectory,
    bf16: Trajectory,
}

/// How far a loss in bf16 may be from PyTorch's in bf16, in distances that the latter has had from its own f32 until then.
///
/// Both keep what convolutions make in bf16 and statistics of batch normalisation in f32, but they round in other places:
/// PyTorch also rounds logits and gradients of weights, and adds up in another order. So each strays from f32 as far as the other,
/// on its own way, and is as far again from the other; what ten steps make of that doubles it. A learning rate that is
/// wrong by 2 % shows.
const STRAY: f64 = 4.0;
/// The least distance that is reckoned with, as a distance may be small by chance: logits of up to 0.4 that are rounded by
/// 2^-9 of that, in the mean over a dozen images and relative to a loss of 1.6.
const LEAST_STRAY: f64 = 1.0 / (1 << 14) as f64;

/// How far the norm of a tensor's gradient may be from PyTorch's in bf16, unless that is further from its own in f32: losses
/// say little of the scale of gradients, nothing after Adam. Both gradients are of numbers that were rounded a dozen times by
/// up to 2^-9, some in other places, and up to a tenth of a gradient is such noise, which adds up with the rest at right
/// angles. The largest distance is 2/3 of this; a gradient that is wrong by 3 % shows.
const NORM: f64 = 1.0 / 64.0;

/// Trains in bf16 and compares gradients and every loss. Two images' logits are compared after SGD alone: Adam makes steps
/// of full length of gradients that are nothing but rounding, so logits in bf16 are soon up to a third of their size from
/// those in f32.
fn check_bf16(case: &Case) {
    let Both { f32, bf16 } = Fixture::case(include_str!("fixtures/torch_trajectory_bf16.json"), case);
    for isa in instruction_sets() {
        let exec = Exec::with_isa(isa, 2).expect("two threads").precision(Precision::Bf16);
        let found = Trajectory::of(case, &exec);
        let case_on = format!("{} in bf16 on {isa:?}", case.name);
        assert_eq!(found.gradients.len(), bf16.gradients.len(), "{case_on}");
        for (i, (&norm, &expected)) in found.gradients.iter().zip(&bf16.gradients).enumerate() {
            let bound = NORM.max((expected - f32.gradients[i]).abs() / expected);
            let error = (norm - expected).abs() / expected;
            assert!(error <= bound, "{case_on}, gradient {i}: {norm}, PyTorch {expected}: off by {error:e}");
        }
        let mut stray = LEAST_STRAY;
        for (step, (&loss, &expected)) in found.losses.iter().zip(&bf16.losses).enumerate() {
            stray = stray.max((expected - f32.losses[step]).abs() / expected);
            let error = (loss - expected).abs() / expected;
            let bound = STRAY * stray;
            assert!(
                error <= bound,
                "{case_on}, step {step}: loss {loss}, PyTorch {expected}: off by {error:e} of {bound:e}"
            );
        }
        assert_eq!(found.losses.len(), bf16.losses.len());
        if let Optimizer::Sgd { .. } = case.config.optimizer {
            let ([_, error], [_, stray]) = (found.distance(&bf16), bf16.distance(&f32));
            assert!(
                error <= STRAY * stray,
                "{case_on}: logits {:?}, PyTorch {:?}",
                found.logits,
                bf16.logits
            );
        }
        // Nothing was computed in f32 by mistake.
        assert!(found.distance(&f32)[0] > BOUND, "{case_on}: losses are those in f32");
    }
}

#[test]
fn tutorial_cnn_in_bf16() {
    check_bf16(&tutorial_cnn());
}

#[test]
fn every_layer_with_sgd_in_bf16() {
    check_bf16(&mixed_with_sgd());
}

#[test]
fn every_layer_with_adamw_in_bf16() {
    check_bf16(&mixed_with_adamw());
}
