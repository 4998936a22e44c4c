//! Several ranks that share each batch train as one process does: the same gradients, losses and statistics up to rounding, the
//! same bits on all ranks, and the same bits again on the same number of ranks.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

#[allow(dead_code, reason = "other tests use the rest of it")]
mod norm_network;
mod random_model;

use std::ops::Range;
use std::sync::Arc;

use norm_network::{CLASSES, sound};
use ocelli_engine::graph::{Conv2d, Dense, Padding, Pool2d};
use ocelli_engine::{
    Activation, AdamConfig, Collective, Exec, Graph, Isa, Loss, Mixed, Model, Norms, Op, Optimizer, Pool,
    Precision, Shape, StepStats, TrainConfig, Trainer, share, thread_ranks,
};
use random_model::{bits, images, model};

const SIDES: [usize; 3] = [13, 12, 3];
/// Images of each step, the last ones fewer than ranks.
const BATCHES: [usize; 4] = [7, 7, 5, 3];

/// What an image is to be taken for.
#[derive(Clone, Copy, Debug)]
enum Learn {
    Classes,
    Mixtures,
    Targets,
}

/// A training, but for how many ranks do it.
#[derive(Clone, Debug)]
struct Case {
    graph: Graph,
    config: TrainConfig,
    learn: Learn,
    precision: Precision,
    chunk: usize,
}

/// What a rank has come to: the gradients of the first batch, the losses of all, the parameters, the moments.
#[derive(Clone, Debug)]
struct Trained {
    gradients: Vec<f32>,
    stats: Vec<StepStats>,
    model: Model,
    moments: Vec<Vec<f32>>,
    average: Model,
}

fn adam() -> Optimizer {
    Optimizer::Adam(AdamConfig::default())
}

impl Case {
    fn new(graph: Graph) -> Self {
        let config = TrainConfig { optimizer: adam(), seed: 3, ..TrainConfig::default() };
        Case { graph, config, learn: Learn::Classes, precision: Precision::F32, chunk: 0 }
    }

    fn with(self, change: impl FnOnce(&mut TrainConfig)) -> Self {
        let mut case = self;
        change(&mut case.config);
        case
    }

    /// One step on the images `own` of a batch, or its gradients alone.
    fn step(&self, trainer: &mut Trainer, (batch, own): (usize, Range<usize>), only: bool) -> StepStats {
        let len: usize = SIDES.iter().product();
        let x = images(batch, SIDES);
        let x = &x[own.start * len..own.end * len];
        let labels: Vec<u32> = (0..batch as u32).map(|i| i * 3 % CLASSES as u32).collect();
        let others: Vec<u32> = labels.iter().rev().copied().collect();
        let share: Vec<f32> = (0..batch).map(|i| 0.3 + 0.1 * (i % 4) as f32).collect();
        let target = |i: usize| if i.is_multiple_of(3) { 1.0 } else { 0.0 };
        let targets: Vec<f32> = (0..batch * CLASSES).map(target).collect();
        match self.learn {
            Learn::Classes if only => trainer.gradients(x, &labels[own]),
            Learn::Classes => trainer.step(x, &labels[own], 1e-3),
            Learn::Mixtures => {
                let (labels, others) = (&labels[own.clone()], &others[own.clone()]);
                trainer.step_mixed(x, Mixed { labels, others, share: &share[own] }, 1e-3)
            }
            Learn::Targets => trainer.step_targets(x, &targets[own.start * CLASSES..own.end * CLASSES], 1e-3),
        }
        .unwrap()
    }

    /// All batches on one of `size` ranks.
    fn rank(&self, ranks: Option<Arc<dyn Collective>>, (rank, size): (usize, usize)) -> Trained {
        let exec = Exec::with_pool(Isa::best().unwrap(), Pool::new(1).unwrap());
        let exec = exec.precision(self.precision).chunk(self.chunk);
        let config = TrainConfig { batch: BATCHES[0].div_ceil(size), ..self.config.clone() };
        let model = sound(model(self.graph.clone()));
        let mut trainer = Trainer::among(ranks, model, config, &exec).unwrap();
        let own = |batch| (batch, share(batch, (rank, size)));
        let mut gradients = Vec::new();
        if matches!(self.learn, Learn::Classes) {
            self.step(&mut trainer, own(BATCHES[0]), true);
            gradients = trainer.grads().to_vec();
        }
        let stats = BATCHES.map(|batch| self.step(&mut trainer, own(batch), false)).to_vec();
        let (moments, average) = (trainer.moments(), trainer.averaged());
        Trained { gradients, stats, model: trainer.into_model(), moments, average }
    }

    fn alone(&self) -> Trained {
        self.rank(None, (0, 1))
    }

    /// On so many ranks, which must agree to the bit.
    fn on(&self, size: usize) -> Trained {
        let ranks = thread_ranks(size);
        let all: Vec<Trained> = std::thread::scope(|scope| {
            let train = |(rank, own)| {
                let own: Arc<dyn Collective> = Arc::new(own);
                scope.spawn(move || self.rank(Some(own), (rank, size)))
            };
            let threads: Vec<_> = ranks.into_iter().enumerate().map(train).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for rank in &all[1..] {
            assert_same_bits(&all[0], rank);
        }
        all[0].clone()
    }

    /// Holds up to four ranks against one process.
    ///
    /// Sums over a batch are cut in other places, each sum of `k` products with an error of at most `k` roundings of its
    /// terms' size; `roundings` says how many are let pass, of the largest number of a tensor. Behind a step parameters may
    /// differ by as much as their steps: where a gradient is rounding alone, so is its sign, by which Adam steps.
    fn check(&self, roundings: f32) {
        let unit = match self.precision {
            Precision::Bf16 => 2f32.powi(-9),
            _ => f32::EPSILON,
        };
        let alone = self.alone();
        for size in 1..=4 {
            let shared = self.on(size);
            assert_same_bits(&shared, &self.on(size));
            for entry in alone.model.layout().entries() {
                if alone.gradients.is_empty() || !entry.kind.is_trainable() {
                    continue;
                }
                let (a, b) = (&alone.gradients[entry.range()], &shared.gradients[entry.range()]);
                let largest = alone.gradients.iter().fold(0.0f32, |most, g| most.max(g.abs()));
                for (a, b) in a.iter().zip(b) {
                    let off = (a - b).abs();
                    assert!(off <= roundings * unit * largest, "{} on {size}: {a} {b}", entry.name);
                }
            }
            for (a, b) in alone.stats.iter().zip(&shared.stats) {
                let off = (a.loss - b.loss).abs() / a.loss.max(1.0);
                assert!(off <= roundings * unit, "on {size}: {a:?} {b:?}");
            }
            assert_eq!(alone.stats[0].correct, shared.stats[0].correct);
        }
        assert_same_bits(&alone, &self.on(1));
    }
}

fn assert_same_bits(a: &Trained, b: &Trained) {
    assert_eq!(a.stats, b.stats);
    assert!(bits(&a.gradients) == bits(&b.gradients), "gradients");
    assert!(bits(a.model.params()) == bits(b.model.params()), "parameters or running statistics");
    assert!(bits(a.average.params()) == bits(b.average.params()), "the average");
    assert!(a.moments.iter().map(|m| bits(m)).eq(b.moments.iter().map(|m| bits(m))), "moments");
}

/// A network whose images no layer joins, with a dropout and a dense layer that is larger than the others.
fn plain() -> Graph {
    let mut g = Graph::new(Shape::new(SIDES[0], SIDES[1], SIDES[2]));
    let same =
        |filters, kernel| Op::Conv2d(Conv2d { padding: Padding::Same, ..Conv2d::new(filters, kernel) });
    g.then("first", same(8, 3));
    g.then("first.act", Op::Activation(Activation::Relu));
    g.then("pool", Op::MaxPool2d(Pool2d::new(2)));
    g.then("second", same(12, 3));
    g.then("second.act", Op::Activation(Activation::Relu));
    g.then("flatten", Op::Flatten);
    g.then("dropout", Op::Dropout { rate: 0.4 });
    g.then("hidden", Op::Dense(Dense { units: 40, bias: true }));
    g.then("hidden.act", Op::Activation(Activation::Relu));
    g.then("head", Op::Dense(Dense { units: CLASSES as u32, bias: true }));
    g
}

fn norms() -> Case {
    Case::new(norm_network::graph(8))
}

#[test]
fn every_optimizer() {
    let adam = AdamConfig { weight_decay: 0.01, ..AdamConfig::default() };
    for optimizer in [
        Optimizer::Sgd { momentum: 0.9, nesterov: true, weight_decay: 1e-4 },
        Optimizer::Adam(adam),
        Optimizer::AdamW(adam),
        Optimizer::Muon { momentum: 0.9, adam },
    ] {
        Case::new(plain()).with(|config| config.optimizer = optimizer).check(60.0);
    }
}

#[test]
fn batch_normalisations() {
    norms().check(1000.0);
    norms().with(|config| config.norms = Norms::Running).check(300.0);
    norms().with(|config| config.frozen = 9).check(1000.0);
}

#[test]
fn losses_weights_clipping_and_average() {
    let weights = vec![0.5, 2.0, 1.0, 0.0, 3.0];
    let weighted = |config: &mut TrainConfig| {
        config.class_weights = Some(weights.clone());
        config.label_smoothing = 0.1;
        config.clip_norm = Some(0.5);
        config.ema = Some(0.9);
    };
    Case::new(plain()).with(weighted).check(60.0);
    Case { learn: Learn::Mixtures, ..Case::new(plain()) }.with(weighted).check(60.0);
    let sigmoid = |config: &mut TrainConfig| config.loss = Loss::Sigmoid;
    Case { learn: Learn::Targets, ..Case::new(plain()) }.with(sigmoid).check(60.0);
}

#[test]
fn batches_in_chunks() {
    Case { chunk: 2, ..Case::new(plain()) }.check(60.0);
    Case { chunk: 2, ..norms().with(|config| config.norms = Norms::Running) }.check(300.0);
}

#[test]
fn bf16() {
    Case { precision: Precision::Bf16, ..Case::new(plain()) }.check(20.0);
    Case { precision: Precision::Bf16, ..norms() }.check(60.0);
}
