//! Evaluation, comparison, repetition and cross-validation from the command line.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::shapes::{self, CLASSES, Rng, TRAINED, photo};
use crate::support::{Sandbox, accuracy};

#[test]
fn an_evaluation_leaves_its_tables_and_drawings() {
    let sandbox = Sandbox::new();
    let (model, data) = (TRAINED.run_dir.display(), TRAINED.data.display());
    let stdout = sandbox.ok(&format!("evaluate {model} {data} --out report --sort recall --tta"));
    assert!(
        stdout.contains("balanced accuracy") && stdout.contains("expected calibration error"),
        "{stdout}"
    );
    assert!(accuracy(&stdout) > 0.9);
    for name in ["confusion_matrix.svg", "reliability.svg", "worst_mistakes.svg"] {
        let text = fs::read_to_string(sandbox.path().join("report").join(name)).unwrap();
        assert!(text.starts_with("<svg"), "{name}");
    }
    let text = fs::read_to_string(sandbox.path().join("report/evaluation.json")).unwrap();
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["calibration"]["bins"].as_array().unwrap().len(), 15);
    assert!(report["notes"].to_string().contains("mirror image"), "{report}");
    let table = fs::read_to_string(sandbox.path().join("report/per_class.csv")).unwrap();
    assert_eq!(table.lines().count(), 1 + CLASSES.len());
}

#[test]
fn two_models_are_compared_in_text_and_json() {
    let sandbox = Sandbox::new();
    let (model, data) = (TRAINED.run_dir.display(), TRAINED.data.display());
    sandbox.ok(&format!("train {data} --epochs 1 --size 24 --name short"));
    let text = sandbox.ok(&format!("evaluate {model} --compare runs/short-001 {data}"));
    assert!(text.contains("McNemar's exact test: p = "), "{text}");
    let json = sandbox.ok(&format!("evaluate {model} --compare runs/short-001 {data} --json"));
    let found: Value = serde_json::from_str(&json).unwrap();
    let count = |name: &str| found[name].as_u64().unwrap();
    assert_eq!(found["type"], "comparison");
    assert_eq!(
        count("both_right") + count("won") + count("lost") + count("both_wrong"),
        found["images"].as_u64().unwrap()
    );
    let run = sandbox.run(&format!("evaluate {model} --compare runs/none {data}"));
    assert!(run.code != Some(0) && run.stderr.contains("runs/none"), "{run:#?}");
}

#[test]
fn a_run_is_verified_and_a_changed_photo_is_found() {
    let sandbox = Sandbox::new();
    let mut rng = Rng(5);
    for class in CLASSES {
        for i in 0..6 {
            sandbox.write(&format!("set/{class}/{i}.png"), shapes::png(&photo(class, &mut rng)));
        }
    }
    sandbox.ok("train set --epochs 2 --size 16 --name small");
    let said = sandbox.ok("verify runs/small-001 --json");
    let found: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&found["same"], &found["type"]), (&Value::Bool(true), &Value::from("verification")));
    sandbox.write(&format!("set/{}/3.png", CLASSES[0]), shapes::png(&photo(CLASSES[0], &mut rng)));
    let run = sandbox.run("verify runs/small-001");
    assert_eq!(run.code, Some(3), "{run:#?}");
    assert!(run.stderr.contains("data set is not the one"), "{run:#?}");
    assert_eq!(sandbox.run("verify runs").code, Some(1));
}

#[test]
fn folds_are_trained_reported_and_gone_on_with() {
    let sandbox = Sandbox::new();
    let mut rng = Rng(9);
    for class in CLASSES {
        for i in 0..8 {
            sandbox.write(&format!("set/{class}/{i}.png"), shapes::png(&photo(class, &mut rng)));
        }
    }
    let text = sandbox.ok("train set --epochs 1 --size 16 --folds 2 --final");
    assert!(text.contains("accuracy ") && text.contains("model of all images"), "{text}");
    let folder = sandbox.path().join("runs/set-001");
    let report: Value =
        serde_json::from_str(&fs::read_to_string(folder.join("cross_validation.json")).unwrap()).unwrap();
    assert_eq!(report["folds"].as_array().unwrap().len(), 2);
    let images = fs::read_to_string(folder.join("out_of_fold.csv")).unwrap().lines().count() - 1;
    assert_eq!(images, 8 * CLASSES.len());
    fs::remove_dir_all(folder.join("fold-2-001")).unwrap();
    sandbox.ok("train --resume runs/set-001 --json");
    let again: Value =
        serde_json::from_str(&fs::read_to_string(folder.join("cross_validation.json")).unwrap()).unwrap();
    assert_eq!(again["folds"], report["folds"]);
    let run = sandbox.run("train --resume runs/set-001 --finish");
    assert!(run.code == Some(2) && run.stderr.contains("a cross-validation"), "{run:#?}");
    let run = sandbox.run("train set --folds 1");
    assert_eq!(run.code, Some(2), "{run:#?}");
    assert_eq!(sandbox.run("train set --final").code, Some(2));
}

#[test]
fn a_killed_cross_validation_goes_on_to_the_same_numbers() {
    let sandbox = Sandbox::new();
    let mut rng = Rng(13);
    for class in CLASSES {
        for i in 0..12 {
            sandbox.write(&format!("set/{class}/{i}.png"), shapes::png(&photo(class, &mut rng)));
        }
    }
    let line = "train set --epochs 6 --size 16 --folds 3";
    sandbox.ok(&format!("{line} --name whole"));
    let folder = sandbox.path().join("runs/cut-001");
    let mut next = format!("{line} --name cut");
    for _ in 0..6 {
        let mut child = sandbox.command(&next).spawn().unwrap();
        // Somewhere in the first folds: after the next file of a run that appears.
        let before = files(&folder);
        while files(&folder) <= before + 3 && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(5));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        if folder.join("folds.json").is_file() {
            next = "train --resume runs/cut-001".to_owned();
        }
    }
    sandbox.ok(&next);
    let report = |name: &str| -> Value {
        let path = sandbox.path().join(format!("runs/{name}-001/cross_validation.json"));
        serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
    };
    let (whole, cut) = (report("whole"), report("cut"));
    for name in ["folds", "accuracy", "macro_f1", "suspects"] {
        assert_eq!(whole[name], cut[name], "{name}");
    }
    let names = |name: &str| -> Vec<_> {
        let entries = fs::read_dir(sandbox.path().join(format!("runs/{name}-001"))).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names("whole"), names("cut"));
}

/// Files in a folder and in those in it.
fn files(folder: &Path) -> usize {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries.flatten().map(|entry| if entry.path().is_dir() { files(&entry.path()) } else { 1 }).sum()
}
