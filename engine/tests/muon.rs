//! Training with Muon: the same bits on any number of threads and after a break, and what it leaves to AdamW.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod random_model;

use ocelli_engine::{AdamConfig, Decay, Exec, Model, Optimizer, Shape, TrainConfig, Trainer, zoo};
use random_model::{bits, images, model};

const BATCH: usize = 4;
const CLASSES: usize = 3;

fn start() -> Model {
    model(zoo::build("cifar-fast", Shape::new(16, 16, 3), CLASSES).unwrap())
}

fn muon() -> Optimizer {
    Optimizer::Muon { momentum: 0.9, adam: AdamConfig { weight_decay: 0.1, ..AdamConfig::default() } }
}

fn trainer(model: Model, optimizer: Optimizer, threads: usize) -> Trainer {
    let config =
        TrainConfig { batch: BATCH, optimizer, decay: Decay::Weights, frozen: 1, ..TrainConfig::default() };
    Trainer::new(model, config, &Exec::new(threads).unwrap()).unwrap()
}

fn steps(trainer: &mut Trainer, numbers: std::ops::Range<u32>) -> f32 {
    let mut loss = f32::NAN;
    for number in numbers {
        let labels: Vec<u32> = (0..BATCH as u32).map(|i| (i + number % 2) % CLASSES as u32).collect();
        let x: Vec<f32> = images(BATCH, [16, 16, 3]).iter().map(|x| x + (number % 2) as f32).collect();
        loss = trainer.step(&x, &labels, 0.01).unwrap().loss;
    }
    loss
}

#[test]
fn the_number_of_threads_and_a_break_change_no_bit() {
    let mut one = trainer(start(), muon(), 1);
    steps(&mut one, 0..4);
    for threads in [2, 3] {
        let mut first = trainer(start(), muon(), threads);
        steps(&mut first, 0..2);
        let mut second = trainer(first.model().clone(), muon(), threads);
        second.restore(first.steps(), &first.moments()).unwrap();
        steps(&mut second, 2..4);
        assert_eq!(bits(second.model().params()), bits(one.model().params()), "{threads} threads");
        assert_eq!(second.moments(), one.moments(), "{threads} threads");
    }
}

#[test]
fn convolutions_between_the_first_and_the_last_weights_have_other_steps_than_with_adamw() {
    let Optimizer::Muon { adam, .. } = muon() else { unreachable!("it is Muon") };
    let [with, without] = [muon(), Optimizer::AdamW(adam)].map(|optimizer| {
        let mut trainer = trainer(start(), optimizer, 2);
        steps(&mut trainer, 0..1);
        trainer.into_model()
    });
    let before = start();
    for entry in with.layout().entries() {
        let [with, without, before] = [&with, &without, &before].map(|m| bits(&m.params()[entry.range()]));
        let is_matrix = entry.name.starts_with("stage") && entry.name.ends_with("conv.weight");
        assert_eq!(with != without, is_matrix, "{}", entry.name);
        if entry.name.starts_with("whiten") {
            assert_eq!(with, before, "{} is frozen", entry.name);
        }
    }
}

#[test]
fn it_learns() {
    let mut trainer = trainer(start(), muon(), 2);
    let first = steps(&mut trainer, 0..1);
    let last = steps(&mut trainer, 1..41);
    assert!(last < 0.3 * first, "{last} after {first}");
}
