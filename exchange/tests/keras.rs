//! Models that Keras 2 and 3 wrote (`make_keras.py`), and the answers that Keras gave.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test that cannot go on stops, and says what it saw"
)]

use std::path::{Path, PathBuf};

use ocelli_engine::graph::{Conv2d, Dense, Graph, Op, Padding, Pool2d};
use ocelli_engine::model_file::{Fit, Imported, ModelFile, ModelMeta, MultiLabel, Origin, Preprocessing};
use ocelli_engine::rng::Rng;
use ocelli_engine::{Activation, Exec, Inference, Model, ParamKind, Shape, zoo};
use ocelli_exchange::{
    ExchangeError, ExportOptions, Head, Import, ImportOptions, Numbers, Target, export, import,
};
use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/keras")
}

/// A model of the index, its pictures in 0..=255 and Keras' answers.
struct Sample {
    name: String,
    bytes: Vec<u8>,
    pixels: Vec<u8>,
    answers: Vec<f32>,
    entry: Value,
}

impl Sample {
    fn number(&self, name: &str) -> usize {
        self.entry[name].as_u64().unwrap() as usize
    }

    fn options(&self) -> ImportOptions {
        let size = (self.number("height") as u32, self.number("width") as u32);
        let size = self.entry["size"].as_bool().unwrap().then_some(size);
        ImportOptions { size, ..ImportOptions::default() }
    }
}

fn samples(folder: &Path) -> Vec<Sample> {
    let index = std::fs::read(folder.join("index.json")).unwrap();
    let index: Vec<Value> = serde_json::from_slice(&index).unwrap();
    let sample = |entry: Value| {
        let name = entry["file"].as_str().unwrap().to_owned();
        let bytes = std::fs::read(folder.join(&name)).unwrap();
        let all = std::fs::read(folder.join(format!("{name}.bin"))).unwrap();
        let count =
            ["images", "height", "width", "channels"].map(|side| entry[side].as_u64().unwrap() as usize);
        let (pixels, answers) = all.split_at(count.iter().product());
        let answers = answers.chunks(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()));
        Sample { name, bytes, pixels: pixels.to_vec(), answers: answers.collect(), entry }
    };
    index.into_iter().map(sample).collect()
}

/// What Keras would say for the sample's pictures: the logits with what the head leaves out.
fn answers(sample: &Sample, model: &Import) -> Vec<f32> {
    let images = sample.number("images");
    let channels = sample.number("channels");
    let input: Vec<f32> = match &model.input.mean_std {
        Some((mean, std)) => {
            let value =
                |(i, &p): (usize, &u8)| (f32::from(p) / 255.0 - mean[i % channels]) / std[i % channels];
            sample.pixels.iter().enumerate().map(value).collect()
        }
        None => {
            let scale = sample.entry["scale"].as_f64().unwrap() as f32;
            sample.pixels.iter().map(|&p| f32::from(p) * scale).collect()
        }
    };
    let mut inference = Inference::new(&model.model, images, &Exec::new(1).unwrap()).unwrap();
    let classes = inference.classes();
    let mut logits = vec![0.0; images * classes];
    inference.run(&input, images, &mut logits).unwrap();
    let softmax = |row: &[f32]| {
        let max = row.iter().copied().fold(f32::MIN, f32::max);
        let sum: f32 = row.iter().map(|v| (v - max).exp()).sum();
        row.iter().map(|v| (v - max).exp() / sum).collect::<Vec<f32>>()
    };
    match model.head {
        Head::Logits => logits,
        Head::Softmax => logits.chunks(classes).flat_map(softmax).collect(),
        Head::Sigmoid => logits.iter().map(|v| 1.0 / (1.0 + (-v).exp())).collect(),
        Head::Binary => logits.chunks(classes).map(|row| softmax(row)[1]).collect(),
    }
}

/// Largest difference relative to the range of the answers, and how often the best class is another.
fn compare(sample: &Sample, got: &[f32]) -> (f32, usize) {
    assert_eq!(got.len(), sample.answers.len(), "{}", sample.name);
    let range = sample.answers.iter().copied().fold(f32::MIN, f32::max)
        - sample.answers.iter().copied().fold(f32::MAX, f32::min);
    let worst = got.iter().zip(&sample.answers).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let top = |row: &[f32]| (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap();
    let classes = sample.number("classes");
    let rows = got.chunks(classes).zip(sample.answers.chunks(classes));
    (worst / range, rows.filter(|(a, b)| top(a) != top(b)).count())
}

#[track_caller]
fn read(sample: &Sample) -> Import {
    import(&sample.bytes, &sample.options()).unwrap_or_else(|error| panic!("{}: {error}", sample.name))
}

#[test]
fn imported_models_answer_as_keras_does() {
    for sample in samples(&folder()) {
        let model = read(&sample);
        let (worst, other) = compare(&sample, &answers(&sample, &model));
        assert!(worst < 1e-4 && other == 0, "{}: {worst} of the range, {other} other classes", sample.name);
        let head = match model.head {
            Head::Logits => "logits",
            Head::Softmax => "softmax",
            Head::Sigmoid => "sigmoid",
            Head::Binary => "binary",
        };
        assert_eq!(sample.entry["head"], head, "{}", sample.name);
        let producer = if sample.name.contains("k3") { "Keras 3." } else { "Keras 2." };
        assert!(model.producer.starts_with(producer), "{}: {}", sample.name, model.producer);
        // y = scale p + offset on 0..=255 is (p / 255 - mean) / std.
        match sample.entry["rule"].as_array() {
            Some(rule) => {
                let [scale, offset] = [0, 1].map(|index: usize| rule[index].as_f64().unwrap());
                let (mean, std) = model.input.mean_std.unwrap();
                assert_eq!(mean.len(), sample.number("channels"));
                assert!(mean.iter().all(|&mean| (f64::from(mean) + offset / (255.0 * scale)).abs() < 1e-6));
                assert!(std.iter().all(|&std| (f64::from(std) * 255.0 * scale - 1.0).abs() < 1e-6));
            }
            None => assert_eq!(model.input.mean_std, None, "{}", sample.name),
        }
    }
}

/// Large models in a folder that `make_keras.py FOLDER` filled: `OCELLI_KERAS_MODELS=FOLDER`.
#[test]
fn large_models_answer_as_keras_does() {
    let Some(folder) = std::env::var_os("OCELLI_KERAS_MODELS") else {
        eprintln!("skipped: OCELLI_KERAS_MODELS names no folder of models (make exchange-keras)");
        return;
    };
    let mut failures = Vec::new();
    for sample in samples(Path::new(&folder)) {
        match import(&sample.bytes, &sample.options()) {
            Ok(model) => {
                let (worst, other) = compare(&sample, &answers(&sample, &model));
                println!("{:28} {worst:.2e} of the range, {other} other classes", sample.name);
                if worst >= 1e-3 || other > 0 {
                    failures.push(sample.name.clone());
                }
                if let Some(exports) = std::env::var_os("OCELLI_KERAS_EXPORTS") {
                    write_export(Path::new(&exports), &sample.name, &file(model.model, Head::Softmax));
                }
            }
            Err(error) => failures.push(format!("{}: {error}", sample.name)),
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn all_that_is_not_supported_is_listed_at_once() {
    for name in ["unsupported_k2.h5", "unsupported_k3.keras"] {
        let bytes = std::fs::read(folder().join(name)).unwrap();
        let Err(ExchangeError::Unsupported { parts, .. }) = import(&bytes, &ImportOptions::default()) else {
            panic!("{name}")
        };
        let named: Vec<(&str, &str)> =
            parts.iter().map(|part| (part.node.as_str(), part.op.as_str())).collect();
        let expected = [("twice", "Lambda"), ("larger", "UpSampling2D"), ("transposed", "Conv2DTranspose")];
        assert_eq!(named, expected, "{name}");
        assert_eq!(parts[0].shapes, "6x6x4");
    }
}

#[test]
fn weights_without_a_network_say_what_to_do() {
    let bytes = std::fs::read(folder().join("weights_only_k2.h5")).unwrap();
    let error = import(&bytes, &ImportOptions::default()).unwrap_err();
    assert!(
        matches!(error, ExchangeError::Missing { .. }) && error.to_string().contains("model.save"),
        "{error}"
    );
}

/// A model file around a network, with names, preprocessing and a temperature.
fn file(model: Model, head: Head) -> ModelFile {
    let input = model.graph().input;
    let classes = model.graph().shapes().unwrap().last().unwrap().c as usize;
    let mut preprocessing = Preprocessing::new(input.w, input.h, input.c as u8, Fit::Crop);
    preprocessing.mean.iter_mut().zip([0.4, 0.5, 0.6]).for_each(|(mean, value)| *mean = value);
    preprocessing.std.iter_mut().zip([0.25, 0.2, 0.3]).for_each(|(std, value)| *std = value);
    let imported = Imported {
        format: "keras".to_owned(),
        producer: String::new(),
        file: "model.keras".to_owned(),
        file_hash: [0; 32],
        version: "0".to_owned(),
        created: 0,
    };
    let meta = ModelMeta {
        name: "sample".to_owned(),
        classes: (0..classes).map(|class| format!("class {class}")).collect(),
        preprocessing,
        metrics: None,
        temperature: (head == Head::Softmax).then_some(1.5),
        rejection: None,
        multi_label: (head == Head::Sigmoid)
            .then(|| MultiLabel { thresholds: vec![0.5; classes], quality: None }),
        origin: Origin::Imported(imported),
    };
    ModelFile::new(model, meta)
}

/// Weights that let every layer count.
fn shaken(graph: Graph, seed: u64) -> Model {
    let mut model = Model::init(graph, seed).unwrap();
    let mut rng = Rng::new(seed, 1);
    let entries = model.layout().entries().to_vec();
    for entry in entries {
        for value in &mut model.params_mut()[entry.range()] {
            let unit = (rng.next_u64() >> 40) as f32 / (1 << 24) as f32;
            match entry.kind {
                ParamKind::Weight => {}
                ParamKind::Scale | ParamKind::RunningVar => *value = 0.7 + 0.6 * unit,
                _ => *value = 0.4 * unit - 0.2,
            }
        }
    }
    model
}

/// Every operation and every way to pad that Keras has.
fn every_operation() -> Graph {
    let mut graph = Graph::new(Shape::new(24, 20, 3));
    let conv = |filters, kernel| Conv2d::new(filters, kernel);
    graph.then(
        "stem/conv",
        Op::Conv2d(Conv2d { padding: Padding::Explicit([1, 2, 0, 3]), stride: [2, 2], ..conv(8, 3) }),
    );
    graph.then("stem/norm", Op::BatchNorm(Default::default()));
    let x = graph.then("relu", Op::Activation(Activation::Relu));
    graph.then(
        "max",
        Op::MaxPool2d(Pool2d { kernel: [3, 3], stride: [2, 2], padding: Padding::Explicit([1, 1, 1, 1]) }),
    );
    let x = graph
        .then("mean", Op::AvgPool2d(Pool2d { kernel: [3, 3], stride: [1, 1], padding: Padding::Same }))
        .max(x);
    let depthwise = Conv2d { groups: 8, padding: Padding::Same, ..conv(16, 3) };
    graph.push("depthwise", Op::Conv2d(depthwise), &[x]);
    graph.then("gelu", Op::Activation(Activation::Gelu));
    let a = graph.then("pointwise", Op::Conv2d(conv(8, 1)));
    let mut b = graph.push(
        "grouped",
        Op::Conv2d(Conv2d { groups: 2, padding: Padding::Same, dilation: [2, 2], ..conv(8, 3) }),
        &[x],
    );
    let activations = [
        Activation::Silu,
        Activation::HardSwish,
        Activation::LeakyRelu { slope: 0.1 },
        Activation::Tanh,
        Activation::Clip { min: -0.5, max: 0.75 },
        Activation::Clip { min: 0.0, max: 0.7 },
        Activation::Clip { min: f32::NEG_INFINITY, max: 0.6 },
        Activation::Clip { min: -0.1, max: f32::INFINITY },
        Activation::Relu6,
        Activation::HardSigmoid,
    ];
    for (index, activation) in activations.into_iter().enumerate() {
        b = graph.push(format!("activation {index}"), Op::Activation(activation), &[b]);
    }
    let sum = graph.push("sum", Op::Add, &[a, b]);
    graph.push("squeeze", Op::GlobalAvgPool, &[sum]);
    graph.then("reduce", Op::Conv2d(conv(4, 1)));
    graph.then("expand", Op::Dense(Dense { units: 8, bias: true }));
    let gate = graph.then("gate", Op::Activation(Activation::Sigmoid));
    let scaled = graph.push("scaled", Op::ChannelScale, &[sum, gate]);
    let even = graph.push("even", Op::ChannelGather { channels: vec![0, 2, 4, 6] }, &[scaled]);
    let mixed = graph.push("mixed", Op::ChannelGather { channels: vec![5, 1, 1, 7, 0] }, &[scaled]);
    let joined = graph.push("joined", Op::Concat, &[even, mixed, scaled]);
    let max = graph.push("largest", Op::GlobalMaxPool, &[joined]);
    graph.push("flat", Op::Flatten, &[joined]);
    graph.then("dropout", Op::Dropout { rate: 0.2 });
    let dense = graph.then("dense", Op::Dense(Dense { units: 17, bias: false }));
    graph.push("both", Op::Add, &[dense, max]);
    graph.then("norm", Op::BatchNorm(Default::default()));
    graph.then("head", Op::Dense(Dense { units: 5, bias: true }));
    graph
}

/// Models to export, by name.
fn exported() -> Vec<(String, ModelFile)> {
    let mut files = vec![("every_operation".to_owned(), file(shaken(every_operation(), 7), Head::Softmax))];
    for sample in samples(&folder()).into_iter().filter(|sample| !sample.name.starts_with("first_steps")) {
        let model = read(&sample);
        files.push((sample.name, file(model.model, model.head)));
    }
    files
}

/// Pixels of an image of each model, and its probabilities in the engine.
fn probabilities(file: &ModelFile, images: usize) -> (Vec<u8>, Vec<f32>) {
    let pre = &file.meta.preprocessing;
    let channels = usize::from(pre.channels);
    let mut rng = Rng::new(3, 0);
    let pixels: Vec<u8> = (0..images * pre.len()).map(|_| rng.next_u64() as u8).collect();
    let value =
        |(i, &p): (usize, &u8)| (f32::from(p) / 255.0 - pre.mean[i % channels]) / pre.std[i % channels];
    let input: Vec<f32> = pixels.iter().enumerate().map(value).collect();
    let mut inference = Inference::new(&file.model, images, &Exec::new(1).unwrap()).unwrap();
    let classes = inference.classes();
    let mut logits = vec![0.0; images * classes];
    inference.run(&input, images, &mut logits).unwrap();
    let temperature = file.meta.temperature.unwrap_or(1.0);
    let row = |row: &[f32]| {
        if file.meta.multi_label.is_some() {
            return row.iter().map(|v| 1.0 / (1.0 + (-v).exp())).collect::<Vec<f32>>();
        }
        let max = row.iter().copied().fold(f32::MIN, f32::max);
        let sum: f32 = row.iter().map(|v| ((v - max) / temperature).exp()).sum();
        row.iter().map(|v| ((v - max) / temperature).exp() / sum).collect()
    };
    let probabilities = logits.chunks(classes).flat_map(row).collect();
    (pixels, probabilities)
}

#[test]
fn exported_models_are_read_back() {
    let folder = std::env::var_os("OCELLI_KERAS_EXPORTS").map(PathBuf::from);
    for (name, file) in exported() {
        let (pixels, expected) = probabilities(&file, 4);
        for with_preprocess in [false, true] {
            let options = ExportOptions { target: Target::Keras, numbers: Numbers::F32, with_preprocess };
            let bytes = export(&file, &options).unwrap_or_else(|error| panic!("{name}: {error}"));
            let back =
                import(&bytes, &ImportOptions::default()).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(back.labels.as_deref(), Some(&file.meta.classes[..]), "{name}");
            assert_eq!(back.input.fit, Some(Fit::Crop), "{name}");
            let (mean, std) = back.input.mean_std.clone().unwrap();
            let pre = &file.meta.preprocessing;
            let near = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5);
            assert!(near(&mean, &pre.mean) && near(&std, &pre.std), "{name}: {mean:?} {std:?}");
            let mut again = file.clone();
            again.model = back.model;
            again.meta.temperature = None;
            again.meta.preprocessing.mean = mean;
            again.meta.preprocessing.std = std;
            let (_, got) = probabilities(&again, 4);
            let worst = got.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 1e-4, "{name}: {worst}");
            let Some(folder) = &folder else { continue };
            std::fs::create_dir_all(folder).unwrap();
            let part = if with_preprocess { "pixels" } else { "plain" };
            let path = folder.join(format!("{}_{part}.keras", name.replace('.', "_")));
            std::fs::write(&path, &bytes).unwrap();
            let mut all = pixels.clone();
            all.extend(expected.iter().flat_map(|value| value.to_le_bytes()));
            std::fs::write(path.with_extension("keras.bin"), all).unwrap();
        }
    }
}

/// Writes a model that takes pixels, and what the engine answers, for `check_keras.py`.
fn write_export(folder: &Path, name: &str, file: &ModelFile) {
    let options = ExportOptions { target: Target::Keras, numbers: Numbers::F32, with_preprocess: true };
    let bytes = export(file, &options).unwrap_or_else(|error| panic!("{name}: {error}"));
    let (mut all, expected) = probabilities(file, 4);
    std::fs::create_dir_all(folder).unwrap();
    let path = folder.join(format!("{}_pixels.keras", name.replace('.', "_")));
    std::fs::write(&path, &bytes).unwrap();
    all.extend(expected.iter().flat_map(|value| value.to_le_bytes()));
    std::fs::write(path.with_extension("keras.bin"), all).unwrap();
}

/// Networks of the zoo, for `check_keras.py`: `OCELLI_KERAS_EXPORTS` names the folder.
#[test]
fn networks_of_the_zoo_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let exports = std::env::var_os("OCELLI_KERAS_EXPORTS").map(PathBuf::from);
    for name in zoo::NAMES {
        let graph = zoo::build(name, Shape::new(64, 64, 3), 10).unwrap();
        let file = file(shaken(graph, 5), Head::Softmax);
        write_export(exports.as_deref().unwrap_or(folder.path()), &format!("zoo_{name}"), &file);
    }
}

#[test]
fn what_keras_cannot_hold_is_refused_by_name() {
    let mut graph = Graph::new(Shape::new(9, 9, 3));
    let pool = Pool2d { kernel: [3, 3], stride: [2, 2], padding: Padding::Explicit([1, 0, 0, 1]) };
    graph.then("uneven", Op::AvgPool2d(pool));
    graph.then("flat", Op::Flatten);
    graph.then("head", Op::Dense(Dense { units: 2, bias: true }));
    let file = file(Model::init(graph, 1).unwrap(), Head::Softmax);
    let mut options = ExportOptions { target: Target::Keras, numbers: Numbers::F32, with_preprocess: false };
    let error = export(&file, &options).unwrap_err().to_string();
    assert!(error.contains("`uneven`"), "{error}");
    options.numbers = Numbers::F16;
    assert!(export(&file, &options).unwrap_err().to_string().contains("32 bits"));
}
