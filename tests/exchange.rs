//! `ocelli import` and `ocelli export` with the real program: out to each format, back, and everything that a model is for.

use std::fs;

use serde_json::Value;

use crate::shapes::{self, CLASSES, Rng, TRAINED, photo};
use crate::support::Sandbox;

/// Exports of the trained model, by their endings.
const FORMATS: [&str; 3] = ["onnx", "safetensors", "keras"];

const PHOTOS: usize = 30;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn with_photos() -> Sandbox {
    let sandbox = Sandbox::new();
    let mut rng = Rng(31);
    for (i, class) in CLASSES.iter().cycle().take(PHOTOS).enumerate() {
        sandbox.write(&format!("{i}.png"), shapes::png(&photo(class, &mut rng)));
    }
    sandbox
}

/// Labels and probabilities of the photos.
fn answers(sandbox: &Sandbox, model: &str) -> Vec<(String, f64)> {
    let photos: Vec<String> = (0..PHOTOS).map(|i| format!("{i}.png")).collect();
    let lines = sandbox.run(&format!("predict -m {model} {} --json", photos.join(" "))).json_lines();
    assert_eq!(lines.len(), PHOTOS);
    let answer =
        |line: &Value| (line["label"].as_str().unwrap().to_owned(), line["probability"].as_f64().unwrap());
    lines.iter().map(answer).collect()
}

#[test]
fn a_model_goes_out_and_comes_back_the_same() {
    let sandbox = with_photos();
    let (model, data) = (TRAINED.run_dir.display().to_string(), TRAINED.data.display());
    let expected = answers(&sandbox, &model);
    for format in FORMATS {
        let report = json(&sandbox.ok(&format!("export {model} --to {format} -o out.{format} --json")));
        assert_eq!(report["type"], "export", "{report}");
        assert_eq!(report["check"]["agreement"], 1.0, "{format}: {report}");
        assert!(report["check"]["relative_difference"].as_f64().unwrap() < 1e-4, "{format}: {report}");
        // The file says everything: nothing has to be said.
        let report = json(&sandbox.ok(&format!("import out.{format} --out {format}.ocelli --json")));
        assert_eq!((&report["type"], &report["labels_from"]), (&"import".into(), &"file".into()));
        let model = format!("{format}.ocelli");
        let found = answers(&sandbox, &model);
        for ((label, probability), (own, expected)) in found.iter().zip(&expected) {
            assert_eq!(label, own, "{format}");
            assert!((probability - expected).abs() < 1e-4, "{format}: {probability} for {expected}");
        }
        let evaluation = json(&sandbox.ok(&format!("evaluate {model} {data} --json")));
        assert!(evaluation["accuracy"].as_f64().unwrap() > 0.9, "{format}: {evaluation}");
    }
    let text = sandbox.ok(&format!("export {model} --to npz -o out.npz"));
    assert!(text.contains("not read back"), "{text}");
    assert!(fs::read(sandbox.path().join("out.npz")).unwrap().starts_with(b"PK"));
}

#[test]
fn an_imported_model_is_explained_quantised_trained_further_and_inspected_by_doctor() {
    let sandbox = with_photos();
    let (model, data) = (TRAINED.run_dir.display(), TRAINED.data.display());
    sandbox.ok(&format!("export {model} --to onnx -o m.onnx"));
    sandbox.ok("import m.onnx");
    sandbox.ok("explain m.ocelli 0.png --out map.png");
    assert!(sandbox.path().join("map.png").is_file());
    let report =
        json(&sandbox.ok(&format!("quantize m.ocelli {data} --out m8.ocelli --max-drop 100 --json")));
    assert!(report["agreement"].as_f64().unwrap() > 0.9, "{report}");
    let report = json(&sandbox.ok("export m8.ocelli --to onnx --int8 -o m8.onnx --json"));
    assert!(report["check"]["agreement"].as_f64().unwrap() > 0.95, "{report}");
    sandbox.ok(&format!("train {data} --start m.ocelli --epochs 1 --name further -q"));
    assert!(sandbox.path().join("runs/further-001/weights/best.ocelli").is_file());
}

#[test]
fn what_is_missing_or_wrong_is_said_with_what_to_do() {
    let sandbox = with_photos();
    let model = TRAINED.run_dir.display();
    // Weights of PyTorch by our names, and nothing else.
    sandbox.ok(&format!("export {model} --to safetensors -o m.safetensors"));
    let bytes = fs::read(sandbox.path().join("m.safetensors")).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let text = String::from_utf8(bytes[8..8 + header].to_vec()).unwrap();
    let mut bare = bytes.clone();
    bare[8..8 + header].copy_from_slice(text.replace("preprocessing", "xreprocessing").as_bytes());
    sandbox.write("bare.safetensors", bare);
    let run = sandbox.run("import bare.safetensors");
    assert_eq!(run.code, Some(2), "{}", run.stderr);
    assert!(run.stderr.contains("--normalize") && run.stderr.contains("--fit"), "{}", run.stderr);
    assert!(!sandbox.path().join("bare.ocelli").exists());
    sandbox.ok("import bare.safetensors --normalize 0..1 --fit stretch");

    let refused = [
        ("import 0.png", "begins with the bytes 89504e47", "Keras (.h5, .keras), ONNX"),
        ("import none.onnx", "none.onnx", "spelling"),
        ("import m.safetensors --labels 0.png", "not text in UTF-8", "ocelli import --help"),
        ("import m.safetensors --normalize 0..2", "0..1, -1..1, 0..255, imagenet, caffe", "import --help"),
        ("predict -m m.safetensors 0.png", "m.safetensors", "ocelli import FILE"),
        ("export m.safetensors --to onnx", "m.safetensors", "ocelli import FILE"),
    ];
    for (command, error, hint) in refused {
        let run = sandbox.run(command);
        assert_ne!(run.code, Some(0), "{command}");
        assert!(run.stderr.contains(error) && run.stderr.contains(hint), "{command}: {}", run.stderr);
    }
}
