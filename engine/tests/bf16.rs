//! Networks in bf16: answers and gradients are near those in f32, and have the same bits on any number of threads.
//!
//! The last test runs all others again with products of tiles in plain Rust in place of vectors.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod random_model;

use ocelli_engine::graph::{BatchNorm, Conv2d, Dense, Padding, Pool2d};
use ocelli_engine::simd::TileUnit;
use ocelli_engine::{
    Activation, Exec, Graph, Inference, Isa, Model, Op, Optimizer, ParamKind, Precision, Shape, TrainConfig,
    Trainer, zoo,
};
use random_model::{bits, images, model};

const CLASSES: usize = 7;

fn conv(filters: usize, kernel: usize) -> Op {
    Op::Conv2d(Conv2d { padding: Padding::Same, ..Conv2d::new(filters, kernel) })
}

fn depthwise(channels: usize, kernel: usize, stride: u32) -> Op {
    let conv = Conv2d { padding: Padding::Same, stride: [stride; 2], ..Conv2d::new(channels, kernel) };
    Op::Conv2d(Conv2d { groups: channels as u32, ..conv })
}

fn norm() -> Op {
    Op::BatchNorm(BatchNorm::default())
}

fn act(act: Activation) -> Op {
    Op::Activation(act)
}

fn classes() -> Op {
    Op::Dense(Dense { units: CLASSES as u32, bias: true })
}

/// One layer after the other, a flatten and a dense layer.
fn chain(input: [usize; 3], layers: &[Op]) -> Graph {
    let [h, w, c] = input;
    let mut g = Graph::new(Shape::new(h, w, c));
    for (i, layer) in layers.iter().enumerate() {
        g.then(format!("layer{i}"), layer.clone());
    }
    g.then("flatten", Op::Flatten);
    g.then("classes", classes());
    g
}

/// Branches that are added, scaled and joined, as in residual networks and squeeze-and-excitation.
fn branches(c: usize) -> Graph {
    let mut g = Graph::new(Shape::new(9, 8, 3));
    let x = g.push("first", conv(c, 3), &[0]);
    let a = g.push("a", conv(c, 3), &[x]);
    let b = g.push("b", conv(c, 1), &[x]);
    let sum = g.push("sum", Op::Add, &[a, b]);
    let relu = g.push("relu", act(Activation::Relu), &[sum]);
    let twice = g.push("twice", Op::Add, &[relu, x]);
    g.push("squeeze", Op::GlobalAvgPool, &[twice]);
    g.then("excite", Op::Conv2d(Conv2d::new(c, 1)));
    let factors = g.then("sigmoid", act(Activation::Sigmoid));
    let scaled = g.push("scaled", Op::ChannelScale, &[twice, factors]);
    g.push("joined", Op::Concat, &[scaled, x]);
    g.then("pool", Op::GlobalAvgPool);
    g.then("classes", classes());
    g
}

/// Every operation, at channels around the seams of vectors and tiles; fewer where tiles are multiplied in plain Rust.
fn networks() -> Vec<(String, Graph)> {
    let relu = || act(Activation::Relu);
    let padded = || Pool2d { kernel: [3, 3], stride: [2, 2], padding: Padding::Explicit([1; 4]) };
    let mut all = Vec::new();
    let plain = std::env::var_os(TileUnit::VARIABLE).is_some();
    let channels: &[usize] = if plain { &[17, 33] } else { &[3, 8, 17, 33, 70] };
    for &c in channels {
        let cases: Vec<(&str, Vec<Op>)> = vec![
            ("3x3", vec![conv(c, 3), relu(), conv(c + 1, 3), relu()]),
            ("norms", vec![conv(c, 3), norm(), relu(), conv(c, 1), norm(), act(Activation::Relu6)]),
            ("pools", vec![conv(c, 3), relu(), Op::MaxPool2d(Pool2d::new(2)), conv(c, 3)]),
            (
                "pooled norms",
                vec![
                    conv(c, 3),
                    norm(),
                    relu(),
                    Op::MaxPool2d(Pool2d::new(2)),
                    depthwise(c, 3, 1),
                    norm(),
                    Op::MaxPool2d(Pool2d::new(2)),
                ],
            ),
            (
                "overlapping pools",
                vec![conv(c, 1), Op::MaxPool2d(padded()), conv(c, 3), Op::AvgPool2d(padded())],
            ),
            ("mobile", vec![conv(c, 1), depthwise(c, 3, 1), norm(), act(Activation::Relu6), conv(12, 1)]),
            ("stride", vec![conv(c, 3), depthwise(c, 5, 2), norm(), act(Activation::Silu), conv(9, 3)]),
            (
                "clipped",
                vec![
                    conv(c, 3),
                    norm(),
                    act(Activation::Clip { min: -0.5, max: 1.5 }),
                    Op::MaxPool2d(Pool2d::new(2)),
                    Op::ChannelGather { channels: vec![0, 0, c as u32 - 1, 1, 2] },
                    conv(c, 3),
                    act(Activation::LeakyRelu { slope: 0.25 }),
                    act(Activation::HardSwish),
                ],
            ),
            ("dropout", vec![conv(c, 3), Op::Dropout { rate: 0.3 }, act(Activation::Gelu)]),
            (
                "hidden",
                vec![
                    conv(c, 3),
                    relu(),
                    Op::Flatten,
                    Op::Dense(Dense { units: c as u32, bias: true }),
                    relu(),
                ],
            ),
            ("largest", vec![conv(c, 3), act(Activation::Relu), Op::GlobalMaxPool]),
            ("mean", vec![norm(), conv(c, 3), norm(), relu(), Op::GlobalAvgPool]),
        ];
        all.extend(cases.into_iter().map(|(name, ops)| (format!("{name} {c}"), chain([11, 9, 3], &ops))));
        all.push((format!("branches {c}"), branches(c)));
    }
    let groups = Op::Conv2d(Conv2d { groups: 4, padding: Padding::Same, ..Conv2d::new(24, 3) });
    all.push(("groups".to_owned(), chain([9, 9, 3], &[conv(16, 3), groups])));
    if plain {
        return all;
    }
    all.push(("resnet9".to_owned(), zoo::build("resnet9", Shape::new(32, 32, 3), CLASSES).unwrap()));
    all
}

fn exec(threads: usize, precision: Precision) -> Exec {
    Exec::with_isa(Isa::best().unwrap(), threads).unwrap().precision(precision)
}

/// A model whose layers neither shrink nor blow up what passes through them.
fn balanced(graph: Graph) -> Model {
    let mut model = Model::init(graph.clone(), 3).unwrap();
    // Running statistics and shifts that are not those of a fresh model.
    let random = random_model::model(graph);
    for entry in random.layout().entries().to_vec() {
        if matches!(entry.kind, ParamKind::Bias | ParamKind::Shift | ParamKind::RunningMean) {
            model.params_mut()[entry.range()].copy_from_slice(&random.params()[entry.range()]);
        }
    }
    model
}

fn logits(model: &Model, batch: usize, exec: &Exec) -> Vec<f32> {
    let shape = model.graph().input;
    let x = images(batch, [shape.h, shape.w, shape.c].map(|side| side as usize));
    let mut inference = Inference::new(model, batch, exec).unwrap();
    let mut logits = vec![0.0; batch * inference.classes()];
    inference.run(&x, batch, &mut logits).unwrap();
    logits
}

fn config(batch: usize) -> TrainConfig {
    let optimizer = Optimizer::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 };
    TrainConfig { batch, optimizer, seed: 3, ..TrainConfig::default() }
}

/// What some steps leave of a model, and the losses.
fn trained(model: &Model, (batch, steps, rate): (usize, usize, f32), exec: &Exec) -> (Model, Vec<f32>) {
    let shape = model.graph().input;
    let x = images(batch, [shape.h, shape.w, shape.c].map(|side| side as usize));
    let labels: Vec<u32> = (0..batch as u32).map(|i| i * 3 % CLASSES as u32).collect();
    let mut trainer = Trainer::new(model.clone(), config(batch), exec).unwrap();
    let losses = (0..steps).map(|_| trainer.step(&x, &labels, rate).unwrap().loss).collect();
    (trainer.model().clone(), losses)
}

#[test]
fn answers_are_near_those_in_f32() {
    for (name, graph) in networks() {
        let model = balanced(graph);
        let [exact, found] =
            [Precision::F32, Precision::Bf16].map(|precision| logits(&model, 3, &exec(2, precision)));
        let largest = exact.iter().fold(0.0f32, |a, b| a.max(b.abs()));
        let error = exact.iter().zip(&found).fold(0.0f32, |e, (a, b)| e.max((a - b).abs()));
        assert!(error > 0.0, "{name}: bf16 rounds");
        // A dozen roundings of 2^-8 each.
        assert!(error <= 0.03 * largest, "{name}: logits up to {largest} are off by {error}");
    }
}

#[test]
fn gradients_point_where_those_in_f32_do() {
    for (name, graph) in networks() {
        let model = balanced(graph);
        let step = |precision| trained(&model, (5, 1, 1.0), &exec(2, precision)).0;
        let (exact, found) = (step(Precision::F32), step(Precision::Bf16));
        let total = distance(&exact, &model, 0..model.params().len());
        for entry in model.layout().entries() {
            let range = entry.range();
            let norm = distance(&exact, &model, range.clone());
            let error = distance(&exact, &found, range);
            // What hardly changes is lost in rounding. Maxima may be other pixels and ReLUs open that were closed, the more of
            // them the more layers are behind.
            let share = match &name[..] {
                "resnet9" => 0.5,
                name if name.starts_with("largest") || name.starts_with("pooled norms") => 0.5,
                _ => 0.15,
            };
            let bound = share * norm + 0.01 * total;
            assert!(error <= bound, "{name} {}: off by {error} of {norm} (all: {total})", entry.name);
        }
    }
}

/// Euclidean distance of some parameters.
fn distance(a: &Model, b: &Model, range: std::ops::Range<usize>) -> f64 {
    let pairs = a.params()[range.clone()].iter().zip(&b.params()[range]);
    pairs.map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt()
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    for (name, graph) in networks().into_iter().step_by(3) {
        let model = balanced(graph);
        let on = |threads| {
            let exec = exec(threads, Precision::Bf16);
            let (model_after, losses) = trained(&model, (5, 2, 0.05), &exec);
            (bits(&logits(&model, 4, &exec)), bits(model_after.params()), bits(&losses))
        };
        let one = on(1);
        for threads in [2, 3, 7] {
            assert!(on(threads) == one, "{name}: {threads} threads");
        }
    }
}

#[test]
fn an_image_has_the_same_logits_in_any_batch() {
    let exec = exec(2, Precision::Bf16);
    for (name, graph) in networks().into_iter().step_by(4) {
        let model = model(graph);
        let all = logits(&model, 5, &exec);
        for batch in 1..5 {
            assert_eq!(bits(&logits(&model, batch, &exec)), bits(&all[..batch * CLASSES]), "{name}: {batch}");
        }
    }
}

#[test]
fn a_network_learns_as_in_f32() {
    let graph = chain(
        [12, 12, 3],
        &[
            conv(16, 3),
            norm(),
            act(Activation::Relu),
            Op::MaxPool2d(Pool2d::new(2)),
            conv(24, 3),
            act(Activation::Relu),
        ],
    );
    let model = Model::init(graph, 1).unwrap();
    let losses = |precision| trained(&model, (42, 40, 0.02), &exec(2, precision)).1;
    let (exact, found) = (losses(Precision::F32), losses(Precision::Bf16));
    assert!(exact[39] < 0.7 * exact[0], "there is something to learn: {} to {}", exact[0], exact[39]);
    for (step, (exact, found)) in exact.iter().zip(&found).enumerate() {
        assert!((exact - found).abs() <= 0.03 * exact + 0.01, "step {step}: {found}, {exact} in f32");
    }
}

/// All of the above with tiles, which this processor may have no unit for.
#[test]
fn tiles_in_plain_rust_do_what_vectors_do() {
    if std::env::var_os(TileUnit::VARIABLE).is_some() {
        return;
    }
    let program = std::env::current_exe().unwrap();
    let output = std::process::Command::new(program)
        .env(TileUnit::VARIABLE, "emulated")
        .args(["--skip", "tiles_in_plain_rust"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("5 passed"), "{text}");
}
