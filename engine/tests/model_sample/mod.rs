//! A small network that has every kind of layer, with contents that no random generator decides.

use ocelli_engine::graph::{Activation, BatchNorm, Conv2d, Dense, Graph, Op, Padding, Pool2d};
use ocelli_engine::model_file::{
    Fit, Imported, InnerValue, LabelQuality, Metrics, ModelFile, ModelMeta, MultiLabel, Origin,
    Preprocessing, Probe, Probes, Rejection, RejectionScore, Trained, TrainingState, WeightType,
};
use ocelli_engine::{LayerScale, Model, ParamKind, Quantization, Shape, ValueScale};

/// The network: a convolution, a depthwise residual block, two kinds of pool, a head.
pub(crate) fn graph() -> Graph {
    let mut g = Graph::new(Shape::new(6, 5, 2));
    let conv = |filters, kernel, padding| Conv2d { padding, bias: false, ..Conv2d::new(filters, kernel) };
    g.then("stem", Op::Conv2d(conv(3, 3, Padding::Same)));
    g.then("stem.norm", Op::BatchNorm(BatchNorm { momentum: 0.25, eps: 0.001 }));
    let skip = g.then("stem.act", Op::Activation(Activation::Relu));
    let depthwise = Conv2d {
        groups: 3,
        kernel: [3, 1],
        padding: Padding::Explicit([2, 2, 0, 0]),
        dilation: [2, 1],
        ..Conv2d::new(3, 1)
    };
    g.then("block.depthwise", Op::Conv2d(depthwise));
    g.then("block.act", Op::Activation(Activation::Relu6));
    let branch = g.then("block.point", Op::Conv2d(Conv2d::new(3, 1)));
    g.push("block.add", Op::Add, &[skip, branch]);
    g.then("pool", Op::MaxPool2d(Pool2d { kernel: [2, 2], stride: [2, 1], padding: Padding::Valid }));
    let pooled = g.then(
        "smooth",
        Op::AvgPool2d(Pool2d { kernel: [3, 3], stride: [1, 2], padding: Padding::Explicit([1, 1, 1, 0]) }),
    );
    let mean = g.push("mean", Op::GlobalAvgPool, &[pooled]);
    let peak = g.push("peak", Op::GlobalMaxPool, &[pooled]);
    g.push("both", Op::Add, &[mean, peak]);
    g.then("gelu", Op::Activation(Activation::Gelu));
    g.then("silu", Op::Activation(Activation::Silu));
    g.then("flat", Op::Flatten);
    g.then("drop", Op::Dropout { rate: 0.125 });
    g.then("head", Op::Dense(Dense { units: 4, bias: true }));
    g
}

/// The value of element `i` of tensor `t`: exact in binary, different for neighbours.
pub(crate) fn value(t: usize, i: usize) -> f32 {
    ((t * 31 + i * 7) % 64) as f32 / 16.0 - 2.0
}

/// A network whose parameters are told by [`value`].
fn filled(graph: Graph) -> Model {
    let mut model = Model::zeros(graph).unwrap();
    let entries = model.layout().entries().to_vec();
    for (t, entry) in entries.iter().enumerate() {
        for (i, slot) in model.params_mut()[entry.range()].iter_mut().enumerate() {
            let v = value(t, i);
            *slot = if entry.kind == ParamKind::RunningVar { v.abs() } else { v };
        }
    }
    model
}

/// The network with weights and everything else; with training state when asked for.
pub(crate) fn model_file(training: bool) -> ModelFile {
    let model = filled(graph());
    let entries = model.layout().entries().to_vec();
    let moments = (0..2)
        .map(|m| {
            let mut moment = vec![0.0; model.layout().trainable()];
            for (t, entry) in entries.iter().enumerate().filter(|(_, e)| e.kind.is_trainable()) {
                let slots = moment[entry.range()].iter_mut().enumerate();
                slots.for_each(|(i, slot)| *slot = value(t + 100 + m, i));
            }
            moment
        })
        .collect();
    let state = TrainingState {
        optimizer: "adamw".into(),
        step: 1_234_567_890_123,
        moments,
        extra: "{\"epoch\":3}".into(),
    };
    ModelFile { training: training.then_some(state), ..ModelFile::new(model, meta()) }
}

/// The network with training state, its weights in f16: the smallest and the largest such number and a negative zero among
/// them.
pub(crate) fn half_file() -> ModelFile {
    let mut file = model_file(true);
    let stem = file.model.layout().entries()[0].range();
    let ends = [-0.0, f32::from_bits(0x3380_0000), 65_504.0, -65_504.0, 6.097_555e-5];
    file.model.params_mut()[stem][..ends.len()].copy_from_slice(&ends);
    ModelFile { weights: WeightType::F16, ..file }
}

/// The network with a temperature: what version 4 has and version 3 has not.
pub(crate) fn calibrated_file() -> ModelFile {
    let mut file = model_file(false);
    file.meta.temperature = Some(1.3125);
    file
}

/// The network with a rule for unknown images: what version 5 has and version 4 has not.
pub(crate) fn rejecting_file() -> ModelFile {
    let mut file = model_file(false);
    let features = file.model.graph().feature_len().unwrap();
    file.meta.rejection = Some(Rejection {
        score: RejectionScore::Distance,
        threshold: 0.4375,
        false_rejects: 0.0625,
        images: 300,
        area: 0.9375,
        detected: 0.75,
        strange: 0,
        means: (0..4 * features).map(|i| i as f32 / 8.0 - 1.0).collect(),
        inner: Vec::new(),
    });
    file
}

/// A network of three convolutions with a rule that looks at its inner values: what version 6 has and version 5 has not.
pub(crate) fn inner_file() -> ModelFile {
    let mut graph = Graph::new(Shape::new(6, 5, 2));
    graph.then("stem", Op::Conv2d(Conv2d::new(3, 3)));
    graph.then("middle", Op::Conv2d(Conv2d::new(4, 1)));
    graph.then("wide", Op::Conv2d(Conv2d::new(8, 1)));
    graph.then("pool", Op::GlobalAvgPool);
    graph.then("head", Op::Dense(Dense { units: 4, bias: true }));
    assert_eq!(graph.inner_values(), [1, 2]);
    let mut file = ModelFile::new(filled(graph), meta());
    let graph = file.model.graph();
    let shapes = graph.shapes().unwrap();
    let inner = |(place, value): (usize, usize)| {
        let channels = shapes[value].c as usize;
        InnerValue {
            value: value as u32,
            scale: 1.5 + place as f32,
            whitening: (0..channels * (channels + 1) / 2).map(|i| i as f32 / 16.0 - 0.5).collect(),
            means: (0..4 * channels).map(|i| i as f32 / 8.0 - 1.0).collect(),
        }
    };
    let inner: Vec<InnerValue> = graph.inner_values().into_iter().enumerate().map(inner).collect();
    file.meta.rejection = Some(Rejection {
        score: RejectionScore::Inner,
        threshold: 2.4375,
        false_rejects: 0.0625,
        images: 300,
        area: 0.9375,
        detected: 0.75,
        strange: 48,
        means: Vec::new(),
        inner,
    });
    file
}

/// The network as one of images with any number of labels: what version 7 has and version 6 has not.
pub(crate) fn multi_label_file() -> ModelFile {
    let mut file = model_file(false);
    file.meta.metrics = None;
    file.meta.multi_label = Some(MultiLabel {
        thresholds: vec![0.5, 0.25, 0.0, 1.0],
        quality: Some(LabelQuality {
            mean_average_precision: 0.875,
            micro_f1: 0.75,
            macro_f1: 0.625,
            split: "test".into(),
            images: 128,
        }),
    });
    file
}

/// A network with the activations of version 8 and channels in another order.
pub(crate) fn activations_file() -> ModelFile {
    let mut g = Graph::new(Shape::new(6, 5, 2));
    g.then("stem", Op::Conv2d(Conv2d::new(3, 1)));
    let acts = [
        ("hard-sigmoid", Activation::HardSigmoid),
        ("hard-swish", Activation::HardSwish),
        ("tanh", Activation::Tanh),
        ("leaky", Activation::LeakyRelu { slope: 0.125 }),
        ("clip", Activation::Clip { min: -0.5, max: f32::INFINITY }),
    ];
    for (name, act) in acts {
        g.then(name, Op::Activation(act));
    }
    g.then("order", Op::ChannelGather { channels: vec![2, 0, 1, 2] });
    g.then("mean", Op::GlobalAvgPool);
    g.then("head", Op::Dense(Dense { units: 4, bias: true }));
    ModelFile::new(filled(g), meta())
}

/// The network with training state and two probes, whose answers are not those that it would give.
pub(crate) fn probed_file() -> ModelFile {
    let file = model_file(true);
    let image = |n: usize| Probe {
        pixels: (0..60).map(|i| (n * 101 + i * 3) as u8).collect(),
        logits: (0..4).map(|class| value(200 + n, class)).collect(),
    };
    let probes = Probes { asked: file.answering_hash(), images: vec![image(0), image(1)] };
    ModelFile { probes: Some(probes), ..file }
}

/// The network with probes and with scales for 8 bits, of no meaning.
pub(crate) fn quantized_file() -> ModelFile {
    let file = probed_file();
    let graph = file.model.graph();
    let shapes = graph.shapes().unwrap();
    let is_convolution = |node: &usize| matches!(graph.nodes[*node].op, Op::Conv2d(_));
    let layers: Vec<usize> = (0..graph.nodes.len()).filter(is_convolution).collect();
    let scale = |value: usize| ValueScale {
        value: value as u32,
        scale: 0.125 * (1 + value) as f32,
        zero: 3 * value as u8,
        factors: if value == 0 { Vec::new() } else { vec![0.5; shapes[value].c as usize] },
    };
    let layer = |&node: &usize| LayerScale {
        node: node as u32,
        weights: (0..shapes[node + 1].c).map(|c| 0.25 + c as f32 / 64.0).collect(),
        bias: if node == layers[0] { vec![-0.5; shapes[node + 1].c as usize] } else { Vec::new() },
    };
    let quantization =
        Quantization { values: [0, 1].map(scale).to_vec(), layers: layers.iter().map(layer).collect() };
    ModelFile { quantization: Some(quantization), ..file }
}

/// Names, preprocessing, metrics and origin of the sample.
pub(crate) fn meta() -> ModelMeta {
    ModelMeta {
        name: "tiny".into(),
        classes: ["ant", "bee", "cicada", "dragonfly ≠ fly"].map(String::from).to_vec(),
        preprocessing: Preprocessing {
            width: 5,
            height: 6,
            channels: 2,
            fit: Fit::Pad,
            mean: vec![0.5, -0.25],
            std: vec![0.125, 2.0],
        },
        metrics: Some(Metrics { accuracy: 0.75, top5: 1.0, loss: 0.625, split: "test".into(), images: 128 }),
        temperature: None,
        rejection: None,
        multi_label: None,
        origin: Origin::Trained(Trained {
            version: "0.1.0".into(),
            seed: 42,
            data_name: "insects".into(),
            data_hash: std::array::from_fn(|i| i as u8 * 3),
            recipe: "epochs = 3\n".into(),
            created: 1_767_225_600,
            epochs: 3,
            parent: Some("0123456789ab-1".into()),
        }),
    }
}

/// A network from another program, with what version 2 of the format has and version 1 has not: joined channels,
/// squeeze-and-excitation, an origin that is no training.
pub(crate) fn imported_file() -> ModelFile {
    let mut g = Graph::new(Shape::new(6, 5, 2));
    let stem = g.then("stem", Op::Conv2d(Conv2d::new(3, 1)));
    let joined = g.push("joined", Op::Concat, &[stem, 0, stem]);
    let means = g.push("means", Op::GlobalAvgPool, &[joined]);
    g.push("excite", Op::Dense(Dense { units: 8, bias: true }), &[means]);
    let gate = g.then("gate", Op::Activation(Activation::Sigmoid));
    g.push("scaled", Op::ChannelScale, &[joined, gate]);
    g.then("pool", Op::GlobalMaxPool);
    g.then("head", Op::Dense(Dense { units: 4, bias: false }));
    let mut model = Model::zeros(g).unwrap();
    let entries = model.layout().entries().to_vec();
    for (t, entry) in entries.iter().enumerate() {
        let values = model.params_mut()[entry.range()].iter_mut().enumerate();
        values.for_each(|(i, slot)| *slot = value(t, i));
    }
    let origin = Origin::Imported(Imported {
        format: "onnx".into(),
        producer: "pytorch 2.9.1".into(),
        file: "insects.onnx".into(),
        file_hash: std::array::from_fn(|i| 255 - i as u8 * 5),
        version: "0.2.0".into(),
        created: 1_767_225_601,
    });
    let meta = ModelMeta { name: "imported".into(), metrics: None, origin, ..meta() };
    ModelFile::new(model, meta)
}
