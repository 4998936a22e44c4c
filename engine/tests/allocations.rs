//! Once warm, a training step and an inference call allocate nothing on one thread, and on several nothing but the jobs
//! that ask other threads for help: all other memory is the plan's.
//!
//! A program without the test harness, whose threads allocate when they first wait for a test.

#![allow(
    clippy::print_stdout,
    reason = "which network allocates how much is for whoever reads a failed test"
)]

mod instruction_sets;
mod observed_allocator;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use instruction_sets::instruction_sets;
use observed_allocator::Observed;
use ocelli_engine::rng::Rng;
use ocelli_engine::{AdamConfig, Exec, Inference, Model, Norms, Optimizer, Shape, TrainConfig, Trainer, zoo};

static COUNTING: AtomicBool = AtomicBool::new(false);
static COUNT: AtomicUsize = AtomicUsize::new(0);
/// Sizes of the first allocations: a hint at what they hold.
static SIZES: [AtomicUsize; 8] = [const { AtomicUsize::new(0) }; 8];

/// Counts the allocations of all threads of the process.
fn count(taken: usize, _freed: usize) {
    if taken > 0 && COUNTING.load(Relaxed) {
        let index = COUNT.fetch_add(1, Relaxed);
        if let Some(size) = SIZES.get(index) {
            size.store(taken, Relaxed);
        }
    }
}

#[global_allocator]
static ALLOCATOR: Observed = Observed(count);

/// Runs `f`, and gives the number of its allocations and the sizes of the first in bytes.
fn allocations(f: impl FnOnce()) -> (usize, Vec<usize>) {
    COUNT.store(0, Relaxed);
    COUNTING.store(true, Relaxed);
    f();
    COUNTING.store(false, Relaxed);
    let count = COUNT.load(Relaxed);
    (count, SIZES.iter().take(count).map(|size| size.load(Relaxed)).collect())
}

/// A network, and what runs on it.
struct Case {
    name: &'static str,
    side: usize,
    channels: usize,
    /// The statistics that training normalises by.
    norms: Norms,
    /// Images: enough to be shared among threads.
    batch: usize,
    /// Steps or calls that are counted; two more run before.
    rounds: usize,
}

const CASES: [Case; 6] = [
    Case { name: "keras-cnn", side: 28, channels: 1, norms: Norms::Batch, batch: 4, rounds: 100 },
    Case { name: "resnet9", side: 32, channels: 3, norms: Norms::Batch, batch: 2, rounds: 4 },
    Case { name: "cifar-fast", side: 32, channels: 3, norms: Norms::Batch, batch: 2, rounds: 4 },
    Case { name: "mobilenet-v2", side: 32, channels: 3, norms: Norms::Batch, batch: 2, rounds: 4 },
    Case { name: "mobilenet-v2", side: 32, channels: 3, norms: Norms::Running, batch: 2, rounds: 4 },
    Case { name: "resnet18", side: 32, channels: 3, norms: Norms::Batch, batch: 2, rounds: 4 },
];

impl Case {
    fn model(&self) -> Model {
        let shape = Shape::new(self.side, self.side, self.channels);
        let graph = zoo::build(self.name, shape, 10).expect("a known network");
        Model::init(graph, 1).expect("the graph is sound")
    }

    fn image_len(&self) -> usize {
        self.side * self.side * self.channels
    }

    fn images(&self) -> Vec<f32> {
        let mut rng = Rng::new(2, 0);
        (0..self.batch * self.image_len()).map(|_| rng.normal()).collect()
    }
}

/// Most bytes of the job of a helper: what it shares with its pass, and how many more helpers there are to ask for.
const JOB: usize = 32;

/// Runs `round` of every network, prints how often each allocates, and fails when one does more than ask for help.
fn report<F: FnMut(usize) + Send>(what: &str, exec: &Exec, prepare: impl Fn(&Exec, &Case) -> F) {
    let (isa, threads) = (exec.isa, exec.pool.threads());
    for case in CASES {
        let mut round = prepare(exec, &case);
        let counted = || {
            (0..2).for_each(&mut round);
            let before = exec.pool.helpers();
            let (count, sizes) = allocations(|| (0..case.rounds).for_each(&mut round));
            (count, sizes, exec.pool.helpers() - before)
        };
        // From a thread of the pool: the queue for jobs from outside grows block by block.
        let (count, sizes, helpers) = exec.pool.install(counted).expect("the threads start");
        let Case { name, rounds, .. } = case;
        println!(
            "{name:<13} {rounds} {what} on {isa:?}, {threads}: {count} allocations for {helpers} helpers, of bytes {sizes:?}"
        );
        assert!(count <= helpers && sizes.iter().all(|&size| size <= JOB), "{name} on {isa:?}");
        assert!(threads > 1 || helpers == 0, "{name} on {isa:?}");
    }
}

fn train(exec: &Exec) {
    report("steps", exec, |exec, case| {
        let adam = Optimizer::AdamW(AdamConfig { weight_decay: 0.01, ..AdamConfig::default() });
        let sgd = Optimizer::Sgd { momentum: 0.9, nesterov: true, weight_decay: 1e-4 };
        let muon = Optimizer::Muon { momentum: 0.9, adam: AdamConfig::default() };
        let config = TrainConfig {
            batch: case.batch,
            optimizer: match case.name {
                "resnet9" => sgd,
                "cifar-fast" => muon,
                _ => adam,
            },
            clip_norm: Some(1.0),
            ema: Some(0.99),
            label_smoothing: 0.1,
            class_weights: Some(vec![0.5; 10]),
            seed: 3,
            norms: case.norms,
            ..TrainConfig::default()
        };
        let mut trainer = Trainer::new(case.model(), config, exec).expect("a sound configuration");
        let (x, len, batch) = (case.images(), case.image_len(), case.batch);
        let labels: Vec<u32> = (0..batch as u32).map(|i| i % 10).collect();
        move |step| {
            // A batch may be short, as at the end of an epoch.
            let images = batch - step % 2;
            trainer.step(&x[..images * len], &labels[..images], 1e-3).expect("a sound batch");
        }
    });
}

fn infer(exec: &Exec) {
    report("calls", exec, |exec, case| {
        let mut inference = Inference::new(&case.model(), case.batch, exec).expect("the model compiles");
        let (x, len, batch) = (case.images(), case.image_len(), case.batch);
        let mut logits = vec![0.0; batch * 10];
        move |call| {
            // One image is cut otherwise than several.
            let images = if call % 2 == 0 { batch } else { 1 };
            inference.run(&x[..images * len], images, &mut logits[..images * 10]).expect("a sound batch");
        }
    });
}

fn the_count_counts() {
    let (count, sizes) = allocations(|| {
        let first = std::hint::black_box(vec![0u8; 100]);
        let worker = std::thread::spawn(|| std::hint::black_box(vec![0u8; 3_333]).len());
        assert_eq!((first.len(), worker.join().expect("no panic")), (100, 3_333));
    });
    assert!(count >= 2 && sizes[0] == 100 && sizes.contains(&3_333), "{count}: {sizes:?}");
    assert_eq!(allocations(|| ()), (0, Vec::new()));
}

fn main() {
    the_count_counts();
    // All are kept: a thread that ends takes memory for what its queue leaves behind, and may end late.
    let mut kept = Vec::new();
    for isa in instruction_sets() {
        for threads in [1, 2] {
            let exec = Exec::with_isa(isa, threads).expect("a sound number of threads");
            train(&exec);
            infer(&exec);
            kept.push(exec);
        }
    }
}
