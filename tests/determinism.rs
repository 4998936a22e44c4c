//! The same bits on any number of threads and in a batch of any size.

use ocelli_engine::rng::Rng;
use ocelli_engine::{AdamConfig, Exec, Inference, Isa, Model, Optimizer, Shape, TrainConfig, Trainer, zoo};

use crate::instruction_sets::instruction_sets;

/// Parameters after a few steps, as bits.
fn trained(name: &str, side: usize, isa: Isa, threads: usize) -> Vec<u32> {
    let graph = zoo::build(name, Shape::new(side, side, 3), 7).expect("a known network");
    let model = Model::init(graph, 5).expect("the graph is sound");
    let config = TrainConfig {
        batch: 19,
        optimizer: Optimizer::AdamW(AdamConfig { weight_decay: 0.01, ..AdamConfig::default() }),
        clip_norm: Some(1.0),
        label_smoothing: 0.1,
        seed: 3,
        ..TrainConfig::default()
    };
    let exec = Exec::with_isa(isa, threads).expect("a sound number of threads");
    let mut trainer = Trainer::new(model, config, &exec).expect("a sound configuration");
    let mut rng = Rng::new(8, 0);
    // The last batch is a short one, as at the end of an epoch.
    for images in [19, 19, 6] {
        let x: Vec<f32> = (0..images * side * side * 3).map(|_| rng.normal()).collect();
        let labels: Vec<u32> = (0..images as u32).map(|i| i % 7).collect();
        trainer.step(&x, &labels, 1e-3).expect("a sound batch");
    }
    trainer.model().params().iter().map(|p| p.to_bits()).collect()
}

#[test]
fn training_has_the_same_bits_on_any_number_of_threads() {
    for (name, side) in [("keras-cnn", 20), ("resnet9", 16), ("mobilenet-v2", 32)] {
        for isa in instruction_sets() {
            // The portable kernels are slow, and the small network has every kind of split.
            if isa.name() == "portable" && name != "keras-cnn" {
                continue;
            }
            let one = trained(name, side, isa, 1);
            for threads in [2, 3, 7] {
                assert!(
                    trained(name, side, isa, threads) == one,
                    "{name} on {isa:?}: {threads} threads differ from 1"
                );
            }
        }
    }
}

#[test]
fn an_image_has_the_same_logits_in_any_batch() {
    for name in ["keras-cnn", "resnet9", "resnet18", "mobilenet-v2"] {
        let graph = zoo::build(name, Shape::new(32, 32, 3), 10).expect("a known network");
        let (model, len) = (Model::init(graph, 1).expect("the graph is sound"), 32 * 32 * 3);
        let mut rng = Rng::new(2, 0);
        let x: Vec<f32> = (0..9 * len).map(|_| rng.normal()).collect();
        let run = |isa: Isa, batch: usize, threads: usize| {
            let exec = Exec::with_isa(isa, threads).expect("a sound number of threads");
            let mut inference = Inference::new(&model, batch, &exec).expect("the model compiles");
            let logits = x.chunks(batch * len).flat_map(|x| {
                let mut logits = vec![0.0; x.len() / len * 10];
                inference.run(x, x.len() / len, &mut logits).expect("a sound batch");
                logits.into_iter().map(f32::to_bits)
            });
            logits.collect::<Vec<_>>()
        };
        for isa in instruction_sets() {
            let alone = run(isa, 1, 1);
            for (batch, threads) in [(1, 2), (2, 2), (4, 3), (9, 1), (9, 2)] {
                let differs = format!("{name} on {isa:?}: batch {batch} on {threads} threads differs");
                assert!(run(isa, batch, threads) == alone, "{differs}");
            }
        }
    }
}
