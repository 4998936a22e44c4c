//! A network of one's own, trained on arrays and stored: `cargo run --release -p ocelli-engine --example train_arrays`.
#![allow(clippy::print_stdout, reason = "examples print what they found")]

use ndarray::Array4;
use ocelli_engine::graph::{Conv2d, Dense, Padding, Pool2d};
use ocelli_engine::rng::Rng;
use ocelli_engine::{
    Activation, EngineError, Exec, Graph, Inference, Model, Op, Shape, TrainConfig, Trainer,
};

/// Stripes, across or down, with noise.
fn images(n: usize, seed: u64) -> (Array4<f32>, Vec<u32>) {
    let mut rng = Rng::new(seed, 0);
    let labels: Vec<u32> = (0..n).map(|i| i as u32 % 2).collect();
    let x = Array4::from_shape_fn((n, 16, 16, 1), |(i, y, x, _)| {
        let bright = if labels[i] == 0 { y % 4 < 2 } else { x % 4 < 2 };
        f32::from(u8::from(bright)) + rng.normal()
    });
    (x, labels)
}

fn main() -> Result<(), EngineError> {
    let mut graph = Graph::new(Shape::new(16, 16, 1));
    graph.then("conv", Op::Conv2d(Conv2d { padding: Padding::Same, ..Conv2d::new(8, 5) }));
    graph.then("relu", Op::Activation(Activation::Relu));
    graph.then("pool", Op::MaxPool2d(Pool2d::new(2)));
    graph.then("flatten", Op::Flatten);
    graph.then("classes", Op::Dense(Dense { units: 2, bias: true }));

    // All cores, the best instruction set of this machine.
    let exec = Exec::new(0)?;
    let mut trainer = Trainer::new(Model::init(graph, 1)?, TrainConfig::default(), &exec)?;
    for step in 0..200 {
        let (x, labels) = images(32, step);
        let stats = trainer.step_images(x.view(), &labels, 1e-3)?;
        if step % 50 == 0 {
            println!("step {step}: loss {:.4}", stats.loss);
        }
    }

    let (x, labels) = images(1000, 1_000_000);
    let logits = Inference::new(trainer.model(), 64, &exec)?.predict(x.view())?;
    let right =
        logits.rows().into_iter().zip(labels).filter(|(row, label)| u32::from(row[1] > row[0]) == *label);
    println!("{} of 1000 images right", right.count());
    Ok(())
}
