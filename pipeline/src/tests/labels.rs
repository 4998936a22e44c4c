//! Images with any number of labels, from a table to a model that says them.

use image::{ImageFormat, Rgb, RgbImage};
use ocelli_testing::{BLUE, GREEN, RED, collage, encode};

use super::*;
use crate::recipe::Task;

/// 16x16 collages of up to three coloured squares, with a table of their colours; the first images are for the test.
fn colours(dir: &Path, images: usize) -> Data {
    let root = dir.join("colours");
    fs::create_dir_all(&root).unwrap();
    let all = [("red", RED), ("green", GREEN), ("blue", BLUE)];
    let mut rng = Rng::new(5);
    let mut table = String::from("file,labels,split\n");
    for i in 0..images {
        let (mut names, mut squares) = (Vec::new(), Vec::new());
        for (name, colour) in all {
            if rng.below(5) < 2 {
                let tint = rng.below(40) as u8;
                names.push(name);
                squares.push(RgbImage::from_pixel(
                    8,
                    8,
                    Rgb(colour.map(|v| v.saturating_sub(tint).max(tint))),
                ));
            }
        }
        let image = collage(&squares, 16, rng.below(100) as u32);
        fs::write(root.join(format!("{i}.png")), encode(image, ImageFormat::Png)).unwrap();
        let split = ["test", "val", "train", "train", "train"][i % 5];
        table += &format!("{i}.png,{},{split}\n", names.join("|"));
    }
    fs::write(root.join("labels.csv"), table).unwrap();
    Data::Path(root)
}

fn label_recipe() -> Recipe {
    Recipe { start: Some(Start::Fresh), size: Some((16, 16)), epochs: 5, ..recipe() }
}

#[test]
fn labels_are_learnt_measured_and_said() {
    let dir = tempfile::tempdir().unwrap();
    let data = colours(dir.path(), 200);
    let outcome = train_quietly(&options(&dir, data.clone(), label_recipe()));
    let report = outcome.label_evaluation.expect("a report");
    assert!(outcome.evaluation.is_none() && !outcome.interrupted);
    assert_eq!((report.split.as_str(), report.images, report.per_label.len()), ("test", 40, 3));
    assert!(report.mean_average_precision > 0.9, "{report:?}");
    let (low, high) = report.interval.unwrap();
    assert!(low <= report.mean_average_precision && report.mean_average_precision <= high);
    assert_eq!(report.per_label[0].name, "blue");
    assert!(report.micro.f1 > 0.8 && report.hamming_loss < 0.2, "{report:?}");
    for file in ["average_precision.svg", "per_label.csv", "worst_mistakes.svg", "README.md", "curves.svg"] {
        assert!(outcome.run_dir.join(file).is_file(), "{file}");
    }
    let read: LabelEvaluation =
        serde_json::from_str(&fs::read_to_string(outcome.run_dir.join("evaluation.json")).unwrap()).unwrap();
    assert_eq!(read.per_label, report.per_label);
    let results = fs::read_to_string(outcome.run_dir.join("results.csv")).unwrap();
    assert!(results.starts_with("epoch,time_s,lr,train_loss,train_accuracy,val_loss,val_accuracy,val_map\n"));
    let recipe = fs::read_to_string(outcome.run_dir.join("recipe.toml")).unwrap();
    assert!(recipe.contains("task = \"multi-label\"") && recipe.contains("images have several labels"));

    let file = ModelFile::load(&outcome.best).unwrap();
    let labels = file.meta.multi_label.clone().unwrap();
    assert_eq!(labels.thresholds, report.per_label.iter().map(|label| label.threshold).collect::<Vec<_>>());
    assert_eq!(labels.quality.unwrap().mean_average_precision, report.mean_average_precision);
    assert!(file.meta.metrics.is_none() && file.meta.temperature.is_none() && file.meta.rejection.is_none());

    // The same images measured again give the same numbers, and prediction says what the report says.
    let again = evaluate_labels(&file, &on(data.clone()), &NEVER, &mut |_| {}).unwrap();
    assert_eq!((&again.per_label, again.split.as_str()), (&report.per_label, "test"));
    let mirrored = EvaluateOptions { mirror: true, ..on(data.clone()) };
    assert!(evaluate_labels(&file, &mirrored, &NEVER, &mut |_| {}).unwrap().mean_average_precision > 0.9);
    let mut predictor = Predictor::from_model_file(file.clone(), Compute::default()).unwrap();
    for row in &again.predictions {
        let bytes = fs::read(dir.path().join("colours").join(&row.name)).unwrap();
        let prediction = predictor.predict_bytes(&bytes, 1).unwrap();
        let said = prediction.labels.unwrap();
        let names: Vec<String> =
            said.iter().filter(|label| label.applies).map(|label| label.label.clone()).collect();
        assert_eq!(names, row.predicted, "{}", row.name);
        assert!(prediction.known && prediction.probability == said[prediction.index].probability);
        assert!(said.iter().all(|label| label.applies == (label.probability >= label.threshold)));
    }

    // What is for one class each is refused, not answered wrongly.
    let refused = evaluate(&file, &on(data.clone()), &NEVER, &mut |_| {}).unwrap_err();
    assert!(matches!(refused, PipelineError::MultiLabel { .. }), "{refused}");
    let refused = compare((&file, &file), &on(data.clone()), &NEVER, &mut |_| {}).unwrap_err();
    assert!(matches!(refused, PipelineError::MultiLabel { .. }), "{refused}");
    let single = shipped_model().unwrap();
    assert!(evaluate_labels(&single, &on(data.clone()), &NEVER, &mut |_| {}).is_err());
    let start = Some(StartModel::new("x", single));
    let refused = TrainOptions { start, ..options(&dir, data, Recipe::default()) }.open().err().unwrap();
    assert!(refused.to_string().contains("tells classes apart"), "{refused}");
}

fn on(data: Data) -> EvaluateOptions {
    EvaluateOptions { data, split: None, compute: Compute::default(), max_bad: 0.0, mirror: false }
}

#[test]
fn a_run_of_labels_goes_on_to_the_same_bits_and_trains_on() {
    let dir = tempfile::tempdir().unwrap();
    let data = colours(dir.path(), 60);
    let recipe = Recipe { epochs: 2, mixup: 0.4, cutmix: 1.0, ..label_recipe() };
    let whole = train_quietly(&options(&dir, data.clone(), recipe.clone()));
    let stop = AtomicBool::new(false);
    let broken = train(&options(&dir, data.clone(), recipe.clone()), &stop, &mut |event| {
        if matches!(event, Event::Epoch { epoch: 1, .. }) {
            stop.store(true, Ordering::Relaxed);
        }
    })
    .unwrap();
    assert!(broken.interrupted);
    let resumed = resume(&broken.run_dir, None, &NEVER, &mut |_| {}).unwrap();
    assert_eq!(essence(&resumed.run_dir), essence(&whole.run_dir));
    let threads = Recipe { threads: 3, ..recipe.clone() };
    let other = train_quietly(&options(&dir, data.clone(), threads));
    assert_eq!(essence(&other.run_dir).best, essence(&whole.run_dir).best);

    let file = ModelFile::load(&whole.best).unwrap();
    let start = Some(StartModel::new("x", file));
    let on = TrainOptions { start, ..options(&dir, data, Recipe { epochs: 1, ..Recipe::default() }) };
    let trained = train_quietly(&on);
    assert!(trained.label_evaluation.is_some());
}

#[test]
fn what_means_nothing_for_labels_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let data = colours(dir.path(), 40);
    let refuse = |recipe: Recipe, names: &[&str], expected: &str| {
        let mut asked = options(&dir, data.clone(), recipe);
        for name in names {
            asked.origins.insert((*name).to_owned(), "command line".to_owned());
        }
        let error = train(&asked, &NEVER, &mut |_| {}).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    refuse(
        Recipe { balance: Balance::Weights, ..label_recipe() },
        &["balance"],
        "balance: images with several labels",
    );
    refuse(
        Recipe { balance: Balance::Sampling, ..label_recipe() },
        &["balance"],
        "balance: images with several labels",
    );
    refuse(
        Recipe { fold: Some((1, 3)), ..label_recipe() },
        &[],
        "fold: cross-validation is for images with one class",
    );
    refuse(
        Recipe { false_rejects: 0.1, ..label_recipe() },
        &["false_rejects"],
        "false_rejects: an image may have none",
    );
    // As classes, the lists are names of classes.
    let single = Recipe { task: Some(Task::SingleLabel), ..label_recipe() };
    let source = options(&dir, data.clone(), single).open();
    let text = source.err().expect("an empty label is none of one class").to_string();
    assert!(text.contains("the label is empty"), "{text}");
    // Class folders may be trained as labels.
    let folders = folder_data(dir.path(), &[("bars", 0), ("checks", 2)], 12, 3);
    let several = Recipe { task: Some(Task::MultiLabel), epochs: 1, ..label_recipe() };
    let outcome = train_quietly(&options(&dir, folders, several));
    assert_eq!(outcome.label_evaluation.unwrap().per_label.len(), 2);
}
