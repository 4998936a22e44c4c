//! Ten training steps against PyTorch: `fixtures/torch_trajectory.py` made the numbers and explains the cases.

use ocelli_engine::graph::{BatchNorm, Conv2d, Dense, Padding, Pool2d};
use ocelli_engine::{
    Activation, AdamConfig, Exec, Graph, Inference, Model, Op, Optimizer, ParamKind, Shape, TrainConfig,
    Trainer, zoo,
};

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

/// Trains as the script does, with direct convolutions and with the default ones, and compares every loss and two images'
/// logits; `bound` is relative to their size.
fn check(case: &str, graph: &Graph, config: &TrainConfig, lr: f32, bound: f64) {
    let fixture: serde_json::Value =
        serde_json::from_str(include_str!("fixtures/torch_trajectory.json")).expect("the fixture is JSON");
    let numbers = |key: &str| -> Vec<f64> {
        let list = fixture["cases"][case][key].as_array().expect("the case is in the fixture");
        list.iter().map(|v| v.as_f64().expect("a number")).collect()
    };
    let (losses, logits) = (numbers("losses"), numbers("logits"));
    let classes = graph.classes().expect("the graph is sound");
    for (isa, exact) in instruction_sets().into_iter().flat_map(|isa| [(isa, true), (isa, false)]) {
        let case = format!("{case} on {isa:?}, {}", if exact { "exact" } else { "default" });
        let exec = Exec::with_isa(isa, 2).expect("two threads").exact(exact);
        let mut trainer =
            Trainer::new(filled(graph.clone()), config.clone(), &exec).expect("a sound configuration");
        let mut x = Vec::new();
        for (step, &expected) in losses.iter().enumerate() {
            x = stream(1000 + step as u64, config.batch * graph.input.len());
            let labels: Vec<u32> = (0..config.batch).map(|i| ((7 * i + 3 * step) % classes) as u32).collect();
            let loss = f64::from(trainer.step(&x, &labels, lr).expect("a sound batch").loss);
            let error = (loss - expected).abs();
            assert!(error <= bound * expected, "{case}, step {step}: loss {loss}, PyTorch {expected}");
        }
        let mut inference = Inference::new(trainer.model(), 2, &exec).expect("the model compiles");
        let mut found = vec![0.0; 2 * classes];
        inference.run(&x[..2 * graph.input.len()], 2, &mut found).expect("two images");
        let size = logits.iter().fold(0.0f64, |m, x| m.max(x.abs()));
        for (found, expected) in found.iter().zip(&logits) {
            let error = (f64::from(*found) - expected).abs();
            assert!(error <= 20.0 * bound * size, "{case}: logit {found}, PyTorch {expected}");
        }
    }
}

fn config(batch: usize, optimizer: Optimizer) -> TrainConfig {
    TrainConfig { batch, optimizer, ..TrainConfig::default() }
}

/// Ten steps let a rounding of 6e-8 grow through the weights; a wrong formula shows at 1e-3 and above.
const BOUND: f64 = 2e-5;

#[test]
fn tutorial_cnn_with_adam() {
    let config = config(16, Optimizer::Adam(AdamConfig::default()));
    check("keras-cnn adam", &keras_cnn(), &config, 1e-3, BOUND);
}

#[test]
fn every_layer_with_sgd_smoothing_weights_and_clipping() {
    let sgd = Optimizer::Sgd { momentum: 0.9, nesterov: true, weight_decay: 5e-4 };
    let config = TrainConfig {
        clip_norm: Some(1.0),
        label_smoothing: 0.1,
        class_weights: Some(vec![1.0, 2.0, 0.5, 1.5, 1.0]),
        ..config(12, sgd)
    };
    check("mixed sgd", &mixed(), &config, 0.05, BOUND);
}

#[test]
fn every_layer_with_adamw() {
    let config = config(12, Optimizer::AdamW(AdamConfig { weight_decay: 0.05, ..AdamConfig::default() }));
    check("mixed adamw", &mixed(), &config, 2e-3, BOUND);
}
