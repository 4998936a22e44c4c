//! Sound networks are explained by rounding on every instruction set; one changed weight is not, and its layer is named.

use super::*;
use crate::graph::{BatchNorm, Conv2d, Dense, Graph, Op, Padding, ParamKind, Pool2d};
use crate::kernels::testing::{for_each_isa, normal};
use crate::zoo;
use crate::{Activation, Shape};

/// Parameters as after some training: nothing is zero or one.
fn trained(graph: Graph) -> Model {
    let mut model = Model::init(graph, 3).unwrap();
    let entries = model.layout().entries().to_vec();
    for (seed, entry) in (0..).zip(&entries) {
        let noise = normal(seed, entry.len());
        let values = model.params_mut()[entry.range()].iter_mut().zip(noise);
        match entry.kind {
            ParamKind::Weight => {}
            ParamKind::Bias | ParamKind::Shift | ParamKind::RunningMean => {
                values.for_each(|(p, n)| *p = 0.2 * n)
            }
            ParamKind::Scale => values.for_each(|(p, n)| *p = 1.0 + 0.1 * n),
            ParamKind::RunningVar => values.for_each(|(p, n)| *p = 0.5 + n.abs()),
        }
    }
    model
}

/// A network with every kind of layer, residual sums and branches that end in one.
fn every_layer() -> Graph {
    let mut g = Graph::new(Shape::new(16, 14, 3));
    let same = |filters, kernel| Conv2d { padding: Padding::Same, ..Conv2d::new(filters, kernel) };
    g.then("stem", Op::Conv2d(Conv2d { bias: false, ..same(24, 3) }));
    g.then("stem.norm", Op::BatchNorm(BatchNorm::default()));
    let skip = g.then("stem.act", Op::Activation(Activation::Relu));
    g.then("wide", Op::Conv2d(same(32, 3)));
    g.then("gelu", Op::Activation(Activation::Gelu));
    g.then("back", Op::Conv2d(same(24, 3)));
    let back = g.then("silu", Op::Activation(Activation::Silu));
    // Squeeze and excite, then more channels.
    g.push("squeeze", Op::GlobalAvgPool, &[back]);
    g.then("excite", Op::Conv2d(Conv2d::new(24, 1)));
    let factors = g.then("sigmoid", Op::Activation(Activation::Sigmoid));
    let scaled = g.push("scaled", Op::ChannelScale, &[back, factors]);
    let joined = g.push("concat", Op::Concat, &[scaled, skip]);
    let narrow = g.push("narrow", Op::Conv2d(Conv2d::new(24, 1)), &[joined]);
    let sum = g.push("sum", Op::Add, &[skip, narrow]);
    g.then("sum.act", Op::Activation(Activation::Relu6));
    g.then("depthwise", Op::Conv2d(Conv2d { groups: 24, ..same(24, 5) }));
    g.then("max", Op::MaxPool2d(Pool2d::new(2)));
    g.then("grouped", Op::Conv2d(Conv2d { groups: 4, stride: [2, 1], ..same(32, 3) }));
    let average = Pool2d { kernel: [3, 3], stride: [1, 1], padding: Padding::Same };
    let average = g.then("average", Op::AvgPool2d(average));
    let mean = g.push("mean", Op::GlobalAvgPool, &[average]);
    let peak = g.push("peak", Op::GlobalMaxPool, &[average]);
    g.push("both", Op::Add, &[mean, peak]);
    g.then("dropout", Op::Dropout { rate: 0.5 });
    let flat = g.then("flat", Op::Flatten);
    let other = g.push("other", Op::GlobalAvgPool, &[sum]);
    g.push("other.dense", Op::Dense(Dense { units: 32, bias: false }), &[other]);
    let last = g.nodes.len() as u32;
    g.push("joined", Op::Add, &[flat, last]);
    g.then("head", Op::Dense(Dense { units: 7, bias: true }));
    g
}

fn image(graph: &Graph) -> Vec<f32> {
    normal(9, graph.input.len())
}

for_each_isa! {
    fn rounding_explains_every_layer(isa: Isa) {
        let mut graphs = vec![every_layer()];
        for name in zoo::NAMES {
            let side = zoo::smallest_input(name).unwrap().max(32);
            graphs.push(zoo::build(name, Shape::new(side, side, 3), 10).unwrap());
        }
        for graph in graphs {
            let image = image(&graph);
            let model = trained(graph);
            // The networks of the zoo in the form that they run in by default: there are many layers.
            let forms = if model.graph().nodes.len() < 30 { &[true, false][..] } else { &[false] };
            for &exact in forms {
                let exec = Exec::with_isa(isa, 2).unwrap().exact(exact);
                let layers = compare(&model, &image, &exec).unwrap();
                assert_eq!(layers.len(), model.graph().nodes.len());
                for layer in &layers {
                    assert!(layer.is_explained(), "exact: {exact}: {layer:?}");
                }
                // Rounding is there, and the bound is not far above it.
                let largest = layers.iter().map(|layer| layer.part_of_bound).fold(0.0, f64::max);
                assert!(largest > 1e-3, "the bound is too wide: {largest}");
            }
        }
    }

    fn a_changed_weight_is_found_in_its_layer(isa: Isa) {
        let model = trained(every_layer());
        let image = image(model.graph());
        for exact in [true, false] {
            let exec = Exec::with_isa(isa, 1).unwrap().exact(exact);
            for entry in model.layout().entries() {
                let mut changed = model.clone();
                let middle = entry.offset + entry.len() / 2;
                changed.params_mut()[middle] += 0.05;
                let layers = compare_with(&changed, &model, &image, &exec).unwrap();
                let first = layers.iter().find(|layer| !layer.is_explained());
                let owner = entry.name.rsplit_once('.').unwrap().0;
                assert_eq!(first.map(|layer| layer.layer.as_str()), Some(owner), "{}, exact: {exact}", entry.name);
            }
        }
    }
}

#[test]
fn a_value_that_is_no_number_is_not_explained() {
    let mut model = trained(every_layer());
    let sound = model.clone();
    let weight = model.layout().entries().iter().find(|entry| entry.name == "back.bias").unwrap().offset;
    model.params_mut()[weight] = f32::NAN;
    let exec = Exec::new(1).unwrap();
    let layers = compare_with(&model, &sound, &image(sound.graph()), &exec).unwrap();
    let first = layers.iter().find(|layer| !layer.is_explained()).unwrap();
    assert_eq!(first.layer, "back");
    assert!(first.difference.is_nan(), "{first:?}");
}

#[test]
fn an_image_of_another_shape_is_refused() {
    let model = trained(every_layer());
    let exec = Exec::new(1).unwrap();
    assert!(matches!(compare(&model, &[0.0; 5], &exec), Err(EngineError::Shape { .. })));
}
