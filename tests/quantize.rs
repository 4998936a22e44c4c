//! `ocelli quantize`, and what answers in 8 bits.

use std::fs;

use image::{Rgb, RgbImage};
use serde_json::Value;

use crate::http_client::request;
use crate::shapes::{self, CLASSES, Rng, TRAINED, photo};
use crate::support::{Sandbox, Server, accuracy};

/// A model with scales, made of the trained one, and the report on it.
fn quantised(sandbox: &Sandbox) -> Value {
    let (model, data) = (TRAINED.run_dir.display(), TRAINED.data.display());
    let json = sandbox.ok(&format!("quantize {model} {data} --out int8.ocelli --json"));
    serde_json::from_str(&json).unwrap()
}

#[test]
fn a_model_gets_scales_and_answers_with_them_where_it_is_asked_to() {
    let sandbox = Sandbox::new();
    let report = quantised(&sandbox);
    assert_eq!((&report["type"], &report["written"]), (&"quantization".into(), &"int8.ocelli".into()));
    assert!(report["accuracy"]["int8"].as_f64().unwrap() > 0.9, "{report}");
    assert!(report["agreement"].as_f64().unwrap() > 0.97, "{report}");
    assert_eq!(report["weight_bytes"]["f32"], 4 * report["weight_bytes"]["int8"].as_u64().unwrap());

    let (model, data) = (TRAINED.run_dir.display(), TRAINED.data.display());
    let json = sandbox.ok(&format!("evaluate int8.ocelli {data} --precision int8 --json"));
    let evaluation: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(evaluation["accuracy"], report["accuracy"]["int8"]);
    // Without being asked to, it answers as the model did before.
    let mut rng = Rng(31);
    for (i, class) in CLASSES.iter().enumerate() {
        sandbox.write(&format!("{i}.png"), shapes::png(&photo(class, &mut rng)));
    }
    let images = "0.png 1.png 2.png";
    let answers = |model: &str, more: &str| {
        let lines = sandbox.run(&format!("predict --model {model} {images} --json {more}")).json_lines();
        lines.into_iter().map(|line| (line["label"].clone(), line["top"].clone())).collect::<Vec<_>>()
    };
    let before = answers(&model.to_string(), "");
    assert_eq!(answers("int8.ocelli", ""), before);
    assert_eq!(answers("int8.ocelli", "--precision f32"), before);
    let bytes = answers("int8.ocelli", "--precision int8");
    assert_ne!(bytes, before);
    let labels = |answers: &[(Value, Value)]| answers.iter().map(|a| a.0.clone()).collect::<Vec<_>>();
    assert_eq!(labels(&bytes), labels(&before));
    // As the environment says, where the command line says nothing.
    let mut command = sandbox.command(&format!("predict --model int8.ocelli {images} --json"));
    command.env("OCELLI_PRECISION", "int8");
    let lines = crate::support::finish(command, b"").json_lines();
    assert_eq!(
        lines.iter().map(|line| line["top"].clone()).collect::<Vec<_>>(),
        bytes.iter().map(|a| a.1.clone()).collect::<Vec<_>>()
    );
}

#[test]
fn a_service_says_which_numbers_it_answers_with() {
    let sandbox = Sandbox::new();
    quantised(&sandbox);
    let mut rng = Rng(32);
    let image = shapes::png(&photo(CLASSES[0], &mut rng));
    for (args, precision) in [("int8.ocelli --precision int8", "int8"), ("int8.ocelli", "f32")] {
        let server = Server::start(&sandbox, &format!("{args} --data-dir {precision}"));
        let status = request(&server.addr, "GET /status", "", b"").json();
        assert_eq!(status["model"]["precision"], precision, "{status}");
        let name = status["model"]["name"].as_str().unwrap();
        let config = request(&server.addr, &format!("GET /v2/models/{name}/config"), "", b"").json();
        assert_eq!(config["parameters"]["precision"]["string_value"], precision, "{config}");
        let answer = request(&server.addr, "POST /predict", "image/png", &image).json();
        assert_eq!(answer["label"], CLASSES[0], "{answer}");
        assert_eq!(server.stop("TERM"), Some(0));
    }
    // A model without scales is served in f32.
    let model = TRAINED.run_dir.display();
    let server = Server::start(&sandbox, &format!("{model} --precision int8 --data-dir plain"));
    assert_eq!(request(&server.addr, "GET /status", "", b"").json()["model"]["precision"], "f32");
    assert_eq!(server.stop("TERM"), Some(0));
}

#[test]
fn what_loses_too_much_is_not_written() {
    let sandbox = Sandbox::new();
    // Nothing is learnt of photos from black images: the ranges are those of nothing.
    let mut rng = Rng(33);
    for class in CLASSES {
        for i in 0..4 {
            let black = RgbImage::from_pixel(24, 24, Rgb([i, 0, 0]));
            sandbox.write(&format!("odd/train/{class}/{i}.png"), shapes::png(&black));
            sandbox.write(&format!("odd/test/{class}/{i}.png"), shapes::png(&photo(class, &mut rng)));
        }
    }
    let model = TRAINED.run_dir.display();
    let run = sandbox.run(&format!("quantize {model} odd --out never.ocelli"));
    assert_eq!(run.code, Some(3), "{run:#?}");
    assert!(run.stderr.contains("points, more than 0.5: nothing was written"), "{run:#?}");
    assert!(run.stdout.contains("accuracy, 12 test images"), "{run:#?}");
    assert!(!sandbox.path().join("never.ocelli").exists());
    let run = sandbox.run(&format!("quantize {model} odd --max-drop 100 --out now.ocelli"));
    assert!(run.code == Some(0) && sandbox.path().join("now.ocelli").exists(), "{run:#?}");
}

#[test]
fn int8_is_refused_where_it_cannot_be() {
    let sandbox = Sandbox::new();
    let (model, data) = (TRAINED.run_dir.display(), TRAINED.data.display());
    for (line, said) in [
        (format!("evaluate {model} {data} --precision int8"), "has no int8 scales"),
        (format!("predict --model {model} x.png --precision int8"), "has no int8 scales"),
        (format!("evaluate {model} {data} --precision int4"), "choose one of auto, f32, bf16, int8"),
        ("quantize fashion-mnist".to_owned(), "cannot change"),
        (format!("quantize {model} {data} --images 0"), "1 to 4096"),
        ("bench --precision int8 --mode train".to_owned(), "int8 is for inference"),
    ] {
        let run = sandbox.run(&line);
        assert_eq!(run.code, Some(2), "{line}: {run:#?}");
        assert!(run.stderr.contains(said), "{line}: {run:#?}");
    }
    // A damaged section is a damaged file.
    quantised(&sandbox);
    let path = sandbox.path().join("int8.ocelli");
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.len() - 40;
    bytes[at] ^= 1;
    fs::write(&path, bytes).unwrap();
    let run = sandbox.run(&format!("evaluate int8.ocelli {data} --precision int8"));
    assert!(run.code == Some(1) && run.stderr.contains("damaged"), "{run:#?}");
}

#[test]
fn the_table_compares_both() {
    let sandbox = Sandbox::new();
    let (model, data) = (TRAINED.run_dir.display(), TRAINED.data.display());
    let text = sandbox.ok(&format!("quantize {model} {data} --out int8.ocelli"));
    for part in ["f32", "int8", "ms an image", "MiB of filters", "same answer for", "written to int8.ocelli"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    let text = sandbox.ok(&format!("evaluate int8.ocelli {data} --precision int8"));
    assert!(accuracy(&text) > 0.9, "{text}");
    let record =
        sandbox.ok("bench --model keras-cnn-28 --mode infer --batch 1 --precision int8 --seconds 0 --json");
    let record: Value = serde_json::from_str(&record).unwrap();
    assert_eq!(record["precision"], "int8");
    assert!(record["unit"].is_string(), "{record}");
}
