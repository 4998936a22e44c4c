//! Models that Keras 2 and 3 wrote (`make_keras.py`), and the answers that Keras gave.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

use std::path::{Path, PathBuf};

use ocelli_engine::{Exec, Inference};
use ocelli_exchange::{ExchangeError, Head, Import, ImportOptions, import};
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
                    failures.push(sample.name);
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
