//! Small, uneven and dirty sets, end to end.

use std::fs;
use std::path::Path;

use image::ImageFormat;
use ocelli_testing::{encode, picture};
use tempfile::TempDir;

use super::*;

/// Writes `n` pictures into a folder, each of its own; `start` keeps those of several calls apart.
fn put(root: &Path, folder: &str, start: u32, n: u32, (w, h): (u32, u32)) {
    let folder = root.join(folder);
    fs::create_dir_all(&folder).unwrap();
    for seed in start..start + n {
        let file = folder.join(format!("{seed}.png"));
        fs::write(file, encode(picture(seed, w, h), ImageFormat::Png)).unwrap();
    }
}

fn brief() -> Recipe {
    Recipe { epochs: 1, threads: 1, ..Recipe::default() }
}

/// Trains and gives what was said: notes, warnings and the notes of the data set.
fn train_and_listen(options: &TrainOptions) -> (Outcome, String) {
    let mut said = String::new();
    let outcome = train(options, &NEVER, &mut |event| match event {
        Event::Note { text } | Event::Warning { text } => said += &format!("{text}\n"),
        Event::Dataset { notes, .. } => said += &(notes.join("\n") + "\n"),
        _ => {}
    });
    (outcome.unwrap(), said)
}

/// The classes of a run, wherever it tells them.
fn classes_of(run: &Path) -> Vec<String> {
    let classes = open_model(run).unwrap().meta.classes;
    let labels = fs::read_to_string(run.join("labels.txt")).unwrap();
    assert_eq!(labels.lines().collect::<Vec<_>>(), classes);
    let dataset: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(run.join("dataset.json")).unwrap()).unwrap();
    let names = dataset["classes"].as_array().unwrap().iter().map(|class| class["name"].as_str().unwrap());
    assert_eq!(names.collect::<Vec<_>>(), classes);
    classes
}

#[test]
fn images_of_any_size_train_on_every_network() {
    let small = [(1, 1), (2, 2), (3, 7), (1, 5)];
    let more = [(5, 1), (8, 8), (9, 9), (10, 10), (2, 90), (90, 2), (96, 1), (1, 97)];
    let sizes = |model| small.iter().chain(if model == "keras-cnn" { &more[..] } else { &[] });
    for model in ocelli_engine::zoo::NAMES {
        for &size in sizes(model) {
            let dir = TempDir::new().unwrap();
            let data = dir.path().join("data");
            put(&data, "a", 0, 3, size);
            put(&data, "b", 3, 3, size);
            let recipe = Recipe { model: model.to_owned(), ..brief() };
            let outcome = train_quietly(&options(&dir, Data::Path(data.clone()), recipe));
            let text = fs::read_to_string(outcome.run_dir.join("recipe.toml")).unwrap();
            let line = text.lines().find(|line| line.starts_with("size = ")).unwrap();
            let enlarged = size.0.min(size.1) < 10 && size.0.max(size.1) <= 96;
            assert!(model != "keras-cnn" || line.contains("the network needs 10x10") == enlarged, "{line}");
            let mut predictor = Predictor::open(&outcome.run_dir, Compute::on(1)).unwrap();
            predictor.predict_bytes(&fs::read(data.join("a/0.png")).unwrap(), 1).unwrap();
        }
    }
}

#[test]
fn a_size_that_is_too_small_is_refused_with_the_least_one() {
    for (model, least) in [("keras-cnn", 10), ("resnet9", 8)] {
        for size in [(least - 1, 64), (64, least - 1)] {
            let recipe = Recipe { model: model.to_owned(), size: Some(size), ..Recipe::default() };
            let error = recipe.validate().unwrap_err();
            assert!(error.is_usage() && error.to_string().contains(&format!("{least}x{least}")), "{error}");
        }
        let fits = Recipe { model: model.to_owned(), size: Some((least, least)), ..Recipe::default() };
        fits.validate().unwrap();
    }
}

#[test]
fn a_class_without_training_images_is_no_class_of_the_model() {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    for (i, folder) in (0..).zip(["train/cats", "train/dogs", "val/cats", "val/dogs", "val/owls"]) {
        put(&data, folder, 100 * i, if i < 2 { 8 } else { 2 }, (12, 12));
    }
    let options = options(&dir, Data::Path(data.clone()), Recipe { epochs: 2, ..brief() });
    let (outcome, said) = train_and_listen(&options);
    let note = "left out: owls (2 images in val): the class has no training image";
    assert_eq!(said.matches(note).count(), 1, "{said}");
    assert_eq!(classes_of(&outcome.run_dir), ["cats", "dogs"]);
    assert_eq!(options.open().unwrap().classes(), ["cats", "dogs"]);
    assert_eq!(outcome.evaluation.unwrap().images, 4);
    let card = fs::read_to_string(outcome.run_dir.join("README.md")).unwrap();
    assert!(card.contains("left out: owls"), "{card}");

    // Resumed and evaluated on the same data, owls and all.
    let longer = resume(&outcome.run_dir, Some(3), &NEVER, &mut |_| {}).unwrap();
    let file = open_model(&longer.best).unwrap();
    let on = EvaluateOptions {
        data: Data::Path(data.clone()),
        split: None,
        compute: Compute::on(1),
        max_bad: 0.0,
        mirror: false,
    };
    let e = evaluate(&file, &on, &NEVER, &mut |_| {}).unwrap();
    assert_eq!((e.images, e.split.as_str()), (4, "val"));
    assert!(
        e.notes.iter().any(|n| n.starts_with("2 images left out") && n.contains("owls")),
        "{:?}",
        e.notes
    );

    fs::remove_dir_all(data.join("train/dogs")).unwrap();
    let error = train(&options, &NEVER, &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("only one class can be trained (cats)"), "{error}");
    assert!(error.contains("dogs (2 images in val), owls (2 images in val)"), "{error}");
}

#[test]
fn a_class_whose_training_images_are_all_unreadable_is_left_out_too() {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    put(&data, "train/cats", 0, 30, (12, 12));
    put(&data, "train/dogs", 100, 30, (12, 12));
    // The only declared validation images are of the class that goes: they are drawn then.
    put(&data, "val/owls", 200, 3, (12, 12));
    fs::create_dir_all(data.join("train/owls")).unwrap();
    fs::write(data.join("train/owls/1.png"), "not an image").unwrap();
    let options = options(&dir, Data::Path(data.clone()), brief());
    let (outcome, said) = train_and_listen(&options);
    assert_eq!(said.matches("left out: owls: no training image of it can be read").count(), 1, "{said}");
    assert_eq!(classes_of(&outcome.run_dir), ["cats", "dogs"]);
    let evaluation = outcome.evaluation.unwrap();
    assert_eq!(evaluation.split, "test");
    assert!((4..=8).contains(&evaluation.images), "{}", evaluation.images);
    let longer = resume(&outcome.run_dir, Some(2), &NEVER, &mut |_| {}).unwrap();
    let file = open_model(&longer.best).unwrap();
    let on = EvaluateOptions {
        data: Data::Path(data),
        split: None,
        compute: Compute::on(1),
        max_bad: 0.05,
        mirror: false,
    };
    assert_eq!(evaluate(&file, &on, &NEVER, &mut |_| {}).unwrap().predictions, evaluation.predictions);
}

#[test]
fn classes_of_a_start_model_keep_their_places_without_training_images() {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    put(&data, "train/auks", 0, 6, (12, 12));
    put(&data, "train/cats", 100, 6, (12, 12));
    let parent = train_quietly(&options(&dir, Data::Path(data.clone()), brief()));
    put(&data, "val/auks", 200, 2, (12, 12));
    put(&data, "val/owls", 300, 2, (12, 12));
    put(&data, "train/dogs", 400, 6, (12, 12));
    fs::remove_dir_all(data.join("train/auks")).unwrap();
    let start = StartModel::new("v", open_model(&parent.best).unwrap());
    let more = TrainOptions { start: Some(start), ..options(&dir, Data::Path(data), brief()) };
    let (child, said) = train_and_listen(&more);
    assert_eq!(classes_of(&child.run_dir), ["auks", "cats", "dogs"]);
    assert!(said.contains("no training images of auks") && said.contains("left out: owls"), "{said}");
    resume(&child.run_dir, Some(2), &NEVER, &mut |_| {}).unwrap();
}

#[test]
fn class_names_are_compared_after_nfc() {
    let (composed, decomposed) = ("K\u{f6}ln", "Ko\u{308}ln");
    for (trained, other) in [(composed, decomposed), (decomposed, composed)] {
        let dir = TempDir::new().unwrap();
        let data = dir.path().join("data");
        put(&data, &format!("train/{trained}"), 0, 6, (12, 12));
        put(&data, "train/Bonn", 100, 6, (12, 12));
        let parent = train_quietly(&options(&dir, Data::Path(data), brief()));
        let file = open_model(&parent.best).unwrap();
        let fresh = dir.path().join("fresh");
        put(&fresh, other, 200, 8, (12, 12));
        put(&fresh, "Bonn", 300, 8, (12, 12));
        put(&fresh, "Ulm", 400, 8, (12, 12));
        let data = Data::Path(fresh);
        let on = EvaluateOptions {
            data: data.clone(),
            split: None,
            compute: Compute::on(1),
            max_bad: 0.0,
            mirror: false,
        };
        let e = evaluate(&file, &on, &NEVER, &mut |_| {}).unwrap();
        let support: Vec<_> = e.per_class.iter().map(|c| (c.name.as_str(), c.support)).collect();
        assert_eq!(support, [("Bonn", 8), (trained, 8)]);
        // A child knows no class twice, and the gate gives its parent credit for the class.
        let start = Some(StartModel::new("v", file.clone()));
        let child = train_quietly(&TrainOptions { start, ..options(&dir, data.clone(), brief()) });
        assert_eq!(classes_of(&child.run_dir), ["Bonn", trained, "Ulm"]);
    }
}
