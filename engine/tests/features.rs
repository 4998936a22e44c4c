//! Features: what the last dense layer reads, from the same pass as the logits.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod random_model;

use ocelli_engine::geometry::Shape;
use ocelli_engine::graph::{Conv2d, Dense, Padding, Pool2d};
use ocelli_engine::{Activation, EngineError, Exec, Graph, Inference, Model, Op, Outputs, zoo};
use random_model::{bits, images};

/// The part of a network before its last dense layer, with a dense layer that copies each input: its logits are the
/// features of the whole.
fn copying(model: &Model) -> Model {
    let graph = model.graph();
    let last = graph.nodes.iter().rposition(|node| matches!(node.op, Op::Dense(_))).expect("a dense layer");
    let len = graph.feature_len().expect("features");
    let mut part = Graph { input: graph.input, nodes: graph.nodes[..=last].to_vec() };
    part.nodes[last].op = Op::Dense(Dense { units: len as u32, bias: false });
    let mut copy = Model::zeros(part).unwrap();
    for entry in copy.layout().entries().to_vec() {
        if entry.name == format!("{}.weight", graph.nodes[last].name) {
            let weights = &mut copy.params_mut()[entry.range()];
            (0..len).for_each(|i| weights[i * (len + 1)] = 1.0);
        } else {
            let values = model.tensor(&entry.name).expect("the same layer").to_vec();
            copy.params_mut()[entry.range()].copy_from_slice(&values);
        }
    }
    copy
}

/// Networks in which the features are the output of a pool, of an activation, of a sum, and the image itself.
fn networks() -> Vec<(&'static str, Graph)> {
    let dense = |units| Op::Dense(Dense { units, bias: true });
    let mut linear = Graph::new(Shape::new(5, 7, 3));
    linear.then("flatten", Op::Flatten);
    linear.then("classes", dense(4));

    let mut pooled = Graph::new(Shape::new(12, 10, 3));
    pooled.then("conv", Op::Conv2d(Conv2d::new(8, 3)));
    pooled.then("relu", Op::Activation(Activation::Relu));
    pooled.then("pool", Op::MaxPool2d(Pool2d::new(2)));
    pooled.then("dropout", Op::Dropout { rate: 0.5 });
    pooled.then("flatten", Op::Flatten);
    pooled.then("classes", dense(4));

    let mut branches = Graph::new(Shape::new(9, 9, 4));
    let conv = |filters| Conv2d { padding: Padding::Same, ..Conv2d::new(filters, 3) };
    let x = branches.then("a", Op::Conv2d(conv(6)));
    let y = branches.then("b", Op::Conv2d(conv(6)));
    branches.push("sum", Op::Add, &[x, y]);
    branches.then("pool", Op::GlobalAvgPool);
    // Behind the features: the logits are not the last dense layer's output.
    let hidden = branches.then("hidden", dense(3));
    branches.push("clamped", Op::Activation(Activation::Relu), &[hidden]);

    let zoo = |name, side| zoo::build(name, Shape::new(side, side, 3), 7).unwrap();
    vec![
        ("linear", linear),
        ("pooled", pooled),
        ("branches", branches),
        ("keras-cnn", zoo("keras-cnn", 16)),
        ("resnet9", zoo("resnet9", 16)),
        ("efficientnet-lite0", zoo("efficientnet-lite0", 64)),
    ]
}

#[test]
fn features_are_what_the_last_dense_layer_reads() {
    for threads in [1, 2] {
        let exec = Exec::new(threads).unwrap();
        for (name, graph) in networks() {
            let model = random_model::model(graph);
            let shape = model.graph().input;
            let x = images(3, [shape.h, shape.w, shape.c].map(|side| side as usize));
            let mut inference = Inference::with_features(&model, 3, &exec).unwrap();
            let len = model.graph().feature_len().unwrap();
            assert_eq!(inference.feature_len(), Some(len), "{name}");
            let (mut logits, mut features) = (vec![0.0; 3 * inference.classes()], vec![f32::NAN; 3 * len]);
            inference.run_features(&x, 3, &mut logits, &mut features).unwrap();

            let mut plain = vec![0.0; logits.len()];
            Inference::new(&model, 3, &exec).unwrap().run(&x, 3, &mut plain).unwrap();
            assert_eq!(bits(&logits), bits(&plain), "{name}: the logits of a pass without features");

            let mut copied = vec![0.0; features.len()];
            Inference::new(&copying(&model), 3, &exec).unwrap().run(&x, 3, &mut copied).unwrap();
            // A product with ones and zeros is exact; only the sign of a zero may differ.
            assert_eq!(features, copied, "{name}");

            let one = x.len() / 3;
            for image in 0..3 {
                let mut alone = (vec![0.0; inference.classes()], vec![0.0; len]);
                let x = &x[image * one..][..one];
                inference.run_features(x, 1, &mut alone.0, &mut alone.1).unwrap();
                assert_eq!(
                    bits(&alone.1),
                    bits(&features[image * len..][..len]),
                    "{name}: image {image} alone"
                );
            }
        }
    }
}

#[test]
fn features_of_a_batch_in_several_chunks_are_all_there() {
    let model = random_model::model(zoo::build("efficientnet-lite0", Shape::new(96, 96, 3), 5).unwrap());
    let exec = Exec::new(2).unwrap();
    let mut inference = Inference::with_features(&model, 40, &exec).unwrap();
    let x = images(40, [96, 96, 3]);
    let (mut logits, mut features) = (vec![0.0; 40 * 5], vec![f32::NAN; 40 * 1280]);
    inference.run_features(&x, 40, &mut logits, &mut features).unwrap();
    let mut alone = (vec![0.0; 5], vec![0.0; 1280]);
    inference.run_features(&x[39 * 96 * 96 * 3..], 1, &mut alone.0, &mut alone.1).unwrap();
    assert_eq!(bits(&features[39 * 1280..]), bits(&alone.1));
}

#[test]
fn features_that_cannot_be_are_refused() {
    let mut graph = Graph::new(Shape::new(4, 4, 3));
    graph.then("conv", Op::Conv2d(Conv2d::new(5, 3)));
    graph.then("pool", Op::GlobalAvgPool);
    assert_eq!(graph.feature_len(), None);
    let (model, exec) = (random_model::model(graph), Exec::new(1).unwrap());
    assert!(matches!(Inference::with_features(&model, 1, &exec), Err(EngineError::Config(_))));
    let mut plain = Inference::new(&model, 1, &exec).unwrap();
    assert_eq!(plain.feature_len(), None);
    let x = images(1, [4, 4, 3]);
    let refused = plain.run_features(&x, 1, &mut [0.0; 5], &mut []);
    assert!(matches!(refused, Err(EngineError::Config(_))));

    let model = random_model::model(networks().remove(1).1);
    let mut inference = Inference::with_features(&model, 2, &exec).unwrap();
    let (len, x) = (inference.feature_len().unwrap(), images(2, [12, 10, 3]));
    for wrong in [0, len, 2 * len - 1, 2 * len + 1] {
        let refused = inference.run_features(&x, 2, &mut [0.0; 8], &mut vec![0.0; wrong]);
        assert!(matches!(refused, Err(EngineError::Shape { what: "features", .. })), "{wrong}");
    }
    assert!(inference.run_features(&x, usize::MAX, &mut [0.0; 8], &mut vec![0.0; 2 * len]).is_err());
}

#[test]
fn a_network_takes_images_of_another_size_where_its_parameters_do_not_depend_on_it() {
    for name in zoo::NAMES {
        let graph = zoo::build(name, Shape::new(64, 64, 3), 10).unwrap();
        let other = graph.with_input(Shape::new(96, 80, 3));
        if name == "keras-cnn" {
            assert_eq!(
                other.unwrap_err().to_string(),
                "layer `dense1`: has parameters for images of 64x64x3 alone, not 96x80x3"
            );
            continue;
        }
        let other = other.unwrap();
        assert_eq!(other, zoo::build(name, Shape::new(96, 80, 3), 10).unwrap(), "{name}");
        assert_eq!(other.with_input(graph.input).unwrap(), graph, "{name}");
        assert!(graph.with_input(Shape::new(64, 64, 1)).is_err(), "{name}: other channels are other filters");
        assert!(graph.with_input(Shape::new(0, 64, 3)).is_err(), "{name}");
    }
}

/// The values that the last two convolutions read which make more channels, the image and what a depthwise convolution makes
/// left out.
#[test]
fn inner_values_are_where_a_network_is_narrowest() {
    let names = |graph: &Graph| -> Vec<String> {
        graph.inner_values().into_iter().map(|value| graph.nodes[value - 1].name.clone()).collect()
    };
    let zoo = |name, side| zoo::build(name, Shape::new(side, side, 3), 7).unwrap();
    assert_eq!(names(&zoo("efficientnet-lite0", 64)), ["stage6.3.add", "stage7.0.project.norm"]);
    assert_eq!(names(&zoo("keras-cnn", 16)), ["pool1"]);
    assert!(names(&networks().remove(0).1).is_empty());
    let mut separable = Graph::new(Shape::new(9, 9, 3));
    separable.then("stem", Op::Conv2d(Conv2d::new(4, 3)));
    separable.then("depthwise", Op::Conv2d(Conv2d { groups: 4, ..Conv2d::new(4, 3) }));
    separable.then("act", Op::Activation(Activation::Relu));
    separable.then("point", Op::Conv2d(Conv2d::new(8, 1)));
    assert!(names(&separable).is_empty());
}

/// Means over pixels of inner values are those of a network that ends there, and logits and features have the same bits with
/// them and without.
#[test]
fn inner_values_come_with_the_same_logits() {
    let exec = Exec::new(2).unwrap();
    for (name, graph) in networks() {
        let values = graph.inner_values();
        if values.is_empty() {
            continue;
        }
        let model = random_model::model(graph);
        let shape = model.graph().input;
        let x = images(3, [shape.h, shape.w, shape.c].map(|side| side as usize));
        let mut inference = Inference::keeping(&model, &values, 3, &exec).unwrap();
        let len = inference.feature_len().unwrap();
        let (mut logits, mut features) = (vec![0.0; 3 * inference.classes()], vec![0.0; 3 * len]);
        let mut inner = vec![f32::NAN; 3 * inference.inner_len()];
        let outputs = Outputs { logits: &mut logits, features: &mut features, inner: &mut inner };
        inference.run_outputs(&x, 3, outputs).unwrap();

        let mut plain = (vec![0.0; logits.len()], vec![0.0; features.len()]);
        let mut without = Inference::with_features(&model, 3, &exec).unwrap();
        without.run_features(&x, 3, &mut plain.0, &mut plain.1).unwrap();
        assert_eq!((bits(&logits), bits(&features)), (bits(&plain.0), bits(&plain.1)), "{name}");

        let row = inference.inner_len();
        let mut first = 0;
        for &value in &values {
            let mut part = Graph { input: shape, nodes: model.graph().nodes[..value].to_vec() };
            let channels = model.graph().shapes().unwrap()[value].c as usize;
            part.then("mean", Op::GlobalAvgPool);
            let mut ending = Model::zeros(part).unwrap();
            for entry in ending.layout().entries().to_vec() {
                let values = model.tensor(&entry.name).unwrap().to_vec();
                ending.params_mut()[entry.range()].copy_from_slice(&values);
            }
            let mut means = vec![0.0; 3 * channels];
            Inference::new(&ending, 3, &exec).unwrap().run(&x, 3, &mut means).unwrap();
            for (image, mean) in means.chunks_exact(channels).enumerate() {
                for (found, expected) in inner[image * row + first..].iter().zip(mean) {
                    // Sums over at most 256 pixels in another order.
                    assert!((found - expected).abs() <= 1e-5 * (1.0 + expected.abs()), "{name}: {value}");
                }
            }
            first += channels;
        }

        let one = x.len() / 3;
        let mut alone = vec![0.0; row];
        let outputs =
            Outputs { logits: &mut plain.0[..inference.classes()], features: &mut [], inner: &mut alone };
        inference.run_outputs(&x[one..2 * one], 1, outputs).unwrap();
        assert_eq!(bits(&alone), bits(&inner[row..2 * row]), "{name}: an image alone");
        let outputs = Outputs { logits: &mut logits, features: &mut [], inner: &mut inner[1..] };
        let refused = inference.run_outputs(&x, 3, outputs);
        assert!(matches!(refused, Err(EngineError::Shape { what: "inner values", .. })), "{name}");
        assert!(matches!(Inference::keeping(&model, &[0], 1, &exec), Err(EngineError::Config(_))), "{name}");
    }
}
