//! Networks whose branches meet: joined channels, and channels scaled by what another branch computes. The engine on every
//! instruction set against the definitions in f64, its gradients against their finite differences.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod instruction_sets;

use instruction_sets::instruction_sets;
use ocelli_engine::geometry::Conv2dGeometry;
use ocelli_engine::graph::{Activation, Conv2d, Dense, Graph, Op, Padding};
use ocelli_engine::kernels::reference;
use ocelli_engine::rng::Rng;
use ocelli_engine::{
    AdamConfig, EngineError, Exec, Inference, Isa, Model, Optimizer, Shape, TrainConfig, Trainer,
};

const CLASSES: usize = 3;
const IMAGES: usize = 3;

/// A squeeze-and-excitation block (Hu et al., 2018) over joined branches of `width`, 5 and, once more, `width` channels.
/// Their means are joined with those of the block's output, and joined with themselves.
struct Network {
    input: Shape,
    width: usize,
}

impl Network {
    fn new(width: usize) -> Self {
        Network { input: Shape::new(7, 6, 3), width }
    }

    fn stem(&self) -> Conv2d {
        Conv2d { padding: Padding::Same, ..Conv2d::new(self.width, 3) }
    }

    fn channels(&self) -> usize {
        2 * self.width + 5
    }

    fn graph(&self) -> Graph {
        let dense = |units: usize| Op::Dense(Dense { units: units as u32, bias: true });
        let mut g = Graph::new(self.input);
        g.then("stem", Op::Conv2d(self.stem()));
        let stem = g.then("stem_relu", Op::Activation(Activation::Relu));
        let branch = g.push("branch", Op::Conv2d(Conv2d::new(5, 1)), &[stem]);
        let joined = g.push("joined", Op::Concat, &[stem, branch, stem]);
        let means = g.push("means", Op::GlobalAvgPool, &[joined]);
        g.push("squeeze", dense(4), &[means]);
        g.then("squeeze_relu", Op::Activation(Activation::Relu));
        g.then("excite", dense(self.channels()));
        let gate = g.then("gate", Op::Activation(Activation::Sigmoid));
        let scaled = g.push("scaled", Op::ChannelScale, &[joined, gate]);
        let peaks = g.push("peaks", Op::GlobalAvgPool, &[scaled]);
        let squares = g.push("squares", Op::ChannelScale, &[means, means]);
        g.push("both", Op::Concat, &[peaks, means, squares, means]);
        g.then("head", dense(CLASSES));
        g
    }

    /// Logits of one image by the definitions.
    fn logits(&self, model: &Model, params: &[f64], x: &[f64]) -> Vec<f64> {
        let tensor = |name: &str| {
            let entry = model.layout().entries().iter().find(|entry| entry.name == name).unwrap();
            &params[entry.range()]
        };
        let conv = |name: &str, x: &[f64], input: Shape, conv: &Conv2d| {
            let g = Conv2dGeometry::new(name, input, conv).unwrap();
            let (w, b) = (tensor(&format!("{name}.weight")), tensor(&format!("{name}.bias")));
            reference::conv2d(x, w, Some(b), &g)
        };
        let dense = |name: &str, x: &[f64]| {
            let (w, b) = (tensor(&format!("{name}.weight")), tensor(&format!("{name}.bias")));
            reference::dense(x, w, b, x.len())
        };
        let relu = |x: &[f64]| reference::activation(x, Activation::Relu);
        let channels = self.channels();
        let stem = relu(&conv("stem", x, self.input, &self.stem()));
        let inner = Shape { c: self.width as u32, ..self.input };
        let branch = conv("branch", &stem, inner, &Conv2d::new(5, 1));
        let joined = reference::concat(&[(&stem, self.width), (&branch, 5), (&stem, self.width)]);
        let means = reference::global_avg(&joined, channels);
        let gate = dense("excite", &relu(&dense("squeeze", &means)));
        let gate = reference::activation(&gate, Activation::Sigmoid);
        let peaks = reference::global_avg(&reference::channel_scale(&joined, &gate), channels);
        let squares = reference::channel_scale(&means, &means);
        let parts = [&peaks, &means, &squares, &means].map(|part| (&part[..], channels));
        dense("head", &reference::concat(&parts))
    }

    fn model(&self) -> Model {
        let mut model = Model::init(self.graph(), 3).unwrap();
        let mut rng = Rng::new(9, 0);
        model.params_mut().iter_mut().for_each(|p| *p += 0.05 * rng.normal());
        model
    }

    fn images(&self, count: usize) -> Vec<f32> {
        let mut rng = Rng::new(5, 1);
        (0..count * self.input.len()).map(|_| rng.normal()).collect()
    }
}

fn widen(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| x.into()).collect()
}

fn trainer(model: &Model, exec: &Exec) -> Trainer {
    let config = TrainConfig {
        batch: IMAGES,
        optimizer: Optimizer::Adam(AdamConfig::default()),
        seed: 0,
        ..TrainConfig::default()
    };
    Trainer::new(model.clone(), config, exec).unwrap()
}

fn labels() -> Vec<u32> {
    (0..IMAGES).map(|i| (i % CLASSES) as u32).collect()
}

/// Widths around the seams of every instruction set's vectors.
const WIDTHS: [usize; 5] = [1, 3, 8, 13, 33];

#[test]
fn logits_are_those_of_the_definitions() {
    for network in WIDTHS.map(Network::new) {
        let (model, x) = (network.model(), network.images(IMAGES));
        let params = widen(model.params());
        let expected: Vec<f64> =
            x.chunks(network.input.len()).flat_map(|x| network.logits(&model, &params, &widen(x))).collect();
        for isa in instruction_sets() {
            let exec = Exec::with_isa(isa, 2).unwrap();
            let mut logits = vec![f32::NAN; IMAGES * CLASSES];
            Inference::new(&model, IMAGES, &exec).unwrap().run(&x, IMAGES, &mut logits).unwrap();
            for (found, expected) in logits.iter().zip(&expected) {
                let error = (f64::from(*found) - expected).abs();
                // Some hundred roundings of numbers near one.
                assert!(error < 3e-5 * expected.abs().max(1.0), "{isa:?}: {found} for {expected}");
            }
        }
    }
}

#[test]
fn gradients_are_those_of_finite_differences() {
    for network in [1, 9, 16].map(Network::new) {
        let (model, x, labels) = (network.model(), network.images(IMAGES), labels());
        let wide: Vec<Vec<f64>> = x.chunks(network.input.len()).map(widen).collect();
        let loss = |params: &[f64]| {
            let logits: Vec<f64> = wide.iter().flat_map(|x| network.logits(&model, params, x)).collect();
            reference::cross_entropy(&logits, &labels, &[1.0; CLASSES], 0.0) / IMAGES as f64
        };
        let found: Vec<(Isa, Vec<f32>)> = instruction_sets()
            .into_iter()
            .map(|isa| {
                let mut trainer = trainer(&model, &Exec::with_isa(isa, 2).unwrap());
                trainer.gradients(&x, &labels).unwrap();
                (isa, trainer.grads().to_vec())
            })
            .collect();
        let mut params = widen(model.params());
        let mut rng = Rng::new(2, 0);
        for entry in model.layout().entries() {
            let gradient = &found[0].1[entry.range()];
            let size = gradient.iter().fold(0.0f32, |m, g| m.max(g.abs()));
            let largest = gradient.iter().position(|g| g.abs() == size).unwrap();
            let others: Vec<usize> = (0..3).map(|_| rng.next_u64() as usize % entry.len()).collect();
            for index in others.into_iter().chain([largest]) {
                const STEP: f64 = 1e-6;
                let at = entry.offset + index;
                let here = params[at];
                params[at] = here + STEP;
                let above = loss(&params);
                params[at] = here - STEP;
                let expected = (above - loss(&params)) / (2.0 * STEP);
                params[at] = here;
                for (isa, grads) in &found {
                    let error = (f64::from(grads[at]) - expected).abs();
                    assert!(
                        error <= 1e-4 * f64::from(size) + 1e-7,
                        "width {} on {isa:?}: gradient of {}[{index}] is {}, finite differences say {expected}",
                        network.width,
                        entry.name,
                        grads[at]
                    );
                }
            }
        }
    }
}

#[test]
fn results_are_the_same_bits_on_any_number_of_threads_and_in_any_batch() {
    let network = Network { input: Shape::new(40, 33, 3), width: 24 };
    let (model, x, labels) = (network.model(), network.images(IMAGES), labels());
    for isa in instruction_sets() {
        let run = |threads: usize| {
            let exec = Exec::with_isa(isa, threads).unwrap();
            let mut trainer = trainer(&model, &exec);
            for _ in 0..3 {
                trainer.step(&x, &labels, 1e-3).unwrap();
            }
            let mut logits = vec![f32::NAN; IMAGES * CLASSES];
            Inference::new(&model, IMAGES, &exec).unwrap().run(&x, IMAGES, &mut logits).unwrap();
            (trainer.into_model().params().to_vec(), logits)
        };
        let one = run(1);
        for threads in [2, 3, 7] {
            assert_eq!(run(threads), one, "{isa:?} on {threads} threads");
        }
        let mut single = Inference::new(&model, 1, &Exec::with_isa(isa, 2).unwrap()).unwrap();
        for (image, expected) in x.chunks(network.input.len()).zip(one.1.chunks(CLASSES)) {
            let mut logits = [f32::NAN; CLASSES];
            single.run(image, 1, &mut logits).unwrap();
            assert_eq!(logits, expected, "{isa:?}");
        }
    }
}

/// Values of which one cannot be reached by gradients: the other's are whole all the same.
#[test]
fn branches_without_parameters_need_no_gradient() {
    for swapped in [false, true] {
        let mut g = Graph::new(Shape::new(1, 1, 6));
        let raw = g.push("raw", Op::GlobalMaxPool, &[0]);
        let learnt = g.push("learnt", Op::Dense(Dense { units: 6, bias: true }), &[raw]);
        let pair = if swapped { [raw, learnt] } else { [learnt, raw] };
        let scaled = g.push("scaled", Op::ChannelScale, &pair);
        g.push("joined", Op::Concat, &[raw, scaled]);
        g.then("head", Op::Dense(Dense { units: CLASSES as u32, bias: true }));
        let model = Model::init(g, 1).unwrap();
        let x: Vec<f32> = (0..6 * IMAGES).map(|i| 0.25 * i as f32 - 1.0).collect();
        let mut trainer = trainer(&model, &Exec::new(1).unwrap());
        let before = trainer.step(&x, &labels(), 0.05).unwrap().loss;
        for _ in 0..60 {
            trainer.step(&x, &labels(), 0.05).unwrap();
        }
        let after = trainer.gradients(&x, &labels()).unwrap().loss;
        assert!(after < before / 2.0, "{before} to {after}");
        assert_ne!(trainer.model().tensor("learnt.weight"), model.tensor("learnt.weight"));
    }
}

#[test]
fn shapes_that_do_not_meet_are_refused_by_name() {
    let refused = |op: Op, shapes: &[[usize; 3]]| {
        let mut g = Graph::new(Shape::new(8, 8, 4));
        let branch = |g: &mut Graph, (i, [size, stride, filters]): (usize, &[usize; 3])| {
            let conv = Conv2d { stride: [*stride as u32; 2], ..Conv2d::new(*filters, *size) };
            g.push(format!("conv{i}"), Op::Conv2d(conv), &[0])
        };
        let inputs: Vec<u32> = shapes.iter().enumerate().map(|shape| branch(&mut g, shape)).collect();
        g.push("meet", op, &inputs);
        g.then("pool", Op::GlobalAvgPool);
        g.then("head", Op::Dense(Dense { units: 2, bias: true }));
        match g.shapes() {
            Err(EngineError::Graph { node, reason }) if node == "meet" => reason,
            other => panic!("{other:?}"),
        }
    };
    assert!(refused(Op::Concat, &[[1, 1, 3], [1, 2, 3]]).contains("8x8x3 and 4x4x3"));
    assert!(refused(Op::Concat, &[[1, 1, 3]]).contains("2 to 64 inputs"));
    assert!(refused(Op::Concat, &[[1, 1, 1]; 65]).contains("2 to 64 inputs"));
    assert!(refused(Op::Concat, &[[1, 1, 40_000]; 2]).contains("unusable output shape 8x8x80000"));
    assert!(refused(Op::ChannelScale, &[[1, 1, 3], [1, 1, 3]]).contains("not 1x1x3"));
    assert!(refused(Op::ChannelScale, &[[1, 1, 3], [8, 1, 4]]).contains("8x8x3 by 1x1x4"));
}
