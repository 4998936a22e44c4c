//! Runs end to end on tiny data sets.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use ocelli_datasets::rng::Rng;
use tempfile::TempDir;

use super::*;

mod add_classes;
mod built_in;
mod caching;
mod channels;
mod evaluation;
mod folds;
mod growing;
mod imported;
mod labels;
mod memory;
mod mixed;
mod preparing;
mod probes;
mod ranks;
mod replay;
mod report;
mod uneven;
mod unknown;

static NEVER: AtomicBool = AtomicBool::new(false);

/// Gray 12x12 images: horizontal bars, vertical bars, a checkerboard, with noise.
fn pattern(class: usize, rng: &mut Rng) -> Vec<u8> {
    let phase = rng.below(4) as usize;
    let light = |i: usize| match class {
        0 => (i / 12 + phase) % 4 < 2,
        1 => (i % 12 + phase) % 4 < 2,
        _ => (i / 12 + i % 12 + phase).is_multiple_of(2),
    };
    (0..144).map(|i| if light(i) { 150 } else { 60 } + rng.below(50) as u8).collect()
}

/// Writes one IDX pair: `n` images of classes 0, 1, 2 in turn.
fn write_idx(dir: &Path, prefix: &str, n: usize, seed: u64) {
    let mut rng = Rng::new(seed);
    let mut images = vec![0, 0, 8, 3];
    for dim in [n as u32, 12, 12] {
        images.extend(dim.to_be_bytes());
    }
    let mut labels = vec![0, 0, 8, 1];
    labels.extend((n as u32).to_be_bytes());
    for i in 0..n {
        images.extend(pattern(i % 3, &mut rng));
        labels.push((i % 3) as u8);
    }
    fs::write(dir.join(format!("{prefix}-images-idx3-ubyte")), images).unwrap();
    fs::write(dir.join(format!("{prefix}-labels-idx1-ubyte")), labels).unwrap();
}

fn idx_data(dir: &Path) -> Data {
    let data = dir.join("bars");
    fs::create_dir_all(&data).unwrap();
    write_idx(&data, "train", 97, 1);
    write_idx(&data, "t10k", 31, 2);
    Data::Path(data)
}

/// A 24-bit BMP of a 12x12 gray pattern, each pixel repeated `scale` times.
fn bmp(pattern: &[u8], scale: usize) -> Vec<u8> {
    let side = 12 * scale;
    let row = (3 * side).next_multiple_of(4);
    let mut out = b"BM".to_vec();
    out.extend((54 + row as u32 * side as u32).to_le_bytes());
    out.extend([0; 4]);
    out.extend(54u32.to_le_bytes());
    out.extend(40u32.to_le_bytes());
    out.extend((side as u32).to_le_bytes());
    out.extend((side as u32).to_le_bytes());
    out.extend([1, 0, 24, 0]);
    out.extend([0; 24]);
    for y in (0..side).rev() {
        let mut line = Vec::new();
        for x in 0..side {
            line.extend([pattern[y / scale * 12 + x / scale]; 3]);
        }
        line.resize(row, 0);
        out.extend(line);
    }
    out
}

/// Class folders of BMP files of two sizes.
pub(crate) fn folder_data(dir: &Path, classes: &[(&str, usize)], each: usize, seed: u64) -> Data {
    let mut rng = Rng::new(seed);
    let root = dir.join("photos");
    for &(name, class) in classes {
        fs::create_dir_all(root.join(name)).unwrap();
        for i in 0..each {
            let bytes = bmp(&pattern(class, &mut rng), 1 + i % 2);
            fs::write(root.join(name).join(format!("{i}.bmp")), bytes).unwrap();
        }
    }
    Data::Path(root)
}

fn recipe() -> Recipe {
    Recipe {
        epochs: 4,
        batch: 16,
        augment: AugmentLevel::Medium,
        hflip: Some(true),
        threads: 1,
        ..Recipe::default()
    }
}

fn options(dir: &TempDir, data: Data, recipe: Recipe) -> TrainOptions {
    TrainOptions { recipe, ..TrainOptions::new(data, dir.path().join("runs")) }
}

fn train_quietly(options: &TrainOptions) -> Outcome {
    train(options, &NEVER, &mut |_| {}).unwrap()
}

/// What must be equal of two runs, times left out.
#[derive(Debug, PartialEq)]
struct Essence {
    best: Vec<u32>,
    last: Vec<u32>,
    moments: Vec<Vec<u32>>,
    step: u64,
    results: Vec<String>,
}

fn essence(run: &Path) -> Essence {
    let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    let best = ModelFile::load(&run.join("weights/best.ocelli")).unwrap();
    let last = ModelFile::load(&run.join("weights/last.ocelli")).unwrap();
    let training = last.training.unwrap();
    let results = fs::read_to_string(run.join("results.csv")).unwrap();
    let untimed = results.lines().map(|line| {
        let mut fields: Vec<&str> = line.split(',').collect();
        fields.remove(1);
        fields.join(",")
    });
    Essence {
        best: bits(best.model.params()),
        last: bits(last.model.params()),
        moments: training.moments.iter().map(|m| bits(m)).collect(),
        step: training.step,
        results: untimed.collect(),
    }
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn a_run_leaves_every_file_and_learns() {
    let dir = tempfile::tempdir().unwrap();
    let mut events = Vec::new();
    let options = options(&dir, idx_data(dir.path()), Recipe { epochs: 9, ..recipe() });
    let outcome = train(&options, &NEVER, &mut |event| events.push(event.clone())).unwrap();
    let run = &outcome.run_dir;
    assert_eq!(run.file_name().unwrap(), "bars-001");
    for name in [
        "recipe.toml",
        "dataset.json",
        "environment.json",
        "labels.txt",
        "results.csv",
        "events.jsonl",
        "curves.svg",
        "train_batch0.png",
        "confusion_matrix.csv",
        "confusion_matrix.svg",
        "evaluation.json",
        "per_class.csv",
        "predictions.csv",
        "reliability.svg",
        "worst_mistakes.svg",
        "README.md",
        "report.html",
        "weights/best.ocelli",
        "weights/last.ocelli",
    ] {
        assert!(fs::metadata(run.join(name)).unwrap().len() > 0, "{name}");
    }
    assert_eq!(fs::read_dir(run).unwrap().count(), 18, "temporary files are left");
    let evaluation = outcome.evaluation.unwrap();
    assert_eq!(
        (evaluation.split.as_str(), evaluation.images, evaluation.predictions.len()),
        ("test", 31, 31)
    );
    assert!(evaluation.accuracy > 0.9, "{}", evaluation.accuracy);
    assert_eq!(evaluation.top5, 1.0);
    assert_eq!(fs::read_to_string(run.join("results.csv")).unwrap().lines().count(), 10);
    assert_eq!(fs::read_to_string(run.join("predictions.csv")).unwrap().lines().count(), 32);
    let logged = fs::read_to_string(run.join("events.jsonl")).unwrap();
    assert!(logged.lines().all(|line| serde_json::from_str::<Event>(line).is_ok()));
    assert!(matches!(events.last(), Some(Event::Done { accuracy, .. }) if *accuracy == evaluation.accuracy));
    let epochs = events.iter().filter(|event| matches!(event, Event::Epoch { .. })).count();
    assert_eq!(epochs, 9);
    // Of 97 images 10 % or so are for validation, and no test image is trained on.
    let Some(Event::Dataset { train, val, test, .. }) =
        events.iter().find(|e| matches!(e, Event::Dataset { .. }))
    else {
        panic!("no data set event")
    };
    assert!(train + val == 97 && *test == 31 && (3..25).contains(val), "{train} {val} {test}");

    let file = open_model(run).unwrap();
    let metrics = file.meta.metrics.as_ref().unwrap();
    assert_eq!((metrics.split.as_str(), metrics.accuracy), ("test", evaluation.accuracy));
    let written = fs::read_to_string(run.join("recipe.toml")).unwrap();
    assert_eq!(written, file.meta.trained().unwrap().recipe);
    let resolved = Recipe::from_toml(&written).unwrap();
    assert_eq!((resolved.size, resolved.channels, resolved.epochs), (Some((12, 12)), Some(1), 9));
    let card = fs::read_to_string(run.join("README.md")).unwrap();
    let version = Predictor::open(run, Compute::on(1)).unwrap().version().to_owned();
    assert!(card.contains(&version) && card.contains("**test accuracy"), "{card}");
}

#[test]
fn a_killed_run_resumes_to_the_same_bits_on_any_number_of_threads() {
    let dir = tempfile::tempdir().unwrap();
    let data = idx_data(dir.path());
    let whole = train_quietly(&options(&dir, data.clone(), Recipe { seed: 7, ..recipe() }));
    let expected = essence(&whole.run_dir);

    // As if killed: the folder is copied while the run is in the middle of an epoch or just after one.
    let mut copies: Vec<PathBuf> = Vec::new();
    let mut run_dir = PathBuf::new();
    let two_threads = options(&dir, data, Recipe { seed: 7, threads: 2, ..recipe() });
    let other = train(&two_threads, &NEVER, &mut |event| {
        let name = match event {
            Event::Model { run_dir: path, .. } => {
                run_dir = PathBuf::from(path);
                return;
            }
            Event::Step { epoch, step, .. } => format!("step-{epoch}-{step}"),
            Event::Epoch { epoch, .. } => format!("epoch-{epoch}"),
            _ => return,
        };
        let copy = dir.path().join("killed").join(name);
        copy_folder(&run_dir, &copy);
        copies.push(copy);
    })
    .unwrap();
    assert_eq!(essence(&other.run_dir), expected);
    assert!(copies.len() >= 8, "{copies:?}");
    for copy in copies {
        let resumed = resume(&copy, None, &NEVER, &mut |_| {}).unwrap();
        assert_eq!(essence(&copy), expected, "{}", copy.display());
        let (a, b) = (resumed.evaluation.unwrap(), whole.evaluation.as_ref().unwrap());
        assert_eq!(
            (a.predictions, a.confusion, a.loss),
            (b.predictions.clone(), b.confusion.clone(), b.loss)
        );
    }
}

#[test]
fn stopping_keeps_the_last_epoch_and_finished_runs_can_be_extended() {
    let dir = tempfile::tempdir().unwrap();
    let data = idx_data(dir.path());
    let expected = essence(&train_quietly(&options(&dir, data.clone(), recipe())).run_dir);
    for stop_in in 1..=3 {
        let stop = AtomicBool::new(false);
        let mut interrupted_in = None;
        let outcome = train(&options(&dir, data.clone(), recipe()), &stop, &mut |event| match event {
            Event::Step { epoch, .. } if *epoch == stop_in => stop.store(true, Ordering::Relaxed),
            Event::Interrupted { epoch } => interrupted_in = Some(*epoch),
            _ => {}
        })
        .unwrap();
        assert!(outcome.interrupted && outcome.evaluation.is_none());
        assert_eq!((outcome.epochs_done, interrupted_in), (stop_in - 1, Some(stop_in - 1)));
        let resumed = resume(&outcome.run_dir, None, &NEVER, &mut |_| {}).unwrap();
        assert!(!resumed.interrupted);
        assert_eq!(essence(&outcome.run_dir), expected);

        let finished = resume(&outcome.run_dir, None, &NEVER, &mut |_| {});
        assert!(matches!(finished, Err(PipelineError::Finished { epochs: 4, .. })));
        assert!(resume(&outcome.run_dir, Some(4), &NEVER, &mut |_| {}).is_err());
        let longer = resume(&outcome.run_dir, Some(6), &NEVER, &mut |_| {}).unwrap();
        assert_eq!(longer.epochs_done, 6);
        let text = fs::read_to_string(outcome.run_dir.join("recipe.toml")).unwrap();
        assert!(
            text.contains("# extended by resume")
                && text.lines().filter(|l| l.starts_with("epochs")).count() == 1
        );
    }
}

#[test]
fn a_run_that_is_ended_early_keeps_its_best_epoch_and_can_be_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let stop = AtomicBool::new(false);
    let end_in = |end: u32| {
        stop.store(false, Ordering::Relaxed);
        let options = options(&dir, idx_data(dir.path()), recipe());
        train(&options, &stop, &mut |event| {
            if matches!(event, Event::Step { epoch, .. } if *epoch == end) {
                stop.store(true, Ordering::Relaxed);
            }
        })
        .unwrap()
        .run_dir
    };
    let finish =
        |run: &Path| resume_within(run, ResumeTo::BestSoFar, &Within::default(), &NEVER, &mut |_| {});
    let error = finish(&end_in(1)).unwrap_err().to_string();
    assert!(error.contains("first epoch is not done"), "{error}");

    let run = end_in(3);
    let ended = finish(&run).unwrap();
    assert_eq!((ended.epochs_done, ended.interrupted), (2, false));
    assert!(ended.evaluation.is_some() && run.join("report.html").is_file());
    let text = || fs::read_to_string(run.join("recipe.toml")).unwrap();
    assert!(text().contains("end_after = 2 ") && text().contains("epochs = 4 "), "{}", text());
    assert!(verify(&run, None, &NEVER, &mut |_| {}).unwrap().same);
    assert!(matches!(finish(&run), Err(PipelineError::Finished { epochs: 2, .. })));
    assert!(matches!(resume(&run, None, &NEVER, &mut |_| {}), Err(PipelineError::Finished { .. })));
    // It goes on to the same bits as if it had not been ended.
    let whole = train_quietly(&options(&dir, idx_data(dir.path()), recipe()));
    assert_eq!(resume(&run, Some(4), &NEVER, &mut |_| {}).unwrap().epochs_done, 4);
    assert!(text().contains("end_after = 0 "), "{}", text());
    let rows = |run: &Path| {
        let csv = fs::read_to_string(run.join("results.csv")).unwrap();
        csv.lines().map(|row| row.split(',').skip(2).collect::<Vec<_>>().join(",")).collect::<Vec<_>>()
    };
    assert_eq!(rows(&run), rows(&whole.run_dir));
}

#[test]
fn patience_ends_a_run_without_progress() {
    let dir = tempfile::tempdir().unwrap();
    // Steps this small change no weight.
    let stuck = Recipe { lr: Some(1e-30), patience: 2, epochs: 20, ..recipe() };
    let outcome = train_quietly(&options(&dir, idx_data(dir.path()), stuck));
    assert_eq!((outcome.epochs_done, outcome.best_epoch), (3, Some(1)));
    assert!(matches!(
        resume(&outcome.run_dir, None, &NEVER, &mut |_| {}),
        Err(PipelineError::Finished { .. })
    ));
    let longer = resume(&outcome.run_dir, Some(20), &NEVER, &mut |_| {}).unwrap();
    assert_eq!(longer.epochs_done, 5);
}

#[test]
fn divergence_is_an_error_that_keeps_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    let wild = Recipe {
        lr: Some(100.0),
        optimizer: OptimizerKind::Sgd,
        momentum: 0.99,
        schedule: Schedule::Constant,
        warmup: 0.0,
        epochs: 20,
        ..recipe()
    };
    let error = train(&options(&dir, idx_data(dir.path()), wild), &NEVER, &mut |_| {}).unwrap_err();
    let PipelineError::Diverged { run_dir, .. } = &error else { panic!("{error}") };
    assert!(run_dir.join("weights/last.ocelli").is_file());
    assert!(error.to_string().contains("try a lower one, e.g. 10"), "{error}");
}

#[test]
fn evaluation_and_prediction_agree_image_by_image() {
    let dir = tempfile::tempdir().unwrap();
    let classes = [("across", 0), ("up <&> down", 1), ("dots", 2)];
    let data = folder_data(dir.path(), &classes, 30, 3);
    let outcome = train_quietly(&options(&dir, data.clone(), Recipe { size: Some((14, 14)), ..recipe() }));
    let trained = outcome.evaluation.unwrap();
    let file = open_model(&outcome.run_dir).unwrap();

    // The model's own data set: the very test split of training, whatever the number of threads.
    let own = EvaluateOptions {
        data: data.clone(),
        split: None,
        compute: Compute::on(2),
        max_bad: 0.05,
        mirror: false,
    };
    let again = evaluate(&file, &own, &NEVER, &mut |_| {}).unwrap();
    assert_eq!(again.split, "test");
    assert_eq!((&again.predictions, &again.confusion), (&trained.predictions, &trained.confusion));
    assert!(again.images < 60);

    let Data::Path(root) = &data else { unreachable!() };
    let mut predictor = Predictor::open(&outcome.run_dir, Compute::on(1)).unwrap();
    let mut prepared = Vec::new();
    for row in &again.predictions {
        let bytes = fs::read(root.join(&row.name)).unwrap();
        let alone = predictor.predict_bytes(&bytes, 2).unwrap();
        assert_eq!((&alone.label, alone.probability), (&row.predicted, row.probability), "{}", row.name);
        assert_eq!((alone.top.len(), &alone.top[0].label), (2, &alone.label));
        prepared.push(predictor.decoder().prepare(&bytes).unwrap());
    }
    let together = predictor.predict_prepared(&prepared, 99).unwrap();
    for (answer, row) in together.iter().zip(&again.predictions) {
        assert_eq!((&answer.label, answer.probability), (&row.predicted, row.probability));
        assert_eq!(answer.top.len(), 3);
        assert!((answer.top.iter().map(|r| r.probability).sum::<f32>() - 1.0).abs() < 1e-5);
    }
    assert!(matches!(predictor.predict_bytes(b"hello", 1), Err(PipelineError::Decode(_))));
    let foreign = Prepared { pixels: ocelli_datasets::Pixels::U8(vec![0; 5]) };
    assert!(predictor.predict_prepared(&[foreign], 1).is_err());
    assert!(predictor.predict_prepared(&[], 1).unwrap().is_empty());
}

#[test]
fn exact_runs_differ_in_bits_and_hardly_in_value() {
    let dir = tempfile::tempdir().unwrap();
    let data = idx_data(dir.path());
    // A step or two: what rounding does to a long run says nothing about one convolution.
    let short = Recipe { epochs: 1, batch: 64, ..recipe() };
    let run = |exact| train_quietly(&options(&dir, data.clone(), Recipe { exact, ..short.clone() }));
    let (default, exact) = (run(false), run(true));
    let params = |outcome: &Outcome| open_model(&outcome.run_dir).unwrap().model.params().to_vec();
    let (a, b) = (params(&default), params(&exact));
    assert_ne!(a, b, "keras-cnn's second convolution has 32 and 64 channels: it is transformed by default");
    // Adam divides a gradient by its own size, so a weight whose gradient is all rounding may take another step.
    let mean = a.iter().zip(&b).map(|(a, b)| f64::from((a - b).abs())).sum::<f64>() / a.len() as f64;
    assert!(mean < 1e-5, "{mean:e}");
    let text = fs::read_to_string(exact.run_dir.join("recipe.toml")).unwrap();
    assert!(text.lines().any(|line| line.starts_with("exact = true ")), "{text}");

    // Resume keeps it: two epochs in two goes are the bits of two at once.
    let stop = AtomicBool::new(false);
    let two = Recipe { epochs: 2, exact: true, ..short };
    let whole = train_quietly(&options(&dir, data.clone(), two.clone()));
    let stopped = train(&options(&dir, data.clone(), two), &stop, &mut |event| {
        if matches!(event, Event::Step { epoch: 2, .. }) {
            stop.store(true, Ordering::Relaxed);
        }
    })
    .unwrap();
    assert!(stopped.interrupted);
    resume(&stopped.run_dir, None, &NEVER, &mut |_| {}).unwrap();
    assert_eq!(essence(&stopped.run_dir), essence(&whole.run_dir));
}

#[test]
fn exact_evaluation_says_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let data = idx_data(dir.path());
    // At 12x12 the second convolution has 3x3 outputs, too few for the transforms to pay in inference.
    // One epoch: probabilities near 1 round differences away.
    let large = Recipe { size: Some((28, 28)), epochs: 1, ..recipe() };
    let file = open_model(&train_quietly(&options(&dir, data.clone(), large)).run_dir).unwrap();
    let run = |exact| {
        let compute = Compute { exact, ..Compute::on(1) };
        let options =
            EvaluateOptions { data: data.clone(), split: None, compute, max_bad: 0.0, mirror: false };
        evaluate(&file, &options, &NEVER, &mut |_| {}).unwrap().predictions
    };
    let (default, exact) = (run(false), run(true));
    assert_eq!(default.len(), 31);
    assert_ne!(default, exact, "no convolution was transformed");
    for (a, b) in default.iter().zip(&exact) {
        assert_eq!((&a.name, &a.predicted), (&b.name, &b.predicted));
        assert!((a.probability - b.probability).abs() < 1e-4, "{a:?} and {b:?}");
    }
}

#[test]
fn classes_are_matched_by_name_and_leftovers_are_noted() {
    let dir = tempfile::tempdir().unwrap();
    let classes = [("a", 0), ("b", 1), ("c", 2)];
    let data = folder_data(&dir.path().join("train"), &classes, 20, 3);
    let outcome = train_quietly(&options(&dir, data, Recipe { size: Some((12, 12)), ..recipe() }));
    let file = open_model(&outcome.run_dir).unwrap();
    let other = |classes: &[(&str, usize)], name: &str| {
        let data = folder_data(&dir.path().join(name), classes, 5, 9);
        // Another name, so that it is not taken for a changed version of the training data.
        let Data::Path(path) = data else { unreachable!() };
        let renamed = path.with_file_name(name);
        fs::rename(path, &renamed).unwrap();
        let options = EvaluateOptions {
            data: Data::Path(renamed),
            split: None,
            compute: Compute::on(1),
            max_bad: 0.05,
            mirror: false,
        };
        evaluate(&file, &options, &NEVER, &mut |_| {})
    };
    // A folder scan would give "c" the index 1 and "zebra" the index 2.
    let e = other(&[("a", 0), ("c", 2), ("zebra", 1)], "new").unwrap();
    assert_eq!((e.split.as_str(), e.images), ("all", 10));
    assert_eq!(e.per_class.iter().map(|c| c.support).collect::<Vec<_>>(), [5, 0, 5]);
    assert!(
        e.notes.iter().any(|n| n.contains("zebra") && n.starts_with("5 images left out")),
        "{:?}",
        e.notes
    );
    assert!(e.notes.iter().any(|n| n.ends_with("of the model: b")), "{:?}", e.notes);
    let error = other(&[("x", 0), ("y", 1)], "foreign").unwrap_err().to_string();
    assert!(error.contains("(x, y)") && error.contains("(a, b, c)"), "{error}");
    // One class is enough to evaluate.
    assert_eq!(other(&[("b", 1)], "one").unwrap().images, 5);
}

#[test]
fn bad_input_is_refused_before_a_folder_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let runs = dir.path().join("runs");
    let fails = |data: Data, recipe: Recipe| {
        let error = train(&options(&dir, data, recipe), &NEVER, &mut |_| {}).unwrap_err();
        let left = fs::read_dir(&runs).map_or(0, Iterator::count);
        assert_eq!(left, 0, "{error}");
        assert!(!error.to_string().contains('\n'));
        error.to_string()
    };
    assert!(fails(Data::Path(dir.path().join("missing")), recipe()).contains("no such file or folder"));
    let one = folder_data(&dir.path().join("one"), &[("only", 0)], 3, 1);
    assert!(fails(one, recipe()).contains("only one class"));
    let data = idx_data(dir.path());
    assert!(fails(data.clone(), Recipe { epochs: 0, ..recipe() }).starts_with("epochs: "));
    assert!(fails(data.clone(), Recipe { size: Some((4, 4)), ..recipe() }).contains("10x10 at least"));
    // Images that cannot be read are found while loading, when the folder is there already.
    let broken = folder_data(&dir.path().join("broken"), &[("a", 0), ("b", 1)], 12, 1);
    let Data::Path(path) = &broken else { unreachable!() };
    for i in 0..12 {
        fs::write(path.join("a").join(format!("{i}.bmp")), "not an image").unwrap();
    }
    assert!(fails(broken, recipe()).contains("12 of 24 images are unreadable"));
    let stop = AtomicBool::new(true);
    let stopped = train(&options(&dir, data.clone(), recipe()), &stop, &mut |_| {});
    assert!(matches!(stopped, Err(PipelineError::Stopped)));
    assert!(
        resume(dir.path(), None, &NEVER, &mut |_| {}).unwrap_err().to_string().contains("not a run folder")
    );
    fs::write(dir.path().join("file"), "").unwrap();
    let blocked = TrainOptions { runs_dir: dir.path().join("file"), ..options(&dir, data, recipe()) };
    assert!(matches!(train(&blocked, &NEVER, &mut |_| {}), Err(PipelineError::Io { .. })));
}

#[test]
fn changed_data_is_not_resumed() {
    let dir = tempfile::tempdir().unwrap();
    let data = folder_data(dir.path(), &[("a", 0), ("b", 1)], 20, 3);
    let stop = AtomicBool::new(false);
    let outcome = train(&options(&dir, data.clone(), recipe()), &stop, &mut |event| {
        if matches!(event, Event::Epoch { .. }) {
            stop.store(true, Ordering::Relaxed);
        }
    })
    .unwrap();
    let Data::Path(root) = data else { unreachable!() };
    fs::remove_file(root.join("a/3.bmp")).unwrap();
    let error = resume(&outcome.run_dir, None, &NEVER, &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("photos has changed"), "{error}");
    // Evaluation goes on, with the split that old files had.
    let file = open_model(&outcome.run_dir).unwrap();
    let options = EvaluateOptions {
        data: Data::Path(root),
        split: None,
        compute: Compute::on(1),
        max_bad: 0.05,
        mirror: false,
    };
    let e = evaluate(&file, &options, &NEVER, &mut |_| {}).unwrap();
    assert_eq!(e.split, "test");
    assert!(e.notes.iter().any(|note| note.contains("changed since training")), "{:?}", e.notes);
}

#[test]
fn without_held_out_images_the_training_loss_decides_and_it_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let data = folder_data(dir.path(), &[("a", 0), ("b", 1)], 9, 3);
    let all = Recipe { val_split: 0.0, test_split: 0.0, balance: Balance::Weights, ..recipe() };
    let mut notes = Vec::new();
    let outcome = train(&options(&dir, data, all), &NEVER, &mut |event| {
        if let Event::Note { text } = event {
            notes.push(text.clone());
        }
    })
    .unwrap();
    let evaluation = outcome.evaluation.unwrap();
    assert_eq!((evaluation.split.as_str(), evaluation.images), ("train", 18));
    assert!(
        notes.iter().any(|n| n.contains("no validation images"))
            && notes.iter().any(|n| n.contains("no held-out"))
    );
    assert!(open_model(&outcome.run_dir).unwrap().meta.metrics.is_none());
}

#[test]
fn a_build_without_a_model_says_so() {
    match shipped_model() {
        Err(error) => assert!(error.to_string().contains("train one with `ocelli train`")),
        Ok(file) => assert_eq!(file.meta.classes.len(), 10),
    }
}

#[test]
fn a_run_can_start_from_a_model_and_grow_its_head() {
    let dir = TempDir::new().unwrap();
    let data = folder_data(dir.path(), &[("b-rows", 0), ("a-columns", 1)], 24, 5);
    let parent = train_quietly(&options(&dir, data.clone(), Recipe { epochs: 6, ..recipe() }));
    let file = open_model(&parent.best).unwrap();
    assert_eq!(file.meta.classes, ["a-columns", "b-rows"]);
    // A class that sorts first comes last all the same: those that are known keep their places.
    let grown = folder_data(dir.path(), &[("a-checks", 2)], 24, 6);
    let start = StartModel::new("0123456789ab", file.clone());
    let recipe = Recipe { epochs: 3, ..recipe() };
    let more = TrainOptions { start: Some(start), ..options(&dir, grown.clone(), recipe) };
    let child = train_quietly(&more);
    let after = open_model(&child.best).unwrap();
    assert_eq!(after.meta.classes, ["a-columns", "b-rows", "a-checks"]);
    assert_eq!(after.meta.preprocessing, file.meta.preprocessing);
    assert_eq!(after.meta.trained().unwrap().parent.as_deref(), Some("0123456789ab"));
    let text = fs::read_to_string(child.run_dir.join("recipe.toml")).unwrap();
    assert!(text.contains("lr = 0.001") && text.contains("of version 0123456789ab"), "{text}");

    // The same, interrupted after one epoch and gone on with.
    let stop = AtomicBool::new(false);
    let broken = train(&more, &stop, &mut |event| {
        if matches!(event, Event::Epoch { epoch: 1, .. }) {
            stop.store(true, Ordering::Relaxed);
        }
    })
    .unwrap();
    assert!(broken.interrupted);
    let resumed = resume(&broken.run_dir, None, &NEVER, &mut |_| {}).unwrap();
    assert_eq!(essence(&resumed.run_dir), essence(&child.run_dir));
}

#[test]
fn weights_of_another_network_are_refused() {
    let dir = TempDir::new().unwrap();
    let data = folder_data(dir.path(), &[("rows", 0), ("columns", 1)], 8, 5);
    let mut file = shipped_model().unwrap();
    let grown = ocelli_engine::zoo::build("keras-cnn", ocelli_engine::Shape::new(28, 28, 3), 10).unwrap();
    file.model = ocelli_engine::Model::init(grown, 1).unwrap();
    let start = Some(StartModel::new("0123456789ab", file));
    let result = train(&TrainOptions { start, ..options(&dir, data, recipe()) }, &NEVER, &mut |_| {});
    assert!(matches!(result, Err(PipelineError::Engine(_))));
    assert!(!dir.path().join("runs").exists());
}

#[test]
fn epochs_are_fitted_into_a_time_budget() {
    let dir = TempDir::new().unwrap();
    let recipe = Recipe { epochs: 100_000, time_budget: 1, ..recipe() };
    let outcome = train_quietly(&options(&dir, idx_data(dir.path()), recipe));
    assert!(!outcome.interrupted && outcome.evaluation.is_some());
    assert!((1..100_000).contains(&outcome.epochs_done), "{outcome:?}");
    let text = fs::read_to_string(outcome.run_dir.join("recipe.toml")).unwrap();
    assert!(!text.contains("epochs = 100000"), "{text}");
}
