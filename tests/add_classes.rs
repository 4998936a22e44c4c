//! `ocelli train --add-classes`: a model learns further classes, and everything else takes it for an ordinary run.

use std::fs;

use serde_json::Value;

use crate::http_client::request;
use crate::shapes::{self, Rng, photo};
use crate::support::{Sandbox, Server, accuracy, json_lines};

/// 30 images of each of some shapes.
fn write(sandbox: &Sandbox, folder: &str, classes: &[&str], seed: u64) {
    let mut rng = Rng(seed);
    for class in classes {
        for i in 0..30 {
            sandbox.write(&format!("{folder}/{class}/{i}.png"), shapes::png(&photo(class, &mut rng)));
        }
    }
}

#[test]
fn a_model_learns_a_class_and_is_used_like_any_other() {
    let sandbox = Sandbox::new();
    write(&sandbox, "old", &["circle", "square"], 1);
    write(&sandbox, "new", &["triangle"], 2);
    // The imagenet weights, as for any photos.
    let run = sandbox.run("train old --start imagenet --size 64 --epochs 2 --test-split 0.3");
    assert!(run.stderr.contains("kept the features of "), "{run:#?}");
    run.ok();
    let run = sandbox.run("train new --add-classes runs/old-001 --test-split 0.3");
    let line = run.stderr.lines().find(|line| line.starts_with("added")).unwrap_or_default().to_owned();
    assert!(line.contains("1 class added to 2: of 17 test images of the old ones, "), "{run:#?}");
    let stdout = run.ok();
    assert!(accuracy(&stdout) > 0.8, "{stdout}");
    assert!(stdout.ends_with("run folder runs/new-001\n"), "{stdout}");
    let read = |name: &str| fs::read_to_string(sandbox.path().join("runs/new-001").join(name)).unwrap();
    assert_eq!(read("labels.txt"), "circle\nsquare\ntriangle\n");
    assert!(read("recipe.toml").contains("test_split = 0.3             # command line"));
    assert!(read("recipe.toml").contains("add_classes = \""));
    assert!(read("README.md").contains("New class triangle: 17 training images"));
    let record: Value = serde_json::from_str(&read("add_classes.json")).unwrap();
    assert_eq!((&record["known"], &record["added"][0]["name"]), (&2.into(), &"triangle".into()));

    // The measured forgetting is what an evaluation of the old images finds.
    let found = sandbox.ok("evaluate runs/new-001 old --split test --json");
    let after = record["old_classes"]["after"].as_f64().unwrap() as f32;
    assert_eq!(json_lines(&found)[0]["accuracy"].as_f64().unwrap() as f32, after);
    assert!(after > 0.7, "{record}");
    assert!(sandbox.ok("verify runs/new-001").ends_with("the same bits\n"));

    let image = shapes::png(&photo("triangle", &mut Rng(77)));
    sandbox.write("triangle.png", &image);
    let told = &json_lines(&sandbox.ok("predict runs/new-001 triangle.png --json"))[0];
    let server = Server::start(&sandbox, "runs/new-001");
    let answer = request(&server.addr, "POST /predict", "image/png", &image).json();
    assert_eq!((&answer["label"], &answer["probability"]), (&told["label"], &told["probability"]));
    assert_eq!(told["label"], "triangle");
    drop(server);

    // Again, and as JSON.
    write(&sandbox, "more", &["circle"], 3);
    for seed in 0..30 {
        let image = ocelli_testing::picture(seed, 48, 48);
        sandbox.write(&format!("more/noise/{seed}.png"), shapes::png(&image));
    }
    let run = sandbox.run("train more --add-classes runs/new-001/weights/best.ocelli --json --seed 5");
    let events = run.json_lines();
    let added = events.iter().find(|event| event["type"] == "classes_added").unwrap();
    assert_eq!(
        (&added["added"]["known"], &added["added"]["further"][0]["name"]),
        (&3.into(), &"circle".into())
    );
    assert_eq!(run.code, Some(0), "{run:#?}");
    let labels = fs::read_to_string(sandbox.path().join("runs/more-001/labels.txt")).unwrap();
    assert_eq!(labels, "circle\nsquare\ntriangle\nnoise\n");

    // A damaged file costs the run its growth, and is named.
    let damaged = sandbox.path().join("runs/new-001/weights/replay/train-features.npy");
    let mut bytes = fs::read(&damaged).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&damaged, bytes).unwrap();
    let run = sandbox.run("train more --add-classes runs/new-001");
    assert_eq!(run.code, Some(1), "{run:#?}");
    assert!(run.stderr.contains("train-features.npy: damaged: its SHA-256"), "{run:#?}");
    assert!(run.stderr.contains("train on the images of all classes"), "{run:#?}");
    let run = sandbox.run("train --resume runs/new-001 --epochs 9");
    assert!(run.code == Some(1) && run.stderr.contains("it has no epochs to go on with"), "{run:#?}");
}

#[test]
fn what_cannot_be_is_said_before_any_work() {
    let sandbox = Sandbox::new();
    write(&sandbox, "new", &["triangle"], 2);
    for (line, code, expected) in [
        ("train new --add-classes imagenet", 1, "imagenet: this model is in the program"),
        ("train new --add-classes nowhere", 1, "nowhere"),
        ("train new --add-classes imagenet --lr 0.1", 2, "--lr cannot be used with --add-classes"),
        ("train new --add-classes imagenet --model resnet9", 2, "these can be chosen: --head-epochs"),
        ("train new --add-classes imagenet --epochs 3", 2, "cannot be used with '--epochs"),
        ("train --add-classes imagenet", 2, "DATA"),
    ] {
        let run = sandbox.run(line);
        assert_eq!(run.code, Some(code), "{line}: {run:#?}");
        assert!(run.stderr.contains(expected), "{line}: {run:#?}");
    }
    assert!(!sandbox.path().join("runs").exists());
}
