//! A whole training step and a forward pass of the tutorial CNN and a residual net, on one and two threads.
//!
//! Before it is timed, a step is verified: its loss falls when it is repeated, and the bits do not depend on threads.

mod support;

use std::time::Instant;

use criterion::{Criterion, Throughput};
use ocelli_engine::rng::Rng;
use ocelli_engine::{AdamConfig, Exec, Inference, Isa, Model, Optimizer, Shape, TrainConfig, Trainer, zoo};

/// Network, side, channels, batch.
const NETS: [(&str, usize, usize, usize); 2] = [("keras-cnn", 28, 1, 128), ("resnet9", 32, 3, 8)];

fn trainer(name: &str, shape: Shape, batch: usize, exec: &Exec) -> Trainer {
    let graph = zoo::build(name, shape, 10).expect("a known network");
    let model = Model::init(graph, 1).expect("the graph is sound");
    let optimizer = Optimizer::Adam(AdamConfig::default());
    let config = TrainConfig { batch, optimizer, seed: 1, ..TrainConfig::default() };
    Trainer::new(model, config, exec).expect("a sound configuration")
}

/// Measures work that has been verified; criterion's `elem/s` are floating-point operations a second.
#[allow(clippy::print_stdout, reason = "the result of a benchmark")]
fn measure(c: &mut Criterion, exec: &Exec, id: &str, flops: usize, mut f: impl FnMut()) {
    let mut group = c.benchmark_group("engine");
    group.throughput(Throughput::Elements(flops as u64));
    let mut ran = false;
    group.bench_function(id, |b| {
        ran = true;
        b.iter(&mut f);
    });
    group.finish();
    if ran && support::is_measuring() {
        let peak = ocelli_bench::peak(exec.isa, exec.threads());
        let mut times = [(); 9].map(|()| {
            let start = Instant::now();
            f();
            start.elapsed().as_secs_f64()
        });
        times.sort_by(f64::total_cmp);
        let percent = 100.0 * flops as f64 / times[4] / peak;
        let threads =
            if exec.threads() == 1 { "one thread".to_owned() } else { format!("{} threads", exec.threads()) };
        println!("{id}: {percent:.0} % of the {:.0} GFLOP/s of {threads} on registers\n", peak / 1e9);
    }
}

fn normal(seed: u64, len: usize) -> Vec<f32> {
    let mut rng = Rng::new(seed, 0);
    (0..len).map(|_| rng.normal()).collect()
}

fn main() {
    let mut c = support::criterion();
    let isa = Isa::best().expect("an instruction set");
    for (name, side, channels, batch) in NETS {
        let shape = Shape::new(side, side, channels);
        let x = normal(2, batch * shape.len());
        let labels: Vec<u32> = (0..batch as u32).map(|i| i % 10).collect();
        let mut first_losses = Vec::new();
        for threads in [1, 2] {
            let exec = Exec::with_isa(isa, threads).expect("a sound number of threads");
            let mut trainer = trainer(name, shape, batch, &exec);
            let step = |trainer: &mut Trainer| trainer.step(&x, &labels, 1e-3).expect("a sound batch").loss;
            let losses: Vec<f32> = (0..8).map(|_| step(&mut trainer)).collect();
            assert!(losses[7] < losses[0], "{name}: the loss falls on a repeated batch: {losses:?}");
            first_losses.push(losses[0].to_bits());
            let model = trainer.model().clone();
            let mut inference = Inference::new(&model, 1, &exec).expect("the model compiles");
            let macs = zoo::build(name, shape, 10)
                .and_then(|graph| ocelli_engine::Plan::compile(&graph, 1, ocelli_engine::Mode::Infer, &exec))
                .expect("the graph compiles")
                .macs();
            let id = format!("{name}-{side}/train/batch{batch}/t{threads}");
            // Backward is twice the forward pass, as long as every layer needs both gradients.
            measure(&mut c, &exec, &id, 6 * macs * batch, || {
                step(&mut trainer);
            });
            let mut logits = vec![0.0; 10];
            measure(&mut c, &exec, &format!("{name}-{side}/infer/batch1/t{threads}"), 2 * macs, || {
                inference.run(&x[..shape.len()], 1, &mut logits).expect("one image");
            });
        }
        assert_eq!(first_losses[0], first_losses[1], "{name}: losses do not depend on threads");
    }
    c.final_summary();
}
