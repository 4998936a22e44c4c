//! Gradients of logits with respect to inner values, against finite differences of an f64 oracle.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod instruction_sets;
#[allow(dead_code, reason = "nothing is trained here")]
mod norm_network;
mod random_model;

use instruction_sets::instruction_sets;
use norm_network::sound;
use ocelli_engine::geometry::{Conv2dGeometry, PoolGeometry};
use ocelli_engine::graph::{BatchNorm, Conv2d, Dense, Padding, Pool2d};
use ocelli_engine::kernels::reference;
use ocelli_engine::{
    Activation, ClassGradients, EngineError, Exec, GradientOutputs, Graph, Inference, Mode, Model, Op, Plan,
    Shape, zoo,
};
use random_model::{bits, images};

/// What a pass gives.
#[derive(Clone, Debug, PartialEq)]
struct Found {
    classes: Vec<u32>,
    logits: Vec<f32>,
    values: Vec<f32>,
    gradients: Vec<f32>,
}

fn run(model: &Model, value: usize, x: &[f32], classes: &[Option<u32>], exec: &Exec) -> Found {
    let mut network = ClassGradients::new(model, value, classes.len(), exec).unwrap();
    let (n, len) = (classes.len(), network.shape().len());
    let mut found = Found {
        classes: Vec::new(),
        logits: vec![f32::NAN; n * network.classes()],
        values: vec![f32::NAN; n * len],
        gradients: vec![f32::NAN; n * len],
    };
    let Found { logits, values, gradients, .. } = &mut found;
    found.classes = network.run(x, classes, GradientOutputs { logits, values, gradients }).unwrap();
    found
}

/// All values of one image by definition, in f64; `change` is done to one value before others read it.
fn values(model: &Model, image: &[f64], change: impl Fn(usize, &mut [f64])) -> Vec<Vec<f64>> {
    let graph = model.graph();
    let shapes = graph.shapes().unwrap();
    let mut values = vec![image.to_vec()];
    for (index, node) in graph.nodes.iter().enumerate() {
        let (x, shape) = (&values[node.inputs[0] as usize], shapes[node.inputs[0] as usize]);
        let channels = shape.c as usize;
        let own = |what: &str| {
            let values = model.tensor(&format!("{}.{what}", node.name))?;
            Some(values.iter().map(|&p| f64::from(p)).collect::<Vec<f64>>())
        };
        let pool = |pool| PoolGeometry::new(&node.name, shape, pool).unwrap();
        let mut y = match &node.op {
            Op::Conv2d(conv) => {
                let g = Conv2dGeometry::new(&node.name, shape, conv).unwrap();
                reference::conv2d(x, &own("weight").unwrap(), own("bias").as_deref(), &g)
            }
            Op::Dense(_) => reference::dense(x, &own("weight").unwrap(), &own("bias").unwrap(), channels),
            Op::BatchNorm(norm) => {
                let [scale, shift, mean, var] =
                    ["scale", "shift", "running_mean", "running_var"].map(|name| own(name).unwrap());
                reference::batch_norm(x, (&scale, &shift), (&mean, &var), norm.eps.into())
            }
            Op::MaxPool2d(settings) => reference::max_pool(x, &pool(settings)),
            Op::AvgPool2d(settings) => reference::avg_pool(x, &pool(settings)),
            Op::GlobalAvgPool => reference::global_avg(x, channels),
            Op::GlobalMaxPool => reference::global_max(x, channels),
            Op::Activation(act) => reference::activation(x, *act),
            Op::Dropout { .. } | Op::Flatten => x.clone(),
            Op::Add => x.iter().zip(&values[node.inputs[1] as usize]).map(|(a, b)| a + b).collect(),
            Op::Concat => {
                let part = |&value: &u32| (&values[value as usize][..], shapes[value as usize].c as usize);
                reference::concat(&node.inputs.iter().map(part).collect::<Vec<_>>())
            }
            Op::ChannelGather { channels: list } => reference::channel_gather(x, channels, list),
            Op::ChannelScale => reference::channel_scale(x, &values[node.inputs[1] as usize]),
        };
        change(index + 1, &mut y);
        values.push(y);
    }
    values
}

/// Branches that meet in sums, in joined channels and in scales; a pool that a convolution takes in, and one that applies its
/// ReLU; a dropout that drops nothing here, and functions whose derivative needs their input.
fn branches() -> Graph {
    let mut g = Graph::new(Shape::new(14, 12, 3));
    let same = |filters, kernel| Conv2d { padding: Padding::Same, ..Conv2d::new(filters, kernel) };
    let act = |g: &mut Graph, name: &str, act| g.then(name, Op::Activation(act));
    g.then("stem", Op::Conv2d(same(8, 3)));
    g.then("stem.relu", Op::Activation(Activation::Relu));
    let stem = g.then("stem.pool", Op::MaxPool2d(Pool2d::new(2)));
    g.then("wide", Op::Conv2d(same(24, 3)));
    act(&mut g, "wide.gelu", Activation::Gelu);
    g.then("wide.drop", Op::Dropout { rate: 0.5 });
    g.then("back", Op::Conv2d(same(8, 3)));
    let back = act(&mut g, "back.silu", Activation::Silu);
    g.push("squeeze", Op::GlobalAvgPool, &[back]);
    g.then("excite", Op::Dense(Dense { units: 8, bias: true }));
    let factors = act(&mut g, "factors", Activation::Sigmoid);
    let scaled = g.push("scaled", Op::ChannelScale, &[back, factors]);
    let sum = g.push("sum", Op::Add, &[stem, scaled]);
    let twice = g.push("twice", Op::Add, &[sum, sum]);
    let joined = g.push("joined", Op::Concat, &[twice, back, stem]);
    g.push("narrow", Op::Conv2d(Conv2d::new(16, 1)), &[joined]);
    g.then("narrow.norm", Op::BatchNorm(BatchNorm::default()));
    let narrow = act(&mut g, "narrow.relu6", Activation::Relu6);
    g.then("depthwise", Op::Conv2d(Conv2d { groups: 16, ..same(16, 3) }));
    act(&mut g, "depthwise.relu", Activation::Relu);
    let depthwise = g.then("project", Op::Conv2d(Conv2d::new(16, 1)));
    g.push("rest", Op::Add, &[depthwise, narrow]);
    g.then("average", Op::AvgPool2d(Pool2d { kernel: [3; 2], stride: [2; 2], padding: Padding::Same }));
    let last = act(&mut g, "last", Activation::Relu);
    let mean = g.push("mean", Op::GlobalAvgPool, &[last]);
    let peak = g.push("peak", Op::GlobalMaxPool, &[last]);
    g.push("both", Op::Add, &[mean, peak]);
    g.then("drop", Op::Dropout { rate: 0.2 });
    g.then("head", Op::Dense(Dense { units: 5, bias: true }));
    g
}

/// The network of `norm_network` as it is used: its dropout drops, in training.
fn norms() -> Graph {
    let mut graph = norm_network::graph(16);
    for node in &mut graph.nodes {
        if let Op::Dropout { rate } = &mut node.op {
            *rate = 0.4;
        }
    }
    graph
}

/// Elements to look at: the largest gradient of an image and some others.
fn looked_at(gradients: &[f32]) -> Vec<usize> {
    let size = |&i: &usize| gradients[i].abs();
    let largest = (0..gradients.len()).max_by(|a, b| size(a).total_cmp(&size(b))).unwrap();
    let others = (0..8).map(|k| (k * 7919 + 13) % gradients.len());
    std::iter::once(largest).chain(others).collect()
}

#[test]
fn values_and_gradients_are_those_of_the_definition_at_every_spatial_value() {
    let classes = [Some(3), None, Some(0)];
    let (mut looked, mut corners) = (0, 0);
    for (name, graph) in [("branches", branches()), ("norms", norms())] {
        let model = sound(random_model::model(graph));
        let input = model.graph().input;
        let x = images(classes.len(), [input.h, input.w, input.c].map(|side| side as usize));
        for value in model.graph().spatial_values() {
            let layer = &model.graph().nodes[value - 1].name;
            for isa in instruction_sets() {
                let exec = Exec::with_isa(isa, 2).unwrap();
                let found = run(&model, value, &x, &classes, &exec);
                let value_len = found.values.len() / classes.len();
                for (i, image) in x.chunks(input.len()).enumerate() {
                    let at = format!("{name} {layer} {isa:?} image {i}");
                    let image: Vec<f64> = image.iter().map(|&x| x.into()).collect();
                    let plain = values(&model, &image, |_, _| {});
                    let logits = plain.last().unwrap();
                    let class = found.classes[i] as usize;
                    match classes[i] {
                        Some(asked) => assert_eq!(found.classes[i], asked),
                        None => assert!(logits.iter().all(|&logit| logit <= logits[class]), "{at}"),
                    }
                    for (a, b) in found.logits[i * logits.len()..].iter().zip(logits) {
                        assert!((f64::from(*a) - b).abs() < 1e-3 * b.abs().max(1.0), "{at}: {a} and {b}");
                    }
                    let own = &found.values[i * value_len..][..value_len];
                    for (a, b) in own.iter().zip(&plain[value]) {
                        assert!((f64::from(*a) - b).abs() < 1e-4 * b.abs().max(1.0), "{at}: {a} and {b}");
                    }
                    let gradients = &found.gradients[i * value_len..][..value_len];
                    let size = gradients.iter().fold(0.0f64, |m, g| m.max(f64::from(g.abs())));
                    assert!(size > 0.0, "{at}: no gradient");
                    for element in looked_at(gradients) {
                        let logit = |step: f64| {
                            let changed = values(&model, &image, |v, y| {
                                if v == value {
                                    y[element] += step;
                                }
                            });
                            changed.last().unwrap()[class]
                        };
                        // On either side: the largest of equal values and a ReLU at zero have two slopes, and any number
                        // between them is a gradient.
                        let step = 1e-6;
                        let slopes =
                            [1.0, -1.0].map(|side| (logit(side * step) - logits[class]) / (side * step));
                        let [low, high] = [f64::min, f64::max].map(|of| of(slopes[0], slopes[1]));
                        let (found, tolerance) = (f64::from(gradients[element]), 1e-4 * size + 1e-7);
                        corners += usize::from(high - low > tolerance);
                        looked += 1;
                        assert!(
                            (low - tolerance..=high + tolerance).contains(&found),
                            "{at}, element {element}: {found}, not in {low}..={high}"
                        );
                    }
                }
            }
        }
    }
    assert!(corners * 20 < looked, "{corners} of {looked} elements at a corner");
}

/// With everything behind the value as at inference, a pass answers with the bits that prediction gives.
#[test]
fn logits_have_the_bits_of_inference_at_the_last_spatial_value() {
    for (name, side) in [
        ("keras-cnn", 28),
        ("resnet9", 32),
        ("efficientnet-lite0", 64),
        ("mobilenet-v2", 64),
        ("resnet18", 64),
    ] {
        let graph = zoo::build(name, Shape::new(side, side, 3), 7).unwrap();
        let model = sound(random_model::model(graph));
        let x = images(3, [side, side, 3]);
        let value = *model.graph().spatial_values().last().unwrap();
        for isa in instruction_sets() {
            let exec = Exec::with_isa(isa, 2).unwrap();
            let found = run(&model, value, &x, &[None; 3], &exec);
            let mut logits = vec![0.0; found.logits.len()];
            Inference::new(&model, 3, &exec).unwrap().run(&x, 3, &mut logits).unwrap();
            assert_eq!(bits(&found.logits), bits(&logits), "{name} {isa:?}");
        }
    }
}

#[test]
fn results_have_the_same_bits_on_any_number_of_threads_and_in_any_batch() {
    let wide = zoo::build("mobilenet-v2", Shape::new(64, 64, 3), 5).unwrap();
    for graph in [branches(), norms(), wide] {
        let model = sound(random_model::model(graph));
        let input = model.graph().input;
        let x = images(5, [input.h, input.w, input.c].map(|side| side as usize));
        let values = model.graph().spatial_values();
        for value in [values[0], values[values.len() / 2], *values.last().unwrap()] {
            for isa in instruction_sets() {
                let result = |threads, images: std::ops::Range<usize>| {
                    let x = &x[images.start * input.len()..images.end * input.len()];
                    let classes: Vec<Option<u32>> = images.map(|i| Some(i as u32)).collect();
                    run(&model, value, x, &classes, &Exec::with_isa(isa, threads).unwrap())
                };
                let all = result(1, 0..5);
                let same = |found: &Found, images: std::ops::Range<usize>, what: &str| {
                    let parts = [
                        ("logits", &found.logits, &all.logits),
                        ("values", &found.values, &all.values),
                        ("gradients", &found.gradients, &all.gradients),
                    ];
                    for (part, found, all) in parts {
                        let len = all.len() / 5;
                        let all = &all[images.start * len..images.end * len];
                        let furthest = found.iter().zip(all).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                        assert!(
                            bits(found) == bits(all),
                            "{isa:?}, value {value}, {what}: {part} by {furthest:e}"
                        );
                    }
                };
                for threads in [2, 3, 7] {
                    same(&result(threads, 0..5), 0..5, &format!("{threads} threads"));
                    for image in 0..5 {
                        let own = image..image + 1;
                        same(
                            &result(threads, own.clone()),
                            own,
                            &format!("{threads} threads, image {image} alone"),
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn values_classes_and_lengths_that_cannot_be_are_refused() {
    let (graph, exec) = (branches(), Exec::new(1).unwrap());
    let spatial = graph.spatial_values();
    let name = |value: &usize| graph.nodes[value - 1].name.as_str();
    assert_eq!(name(spatial.last().unwrap()), "last");
    for kept_out in ["squeeze", "excite", "factors", "wide.drop", "mean", "drop", "head"] {
        assert!(!spatial.iter().map(name).any(|name| name == kept_out), "{kept_out}");
    }
    let model = sound(random_model::model(graph.clone()));
    for value in (0..graph.nodes.len() + 3).chain([usize::MAX]).filter(|value| !spatial.contains(value)) {
        let refused = ClassGradients::new(&model, value, 1, &exec);
        assert!(matches!(refused.err(), Some(EngineError::Config(_))), "{value}");
        let refused = Plan::compile(&graph, 1, Mode::Gradient { value }, &exec);
        assert!(matches!(refused.err(), Some(EngineError::Config(_))), "{value}");
    }
    let mut linear = Graph::new(Shape::new(5, 5, 1));
    linear.then("flatten", Op::Flatten);
    linear.then("head", Op::Dense(Dense { units: 2, bias: true }));
    assert!(linear.spatial_values().is_empty());

    let mut network = ClassGradients::new(&model, spatial[0], 2, &exec).unwrap();
    let (input, classes, len) = (network.input_len(), network.classes(), network.shape().len());
    let x = vec![0.0; 3 * input];
    let mut buffers = [vec![0.0; 2 * classes], vec![0.0; 2 * len], vec![0.0; 2 * len]];
    let mut asked = |x: &[f32], classes: &[Option<u32>], cut: [usize; 3]| {
        let [logits, values, gradients] = &mut buffers;
        let logits = &mut logits[cut[0]..];
        let (values, gradients) = (&mut values[cut[1]..], &mut gradients[cut[2]..]);
        network.run(x, classes, GradientOutputs { logits, values, gradients })
    };
    assert_eq!(asked(&x[..2 * input], &[None, Some(4)], [0; 3]).unwrap()[1], 4);
    let label = asked(&x[..2 * input], &[None, Some(5)], [0; 3]);
    assert!(matches!(label, Err(EngineError::Label { label: 5, classes: 5 })));
    for (images, count, cut) in [(0, 0, [0; 3]), (3, 3, [0; 3]), (1, 2, [0; 3])]
        .into_iter()
        .chain((0..3).map(|part| (2, 2, std::array::from_fn(|i| usize::from(i == part)))))
    {
        let shape = asked(&x[..images * input], &vec![None; count], cut);
        assert!(matches!(shape, Err(EngineError::Shape { .. })), "{images} {count} {cut:?}");
    }
}

/// More images than go through at a time: each pass leaves its own part.
#[test]
fn a_batch_in_several_passes_is_that_of_its_parts() {
    let graph = zoo::build("resnet9", Shape::new(64, 64, 3), 5).unwrap();
    let model = sound(random_model::model(graph));
    let exec = Exec::new(2).unwrap().chunk(2);
    let value = *model.graph().spatial_values().last().unwrap();
    let x = images(5, [64, 64, 3]);
    let mut network = ClassGradients::new(&model, value, 5, &exec).unwrap();
    assert_eq!(network.batch(), 5);
    let all = run(&model, value, &x, &[None; 5], &exec);
    let halves =
        x.chunks(3 * 64 * 64 * 3).map(|x| run(&model, value, x, &vec![None; x.len() / (64 * 64 * 3)], &exec));
    let halves: Vec<Found> = halves.collect();
    assert_eq!(all.gradients, [&halves[0].gradients[..], &halves[1].gradients[..]].concat());
    assert_eq!(all.classes, [&halves[0].classes[..], &halves[1].classes[..]].concat());
    // What an earlier call left changes nothing.
    let mut again = all.clone();
    for _ in 0..2 {
        let Found { logits, values, gradients, .. } = &mut again;
        network.run(&x, &[None; 5], GradientOutputs { logits, values, gradients }).unwrap();
        assert_eq!(again, all);
    }
}
