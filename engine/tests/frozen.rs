//! Training of the last nodes of a network alone.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod instruction_sets;
mod norm_network;
mod random_model;

use instruction_sets::instruction_sets;
use norm_network::{BATCH, config, gradients, graph, labels, sound};
use ocelli_engine::graph::{BatchNorm, Conv2d, Dense, Padding};
use ocelli_engine::{
    Activation, AdamConfig, EngineError, Exec, Graph, Learning, Mode, Model, Norms, Op, Optimizer,
    ParamEntry, Plan, Shape, TrainConfig, Trainer, zoo,
};
use random_model::{bits, images};

const SIDES: [usize; 3] = [13, 12, 3];

/// Optimisers that move parameters without a gradient.
fn decaying() -> [Optimizer; 3] {
    let adam = AdamConfig { weight_decay: 0.1, ..AdamConfig::default() };
    let sgd = Optimizer::Sgd { momentum: 0.9, nesterov: true, weight_decay: 0.1 };
    [Optimizer::AdamW(adam), Optimizer::Adam(adam), sgd]
}

fn model() -> Model {
    sound(random_model::model(graph(12)))
}

fn frozen_config(frozen: usize, norms: Norms, optimizer: Optimizer) -> TrainConfig {
    TrainConfig { frozen, ..config(norms, optimizer) }
}

/// Whether one of the first `frozen` nodes owns a parameter.
fn is_frozen(model: &Model, entry: &ParamEntry, frozen: usize) -> bool {
    let (owner, _) = entry.name.rsplit_once('.').unwrap();
    model.graph().nodes.iter().position(|node| node.name == owner).unwrap() < frozen
}

/// Cuts between layers and, where there is a difference, within what would run as one.
fn cuts(model: &Model) -> Vec<usize> {
    (0..model.graph().nodes.len()).collect()
}

#[test]
fn frozen_parameters_and_statistics_stay_to_the_bit() {
    let (model, x) = (model(), images(BATCH, SIDES));
    let exec = Exec::new(2).unwrap();
    for frozen in cuts(&model) {
        for (norms, optimizer) in [Norms::Batch, Norms::Running]
            .into_iter()
            .zip(decaying())
            .chain([(Norms::Running, decaying()[2])])
        {
            let mut trainer =
                Trainer::new(model.clone(), frozen_config(frozen, norms, optimizer), &exec).unwrap();
            for _ in 0..3 {
                trainer.step(&x, &labels(BATCH), 1e-2).unwrap();
            }
            for entry in model.layout().entries() {
                let before = bits(model.tensor(&entry.name).unwrap());
                let after = bits(trainer.model().tensor(&entry.name).unwrap());
                let stays = is_frozen(&model, entry, frozen)
                    || (!entry.kind.is_trainable() && norms == Norms::Running);
                assert_eq!(
                    before == after,
                    stays,
                    "{frozen} frozen, {norms:?}, {}: {}",
                    optimizer.name(),
                    entry.name
                );
                if entry.kind.is_trainable() && stays {
                    let nothing = |x: &[f32]| x[entry.range()].iter().all(|&x| x == 0.0);
                    assert!(nothing(trainer.grads()), "{frozen} frozen: a gradient of {}", entry.name);
                    assert!(
                        trainer.moments().iter().all(|moment| nothing(moment)),
                        "{frozen} frozen: a moment of {}",
                        entry.name
                    );
                }
            }
        }
    }
}

/// What learns has the gradients that it has when all learns by running statistics.
#[test]
fn gradients_are_those_of_the_whole_network() {
    let (model, x) = (model(), images(BATCH, SIDES));
    let adam = decaying()[0];
    for isa in instruction_sets() {
        let exec = Exec::with_isa(isa, 2).unwrap();
        let (all, all_loss) = gradients(&model, &config(Norms::Running, adam), &x, &exec);
        for frozen in cuts(&model) {
            let (grads, loss) = gradients(&model, &frozen_config(frozen, Norms::Running, adam), &x, &exec);
            assert!((loss - all_loss).abs() < 1e-5 * loss, "{isa:?}, {frozen} frozen: {loss} and {all_loss}");
            let learns = |e: &&ParamEntry| e.kind.is_trainable() && !is_frozen(&model, e, frozen);
            for entry in model.layout().entries().iter().filter(learns) {
                let [all, grads] = [&all, &grads].map(|grads| &grads[entry.range()]);
                let size = all.iter().fold(0.0f32, |m, g| m.max(g.abs()));
                for (a, b) in all.iter().zip(grads) {
                    assert!(
                        (a - b).abs() <= 1e-4 * size,
                        "{isa:?}, {frozen} frozen: {}: {a} and {b}",
                        entry.name
                    );
                }
            }
        }
    }
}

/// A wide depthwise convolution between pointwise ones, which run as one stage where they are frozen.
fn separable() -> Graph {
    let mut g = Graph::new(Shape::new(56, 56, 3));
    let conv = |filters, kernel| Conv2d { padding: Padding::Same, ..Conv2d::new(filters, kernel) };
    for block in 0..2 {
        g.then(format!("expand{block}"), Op::Conv2d(conv(48, 1)));
        g.then(format!("depthwise{block}"), Op::Conv2d(Conv2d { groups: 48, ..conv(48, 3) }));
        g.then(format!("project{block}"), Op::Conv2d(conv(8, 1)));
    }
    g.then("pool", Op::GlobalAvgPool);
    g.then("head", Op::Dense(Dense { units: 5, bias: true }));
    g
}

/// A residual sum, or a wide depthwise convolution between pointwise ones, and a batch normalisation behind it, with the
/// number of layers before that.
fn bodies_before_norms() -> [(Graph, usize, [usize; 3]); 2] {
    let conv =
        |filters, kernel| Op::Conv2d(Conv2d { padding: Padding::Same, ..Conv2d::new(filters, kernel) });
    let mut residual = Graph::new(Shape::new(14, 12, 3));
    let first = residual.push("first", conv(20, 3), &[0]);
    let second = residual.push("second", conv(20, 3), &[first]);
    residual.push("sum", Op::Add, &[second, first]);
    let mut separable = Graph::new(Shape::new(56, 56, 3));
    separable.then("expand", conv(48, 1));
    separable
        .then("depthwise", Op::Conv2d(Conv2d { groups: 48, padding: Padding::Same, ..Conv2d::new(48, 3) }));
    separable.then("project", conv(8, 1));
    [(residual, [14, 12, 3]), (separable, [56, 56, 3])].map(|(mut g, sides)| {
        let frozen = g.nodes.len();
        g.then("norm", Op::BatchNorm(BatchNorm::default()));
        g.then("relu", Op::Activation(Activation::Relu));
        g.then("pool", Op::GlobalAvgPool);
        g.then("head", Op::Dense(Dense { units: 5, bias: true }));
        (g, frozen, sides)
    })
}

#[test]
fn a_norm_takes_the_statistics_of_what_frozen_layers_make_together() {
    for (graph, frozen, sides) in bodies_before_norms() {
        let (model, x) = (sound(random_model::model(graph)), images(BATCH, sides));
        for isa in instruction_sets() {
            let exec = Exec::with_isa(isa, 2).unwrap();
            let of =
                |frozen| gradients(&model, &frozen_config(frozen, Norms::Batch, decaying()[0]), &x, &exec);
            let ((all, all_loss), (grads, loss)) = (of(0), of(frozen));
            assert!((loss - all_loss).abs() < 1e-5 * loss, "{isa:?}: {loss} and {all_loss}");
            for name in ["norm.scale", "norm.shift", "head.weight"] {
                let range = model.layout().entries().iter().find(|e| e.name == name).unwrap().range();
                let size = all[range.clone()].iter().fold(0.0f32, |m, g| m.max(g.abs()));
                for i in range.clone() {
                    assert!(
                        (all[i] - grads[i]).abs() <= 1e-4 * size,
                        "{isa:?} {name}: {} and {}",
                        all[i],
                        grads[i]
                    );
                }
            }
        }
    }
}

#[test]
fn a_norm_behind_frozen_layers_has_the_same_bits_on_any_number_of_threads() {
    // More images than chunks into which a batch is cut for sums.
    const MANY: usize = 18;
    for (graph, frozen, sides) in bodies_before_norms() {
        let (model, x) = (sound(random_model::model(graph)), images(MANY, sides));
        for isa in instruction_sets() {
            let run = |threads| {
                let exec = Exec::with_isa(isa, threads).unwrap();
                let config =
                    TrainConfig { batch: MANY, ..frozen_config(frozen, Norms::Batch, decaying()[0]) };
                let mut trainer = Trainer::new(model.clone(), config, &exec).unwrap();
                trainer.gradients(&x, &labels(MANY)).unwrap();
                bits(trainer.grads())
            };
            let one = run(1);
            assert!((2..=4).all(|threads| run(threads) == one), "{isa:?}");
        }
    }
}

#[test]
fn results_are_the_same_bits_on_any_number_of_threads() {
    let wide = sound(random_model::model(separable()));
    for (model, sides) in [(model(), SIDES), (wide, [56, 56, 3])] {
        let x = images(BATCH, sides);
        for isa in instruction_sets() {
            for frozen in [1, 2, 3, 5, 7] {
                let run = |threads| {
                    let exec = Exec::with_isa(isa, threads).unwrap();
                    let config = frozen_config(frozen, Norms::Running, decaying()[0]);
                    let mut trainer = Trainer::new(model.clone(), config, &exec).unwrap();
                    for count in [BATCH, 2] {
                        trainer.step(&x[..count * model.graph().input.len()], &labels(count), 1e-3).unwrap();
                    }
                    bits(trainer.model().params())
                };
                let one = run(1);
                for threads in [2, 3, 7] {
                    assert!(run(threads) == one, "{isa:?}, {frozen} frozen, {threads} threads");
                }
            }
        }
    }
}

#[test]
fn frozen_layers_keep_nothing_for_a_backward_pass() {
    let exec = Exec::new(2).unwrap();
    let graph = zoo::build("mobilenet-v2", Shape::new(96, 96, 3), 5).unwrap();
    let tensors = |frozen| {
        let mode = Mode::Train(Learning { norms: Norms::Running, frozen });
        Plan::measure(&graph, 8, mode, &exec).unwrap().0.tensors
    };
    let nodes = graph.nodes.len();
    let taken: Vec<usize> = [0, nodes / 4, nodes / 2, nodes - 1].map(tensors).to_vec();
    assert!(taken.is_sorted_by(|a, b| a > b), "{taken:?}");
    assert!(taken[3] * 4 < taken[0], "{taken:?}");
}

#[test]
fn a_network_of_which_nothing_learns_is_refused() {
    let (model, exec) = (model(), Exec::new(1).unwrap());
    let nodes = model.graph().nodes.len();
    let new = |frozen| Trainer::new(model.clone(), frozen_config(frozen, Norms::Batch, decaying()[0]), &exec);
    assert!(new(nodes - 1).is_ok());
    for frozen in [nodes, nodes + 1, usize::MAX] {
        let Err(EngineError::Config(reason)) = new(frozen) else { panic!("{frozen} frozen nodes") };
        assert!(reason.contains("nothing learns"), "{reason}");
    }
}
