//! A batch normalisation that the layers on either side compute in part gives the loss and the gradients of one that does all
//! of it itself, and the same bits on any number of threads.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod instruction_sets;
mod random_model;

use instruction_sets::instruction_sets;
use ocelli_engine::graph::{BatchNorm, Conv2d, Dense, Padding, Pool2d};
use ocelli_engine::{
    Activation, Exec, Graph, Norms, Op, Optimizer, Plan, Precision, Shape, TrainConfig, Trainer,
};
use random_model::{bits, images, model};

const CLASSES: usize = 5;
/// The rate of a dropout that drops nothing and is there all the same.
const NEVER: f32 = 1e-30;

fn conv(filters: usize, kernel: usize) -> Op {
    Op::Conv2d(Conv2d { padding: Padding::Same, ..Conv2d::new(filters, kernel) })
}

fn depthwise(channels: usize, stride: u32) -> Op {
    let same = Conv2d { padding: Padding::Same, stride: [stride; 2], ..Conv2d::new(channels, 3) };
    Op::Conv2d(Conv2d { groups: channels as u32, ..same })
}

fn max_pool(kernel: u32, stride: u32) -> Op {
    Op::MaxPool2d(Pool2d { kernel: [kernel; 2], stride: [stride; 2], padding: Padding::Same })
}

/// Layers with a batch normalisation and an activation behind all but the last.
struct Case {
    input: [usize; 3],
    layers: Vec<Op>,
    act: Option<Activation>,
}

impl Case {
    /// The network; with dropouts between them no normalisation touches a neighbour.
    fn graph(&self, apart: bool) -> Graph {
        let [h, w, c] = self.input;
        let mut g = Graph::new(Shape::new(h, w, c));
        let (last, before) = self.layers.split_last().unwrap();
        for (i, layer) in before.iter().enumerate() {
            g.then(format!("layer{i}"), layer.clone());
            if apart {
                g.then(format!("before{i}"), Op::Dropout { rate: NEVER });
            }
            g.then(format!("norm{i}"), Op::BatchNorm(BatchNorm::default()));
            if let Some(act) = self.act {
                g.then(format!("act{i}"), Op::Activation(act));
            }
            if apart {
                g.then(format!("behind{i}"), Op::Dropout { rate: NEVER });
            }
        }
        g.then("last", last.clone());
        g.then("flatten", Op::Flatten);
        g.then("head", Op::Dense(Dense { units: CLASSES as u32, bias: true }));
        g
    }

    /// Loss and gradients of some images.
    fn gradients(&self, apart: bool, batch: usize, exec: &Exec) -> (f32, Vec<f32>) {
        let optimizer = Optimizer::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 };
        let config = TrainConfig { batch, optimizer, seed: 3, ..TrainConfig::default() };
        let mut trainer = Trainer::new(model(self.graph(apart)), config, exec).unwrap();
        let labels: Vec<u32> = (0..batch as u32).map(|i| i % CLASSES as u32).collect();
        let stats = trainer.gradients(&images(batch, self.input), &labels).unwrap();
        (stats.loss, trainer.grads().to_vec())
    }
}

/// Every kind of layer before and behind a normalisation: small images, of which several go together, and such whose rows are
/// computed in bands.
fn cases() -> Vec<Case> {
    let chain = |input, act, layers| Case { input, act, layers };
    let relu6 = Some(Activation::Relu6);
    vec![
        chain(
            [9, 8, 3],
            Some(Activation::Relu),
            vec![conv(17, 1), depthwise(17, 1), conv(6, 1), conv(20, 3)],
        ),
        chain(
            [9, 8, 3],
            None,
            vec![conv(18, 3), depthwise(18, 2), depthwise(18, 1), conv(33, 1), conv(7, 1)],
        ),
        chain(
            [61, 50, 4],
            relu6,
            vec![conv(40, 1), depthwise(40, 2), conv(9, 1), conv(40, 1), depthwise(40, 1)],
        ),
        chain([12, 12, 16], relu6, vec![conv(32, 3), conv(32, 3), Op::GlobalAvgPool]),
        chain(
            [13, 13, 3],
            Some(Activation::Relu),
            vec![conv(8, 3), max_pool(3, 2), conv(8, 1), Op::GlobalMaxPool],
        ),
        chain(
            [10, 10, 3],
            Some(Activation::Relu),
            vec![depthwise(3, 1), Op::AvgPool2d(Pool2d::new(2)), conv(5, 1)],
        ),
        chain(
            [10, 10, 3],
            Some(Activation::Relu),
            vec![conv(12, 1), max_pool(2, 2), depthwise(12, 1), max_pool(2, 2)],
        ),
    ]
}

#[test]
fn gradients_are_those_of_layers_apart() {
    for (number, case) in cases().iter().enumerate() {
        for isa in instruction_sets() {
            for (precision, batch) in
                [(Precision::F32, 1), (Precision::F32, 5), (Precision::F32, 18), (Precision::Bf16, 5)]
            {
                let exec = |threads| Exec::with_isa(isa, threads).unwrap().precision(precision);
                let (loss, fused) = case.gradients(false, batch, &exec(2));
                let (expected_loss, apart) = case.gradients(true, batch, &exec(2));
                // In bf16 what is near a rounding's border falls on either side of it.
                let bound: f64 = if precision == Precision::Bf16 { 0.05 } else { 1e-4 };
                assert!(
                    f64::from((loss - expected_loss).abs()) <= 0.1 * bound * f64::from(loss),
                    "case {number}, {isa:?}: {loss}, {expected_loss}"
                );
                let norm =
                    |x: &mut dyn Iterator<Item = f32>| x.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt();
                let size = norm(&mut apart.iter().copied());
                let error = norm(&mut fused.iter().zip(&apart).map(|(a, b)| a - b));
                assert!(
                    error <= bound * size,
                    "case {number}, batch {batch}, {isa:?}, {precision:?}: off by {error:e} of {size:e}"
                );
                for threads in [1, 3] {
                    let (_, found) = case.gradients(false, batch, &exec(threads));
                    assert!(
                        bits(&found) == bits(&fused),
                        "case {number}, batch {batch}, {isa:?}, {threads} threads"
                    );
                }
            }
        }
    }
}

/// A flatten is the same memory with other channels: layers on either side of it do nothing for each other.
#[test]
fn a_flatten_keeps_a_norm_from_its_neighbours() {
    let flattened = |norm_first: bool, kernel: usize, apart: bool| {
        let mut g = Graph::new(Shape::new(6, 5, 4));
        g.then("conv", conv(8, kernel));
        let layers = [("flatten", Op::Flatten), ("norm", Op::BatchNorm(BatchNorm::default()))];
        let mut layers =
            if norm_first { layers.into_iter().rev().collect::<Vec<_>>() } else { layers.to_vec() };
        layers.push(("relu", Op::Activation(Activation::Relu)));
        for (name, layer) in layers {
            if apart {
                g.then(format!("before_{name}"), Op::Dropout { rate: NEVER });
            }
            g.then(name, layer);
        }
        if apart {
            g.then("before_last", Op::Dropout { rate: NEVER });
        }
        g.then("last", conv(12, 1));
        g.then("head", Op::Dense(Dense { units: CLASSES as u32, bias: true }));
        g
    };
    for (norm_first, kernel) in [(true, 1), (false, 1), (false, 3)] {
        for norms in [Norms::Batch, Norms::Running] {
            for precision in [Precision::F32, Precision::Bf16] {
                let [fused, apart] = [false, true].map(|apart| {
                    let graph = flattened(norm_first, kernel, apart);
                    let config = TrainConfig { batch: 9, norms, seed: 3, ..TrainConfig::default() };
                    let exec = Exec::new(2).unwrap().precision(precision);
                    let mut trainer = Trainer::new(model(graph), config, &exec).unwrap();
                    trainer.gradients(&images(9, [6, 5, 4]), &[0, 1, 2, 3, 4, 0, 1, 2, 3]).unwrap();
                    trainer.grads().to_vec()
                });
                let norm =
                    |x: &mut dyn Iterator<Item = f32>| x.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt();
                let error = norm(&mut fused.iter().zip(&apart).map(|(a, b)| a - b));
                let bound = if precision == Precision::Bf16 { 0.05 } else { 1e-4 };
                let size = norm(&mut apart.iter().copied());
                assert!(
                    error <= bound * size,
                    "{norm_first} {kernel} {norms:?} {precision:?}: {error:e} of {size:e}"
                );
            }
        }
    }
}

#[test]
fn what_is_normalised_where_it_is_read_takes_no_memory() {
    let case = Case {
        input: [64, 64, 3],
        act: Some(Activation::Relu6),
        layers: vec![conv(48, 1), depthwise(48, 1), conv(8, 1)],
    };
    let exec = Exec::new(1).unwrap();
    let [fused, apart] = [false, true].map(|apart| {
        let mode = ocelli_engine::Mode::Train(ocelli_engine::Learning::default());
        Plan::compile(&case.graph(apart), 16, mode, &exec).unwrap().memory().tensors
    });
    assert!((fused as f64) < 0.6 * apart as f64, "{fused} and {apart} bytes");
}
