//! Small models of every kind whose weights PyTorch has in another order.

use ocelli_common::preprocessing::{Fit, Preprocessing};
use ocelli_engine::geometry::{Conv2d, Padding, Pool2d, Shape};
use ocelli_engine::graph::{Activation, BatchNorm, Dense, Graph, Op};
use ocelli_engine::model_file::{Imported, ModelFile, ModelMeta, MultiLabel, Origin};
use ocelli_engine::rng::Rng;
use ocelli_engine::{Model, ParamKind};

/// A plain network, one with groups and several ways to a flatten, and one with several labels.
pub(crate) fn models() -> [ModelFile; 3] {
    [file("plain", plain(), false), file("branches", branches(), false), file("labels", plain(), true)]
}

fn plain() -> Graph {
    let mut g = Graph::new(Shape::new(9, 8, 3));
    g.then("conv", Op::Conv2d(Conv2d::new(4, 3)));
    g.then("relu", Op::Activation(Activation::Relu));
    g.then("pool", Op::MaxPool2d(Pool2d::new(2)));
    g.then("flatten", Op::Flatten);
    g.then("norm", Op::BatchNorm(BatchNorm::default()));
    g.then("dense1", Op::Dense(Dense { units: 5, bias: true }));
    g.then("act", Op::Activation(Activation::Sigmoid));
    g.then("dense2", Op::Dense(Dense { units: 3, bias: false }));
    g
}

/// Grouped and depthwise convolutions; flattened values that are added, joined and read as they are.
fn branches() -> Graph {
    let mut g = Graph::new(Shape::new(6, 7, 3));
    let same =
        |filters, groups| Op::Conv2d(Conv2d { padding: Padding::Same, groups, ..Conv2d::new(filters, 3) });
    let x = g.push("a", same(6, 3), &[0]);
    let y = g.push("b", same(6, 6), &[x]);
    let norm = g.push("b.norm", Op::BatchNorm(BatchNorm::default()), &[y]);
    let first = g.push("flat1", Op::Flatten, &[norm]);
    let second = g.push("flat2", Op::Flatten, &[x]);
    let sum = g.push("sum", Op::Add, &[first, second]);
    let left = g.push("left", Op::Dense(Dense { units: 4, bias: true }), &[sum]);
    let joined = g.push("joined", Op::Concat, &[first, second]);
    let right = g.push("right", Op::Dense(Dense { units: 4, bias: true }), &[joined]);
    let both = g.push("both", Op::Concat, &[left, right]);
    g.push("classes", Op::Dense(Dense { units: 3, bias: true }), &[both]);
    g
}

fn file(name: &str, graph: Graph, several: bool) -> ModelFile {
    let input = graph.input;
    let mut model = Model::zeros(graph).unwrap();
    let mut rng = Rng::new(name.len() as u64, 0);
    for entry in model.layout().entries().to_vec() {
        for value in &mut model.params_mut()[entry.range()] {
            *value = rng.normal();
            if entry.kind == ParamKind::RunningVar {
                *value = value.abs() + 0.1;
            }
        }
    }
    let channels = input.c as usize;
    let preprocessing = Preprocessing {
        mean: (0..channels).map(|c| 0.1 + c as f32 / 7.0).collect(),
        std: (0..channels).map(|c| 0.2 + c as f32 / 9.0).collect(),
        ..Preprocessing::new(input.w, input.h, input.c as u8, Fit::Crop)
    };
    let origin = Imported {
        format: "test".to_owned(),
        producer: String::new(),
        file: "test".to_owned(),
        file_hash: [0; 32],
        version: "0".to_owned(),
        created: 0,
    };
    let meta = ModelMeta {
        name: name.to_owned(),
        classes: ["cats", "größe", "it's"].map(str::to_owned).to_vec(),
        preprocessing,
        metrics: None,
        temperature: None,
        rejection: None,
        multi_label: several.then(|| MultiLabel { thresholds: vec![0.5; 3], quality: None }),
        origin: Origin::Imported(origin),
    };
    ModelFile::new(model, meta)
}
