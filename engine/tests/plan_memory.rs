//! What a network takes is known before any of it is taken, and has a limit: a small file cannot ask for a large machine.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

#[allow(dead_code, reason = "only its record of names and preprocessing is used here")]
mod model_sample;
mod observed_allocator;

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use observed_allocator::Observed;
use ocelli_engine::graph::{Conv2d, Dense, Graph, Op};
use ocelli_engine::model_file::{ModelFile, Preprocessing};
use ocelli_engine::{
    AdamConfig, EngineError, Exec, Inference, Mode, Model, Optimizer, Plan, Shape, TrainConfig, Trainer, zoo,
};

static TAKEN: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Observed = Observed(|taken, freed| {
    let now = TAKEN.fetch_add(taken, Relaxed) + taken;
    TAKEN.fetch_sub(freed, Relaxed);
    MOST.fetch_max(now, Relaxed);
});

/// One test at a time, as all allocations are counted.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What `f` gives, and the most bytes that it held at once.
fn most<T>(f: impl FnOnce() -> T) -> (T, usize) {
    let before = TAKEN.load(Relaxed);
    MOST.store(before, Relaxed);
    let result = f();
    (result, MOST.load(Relaxed) - before)
}

/// Bytes needed and allowed, if that is why it failed.
fn refused<T>(result: Result<T, EngineError>) -> Option<(usize, usize)> {
    match result {
        Err(EngineError::Memory { parts, limit }) => Some((parts.iter().map(|part| part.1).sum(), limit)),
        _ => None,
    }
}

fn training(batch: usize) -> TrainConfig {
    let optimizer = Optimizer::Adam(AdamConfig::default());
    TrainConfig { batch, optimizer, seed: 1, ..TrainConfig::default() }
}

/// A network of a few hundred bytes whose tensors, 1 GiB each, are all alive at once.
fn forged(branches: usize) -> Graph {
    let mut graph = Graph::new(Shape::new(1 << 14, 1 << 14, 1));
    let branch = |graph: &mut Graph, i| graph.push(format!("conv{i}"), Op::Conv2d(Conv2d::new(1, 1)), &[0]);
    let values: Vec<u32> = (0..branches).map(|i| branch(&mut graph, i)).collect();
    let mut sum = values[0];
    for (i, &value) in values.iter().enumerate().skip(1) {
        sum = graph.push(format!("add{i}"), Op::Add, &[sum, value]);
    }
    graph.push("pool", Op::GlobalAvgPool, &[sum]);
    graph.then("dense", Op::Dense(Dense { units: 2, bias: true }));
    graph
}

#[test]
fn a_small_file_that_asks_for_34_gigabytes_is_refused_before_any_is_taken() {
    let _alone = alone();
    let mut meta = model_sample::meta();
    let side = 1 << 14;
    let preprocessing = Preprocessing { width: side, height: side, channels: 1, ..meta.preprocessing };
    meta.preprocessing = Preprocessing { mean: vec![0.5], std: vec![0.25], ..preprocessing };
    meta.classes.truncate(2);
    let model = Model::init(forged(40), 1).unwrap();
    let bytes = ModelFile::new(model, meta).to_bytes().unwrap();
    assert!(bytes.len() < 1 << 20, "{} bytes", bytes.len());

    let model = ModelFile::from_bytes(&bytes).unwrap().model;
    for threads in [1, 3] {
        let exec = Exec::new(threads).unwrap().memory_limit(1 << 30);
        let (infer, held) = most(|| refused(Inference::new(&model, 1, &exec)));
        let (needed, limit) = infer.expect("refused for its memory");
        assert!(needed > 34 << 30 && limit == 1 << 30, "{needed} and {limit}");
        assert!(held < 4 << 20, "{held} bytes were held");
        let copy = model.clone();
        let (train, held) = most(|| refused(Trainer::new(copy, training(2), &exec)));
        assert!(train.expect("refused for its memory").0 > 68 << 30);
        assert!(held < 4 << 20, "{held} bytes were held");
        // What a batch multiplies is neither cut off nor wrapped around.
        let (batches, held) = most(|| refused(Inference::new(&model, 1 << 16, &exec)));
        assert!(batches.expect("refused for its memory").0 >= needed);
        assert!(held < 4 << 20, "{held} bytes were held");
    }
}

#[test]
fn the_limit_is_the_last_byte_that_is_needed() {
    let _alone = alone();
    for name in ["keras-cnn", "resnet9", "mobilenet-v2"] {
        let model = Model::init(zoo::build(name, Shape::new(40, 40, 3), 7).unwrap(), 1).unwrap();
        let exec = Exec::new(2).unwrap();
        let needed = Inference::new(&model, 3, &exec).unwrap().memory().total();
        assert!(Inference::new(&model, 3, &exec.clone().memory_limit(needed)).is_ok(), "{name}");
        let short = exec.clone().memory_limit(needed - 1);
        assert_eq!(refused(Inference::new(&model, 3, &short)), Some((needed, needed - 1)), "{name}");
        let needed = Trainer::new(model.clone(), training(4), &exec).unwrap().memory().total();
        assert!(
            Trainer::new(model.clone(), training(4), &exec.clone().memory_limit(needed)).is_ok(),
            "{name}"
        );
        let short = exec.clone().memory_limit(needed - 1);
        assert_eq!(refused(Trainer::new(model, training(4), &short)), Some((needed, needed - 1)), "{name}");
    }
}

#[test]
fn what_is_stated_is_what_is_allocated() {
    let _alone = alone();
    // Descriptions of layers, threads, and the lists that planning makes.
    const BESIDE: usize = 1 << 20;
    for (name, side) in [("keras-cnn", 64), ("resnet9", 32), ("efficientnet-lite0", 64)] {
        let model = Model::init(zoo::build(name, Shape::new(side, side, 3), 7).unwrap(), 1).unwrap();
        let exec = Exec::new(2).unwrap();
        let (inference, _) = most(|| Inference::new(&model, 4, &exec).unwrap());
        let stated = inference.memory().total();
        let before = TAKEN.load(Relaxed);
        drop(inference);
        let held = before - TAKEN.load(Relaxed);
        assert!(held >= stated && held < stated + BESIDE, "{name}: {held} of {stated}");

        let own = 4 * model.layout().total();
        let (trainer, held) = most(|| Trainer::new(model, training(8), &exec).unwrap());
        let stated = trainer.memory();
        assert_eq!(stated.parameters, 4 * 3 * trainer.model().layout().trainable());
        assert!(held >= stated.total() && held < stated.total() + BESIDE, "{name}: {held} of {stated:?}");
        let before = TAKEN.load(Relaxed);
        drop(trainer);
        assert!(before - TAKEN.load(Relaxed) >= stated.total() + own, "{name}");
    }
}

#[test]
fn a_plan_alone_counts_no_parameters() {
    let _alone = alone();
    let graph = zoo::build("keras-cnn", Shape::new(28, 28, 1), 10).unwrap();
    let exec = Exec::new(1).unwrap().memory_limit(0);
    let (memory, _) = Plan::measure(&graph, 8, Mode::Infer, &exec).unwrap();
    assert_eq!((memory.parameters, memory.total()), (0, memory.tensors + memory.weights + memory.scratch));
    assert_eq!(refused(Plan::compile(&graph, 8, Mode::Infer, &exec)), Some((memory.total(), 0)));
}
