//! Rates of single layers and what weight decay applies to: what they change, bit for bit, and what they leave alone.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod random_model;

use ocelli_engine::{AdamConfig, Decay, Exec, Model, Optimizer, ParamKind, Shape, TrainConfig, Trainer, zoo};
use random_model::{bits, images, model};

const BATCH: usize = 4;
const CLASSES: usize = 3;

fn start() -> Model {
    model(zoo::build("resnet9", Shape::new(16, 16, 3), CLASSES).unwrap())
}

fn optimizers(weight_decay: f64) -> [Optimizer; 3] {
    let adam = AdamConfig { weight_decay, ..AdamConfig::default() };
    [
        Optimizer::Sgd { momentum: 0.9, nesterov: true, weight_decay },
        Optimizer::Adam(adam),
        Optimizer::AdamW(adam),
    ]
}

/// The model after some steps.
fn trained(config: &TrainConfig, steps: usize, lr: f32) -> Model {
    let config = TrainConfig { batch: BATCH, ..config.clone() };
    let mut trainer = Trainer::new(start(), config, &Exec::new(2).unwrap()).unwrap();
    let x = images(BATCH, [16, 16, 3]);
    for step in 0..steps as u32 {
        let labels: Vec<u32> = (0..BATCH as u32).map(|i| (i + step) % CLASSES as u32).collect();
        trainer.step(&x, &labels, lr).unwrap();
    }
    trainer.into_model()
}

#[test]
fn a_layer_with_rate_zero_keeps_its_bits_and_the_others_learn() {
    let before = start();
    let nodes = before.graph().nodes.len();
    let rates: Vec<f32> = (0..nodes).map(|node| if node < nodes / 2 { 0.0 } else { 1.0 }).collect();
    for optimizer in optimizers(0.1) {
        let after =
            trained(&TrainConfig { optimizer, rates: rates.clone(), ..TrainConfig::default() }, 3, 0.01);
        for entry in after.layout().entries().iter().filter(|entry| entry.kind.is_trainable()) {
            let [old, new] = [&before, &after].map(|model| bits(&model.params()[entry.range()]));
            assert_eq!(old == new, rates[entry.node()] == 0.0, "{} with {optimizer:?}", entry.name);
        }
    }
}

#[test]
fn half_the_rate_everywhere_is_half_the_learning_rate() {
    for optimizer in optimizers(0.01) {
        let rates = vec![0.5; start().graph().nodes.len()];
        let halved = trained(&TrainConfig { optimizer, rates, ..TrainConfig::default() }, 3, 0.02);
        let plain = trained(&TrainConfig { optimizer, ..TrainConfig::default() }, 3, 0.01);
        assert_eq!(bits(halved.params()), bits(plain.params()), "{optimizer:?}");
    }
}

#[test]
fn only_weights_decay_where_that_is_asked_for() {
    for (with, without) in optimizers(0.1).into_iter().zip(optimizers(0.0)) {
        let step =
            |optimizer, decay| trained(&TrainConfig { optimizer, decay, ..TrainConfig::default() }, 1, 0.01);
        let (all, weights, none) =
            (step(with, Decay::All), step(with, Decay::Weights), step(without, Decay::All));
        for entry in weights.layout().entries() {
            let [all, weights, none] = [&all, &weights, &none].map(|m| bits(&m.params()[entry.range()]));
            let expected = if entry.kind == ParamKind::Weight { &all } else { &none };
            assert_eq!(&weights, expected, "{} with {with:?}", entry.name);
            // Adam's first step has the size of the rate and the sign of the gradient, which the decay seldom changes.
            if entry.kind.is_trainable() && !matches!(with, Optimizer::Adam(_)) {
                assert_ne!(all, none, "{} with {with:?}", entry.name);
            }
        }
    }
}
