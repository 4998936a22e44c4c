//! Models of ONNX as PyTorch and others write them, against what ONNX Runtime makes of them. `make_onnx.py` made both.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

use std::fs;
use std::path::{Path, PathBuf};

use ocelli_engine::model_file::{Fit, Imported, ModelFile, ModelMeta, Origin, Preprocessing};
use ocelli_engine::{Exec, Inference, Model, Quantization};
use ocelli_exchange::{
    ExchangeError, ExportOptions, Head, Import, ImportOptions, Numbers, Target, export, import,
};

const IMAGES: usize = 4;

#[derive(serde::Deserialize)]
struct Fixture {
    name: String,
    /// Height, width, channels.
    shape: [usize; 3],
    /// The largest number of a pixel.
    scale: f32,
    classes: usize,
    /// Whether pixels are whole numbers.
    bytes: bool,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/onnx")
}

fn fixtures() -> Vec<Fixture> {
    serde_json::from_slice(&fs::read(folder().join("fixtures.json")).unwrap()).unwrap()
}

fn model(name: &str) -> Vec<u8> {
    fs::read(folder().join(format!("{name}.onnx"))).unwrap()
}

/// The images of a fixture, as the script makes them.
fn images(fixture: &Fixture) -> Vec<f32> {
    let count = IMAGES * fixture.shape.iter().product::<usize>();
    let number = |index: usize| {
        let hashed = (index as u64).wrapping_mul(2_654_435_761) % (1 << 32);
        let number = (hashed >> 8) as f32 / (1u32 << 24) as f32 * fixture.scale;
        if fixture.bytes { number.floor() } else { number }
    };
    (0..count).map(number).collect()
}

/// What the imported model makes of images, after what the file's last layer does.
fn answers(imported: &Import, fixture: &Fixture) -> Vec<f32> {
    let mut x = images(fixture);
    if let Some((mean, std)) = &imported.input.mean_std {
        for (index, value) in x.iter_mut().enumerate() {
            let channel = index % mean.len();
            *value = (*value / fixture.scale - mean[channel]) / std[channel];
        }
    }
    let mut inference = Inference::new(&imported.model, IMAGES, &Exec::new(1).unwrap()).unwrap();
    let classes = inference.classes();
    let mut logits = vec![0.0; IMAGES * classes];
    inference.run(&x, IMAGES, &mut logits).unwrap();
    let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
    match imported.head {
        Head::Logits => logits,
        Head::Sigmoid => logits.into_iter().map(sigmoid).collect(),
        Head::Binary => logits.chunks(2).map(|pair| sigmoid(pair[1] - pair[0])).collect(),
        Head::Softmax => {
            let softmax = |row: &[f32]| {
                let exp: Vec<f32> = row.iter().map(|x| x.exp()).collect();
                let sum: f32 = exp.iter().sum();
                exp.into_iter().map(|x| x / sum).collect::<Vec<f32>>()
            };
            logits.chunks(classes).flat_map(softmax).collect()
        }
    }
}

#[test]
fn answers_are_those_of_onnx_runtime() {
    let mut failures = Vec::new();
    for fixture in fixtures() {
        let name = &fixture.name;
        let imported = match import(&model(name), &ImportOptions::default()) {
            Ok(imported) => imported,
            Err(error) => {
                failures.push(format!("{name}: {error}"));
                continue;
            }
        };
        let expected = fs::read(folder().join(format!("{name}.bin"))).unwrap();
        let expected: Vec<f32> =
            expected.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        let mut found = answers(&imported, &fixture);
        if name.starts_with("logsoftmax") {
            for row in found.chunks_mut(fixture.classes) {
                let sum = row.iter().map(|x| x.exp()).sum::<f32>().ln();
                row.iter_mut().for_each(|x| *x -= sum);
            }
        }
        if name.starts_with("choice") {
            let classes = imported.model.graph().classes().unwrap();
            let best = |row: &[f32]| (0..classes).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap();
            found = found.chunks(classes).map(|row| best(row) as f32).collect();
        }
        assert_eq!(found.len(), expected.len(), "{name}");
        let relative = difference(&found, &expected);
        // A network in 8 bits rounds every value; its scales are what is imported.
        let bound = if name.starts_with("qdq") { 0.05 } else { 1e-5 };
        if relative.is_nan() || relative > bound {
            failures.push(format!("{name}: {relative:e} of the range"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Every model, written again and read again, is the same model.
#[test]
fn exports_are_read_back_to_the_same_answers() {
    for fixture in fixtures() {
        let name = &fixture.name;
        let imported = import(&model(name), &ImportOptions::default()).unwrap();
        let file = model_file(&imported);
        let [h, w, c] = fixture.shape;
        let x: Vec<f32> = images(&fixture).iter().map(|x| x / fixture.scale).collect();
        let expected = logits(&imported.model, None, &x);
        let kinds = match imported.quantization {
            Some(_) => &[Numbers::F32, Numbers::F16, Numbers::Int8][..],
            None => &[Numbers::F32, Numbers::F16][..],
        };
        for (&numbers, with_preprocess) in kinds.iter().flat_map(|kind| [(kind, false), (kind, true)]) {
            let options = ExportOptions { target: Target::Onnx, numbers, with_preprocess };
            let bytes = export(&file, &options).unwrap();
            if let Some(folder) = std::env::var_os("OCELLI_ONNX_EXPORTS") {
                let end = if with_preprocess { ".pixels" } else { "" };
                fs::write(Path::new(&folder).join(format!("{name}.{numbers:?}{end}.onnx")), &bytes).unwrap();
            }
            let again = import(&bytes, &ImportOptions::default()).unwrap();
            let what = format!("{name}, {numbers:?}, with preprocessing {with_preprocess}");
            assert_eq!(again.labels.as_ref(), Some(&file.meta.classes), "{what}");
            assert_eq!(again.model.graph().input, ocelli_engine::Shape::new(h, w, c), "{what}");
            assert_eq!(again.head, Head::Logits, "{what}");
            let (mean, std) = again.input.mean_std.as_ref().unwrap();
            let near = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5);
            let rule = &file.meta.preprocessing;
            assert!(near(mean, &rule.mean) && near(std, &rule.std), "{what}: {mean:?} {std:?}");
            let (found, bound) = match numbers {
                Numbers::F32 => (logits(&again.model, None, &x), 1e-5),
                Numbers::F16 => (logits(&again.model, None, &x), 5e-3),
                Numbers::Int8 => (logits(&again.model, None, &x), 0.05),
            };
            let relative = difference(&found, &expected);
            assert!(relative <= bound, "{what}: {relative:e} of the range");
            if numbers == Numbers::Int8 {
                let quantization = again.quantization.as_ref().unwrap();
                assert_eq!(quantization.layers.len(), file.quantization.as_ref().unwrap().layers.len());
                let relative = difference(&logits(&again.model, Some(quantization), &x), &expected);
                assert!(relative <= 0.05, "{what}, in bytes: {relative:e} of the range");
            }
        }
    }
}

/// What is not supported is listed at once, with names and shapes.
#[test]
fn all_that_is_not_supported_is_listed() {
    let mut bytes = model("plain_17");
    for (from, to) in [("MaxPool", "MaxRoiP"), ("Gemm", "Gemn")] {
        let places: Vec<usize> = (0..bytes.len() - from.len())
            .filter(|&at| &bytes[at..at + from.len()] == from.as_bytes())
            .collect();
        for at in places {
            // Names of nodes keep theirs.
            if bytes[at - 2] == 0x22 {
                bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
            }
        }
    }
    let error = import(&bytes, &ImportOptions::default()).unwrap_err();
    let ExchangeError::Unsupported { parts, .. } = &error else { panic!("{error}") };
    let ops: Vec<&str> = parts.iter().map(|part| part.op.as_str()).collect();
    assert_eq!(ops, ["MaxRoiP", "Gemn", "Gemn"]);
    assert_eq!(parts[0].shapes, "Nx8x8x8");
    assert!(
        error.to_string().contains("`/features/features.5/MaxRoiP`") || error.to_string().contains("MaxRoiP")
    );
}

/// A network that is no classifier is told by its output, too.
#[test]
fn a_detector_is_called_no_classifier() {
    let error = import(&model("detector_17"), &ImportOptions::default()).unwrap_err();
    let ExchangeError::Unsupported { parts, .. } = &error else { panic!("{error}") };
    let ops: Vec<&str> = parts.iter().map(|part| part.op.as_str()).collect();
    assert_eq!(ops, ["Resize", "output"]);
    assert_eq!(parts[1].shapes, "1x6x64");
    assert!(parts[1].reason.contains("no classifier"), "{error}");
}

#[test]
fn a_size_that_is_left_open_is_asked_for() {
    let bytes = model("open_size_17");
    let error = import(&bytes, &ImportOptions::default()).unwrap_err();
    assert!(matches!(error, ExchangeError::Missing { option: "size", .. }), "{error}");
    let options = ImportOptions { size: Some((12, 10)), ..ImportOptions::default() };
    assert_eq!(import(&bytes, &options).unwrap().model.graph().input, ocelli_engine::Shape::new(12, 10, 3));
}

#[test]
fn other_bytes_are_no_model_of_onnx() {
    for bytes in [&b""[..], b"PK\x03\x04", b"\x89HDF\r\n\x1a\n", b"{\"a\": 1}", &[0x80, 2]] {
        let error = import(bytes, &ImportOptions::default()).unwrap_err();
        assert!(!error.to_string().starts_with("onnx"), "{error}");
    }
    let whole = model("plain_17");
    let error = import(&whole[..whole.len() / 2], &ImportOptions::default()).unwrap_err();
    assert!(matches!(error, ExchangeError::Damaged { .. } | ExchangeError::UnknownFormat(_)), "{error}");
}

fn logits(model: &Model, quantization: Option<&Quantization>, x: &[f32]) -> Vec<f32> {
    let exec = Exec::new(1).unwrap();
    let mut inference = Inference::quantized(model, quantization, &[], IMAGES, &exec).unwrap();
    let mut logits = vec![0.0; IMAGES * inference.classes()];
    inference.run(x, IMAGES, &mut logits).unwrap();
    logits
}

fn difference(found: &[f32], expected: &[f32]) -> f32 {
    let bounds = expected.iter().fold([f32::MAX, f32::MIN], |[low, high], &x| [low.min(x), high.max(x)]);
    let largest = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    largest / (bounds[1] - bounds[0])
}

fn model_file(imported: &Import) -> ModelFile {
    let shape = imported.model.graph().input;
    let mut preprocessing = Preprocessing::new(shape.w, shape.h, shape.c as u8, Fit::Crop);
    preprocessing.mean = (0..shape.c).map(|c| 0.4 + 0.05 * c as f32).collect();
    preprocessing.std = (0..shape.c).map(|c| 0.2 + 0.03 * c as f32).collect();
    let origin = Imported {
        format: "onnx".to_owned(),
        producer: imported.producer.clone(),
        file: "model.onnx".to_owned(),
        file_hash: [0; 32],
        version: String::new(),
        created: 0,
    };
    let classes = imported.model.graph().classes().unwrap();
    let meta = ModelMeta {
        name: "example".to_owned(),
        classes: (0..classes).map(|class| format!("class '{class}'")).collect(),
        preprocessing,
        metrics: None,
        temperature: Some(1.5),
        rejection: None,
        multi_label: None,
        origin: Origin::Imported(origin),
    };
    let mut file = ModelFile::new(imported.model.clone(), meta);
    file.quantization = imported.quantization.clone();
    file
}
