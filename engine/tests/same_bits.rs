//! AVX2 and AVX-512 compute the same bits, in every layer and in whole networks, forward and in training: a model trained
//! on one machine can be continued and checked on another. Both round after each fused multiply-add, and each sum has one
//! order, whatever the width of the vectors.
//!
//! Portable code multiplies and adds with a rounding each, so its bits are others.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod random_model;

use ocelli_engine::graph::{BatchNorm, Conv2d, Dense, Padding, Pool2d};
use ocelli_engine::zoo;
use ocelli_engine::{
    Activation, AdamConfig, Exec, Graph, Inference, Isa, Model, Op, Optimizer, Shape, TrainConfig, Trainer,
};
use random_model::{bits, images, model};

const BATCH: usize = 5;
const CLASSES: usize = 7;
const STEPS: usize = 10;

/// Channels around the seams of both vector lengths and of the register tiles.
const CHANNELS: [usize; 16] = [1, 2, 3, 7, 8, 9, 12, 15, 16, 17, 24, 31, 32, 33, 48, 70];

/// Both instruction sets, or nothing where one of them is missing, which is said.
#[allow(clippy::print_stderr, reason = "a skipped test says so")]
fn both() -> Option<[Isa; 2]> {
    if let Some(forced) = std::env::var_os("OCELLI_ISA") {
        eprintln!("SKIP: OCELLI_ISA={} leaves nothing to compare", forced.display());
        return None;
    }
    match (Isa::by_name("avx2"), Isa::by_name("avx512")) {
        (Ok(avx2), Ok(avx512)) => Some([avx2, avx512]),
        _ if std::env::var("OCELLI_REQUIRE_ISA").is_ok_and(|v| v == "1") => {
            panic!("this machine does not have both AVX2 and AVX-512")
        }
        _ => {
            eprintln!("SKIP: this machine does not have both AVX2 and AVX-512");
            None
        }
    }
}

fn sgd() -> Optimizer {
    Optimizer::Sgd { momentum: 0.9, nesterov: true, weight_decay: 5e-4 }
}

fn config(batch: usize, optimizer: Optimizer) -> TrainConfig {
    TrainConfig {
        batch,
        optimizer,
        clip_norm: Some(1.0),
        label_smoothing: 0.1,
        seed: 3,
        ..TrainConfig::default()
    }
}

/// What comes of a network: logits of single images and of a batch, then losses and all parameters after training.
fn results(model: &Model, optimizer: Optimizer, exec: &Exec) -> Vec<(String, Vec<u32>)> {
    let shape = model.graph().input;
    let x = images(BATCH, [shape.h, shape.w, shape.c].map(|side| side as usize));
    let mut found = Vec::new();
    for batch in [1, BATCH] {
        let mut inference = Inference::new(model, batch, exec).unwrap();
        let mut logits = vec![0.0; batch * inference.classes()];
        inference.run(&x[..batch * shape.len()], batch, &mut logits).unwrap();
        found.push((format!("logits of a batch of {batch}"), bits(&logits)));
    }
    let mut trainer = Trainer::new(model.clone(), config(BATCH, optimizer), exec).unwrap();
    let labels: Vec<u32> = (0..BATCH as u32).map(|i| i * 3 % CLASSES as u32).collect();
    for step in 1..=STEPS {
        let loss = trainer.step(&x, &labels, 0.01).unwrap().loss;
        found.push((format!("loss of step {step}"), bits(&[loss])));
        found.push((format!("parameters after step {step}"), bits(trainer.model().params())));
    }
    found
}

/// Fails at the first result of a network that differs, and says which parameter it is.
fn check(what: &str, graph: &Graph, [avx2, avx512]: [Isa; 2]) {
    let model = model(graph.clone());
    for (exact, optimizer) in [(false, sgd()), (true, Optimizer::AdamW(AdamConfig::default()))] {
        let on = |isa| {
            let exec = Exec::with_isa(isa, 2).unwrap().exact(exact);
            results(&model, optimizer, &exec)
        };
        for ((name, narrow), (_, wide)) in on(avx2).into_iter().zip(on(avx512)) {
            if let Some(at) = (0..narrow.len()).find(|&i| narrow[i] != wide[i]) {
                let entry = model.layout().entries().iter().find(|entry| entry.range().contains(&at));
                let place = entry.filter(|_| name.starts_with("parameters")).map_or("", |entry| &entry.name);
                let [a, b] = [narrow[at], wide[at]].map(f32::from_bits);
                panic!("{what}, exact: {exact}: {name} [{at}] {place}: {a:e} with AVX2, {b:e} with AVX-512");
            }
        }
    }
}

/// A layer between a convolution, which gives it a gradient to pass on, and a dense layer.
fn around(input: [usize; 3], channels: usize, layers: &[Op]) -> Graph {
    let [h, w, c] = input;
    let mut g = Graph::new(Shape::new(h, w, c));
    g.then("first", Op::Conv2d(Conv2d::new(channels, 1)));
    for (i, layer) in layers.iter().enumerate() {
        g.then(format!("layer{i}"), layer.clone());
    }
    g.then("flatten", Op::Flatten);
    g.then("dense", Op::Dense(Dense { units: CLASSES as u32, bias: true }));
    g
}

fn same(filters: usize, kernel: usize) -> Conv2d {
    Conv2d { padding: Padding::Same, ..Conv2d::new(filters, kernel) }
}

#[test]
fn depthwise_convolutions() {
    let Some(isas) = both() else { return };
    for c in CHANNELS {
        let depthwise = |kernel, stride, dilation| {
            let conv =
                Conv2d { groups: c as u32, stride: [stride; 2], dilation: [dilation; 2], ..same(c, kernel) };
            Op::Conv2d(conv)
        };
        for (kernel, stride, dilation) in
            [(3, 1, 1), (3, 2, 1), (5, 1, 1), (5, 2, 1), (4, 1, 1), (3, 1, 2), (3, 3, 1)]
        {
            let graph = around([11, 13, 3], c, &[depthwise(kernel, stride, dilation)]);
            check(
                &format!("depthwise {c} channels {kernel}x{kernel} / {stride}, dilation {dilation}"),
                &graph,
                isas,
            );
        }
        // Between pointwise convolutions, as in MobileNet.
        let pointwise = |filters| Op::Conv2d(Conv2d { bias: false, ..Conv2d::new(filters, 1) });
        let norm = || Op::BatchNorm(BatchNorm::default());
        let relu = || Op::Activation(Activation::Relu6);
        let block = [depthwise(3, 1, 1), norm(), relu(), pointwise(12), norm()];
        check(&format!("separable {c} channels"), &around([14, 14, 3], c, &block), isas);
    }
}

#[test]
fn convolutions() {
    let Some(isas) = both() else { return };
    for (i, filters) in CHANNELS.into_iter().enumerate() {
        let channels = CHANNELS[(i + 5) % CHANNELS.len()];
        let forms = [
            Conv2d::new(filters, 1),
            Conv2d { stride: [2, 2], ..Conv2d::new(filters, 1) },
            same(filters, 3),
            Conv2d { stride: [2, 1], ..same(filters, 3) },
            Conv2d { dilation: [2, 1], ..same(filters, 3) },
            Conv2d { padding: Padding::Explicit([2, 0, 1, 3]), ..Conv2d::new(filters, 5) },
        ];
        for conv in forms {
            let what = format!("{channels} channels, {conv:?}");
            check(&what, &around([10, 12, 3], channels, &[Op::Conv2d(conv)]), isas);
        }
    }
    for groups in [2, 4] {
        let conv = Conv2d { groups, ..same(24, 3) };
        check(&format!("{groups} groups"), &around([9, 9, 3], 16, &[Op::Conv2d(conv)]), isas);
    }
}

/// Channels for which transforms pay, on maps that are whole tiles and on others.
#[test]
fn winograd_convolutions() {
    let Some(isas) = both() else { return };
    for (side, channels, filters) in [(8, 64, 64), (13, 32, 48), (7, 96, 80), (16, 33, 40), (6, 128, 128)] {
        let relu = Op::Activation(Activation::Relu);
        let layers = [Op::Conv2d(same(filters, 3)), relu, Op::MaxPool2d(Pool2d::new(2))];
        check(
            &format!("{side}x{side} {channels} to {filters}"),
            &around([side, side, 3], channels, &layers),
            isas,
        );
    }
}

#[test]
fn pools_norms_and_activations() {
    let Some(isas) = both() else { return };
    let padded = || Pool2d { kernel: [3, 3], stride: [2, 2], padding: Padding::Explicit([1; 4]) };
    for c in CHANNELS {
        let norm = || Op::BatchNorm(BatchNorm::default());
        let cases: Vec<(&str, Vec<Op>)> = vec![
            ("max pool", vec![Op::MaxPool2d(Pool2d::new(2))]),
            ("overlapping max pool", vec![Op::MaxPool2d(padded())]),
            ("average pool", vec![Op::AvgPool2d(Pool2d::new(2))]),
            ("overlapping average pool", vec![Op::AvgPool2d(padded())]),
            ("global average", vec![Op::GlobalAvgPool]),
            ("global maximum", vec![Op::GlobalMaxPool]),
            ("batch normalisation", vec![norm()]),
            ("batch normalisation and ReLU6", vec![norm(), Op::Activation(Activation::Relu6)]),
            ("ReLU", vec![Op::Activation(Activation::Relu)]),
            ("GELU", vec![norm(), Op::Activation(Activation::Gelu)]),
            ("SiLU", vec![norm(), Op::Activation(Activation::Silu)]),
            ("sigmoid", vec![norm(), Op::Activation(Activation::Sigmoid)]),
            ("hard sigmoid", vec![norm(), Op::Activation(Activation::HardSigmoid)]),
            ("hard swish", vec![norm(), Op::Activation(Activation::HardSwish)]),
            ("tanh", vec![norm(), Op::Activation(Activation::Tanh)]),
            ("leaky ReLU", vec![norm(), Op::Activation(Activation::LeakyRelu { slope: 0.1 })]),
            ("clip", vec![norm(), Op::Activation(Activation::Clip { min: -0.5, max: 0.5 })]),
            (
                "gathered channels",
                vec![Op::ChannelGather { channels: (0..c as u32).rev().chain([0]).collect() }],
            ),
            ("dropout", vec![Op::Dropout { rate: 0.3 }]),
            ("dense", vec![Op::Flatten, Op::Dense(Dense { units: c as u32 + 3, bias: true })]),
        ];
        for (name, layers) in cases {
            check(&format!("{name}, {c} channels"), &around([7, 9, 3], c, &layers), isas);
        }
    }
}

#[test]
fn sums_of_branches() {
    let Some(isas) = both() else { return };
    for c in CHANNELS {
        let mut g = Graph::new(Shape::new(8, 8, 3));
        let x = g.push("first", Op::Conv2d(Conv2d::new(c, 1)), &[0]);
        let a = g.push("a", Op::Conv2d(same(c, 3)), &[x]);
        let b = g.push("b", Op::Conv2d(Conv2d::new(c, 1)), &[x]);
        let sum = g.push("sum", Op::Add, &[a, b]);
        let act = g.push("act", Op::Activation(Activation::Relu), &[sum]);
        g.push("twice", Op::Add, &[act, x]);
        g.then("pool", Op::GlobalAvgPool);
        g.then("dense", Op::Dense(Dense { units: CLASSES as u32, bias: true }));
        check(&format!("sums of {c} channels"), &g, isas);
    }
}

/// Channels scaled by a branch that squeezes them, then joined with others.
#[test]
fn scaled_and_joined_channels() {
    let Some(isas) = both() else { return };
    for c in CHANNELS {
        let mut g = Graph::new(Shape::new(8, 9, 3));
        let x = g.push("first", Op::Conv2d(Conv2d::new(c, 1)), &[0]);
        g.push("squeeze", Op::GlobalAvgPool, &[x]);
        g.then("excite", Op::Conv2d(Conv2d::new(c, 1)));
        let factors = g.then("sigmoid", Op::Activation(Activation::Sigmoid));
        let scaled = g.push("scaled", Op::ChannelScale, &[x, factors]);
        let other = g.push("other", Op::Conv2d(same(5, 3)), &[x]);
        g.push("joined", Op::Concat, &[scaled, other]);
        g.then("pool", Op::GlobalMaxPool);
        g.then("dense", Op::Dense(Dense { units: CLASSES as u32, bias: true }));
        check(&format!("{c} scaled and joined channels"), &g, isas);
    }
}

/// So many transformed tiles that a filter's gradient is summed in several blocks, whose length must not follow from how
/// wide the panels of an instruction set are.
#[test]
fn gradients_of_large_batches() {
    let Some(isas) = both() else { return };
    let (side, c, batch) = (16, 48, 96);
    let model = model(around([side, side, 3], c, &[Op::Conv2d(same(c, 3))]));
    let x = images(batch, [side, side, 3]);
    let labels: Vec<u32> = (0..batch as u32).map(|i| i % CLASSES as u32).collect();
    let [narrow, wide] = isas.map(|isa| {
        let exec = Exec::with_isa(isa, 2).unwrap();
        let mut trainer = Trainer::new(model.clone(), config(batch, sgd()), &exec).unwrap();
        trainer.step(&x, &labels, 0.01).unwrap();
        bits(trainer.model().params())
    });
    assert!(narrow == wide, "parameters differ after a step");
}

/// The networks of the zoo, on small images.
#[test]
fn whole_networks() {
    let Some(isas) = both() else { return };
    for name in zoo::NAMES {
        let side = zoo::smallest_input(name).unwrap().max(32);
        let graph = zoo::build(name, Shape::new(side, side, 3), CLASSES).unwrap();
        check(name, &graph, isas);
    }
}
