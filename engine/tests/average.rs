//! The average of a training's models, training on images of another size, and going on with either.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod random_model;

use ocelli_engine::{AdamConfig, EngineError, Exec, Model, Optimizer, Shape, TrainConfig, Trainer, zoo};
use random_model::{bits, images, model};

const BATCH: usize = 4;
const CLASSES: usize = 3;
const SIDE: usize = 16;

fn start(name: &str) -> Model {
    model(zoo::build(name, Shape::new(SIDE, SIDE, 3), CLASSES).unwrap())
}

fn trainer(model: Model, ema: Option<f32>) -> Trainer {
    let adam = AdamConfig { weight_decay: 0.01, ..AdamConfig::default() };
    let config =
        TrainConfig { batch: BATCH, optimizer: Optimizer::AdamW(adam), ema, ..TrainConfig::default() };
    Trainer::new(model, config, &Exec::new(2).unwrap()).unwrap()
}

fn step(trainer: &mut Trainer, number: u32) {
    let shape = trainer.model().graph().input;
    let mut x = images(BATCH, [shape.h, shape.w, shape.c].map(|side| side as usize));
    x.iter_mut().for_each(|x| *x += number as f32 * 0.1);
    let labels: Vec<u32> = (0..BATCH as u32).map(|i| (i + number) % CLASSES as u32).collect();
    trainer.step(&x, &labels, 0.01).unwrap();
}

#[test]
fn the_average_follows_its_definition_running_statistics_included() {
    let mut trainer = trainer(start("resnet9"), Some(0.5));
    let mut exact: Vec<f64> = trainer.model().params().iter().map(|&p| p.into()).collect();
    for number in 1..=12u32 {
        step(&mut trainer, number);
        // From step 8 on the decay is its own.
        let decay = f64::from(1 + number) / f64::from(10 + number);
        let decay = decay.min(0.5);
        for (average, &p) in exact.iter_mut().zip(trainer.model().params()) {
            *average = decay * *average + (1.0 - decay) * f64::from(p);
        }
    }
    let averaged = trainer.averaged();
    assert_ne!(bits(averaged.params()), bits(trainer.model().params()));
    for (&found, &exact) in averaged.params().iter().zip(&exact) {
        // Twelve steps of three roundings, of numbers that stay below ten.
        assert!((f64::from(found) - exact).abs() < 36.0 * 10.0 / 16_777_216.0, "{found} is not {exact}");
    }
}

#[test]
fn without_a_decay_the_average_is_the_model() {
    let mut trainer = trainer(start("resnet9"), None);
    step(&mut trainer, 1);
    assert_eq!(bits(trainer.averaged().params()), bits(trainer.model().params()));
    assert_eq!(trainer.moments().len(), 2);
}

#[test]
fn training_goes_on_to_the_same_bits_average_included() {
    // With running statistics and without.
    for (name, parts) in [("resnet9", 4), ("keras-cnn", 3)] {
        let mut unbroken = trainer(start(name), Some(0.9));
        (1..=3).for_each(|number| step(&mut unbroken, number));
        let (steps, moments, model) = (unbroken.steps(), unbroken.moments(), unbroken.model().clone());
        assert_eq!(moments.len(), parts, "{name}");
        let mut resumed = trainer(model, Some(0.9));
        resumed.restore(steps, &moments).unwrap();
        for number in 4..=6 {
            step(&mut unbroken, number);
            step(&mut resumed, number);
        }
        for (a, b) in [(unbroken.model(), resumed.model()), (&unbroken.averaged(), &resumed.averaged())] {
            assert_eq!(bits(a.params()), bits(b.params()), "{name}");
        }
        let mut other = trainer(start(name), None);
        assert!(matches!(other.restore(steps, &moments), Err(EngineError::Config(_))), "{name}");
    }
}

#[test]
fn another_size_keeps_weights_moments_average_and_count() {
    let mut resized = trainer(start("resnet9"), Some(0.9));
    (1..=3).for_each(|number| step(&mut resized, number));
    let before = (resized.steps(), resized.moments(), resized.averaged());
    let shape = Shape::new(24, 20, 3);
    let model = resized.model().clone().with_input(shape).unwrap();
    let mut resized = resized.resized(shape).unwrap();
    assert_eq!((resized.steps(), resized.model().graph().input), (3, shape));
    assert_eq!(resized.averaged().graph().input, shape);
    assert_eq!(bits(resized.averaged().params()), bits(before.2.params()));
    // As a trainer that begins there with the same state.
    let mut fresh = trainer(model, Some(0.9));
    fresh.restore(before.0, &before.1).unwrap();
    for number in 4..=6 {
        step(&mut resized, number);
        step(&mut fresh, number);
    }
    assert_eq!(bits(resized.model().params()), bits(fresh.model().params()));
    assert_eq!(bits(resized.averaged().params()), bits(fresh.averaged().params()));
}

#[test]
fn a_network_that_depends_on_the_size_of_its_images_says_so() {
    let trainer = trainer(start("keras-cnn"), None);
    assert!(matches!(trainer.resized(Shape::new(24, 24, 3)), Err(EngineError::Graph { .. })));
}

#[test]
fn a_decay_out_of_range_is_refused() {
    for ema in [-0.1, 1.0, f32::NAN] {
        let config = TrainConfig { ema: Some(ema), ..TrainConfig::default() };
        let made = Trainer::new(start("resnet9"), config, &Exec::new(1).unwrap());
        assert!(matches!(made, Err(EngineError::Config(_))), "{ema}");
    }
}
