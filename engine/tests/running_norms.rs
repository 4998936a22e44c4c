//! Training by running statistics, in which a batch normalisation is an affine map of each channel.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod instruction_sets;
mod norm_network;
mod random_model;

use instruction_sets::instruction_sets;
use norm_network::{BATCH, CLASSES, config, gradients, graph, labels, sound};
use ocelli_engine::graph::{Conv2d, Padding};
use ocelli_engine::{
    AdamConfig, Exec, Graph, Inference, Learning, Mode, Model, Norms, Op, Optimizer, ParamKind, Plan, Trainer,
};
use random_model::{bits, images};

const SIDES: [usize; 3] = [13, 12, 3];

/// Widths around the seams of vectors and register tiles.
const WIDTHS: [usize; 4] = [4, 12, 16, 36];

fn adamw() -> Optimizer {
    Optimizer::AdamW(AdamConfig { weight_decay: 0.01, ..AdamConfig::default() })
}

fn model(width: usize) -> Model {
    sound(random_model::model(graph(width)))
}

/// The same network with an explicit map `y = x * weight + bias` of each channel in place of every norm, and the model that
/// computes the same.
fn explicit(model: &Model) -> Model {
    let shapes = model.graph().shapes().unwrap();
    let mut graph = Graph { input: model.graph().input, nodes: Vec::new() };
    for node in &model.graph().nodes {
        let c = shapes[node.inputs[0] as usize].c as usize;
        let map = Conv2d { groups: c as u32, padding: Padding::Valid, ..Conv2d::new(c, 1) };
        let op = if matches!(node.op, Op::BatchNorm(_)) { Op::Conv2d(map) } else { node.op.clone() };
        graph.push(node.name.clone(), op, &node.inputs);
    }
    let mut other = Model::zeros(graph).unwrap();
    for entry in other.layout().entries().to_vec() {
        let (owner, kind) = entry.name.rsplit_once('.').unwrap();
        let values: Vec<f32> = match (model.tensor(&format!("{owner}.scale")), kind) {
            (None, _) => model.tensor(&entry.name).unwrap().to_vec(),
            (Some(_), "weight") => affine(model, owner).iter().map(|map| map.factor).collect(),
            (Some(_), _) => affine(model, owner).iter().map(|map| map.offset).collect(),
        };
        other.params_mut()[entry.range()].copy_from_slice(&values);
    }
    other
}

/// What a norm does to a channel.
struct Affine {
    factor: f32,
    offset: f32,
    mean: f32,
    inv_std: f32,
}

fn affine(model: &Model, norm: &str) -> Vec<Affine> {
    let [scale, shift, mean, var] = ["scale", "shift", "running_mean", "running_var"]
        .map(|kind| model.tensor(&format!("{norm}.{kind}")).unwrap());
    let channel = |c: usize| {
        let inv_std = 1.0 / (var[c] + 1e-3).sqrt();
        let factor = scale[c] * inv_std;
        Affine { factor, offset: shift[c] - mean[c] * factor, mean: mean[c], inv_std }
    };
    (0..scale.len()).map(channel).collect()
}

fn tensor<'a>(model: &Model, grads: &'a [f32], name: &str) -> &'a [f32] {
    let entry = model.layout().entries().iter().find(|entry| entry.name == name).unwrap();
    &grads[entry.range()]
}

/// Every gradient is that of the network with explicit maps, and what a map's two gradients say about the norm.
#[test]
fn gradients_are_those_of_explicit_affine_maps() {
    for width in WIDTHS {
        let model = model(width);
        let other = explicit(&model);
        let x = images(BATCH, SIDES);
        for isa in instruction_sets() {
            for exact in [false, true] {
                let exec = Exec::with_isa(isa, 2).unwrap().exact(exact);
                let (grads, loss) = gradients(&model, &config(Norms::Running, adamw()), &x, &exec);
                let (others, expected) = gradients(&other, &config(Norms::Batch, adamw()), &x, &exec);
                assert!(
                    (loss - expected).abs() < 1e-5 * expected,
                    "{isa:?}, width {width}: {loss}, {expected}"
                );
                for entry in model.layout().entries().iter().filter(|e| e.kind.is_trainable()) {
                    let (owner, _) = entry.name.rsplit_once('.').unwrap();
                    let expected: Vec<f32> = match entry.kind {
                        ParamKind::Scale => {
                            let [dw, db] = ["weight", "bias"]
                                .map(|kind| tensor(&other, &others, &format!("{owner}.{kind}")));
                            let maps = affine(&model, owner);
                            (0..maps.len())
                                .map(|c| (dw[c] - db[c] * maps[c].mean) * maps[c].inv_std)
                                .collect()
                        }
                        ParamKind::Shift => tensor(&other, &others, &format!("{owner}.bias")).to_vec(),
                        _ => tensor(&other, &others, &entry.name).to_vec(),
                    };
                    let size = expected.iter().fold(0.0f32, |m, g| m.max(g.abs()));
                    assert!(size > 0.0, "{} has no gradient", entry.name);
                    for (i, (found, expected)) in grads[entry.range()].iter().zip(&expected).enumerate() {
                        assert!(
                            (found - expected).abs() <= 1e-4 * size,
                            "{isa:?}, exact {exact}, width {width}: {}[{i}] is {found}, not {expected}, of {size}",
                            entry.name
                        );
                    }
                }
            }
        }
    }
}

/// Training computes what inference does.
#[test]
fn the_loss_is_that_of_inference() {
    for width in WIDTHS {
        let model = model(width);
        let x = images(BATCH, SIDES);
        for isa in instruction_sets() {
            let exec = Exec::with_isa(isa, 2).unwrap();
            let (_, loss) = gradients(&model, &config(Norms::Running, adamw()), &x, &exec);
            let mut logits = vec![f32::NAN; BATCH * CLASSES];
            Inference::new(&model, BATCH, &exec).unwrap().run(&x, BATCH, &mut logits).unwrap();
            let expected = smoothed_loss(&logits);
            assert!(
                (f64::from(loss) - expected).abs() < 1e-5 * expected,
                "{isa:?}, width {width}: {loss}, {expected}"
            );
        }
    }
}

/// Mean cross entropy with the smoothing of [`config`].
fn smoothed_loss(logits: &[f32]) -> f64 {
    let rows = logits.chunks(CLASSES).zip(labels(BATCH));
    let of = |(row, label): (&[f32], u32)| {
        let row: Vec<f64> = row.iter().map(|&v| v.into()).collect();
        let sum = row.iter().map(|v| v.exp()).sum::<f64>().ln();
        let target = |i: usize| 0.1 / CLASSES as f64 + if i == label as usize { 0.9 } else { 0.0 };
        (0..CLASSES).map(|i| target(i) * (sum - row[i])).sum::<f64>()
    };
    rows.map(of).sum::<f64>() / BATCH as f64
}

/// After a few steps, of which the last has fewer images.
fn trained(model: &Model, exec: &Exec) -> Model {
    let mut trainer = Trainer::new(model.clone(), config(Norms::Running, adamw()), exec).unwrap();
    let x = images(BATCH, SIDES);
    for count in [BATCH, BATCH, 4, 1] {
        trainer.step(&x[..count * model.graph().input.len()], &labels(count), 1e-3).unwrap();
    }
    trainer.into_model()
}

#[test]
fn running_statistics_stay_and_all_else_learns() {
    let model = model(12);
    for isa in instruction_sets() {
        let after = trained(&model, &Exec::with_isa(isa, 2).unwrap());
        for entry in model.layout().entries() {
            let [before, after] = [&model, &after].map(|model| bits(model.tensor(&entry.name).unwrap()));
            let stays = !entry.kind.is_trainable();
            assert_eq!(before == after, stays, "{isa:?}: {}", entry.name);
        }
    }
}

#[test]
fn results_are_the_same_bits_on_any_number_of_threads() {
    for width in [12, 36] {
        let model = model(width);
        for isa in instruction_sets() {
            for chunk in [0, 3] {
                let run = |threads| {
                    let exec = Exec::with_isa(isa, threads).unwrap().chunk(chunk);
                    bits(trained(&model, &exec).params())
                };
                let one = run(1);
                for threads in [2, 3, 7] {
                    assert!(
                        run(threads) == one,
                        "{isa:?}, width {width}, {threads} threads, passes of {chunk}"
                    );
                }
            }
        }
    }
}

/// No layer joins images: a batch may go through in parts.
#[test]
fn gradients_add_up_over_the_passes_of_a_batch() {
    let model = model(16);
    let x = images(BATCH, SIDES);
    for isa in instruction_sets() {
        let run = |chunk| {
            let exec = Exec::with_isa(isa, 2).unwrap().chunk(chunk);
            let mode = Mode::Train(Learning { norms: Norms::Running, frozen: 0 });
            let (memory, pass) = Plan::measure(model.graph(), BATCH, mode, &exec).unwrap();
            let (grads, loss) = gradients(&model, &config(Norms::Running, adamw()), &x, &exec);
            (grads, loss, memory.tensors, pass)
        };
        let (whole, loss, memory, pass) = run(0);
        assert_eq!(pass, BATCH);
        for chunk in [1, 2, 3, 6] {
            let (parts, parts_loss, parts_memory, pass) = run(chunk);
            assert!(pass <= chunk && parts_memory < memory, "{isa:?}: passes of {pass}");
            assert!((loss - parts_loss).abs() < 1e-5 * loss, "{isa:?}, passes of {chunk}");
            for entry in model.layout().entries().iter().filter(|e| e.kind.is_trainable()) {
                let [whole, parts] = [&whole, &parts].map(|grads| &grads[entry.range()]);
                let size = whole.iter().fold(0.0f32, |m, g| m.max(g.abs()));
                for (a, b) in whole.iter().zip(parts) {
                    assert!(
                        (a - b).abs() <= 1e-4 * size,
                        "{isa:?}, passes of {chunk}: {}: {a} and {b}",
                        entry.name
                    );
                }
            }
        }
    }
}
