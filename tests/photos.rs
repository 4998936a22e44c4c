//! From a folder of photos to a model that knows them.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;

use crate::shapes::{self, CLASSES, PER_CLASS, Rng, TRAINED, photo};
use crate::support::{Sandbox, accuracy, command, finish, json_lines};

#[test]
fn training_learns_the_shapes_and_says_so() {
    let run = &TRAINED.run;
    assert_eq!(run.code, Some(0), "{run:#?}");
    let found = accuracy(&run.stdout);
    assert!(found > 0.95, "{run:#?}");
    let last = run.stdout.lines().last().unwrap();
    assert!(last.starts_with("run folder runs/shapes-001"), "{last}");
    assert!(run.stderr.contains("unreadable"), "the broken file is not mentioned: {}", run.stderr);
}

#[test]
fn the_run_folder_is_complete() {
    assert_eq!(TRAINED.run.code, Some(0));
    let read = |name: &str| {
        fs::read_to_string(TRAINED.run_dir.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    let results = read("results.csv");
    assert_eq!(results.lines().count(), 1 + 20);
    assert!(results.starts_with("epoch,time_s,lr,train_loss,train_accuracy,val_loss,val_accuracy\n"));
    assert_eq!(read("labels.txt").lines().collect::<Vec<_>>(), CLASSES);
    let recipe = read("recipe.toml");
    assert!(recipe.contains("epochs = 20") && recipe.contains("command line") && recipe.contains("default"));
    for svg in ["curves.svg", "confusion_matrix.svg"] {
        assert!(read(svg).contains("<svg"), "{svg}");
    }
    assert!(read("README.md").starts_with("---\n"));
    assert!(read("confusion_matrix.csv").contains("triangle"));
    let events = json_lines(&read("events.jsonl"));
    assert!(events.iter().all(|event| event["schema"] == 1));
    assert_eq!(events.iter().filter(|event| event["type"] == "epoch").count(), 20);
    let dataset: Value = serde_json::from_str(&read("dataset.json")).unwrap();
    assert!(dataset.to_string().contains("broken.png"), "{dataset}");
    for name in ["weights/best.ocelli", "weights/last.ocelli"] {
        assert!(TRAINED.run_dir.join(name).is_file(), "{name}");
    }
}

/// What `evaluate --csv` says: name, predicted class, probability.
fn evaluated(extra: &str) -> (f32, Vec<(String, String, f32)>) {
    assert_eq!(TRAINED.run.code, Some(0));
    let sandbox = Sandbox::new();
    let (model, data) = (TRAINED.run_dir.display(), TRAINED.data.display());
    let stdout = sandbox.ok(&format!("evaluate {model} {data} --csv preds.csv {extra}"));
    let csv = fs::read_to_string(sandbox.path().join("preds.csv")).unwrap();
    let mut lines = csv.lines();
    assert_eq!(lines.next(), Some("name,label,predicted,probability,correct,loss"));
    let rows = lines.map(|line| {
        let fields: Vec<&str> = line.split(',').collect();
        (fields[0].to_owned(), fields[2].to_owned(), fields[3].parse().unwrap())
    });
    (accuracy(&stdout), rows.collect())
}

#[test]
fn evaluation_on_the_training_data_takes_its_test_split() {
    let (found, rows) = evaluated("");
    assert_eq!(found, accuracy(&TRAINED.run.stdout));
    let share = rows.len() as f32 / (3 * PER_CLASS) as f32;
    assert!((0.1..0.3).contains(&share), "{} test images", rows.len());
}

#[test]
fn predict_agrees_with_evaluate_image_by_image() {
    for threads in [1, 2] {
        let (_, rows) = evaluated(&format!("--threads {threads}"));
        let mut line =
            format!("predict --model {} --json --threads {}", TRAINED.run_dir.display(), 3 - threads);
        for (name, _, _) in &rows {
            line += &format!(" {}/{name}", TRAINED.data.display());
        }
        let answers = json_lines(&Sandbox::new().ok(&line));
        assert_eq!(answers.len(), rows.len());
        for ((name, predicted, probability), answer) in rows.iter().zip(&answers) {
            assert_eq!(answer["label"], predicted.as_str(), "{name}");
            let given = answer["probability"].as_f64().unwrap() as f32;
            assert_eq!(given.to_bits(), probability.to_bits(), "{name}: {given} and {probability}");
            assert!(answer["path"].as_str().unwrap().ends_with(name.as_str()));
        }
    }
}

#[test]
fn exact_evaluation_gives_the_same_labels() {
    let ((_, default), (_, exact)) = (evaluated(""), evaluated("--exact"));
    assert_eq!(default.len(), exact.len());
    assert_ne!(default, exact, "no convolution was transformed");
    for (a, b) in default.iter().zip(&exact) {
        assert_eq!((&a.0, &a.1), (&b.0, &b.1));
        assert!((a.2 - b.2).abs() < 1e-4, "{a:?} and {b:?}");
    }
}

#[test]
fn exact_training_is_written_down() {
    let data = TRAINED.data.display();
    let sandbox = Sandbox::new();
    sandbox.write("exact.toml", "exact = true\n");
    for (options, expected) in [
        ("", "exact = false # default"),
        ("--exact", "exact = true # command line"),
        ("--config exact.toml", "exact = true # exact.toml"),
        ("--config exact.toml --exact=false", "exact = false # command line"),
    ] {
        let recipe = sandbox.ok(&format!("train {data} --dry-run {options}"));
        let line = recipe.lines().find(|line| line.starts_with("exact ")).unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        assert!(words.join(" ").starts_with(expected), "{options}: {line}");
    }
}

#[test]
fn the_form_of_a_file_does_not_change_its_label() {
    let sandbox = Sandbox::new();
    let mut rng = Rng(99);
    for class in CLASSES {
        let image = photo(class, &mut rng);
        sandbox.write(&format!("{class}-8.png"), shapes::png(&image));
        sandbox.write(&format!("{class}-16.png"), shapes::png16(&image));
        sandbox.write(&format!("{class}-rotated.jpg"), shapes::jpeg_rotated(&image));
        // A PNG that calls itself a JPEG.
        sandbox.write(&format!("{class}-wrong.jpg"), shapes::png(&image));
    }
    let stdout = sandbox.ok(&format!("predict {} . --json --top-k 1", TRAINED.run_dir.display()));
    let mut by_class: BTreeMap<String, Vec<(String, f64)>> = BTreeMap::new();
    for answer in json_lines(&stdout) {
        let name = answer["path"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
        let class = name.split('-').next().unwrap().to_owned();
        assert_eq!(answer["label"], class.as_str(), "{answer}");
        assert_eq!(answer["top"].as_array().unwrap().len(), 1);
        by_class.entry(class).or_default().push((name, answer["probability"].as_f64().unwrap()));
    }
    assert_eq!(by_class.len(), 3);
    for answers in by_class.values() {
        let of = |end: &str| answers.iter().find(|(name, _)| name.ends_with(end)).unwrap().1;
        // Resizing rounds to 8 or to 16 bits.
        assert!((of("-8.png") - of("-16.png")).abs() < 0.01, "{answers:?}");
        assert_eq!(of("-8.png"), of("-wrong.jpg"), "{answers:?}");
    }
}

#[test]
fn one_bad_file_does_not_stop_the_others() {
    let sandbox = Sandbox::new();
    sandbox.write("a.png", shapes::png(&photo("square", &mut Rng(5))));
    sandbox.write("b.jpg", "just text");
    sandbox.write("deep/c.png", shapes::png(&photo("circle", &mut Rng(6))));
    let model = TRAINED.run_dir.display();
    let run = sandbox.run(&format!("predict -m {model} a.png b.jpg nowhere.png deep/c.png"));
    assert_eq!(run.code, Some(1), "{run:#?}");
    let lines: Vec<&str> = run.stdout.lines().collect();
    assert!(
        lines[0].starts_with("a.png  square ") && lines[1].starts_with("deep/c.png  circle "),
        "{run:#?}"
    );
    assert!(run.stderr.contains("b.jpg: not an image") && run.stderr.contains("nowhere.png: "), "{run:#?}");

    let run = sandbox.run(&format!("predict -m {model} -r . --json"));
    let types: Vec<_> =
        run.json_lines().iter().map(|line| line["type"].as_str().unwrap().to_owned()).collect();
    assert_eq!(types, ["prediction", "error", "prediction"]);
    let run = sandbox.run(&format!("predict -m {model} deep --csv -k 2"));
    let stdout = run.ok();
    let mut lines = stdout.lines();
    assert_eq!(lines.next(), Some("path,label,probability,label_2,probability_2,known"));
    assert!(lines.next().unwrap().starts_with("deep/c.png,circle,0.") && lines.next().is_none(), "{stdout}");
}

#[test]
fn predict_reads_standard_input() {
    let image = shapes::png(&photo("triangle", &mut Rng(8)));
    let line = format!("predict {} - --json", TRAINED.run_dir.display());
    let stdout = finish(command(&TRAINED.folder, &line), &image).ok();
    let answers = json_lines(&stdout);
    assert_eq!(
        (answers.len(), &answers[0]["label"], &answers[0]["path"]),
        (1, &"triangle".into(), &"-".into())
    );
}

#[test]
fn a_missed_gate_has_its_own_exit_code() {
    let sandbox = Sandbox::new();
    let mut rng = Rng(4);
    // Classes by the wrong names: matched by name, so nothing is right.
    for (folder, class) in [("circle", "square"), ("square", "triangle"), ("triangle", "circle")] {
        for i in 0..3 {
            sandbox.write(&format!("data/{folder}/{i}.png"), shapes::png(&photo(class, &mut rng)));
        }
    }
    let line = format!("evaluate {} data", TRAINED.run_dir.display());
    let run = sandbox.run(&format!("{line} --min-accuracy 0.9"));
    assert_eq!(run.code, Some(3), "{run:#?}");
    assert!(accuracy(&run.stdout) < 0.5 && run.stderr.contains("below"), "{run:#?}");
    let run = sandbox.run(&format!("{line} --min-accuracy 0 --json"));
    let report = &run.json_lines()[0];
    assert_eq!((run.code, report["images"].as_u64()), (Some(0), Some(9)));
    assert_eq!(report["per_class"].as_array().unwrap().len(), 3);
}

#[test]
fn what_is_wrong_with_a_data_set_is_said_before_it_is_trained_on() {
    let sandbox = Sandbox::new();
    let parts = [("train/cats", 24), ("train/dogs", 4), ("val/cats", 2), ("val/dogs", 2), ("val/owls", 1)];
    let mut seed = 0;
    for (folder, n) in parts {
        for i in 0..n {
            seed += 1;
            let image = ocelli_testing::picture(seed, 8, 8);
            sandbox.write(&format!("data/{folder}/{i}.png"), shapes::png(&image));
        }
    }
    let balance = "classes are out of balance: cats has 24 training images, dogs has 4";
    let owls = "left out: owls (1 image in val): the class has no training image";
    let run = sandbox.run("train data --epochs 1");
    assert!(
        run.stderr.contains(&format!("note: {balance}; an epoch takes as many images of each class")),
        "{run:#?}"
    );
    assert!(run.stderr.contains(&format!("note: {owls}")) && run.stderr.contains("24x24x3"), "{run:#?}");
    run.ok();
    let recipe = fs::read_to_string(sandbox.path().join("runs/data-001/recipe.toml")).unwrap();
    assert!(
        recipe.contains("the images' own size 8x8, 3 times as large: the network needs 10x10"),
        "{recipe}"
    );

    let run = sandbox.run("train data --epochs 1 --balance none --json");
    let texts = |kind: &str| -> Vec<String> {
        let of_kind = |event: &Value| event["type"] == kind;
        let text = |event: &Value| event["text"].as_str().unwrap().to_owned();
        run.json_lines().iter().filter(|event| of_kind(event)).map(text).collect()
    };
    assert!(matches!(texts("warning").as_slice(), [text] if text.starts_with(balance)), "{run:#?}");
    let dry: Value = json_lines(&sandbox.ok("train data --dry-run --json")).remove(0);
    assert_eq!(dry["classes"], serde_json::json!({ "cats": 26, "dogs": 6 }));
    assert!(dry["notes"].as_array().unwrap().iter().any(|note| note == owls), "{dry}");
}
