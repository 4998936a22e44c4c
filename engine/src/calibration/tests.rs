use super::*;
use crate::geometry::Shape;
use crate::graph::{Activation, BatchNorm, Conv2d, Dense, Graph, Op, Padding, Pool2d};
use crate::kernels::testing::{for_each_isa, normal};
use crate::params::ParamKind;
use crate::rng::Rng;

/// A network with all that is computed in 8 bits: convolutions with a residual, a depthwise one between pointwise ones, pools,
/// a sum of two branches; and with what stays in floats.
fn network() -> Graph {
    let mut g = Graph::new(Shape::new(17, 16, 3));
    let conv =
        |filters, kernel, groups| Conv2d { padding: Padding::Same, groups, ..Conv2d::new(filters, kernel) };
    g.then("stem", Op::Conv2d(conv(8, 3, 1)));
    g.then("stem.norm", Op::BatchNorm(BatchNorm::default()));
    g.then("stem.act", Op::Activation(Activation::Relu));
    let stem = g.then("pool", Op::MaxPool2d(Pool2d::new(2)));
    g.then("expand", Op::Conv2d(conv(24, 1, 1)));
    g.then("expand.act", Op::Activation(Activation::Relu6));
    g.then("depthwise", Op::Conv2d(conv(24, 3, 24)));
    g.then("depthwise.act", Op::Activation(Activation::Relu6));
    let project = g.then("project", Op::Conv2d(conv(8, 1, 1)));
    let sum = g.push("sum", Op::Add, &[stem, project]);
    let a = g.push("a", Op::Conv2d(conv(16, 3, 1)), &[sum]);
    let a = g.push("a.act", Op::Activation(Activation::Relu), &[a]);
    let b = g.push("b", Op::Conv2d(conv(16, 1, 1)), &[sum]);
    let b = g.push("b.act", Op::Activation(Activation::Relu), &[b]);
    g.push("both", Op::Add, &[a, b]);
    g.then("gelu", Op::Activation(Activation::Gelu));
    g.then("last", Op::Conv2d(conv(12, 3, 2)));
    g.then("last.act", Op::Activation(Activation::Relu));
    g.then("means", Op::GlobalAvgPool);
    g.then("dense", Op::Dense(Dense { units: 5, bias: true }));
    g
}

/// A model whose normalisations and biases are not those of the start.
fn model(graph: Graph) -> Model {
    let mut model = Model::init(graph, 3).unwrap();
    let mut rng = Rng::new(4, 0);
    let entries = model.layout().entries().to_vec();
    for entry in entries {
        let values = &mut model.params_mut()[entry.range()];
        match entry.kind {
            ParamKind::Bias | ParamKind::Shift | ParamKind::RunningMean => {
                values.iter_mut().for_each(|v| *v = 0.2 * rng.normal())
            }
            ParamKind::Scale | ParamKind::RunningVar => {
                values.iter_mut().for_each(|v| *v = 0.5 + rng.normal().abs())
            }
            _ => {}
        }
    }
    model
}

fn logits(model: &Model, quantization: Option<&Quantization>, images: &[f32], exec: &Exec) -> Vec<f32> {
    let mut inference = Inference::quantized(model, quantization, &[], 8, exec).unwrap();
    let mut logits = vec![0.0; images.len() / inference.input_len() * inference.classes()];
    answer(&mut inference, images, &mut logits).unwrap();
    logits
}

/// Root of the mean squared difference beside that of `a` from its mean.
fn distance(a: &[f32], b: &[f32]) -> f64 {
    let n = a.len() as f64;
    let mean = a.iter().map(|&a| f64::from(a)).sum::<f64>() / n;
    let variance: f64 = a.iter().map(|&a| (f64::from(a) - mean).powi(2)).sum();
    let error: f64 = a.iter().zip(b).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum();
    (error / variance).sqrt()
}

for_each_isa! {
    fn a_quantised_network_answers_as_in_f32(isa: Isa) {
        let exec = Exec::with_isa(isa, 2).unwrap();
        let model = model(network());
        let images = normal(5, 32 * model.graph().input.len());
        let mut parts = Vec::new();
        let mut calibration = Calibration::new(&model, &images, &exec, |part| { parts.push(part); true }).unwrap().unwrap();
        assert!(parts.is_sorted() && parts.last().is_some_and(|&part| part > 0.99));
        let quantization = calibration.quantization();
        quantization.check(model.graph()).unwrap();
        // All convolutions are in bytes, and all stages but the activation and what follows it read them.
        assert_eq!(quantization.layers.len(), 7);
        let exact = logits(&model, None, &images, &exec);
        let found = logits(&model, Some(&quantization), &images, &exec);
        let error = distance(&exact, &found);
        assert!(error > 0.0 && error < 0.05, "{error}");
        // Images on which nothing was chosen.
        let others = normal(6, 16 * model.graph().input.len());
        let error = distance(&logits(&model, None, &others, &exec), &logits(&model, Some(&quantization), &others, &exec));
        assert!(error < 0.06, "{error}");
        // One layer less in bytes is nearer.
        let before = calibration.error();
        assert!(calibration.leave_out_one().unwrap() && calibration.error() < before);
        assert_eq!((calibration.left_out().len(), calibration.quantization().layers.len()), (1, 6));
        // Scales of nothing are no change at all.
        assert_eq!(logits(&model, Some(&Quantization::default()), &images, &exec.clone().exact(true)), logits(&model, None, &images, &exec.clone().exact(true)));
    }

    fn an_image_has_the_same_bits_in_any_batch_and_on_any_number_of_threads(isa: Isa) {
        let model = model(network());
        let images = normal(7, 9 * model.graph().input.len());
        let one = Exec::with_isa(isa, 1).unwrap();
        let quantization = Calibration::quick(&model, &images, &one).unwrap();
        let expected = logits(&model, Some(&quantization), &images, &one);
        for threads in [1, 2, 3] {
            let exec = Exec::with_isa(isa, threads).unwrap();
            assert_eq!(logits(&model, Some(&quantization), &images, &exec), expected);
            let len = model.graph().input.len();
            for (image, expected) in images.chunks(len).zip(expected.chunks(5)) {
                assert_eq!(logits(&model, Some(&quantization), image, &exec), expected);
            }
        }
    }
}

/// All that is computed with bytes has the same bits on every instruction set; what is in floats is not part of this network.
#[test]
fn instruction_sets_agree_on_bytes() {
    let mut graph = network();
    // Without the last layers: what is compared is the mean of bytes.
    graph.nodes.truncate(15);
    graph.then("means", Op::GlobalAvgPool);
    let model = model(graph);
    let images = normal(8, 4 * model.graph().input.len());
    let scales = Exec::with_isa(crate::Isa::available()[0], 1).unwrap();
    let quantization = Calibration::quick(&model, &images, &scales).unwrap();
    let bits = |isa| {
        let exec = Exec::with_isa(isa, 1).unwrap();
        let mut inference = Inference::quantized(&model, Some(&quantization), &[], 4, &exec).unwrap();
        let mut logits = vec![0.0; 4 * inference.classes()];
        inference.run(&images, 4, &mut logits).unwrap();
        logits.into_iter().map(f32::to_bits).collect::<Vec<_>>()
    };
    let all: Vec<_> = crate::Isa::available().into_iter().map(|isa| (isa, bits(isa))).collect();
    for (isa, found) in &all {
        assert_eq!(*found, all[0].1, "{isa:?} and {:?}", all[0].0);
    }
}

#[test]
fn scales_of_another_network_are_refused() {
    let model = model(network());
    let exec = Exec::new(1).unwrap();
    let images = normal(9, 2 * model.graph().input.len());
    let good = Calibration::quick(&model, &images, &exec).unwrap();
    let refused = |what: &str, change: &dyn Fn(&mut Quantization)| {
        let mut bad = good.clone();
        change(&mut bad);
        let error = bad.check(model.graph()).expect_err(what).to_string();
        assert!(error.contains("int8 scales"), "{error}");
        assert!(Inference::quantized(&model, Some(&bad), &[], 1, &exec).is_err(), "{what}");
    };
    refused("a value that is not there", &|q| q.values.last_mut().unwrap().value = 999);
    refused("order", &|q| q.values.swap(0, 1));
    refused("twice", &|q| q.values[1].value = q.values[0].value);
    refused("no scale", &|q| q.values[0].scale = 0.0);
    refused("a negative scale", &|q| q.layers[0].weights[1] = -1.0);
    refused("no number", &|q| q.layers[1].weights[0] = f32::NAN);
    refused("too few scales", &|q| q.layers[0].weights.truncate(1));
    refused("too many factors", &|q| q.values[0].factors = vec![1.0; 4]);
    refused("a correction without end", &|q| q.layers[0].bias[0] = f32::INFINITY);
    refused("no convolution", &|q| q.layers[0].node = 1);
    assert!(Calibration::new(&model, &images[1..], &exec, |_| true).is_err());
    assert!(Calibration::new(&model, &[], &exec, |_| true).is_err());
    // Whoever hears of the progress may end it, early and late.
    for end in [0.1, 0.8] {
        assert!(Calibration::new(&model, &images, &exec, |part| part < end).unwrap().is_none());
    }
}
