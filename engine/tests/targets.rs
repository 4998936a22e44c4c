//! Losses of several labels an image, against their definitions in f64.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod random_model;

use ocelli_engine::graph::{Conv2d, Dense};
use ocelli_engine::kernels::reference;
use ocelli_engine::{
    Activation, EngineError, Exec, Graph, Inference, Loss, Mixed, Model, Op, Optimizer, Shape, TrainConfig,
    Trainer,
};
use random_model::{bits, images, model};

const BATCH: usize = 6;
const CLASSES: usize = 4;
const LABELS: [u32; BATCH] = [0, 1, 2, 3, 0, 2];
const OTHERS: [u32; BATCH] = [3, 1, 0, 2, 2, 1];
const SHARE: [f32; BATCH] = [1.0, 0.0, 0.5, 0.25, 0.7, 0.9];

fn network() -> Model {
    let mut g = Graph::new(Shape::new(7, 7, 2));
    g.then("conv", Op::Conv2d(Conv2d::new(5, 3)));
    g.then("act", Op::Activation(Activation::Relu));
    g.then("flatten", Op::Flatten);
    g.then("dense", Op::Dense(Dense { units: CLASSES as u32, bias: true }));
    model(g)
}

fn x() -> Vec<f32> {
    images(BATCH, [7, 7, 2])
}

fn trainer(config: TrainConfig, chunk: usize) -> Trainer {
    let optimizer = Optimizer::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 };
    let config = TrainConfig { batch: BATCH, optimizer, ..config };
    Trainer::new(network(), config, &Exec::new(2).unwrap().chunk(chunk)).unwrap()
}

fn logits() -> Vec<f64> {
    let mut inference = Inference::new(&network(), BATCH, &Exec::new(1).unwrap()).unwrap();
    let mut logits = vec![0.0; BATCH * CLASSES];
    inference.run(&x(), BATCH, &mut logits).unwrap();
    logits.iter().map(|&x| x.into()).collect()
}

fn close(found: f32, expected: f64) {
    assert!((f64::from(found) - expected).abs() < 1e-5 * expected.abs(), "{found} is not {expected}");
}

#[test]
fn the_loss_of_mixed_labels_is_the_mean_of_both_by_their_shares() {
    let weights = [1.0, 2.0, 0.5, 1.5];
    let rows = logits();
    let rows = rows.chunks(CLASSES);
    let (mut loss, mut weight) = (0.0, 0.0);
    for (i, row) in rows.enumerate() {
        for (label, share) in [(LABELS[i], f64::from(SHARE[i])), (OTHERS[i], 1.0 - f64::from(SHARE[i]))] {
            loss += share * reference::cross_entropy(row, &[label], &weights, 0.1f32.into());
            weight += share * weights[label as usize];
        }
    }
    let class_weights = Some(weights.map(|w| w as f32).to_vec());
    let mixed = Mixed { labels: &LABELS, others: &OTHERS, share: &SHARE };
    for chunk in [0, 1, 4] {
        let config = TrainConfig {
            label_smoothing: 0.1,
            class_weights: class_weights.clone(),
            ..TrainConfig::default()
        };
        close(trainer(config, chunk).step_mixed(&x(), mixed, 0.1).unwrap().loss, loss / weight);
    }
}

#[test]
fn whole_shares_train_as_one_label_does() {
    let [mut one, mut mixed] = [0, 1].map(|_| trainer(TrainConfig::default(), 0));
    for _ in 0..3 {
        let expected = one.step(&x(), &LABELS, 0.1).unwrap();
        let labels = Mixed { labels: &LABELS, others: &OTHERS, share: &[1.0; BATCH] };
        assert_eq!(mixed.step_mixed(&x(), labels, 0.1).unwrap(), expected);
    }
    assert_eq!(bits(one.model().params()), bits(mixed.model().params()));
}

#[test]
fn the_sigmoid_loss_is_the_mean_over_images_and_classes_and_falls() {
    let targets: Vec<f32> = (0..BATCH * CLASSES).map(|i| f32::from(i % 3 == 0)).collect();
    let exact: Vec<f64> = targets.iter().map(|&t| t.into()).collect();
    let weights = [1.0, 2.0, 0.5, 1.5];
    let loss = reference::binary_cross_entropy(&logits(), &exact, &weights, 0.1f32.into());
    for chunk in [0, 1, 4] {
        let config = TrainConfig {
            loss: Loss::Sigmoid,
            label_smoothing: 0.1,
            class_weights: Some(weights.map(|w| w as f32).to_vec()),
            ..TrainConfig::default()
        };
        let mut trainer = trainer(config, chunk);
        let first = trainer.step_targets(&x(), &targets, 0.1).unwrap().loss;
        close(first, loss / (BATCH * CLASSES) as f64);
        let last = (0..200).map(|_| trainer.step_targets(&x(), &targets, 0.1).unwrap()).last().unwrap();
        assert!(last.loss < 0.5 * first && last.correct == BATCH, "{last:?} after {first}");
    }
}

#[test]
fn targets_that_cannot_be_are_refused_before_anything_changes() {
    let sigmoid = || trainer(TrainConfig { loss: Loss::Sigmoid, ..TrainConfig::default() }, 0);
    let softmax = || trainer(TrainConfig::default(), 0);
    let targets = |value: f32| vec![value; BATCH * CLASSES];
    let config = |result: Result<_, EngineError>| matches!(result, Err(EngineError::Config(_)));
    assert!(config(sigmoid().step(&x(), &LABELS, 0.1)));
    assert!(config(softmax().step_targets(&x(), &targets(1.0), 0.1)));
    for value in [-0.1, 1.1, f32::NAN] {
        assert!(config(sigmoid().step_targets(&x(), &targets(value), 0.1)));
        let mixed = Mixed { labels: &LABELS, others: &OTHERS, share: &[value; BATCH] };
        assert!(config(softmax().step_mixed(&x(), mixed, 0.1)));
    }
    let shape = |result: Result<_, EngineError>| matches!(result, Err(EngineError::Shape { .. }));
    assert!(shape(sigmoid().step_targets(&x(), &targets(1.0)[1..], 0.1)));
    assert!(shape(sigmoid().step_targets(&x(), &[], 0.1)));
    let mixed = Mixed { labels: &LABELS, others: &OTHERS[1..], share: &SHARE };
    assert!(shape(softmax().step_mixed(&x(), mixed, 0.1)));
    let mixed = Mixed { labels: &LABELS, others: &[4; BATCH], share: &SHARE };
    assert!(matches!(
        softmax().step_mixed(&x(), mixed, 0.1),
        Err(EngineError::Label { label: 4, classes: CLASSES })
    ));
    let mut trainer = sigmoid();
    assert!(trainer.step(&x(), &LABELS, 0.1).is_err());
    assert_eq!((trainer.steps(), bits(trainer.model().params())), (0, bits(network().params())));
}
