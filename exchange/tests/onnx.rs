//! Models of ONNX as PyTorch and others write them, against what ONNX Runtime makes of them. `make_onnx.py` made both.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

use std::fs;
use std::path::{Path, PathBuf};

use ocelli_engine::{Exec, Inference};
use ocelli_exchange::{Head, Import, ImportOptions, import};

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
        assert_eq!(found.len(), expected.len(), "{name}");
        let bounds = expected.iter().fold([f32::MAX, f32::MIN], |[low, high], &x| [low.min(x), high.max(x)]);
        let largest = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        let relative = largest / (bounds[1] - bounds[0]);
        // A network in 8 bits rounds every value; its scales are what is imported.
        let bound = if name.starts_with("qdq") { 0.05 } else { 1e-5 };
        if relative.is_nan() || relative > bound {
            failures.push(format!("{name}: {relative:e} of the range"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
