//! A max pool that is computed with the convolution before it gives the same bits as one that reads that convolution's
//! output from memory, whatever the shapes, the batch and the number of threads.

mod instruction_sets;
mod random_model;

use instruction_sets::instruction_sets;
use ocelli_engine::graph::{BatchNorm, Conv2d, Dense, Padding, Pool2d};
use ocelli_engine::{
    Activation, Exec, Graph, Inference, Learning, Mode, Op, Optimizer, Plan, PlanMemory, Precision, Shape,
    TrainConfig, Trainer,
};
use random_model::{bits, images, model};

/// A convolution behind another one, what follows it, and a pool.
#[derive(Debug)]
struct Case {
    input: [usize; 3],
    conv: Conv2d,
    norm: bool,
    residual: bool,
    act: Option<Activation>,
    pool: Pool2d,
    /// Whether a batch normalisation follows the pool.
    norm_behind: bool,
}

impl Case {
    /// The network; a dropout that drops nothing keeps the pool away from the convolution, and no more.
    fn graph(&self, apart: bool) -> Graph {
        let [h, w, c] = self.input;
        let mut g = Graph::new(Shape::new(h, w, c));
        let first = g.push("first", Op::Conv2d(Conv2d::new(c, 1)), &[0]);
        let mut other = 0;
        if self.residual {
            other = g.push("other", Op::Conv2d(self.conv.clone()), &[first]);
        }
        let mut x = g.push("conv", Op::Conv2d(self.conv.clone()), &[first]);
        if self.norm {
            x = g.push("norm", Op::BatchNorm(BatchNorm::default()), &[x]);
        }
        if self.residual {
            x = g.push("add", Op::Add, &[x, other]);
        }
        if let Some(act) = self.act {
            x = g.push("act", Op::Activation(act), &[x]);
        }
        if apart {
            x = g.push("apart", Op::Dropout { rate: 0.0 }, &[x]);
        }
        g.push("pool", Op::MaxPool2d(self.pool.clone()), &[x]);
        if self.norm_behind {
            g.then("norm_behind", Op::BatchNorm(BatchNorm::default()));
        }
        g.then("flatten", Op::Flatten);
        g.then("dense", Op::Dense(Dense { units: 5, bias: true }));
        g
    }

    fn exists(&self) -> bool {
        self.graph(false).shapes().is_ok()
    }
}

fn pool(kernel: [u32; 2], stride: [u32; 2], padding: Padding) -> Pool2d {
    Pool2d { kernel, stride, padding }
}

/// Windows side by side, overlapping and apart, cut by the image and padded.
fn pools() -> Vec<Pool2d> {
    vec![
        Pool2d::new(2),
        Pool2d::new(3),
        pool([2, 2], [2, 2], Padding::Same),
        pool([3, 3], [2, 2], Padding::Valid),
        pool([3, 3], [2, 2], Padding::Explicit([1, 1, 1, 1])),
        pool([3, 3], [1, 1], Padding::Same),
        pool([2, 3], [4, 1], Padding::Valid),
        pool([4, 2], [4, 2], Padding::Valid),
    ]
}

/// Convolutions in the direct form, over single pixels, in groups, and with transforms.
fn convolutions() -> Vec<([usize; 3], Conv2d)> {
    let same = |filters, kernel| Conv2d { padding: Padding::Same, ..Conv2d::new(filters, kernel) };
    vec![
        ([17, 14, 3], Conv2d::new(9, 3)),
        ([12, 13, 5], Conv2d { stride: [2, 2], ..same(33, 5) }),
        ([11, 11, 6], Conv2d::new(8, 1)),
        ([9, 10, 8], Conv2d { groups: 2, ..same(6, 3) }),
        // Rows that do not fit a band all together.
        ([40, 130, 2], same(16, 3)),
        ([13, 13, 32], Conv2d::new(64, 3)),
        ([16, 16, 64], same(96, 3)),
        ([15, 18, 32], same(40, 3)),
        ([26, 30, 96], same(96, 3)),
        // Lines of two rows.
        ([6, 6, 64], same(128, 3)),
        ([34, 34, 48], Conv2d::new(48, 3)),
    ]
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (index, (input, conv)) in convolutions().into_iter().enumerate() {
        for (number, pool) in pools().into_iter().enumerate() {
            let act = [Some(Activation::Relu), Some(Activation::Relu6), None][(index + number) % 3];
            let norm = number % 2 == 1;
            let residual = index % 2 == 0 && number % 3 == 0;
            let norm_behind = index % 3 == 1;
            let case = Case { input, conv: conv.clone(), norm, residual, act, pool, norm_behind };
            if case.exists() {
                cases.push(case);
            }
        }
    }
    assert!(cases.len() > 70, "most pools fit most images: {}", cases.len());
    cases
}

/// Both forms of convolution on every instruction set and some numbers of threads.
fn places() -> Vec<Exec> {
    let mut places = Vec::new();
    for isa in instruction_sets() {
        // The portable kernels are slow, and cut their work as the others do.
        let threads = if isa.name() == "portable" { 2..=2 } else { 1..=3 };
        for (threads, exact) in threads.flat_map(|threads| [(threads, false), (threads, true)]) {
            places.push(Exec::with_isa(isa, threads).expect("a sound number").exact(exact));
        }
    }
    places
}

#[test]
fn logits_have_the_same_bits() {
    for case in cases() {
        let [fused, apart] = [false, true].map(|apart| model(case.graph(apart)));
        assert_eq!(fused.params(), apart.params());
        let x = images(5, case.input);
        for exec in places() {
            for batch in [1, 2, 5] {
                let x = &x[..batch * x.len() / 5];
                let [fused, apart] = [&fused, &apart].map(|model| {
                    let mut logits = vec![0.0; batch * 5];
                    let mut inference = Inference::new(model, batch, &exec).expect("the model compiles");
                    inference.run(x, batch, &mut logits).expect("a sound batch");
                    bits(&logits)
                });
                assert!(fused == apart, "{case:?}, batch {batch}, {exec:?}");
            }
        }
    }
}

/// Loss and gradients of a batch, the pool fused or apart.
fn gradients(case: &Case, apart: bool, x: &[f32], batch: usize, exec: &Exec) -> (f32, Vec<f32>) {
    let config = TrainConfig {
        batch,
        optimizer: Optimizer::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 },
        label_smoothing: 0.1,
        seed: 3,
        ..TrainConfig::default()
    };
    let mut trainer = Trainer::new(model(case.graph(apart)), config, exec).expect("it compiles");
    let labels: Vec<u32> = (0..batch as u32).collect();
    let stats = trainer.gradients(x, &labels).expect("a sound batch");
    assert!(stats.loss.is_finite() && trainer.grads().iter().any(|&g| g != 0.0));
    (stats.loss, trainer.grads().to_vec())
}

/// Other pools are not computed with the layer before them in training.
fn is_side_by_side(case: &Case) -> bool {
    !case.residual && case.pool.kernel == case.pool.stride
}

#[test]
fn gradients_have_the_same_bits() {
    for case in cases().into_iter().filter(|case| is_side_by_side(case) && !case.norm) {
        let x = images(5, case.input);
        for exec in places() {
            for batch in [1, 2, 5] {
                let x = &x[..batch * x.len() / 5];
                let [fused, apart] =
                    [false, true].map(|apart| bits(&gradients(&case, apart, x, batch, &exec).1));
                assert!(fused == apart, "{case:?}, batch {batch}, {exec:?}");
            }
        }
    }
}

/// Behind a batch normalisation the loss is the same, and gradients differ as sums over windows do from sums over pixels.
#[test]
fn gradients_of_pooled_norms_are_those_of_layers_apart() {
    let mut seen = 0;
    for case in cases().into_iter().filter(|case| is_side_by_side(case) && case.norm) {
        let x = images(5, case.input);
        let mut found: Vec<(&str, bool, Precision, Vec<u32>)> = Vec::new();
        let in_bf16 = places().into_iter().filter(|exec| !exec.exact).map(|e| e.precision(Precision::Bf16));
        for exec in &places().into_iter().chain(in_bf16).collect::<Vec<_>>() {
            let (loss, fused) = gradients(&case, false, &x, 5, exec);
            let (expected_loss, apart) = gradients(&case, true, &x, 5, exec);
            assert_eq!(loss, expected_loss, "{case:?}, {exec:?}");
            let largest = apart.iter().fold(0f32, |largest, g| largest.max(g.abs()));
            let error = fused.iter().zip(&apart).fold(0f32, |error, (a, b)| error.max((a - b).abs()));
            // In bf16 the gradients between are rounded, and what is behind a rounding may fall on its other side.
            let bound = if exec.precision == Precision::Bf16 { 1e-3 } else { 2e-5 };
            assert!(error < bound * largest, "{case:?}, {exec:?}: off by {error:e} of {largest:e}");
            let own = (exec.isa.name(), exec.exact, exec.precision);
            match found.iter().find(|(isa, exact, precision, _)| (*isa, *exact, *precision) == own) {
                Some((.., known)) => assert!(*known == bits(&fused), "{case:?}, {exec:?}"),
                None => found.push((own.0, own.1, own.2, bits(&fused))),
            }
            seen += 1;
        }
    }
    assert!(seen > 50, "there are such networks: {seen}");
}

/// What a case's plans for eight images take, fused and apart.
fn memory(case: &Case, mode: Mode, exec: &Exec) -> [PlanMemory; 2] {
    [false, true].map(|apart| {
        let plan = Plan::compile(&case.graph(apart), 8, mode, exec).expect("it compiles");
        let memory = plan.memory();
        assert_eq!((memory.isa.name(), memory.threads), (exec.isa.name(), exec.threads()));
        memory
    })
}

#[test]
fn outputs_that_are_pooled_take_no_memory() {
    let case = Case {
        input: [40, 40, 3],
        conv: Conv2d::new(32, 3),
        norm: false,
        residual: false,
        act: Some(Activation::Relu),
        pool: Pool2d::new(2),
        norm_behind: false,
    };
    // Five classes take one vector of packed weights for each of the pool's outputs, with portable code two.
    let widths = [("avx512", 16), ("avx2", 8), ("neon", 8), ("portable", 8)];
    // What a pass of the convolution reads and what it makes wait in work space of 128 KiB each, whatever the vectors.
    let (floats, bands) = (size_of::<f32>(), 2 * (128 << 10));
    for isa in instruction_sets() {
        let exec = Exec::with_isa(isa, 1).expect("a sound number");
        // Apart, an image of the convolution's output and a quarter of it are there at once; training keeps what the
        // convolution reads, and makes the gradient of its output.
        for (mode, share) in [(Mode::Infer, 0.3), (Mode::Train(Learning::default()), 0.7)] {
            let [fused, apart] = memory(&case, mode, &exec);
            assert!((fused.tensors as f64) < share * apart.tensors as f64, "{mode:?}: {fused:?}, {apart:?}");
            assert!(fused.scratch <= bands, "{mode:?}: {fused:?}");
            assert_eq!(fused.weights, apart.weights, "{mode:?} on {isa:?}");
        }
        let [fused, _] = memory(&case, Mode::Infer, &exec);
        let (_, width) = widths.iter().find(|(name, _)| *name == isa.name()).expect("a width for every set");
        let (convolutions, dense) = (8 << 10, 19 * 19 * 32 * width * floats);
        assert!((dense..dense + convolutions).contains(&fused.weights), "{fused:?}: {dense} for the classes");
        let [two, _] = memory(&case, Mode::Infer, &Exec::with_isa(isa, 2).expect("a sound number"));
        // One for each thread, and one for a caller from outside of the pool.
        assert_eq!((two.scratch, two.weights), (3 * fused.scratch, fused.weights), "{two:?}");
    }
}
