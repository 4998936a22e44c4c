//! A network with a batch normalisation behind every kind of layer, and what is compared of its training.

use ocelli_engine::graph::{BatchNorm, Conv2d, Dense, Padding, Pool2d};
use ocelli_engine::{
    Activation, Exec, Graph, Model, Norms, Op, Optimizer, ParamKind, Shape, TrainConfig, Trainer,
};

pub(crate) const CLASSES: usize = 5;
pub(crate) const BATCH: usize = 7;

fn norm() -> Op {
    Op::BatchNorm(BatchNorm { momentum: 0.1, eps: 1e-3 })
}

/// Norms behind a convolution with and without a bias, a depthwise and a grouped one, one that goes through Winograd's
/// transforms, one with a pool behind, and a dense layer; then one behind a sum, a pool and an activation each. `width`
/// channels, a multiple of 4.
pub(crate) fn graph(width: usize) -> Graph {
    let act = |g: &mut Graph, name: &str, act| g.then(name, Op::Activation(act));
    let mut g = Graph::new(Shape::new(13, 12, 3));
    let same =
        |filters, kernel| Conv2d { padding: Padding::Same, bias: false, ..Conv2d::new(filters, kernel) };
    g.then("stem", Op::Conv2d(same(width, 3)));
    g.then("stem.norm", norm());
    let x = act(&mut g, "stem.act", Activation::Relu6);
    // An inverted residual.
    g.then("expand", Op::Conv2d(same(2 * width, 1)));
    g.then("expand.norm", norm());
    act(&mut g, "expand.act", Activation::Relu6);
    g.then("depthwise", Op::Conv2d(Conv2d { groups: 2 * width as u32, ..same(2 * width, 5) }));
    g.then("depthwise.norm", norm());
    act(&mut g, "depthwise.act", Activation::Relu6);
    g.then("project", Op::Conv2d(same(width, 1)));
    let y = g.then("project.norm", norm());
    g.push("sum", Op::Add, &[x, y]);
    g.then("sum.norm", norm());
    act(&mut g, "sum.act", Activation::Relu);
    g.then("grouped", Op::Conv2d(Conv2d { groups: 4, bias: true, ..same(2 * width, 3) }));
    g.then("grouped.norm", norm());
    act(&mut g, "grouped.act", Activation::Silu);
    g.then("silu.norm", norm());
    g.then("wide", Op::Conv2d(Conv2d { bias: true, ..same(2 * width, 3) }));
    g.then("wide.norm", norm());
    act(&mut g, "wide.act", Activation::Relu);
    g.then("pool", Op::MaxPool2d(Pool2d::new(2)));
    g.then("pool.norm", norm());
    g.then("strided", Op::Conv2d(Conv2d { groups: 2 * width as u32, stride: [2; 2], ..same(2 * width, 3) }));
    g.then("strided.norm", norm());
    g.then("mean", Op::GlobalAvgPool);
    g.then("hidden", Op::Dense(Dense { units: 24, bias: true }));
    g.then("hidden.norm", norm());
    act(&mut g, "hidden.act", Activation::Relu);
    g.then("dropout", Op::Dropout { rate: 0.0 });
    g.then("head", Op::Dense(Dense { units: CLASSES as u32, bias: true }));
    g
}

/// A random model with weights and scales of a size with which values neither vanish nor grow from layer to layer.
pub(crate) fn sound(mut model: Model) -> Model {
    for entry in model.layout().entries().to_vec() {
        let inputs: usize = entry.shape.iter().rev().skip(1).product();
        let weight = 4.0 / (inputs as f32).sqrt();
        model.params_mut()[entry.range()].iter_mut().for_each(|p| match entry.kind {
            ParamKind::Weight => *p *= weight,
            ParamKind::Scale => *p += 1.0,
            _ => {}
        });
    }
    model
}

pub(crate) fn labels(count: usize) -> Vec<u32> {
    (0..count as u32).map(|i| i * 3 % CLASSES as u32).collect()
}

pub(crate) fn config(norms: Norms, optimizer: Optimizer) -> TrainConfig {
    TrainConfig { batch: BATCH, optimizer, label_smoothing: 0.1, seed: 3, norms, ..TrainConfig::default() }
}

/// The gradients of a batch, and its loss.
pub(crate) fn gradients(model: &Model, config: &TrainConfig, x: &[f32], exec: &Exec) -> (Vec<f32>, f32) {
    let mut trainer = Trainer::new(model.clone(), config.clone(), exec).unwrap();
    let loss = trainer.gradients(x, &labels(x.len() / model.graph().input.len())).unwrap().loss;
    (trainer.grads().to_vec(), loss)
}
