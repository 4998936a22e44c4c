//! A model learns further classes.

use super::*;
use crate::replay::Replay;

const OLD: [(&str, usize); 2] = [("bars", 0), ("columns", 1)];

/// A model of two classes, its run folder in `dir/runs`.
fn parent(dir: &TempDir) -> Outcome {
    let data = folder_data(dir.path(), &OLD, 40, 5);
    train_quietly(&options(dir, data, Recipe { epochs: 8, val_split: 0.3, ..recipe() }))
}

/// Data in a folder of its own.
fn data(dir: &TempDir, name: &str, classes: &[(&str, usize)], seed: u64) -> Data {
    let root = dir.path().join(name);
    fs::create_dir_all(&root).unwrap();
    folder_data(&root, classes, 30, seed)
}

fn add(dir: &TempDir, data: Data, parent: &Path) -> Result<Outcome, PipelineError> {
    add_with(&options(dir, data, Recipe::default()), parent)
}

fn add_with(options: &TrainOptions, parent: &Path) -> Result<Outcome, PipelineError> {
    add_classes(options, &Parent::open(parent)?, &NEVER, &mut |_| {})
}

fn record(run: &Path) -> AddedClasses {
    serde_json::from_str(&fs::read_to_string(run.join("add_classes.json")).unwrap()).unwrap()
}

fn bits(file: &ModelFile) -> Vec<u32> {
    file.model.params().iter().map(|value| value.to_bits()).collect()
}

#[test]
fn new_classes_are_learnt_old_ones_stay_and_it_can_be_done_again() {
    let dir = tempfile::tempdir().unwrap();
    let old = parent(&dir);
    let grown = add(&dir, data(&dir, "new", &[("checks", 2)], 6), &old.run_dir).unwrap();
    for name in [
        "recipe.toml",
        "dataset.json",
        "environment.json",
        "labels.txt",
        "results.csv",
        "events.jsonl",
        "curves.svg",
        "add_classes.json",
        "evaluation.json",
        "README.md",
        "weights/best.ocelli",
        "weights/replay/replay.json",
    ] {
        assert!(fs::metadata(grown.run_dir.join(name)).unwrap().len() > 0, "{name}");
    }
    let (before, after) = (open_model(&old.run_dir).unwrap(), open_model(&grown.run_dir).unwrap());
    assert_eq!(after.meta.classes, ["bars", "columns", "checks"]);
    check_probes(&after, Compute::on(1)).unwrap();
    assert!(after.meta.rejection.is_some() && after.meta.temperature.is_some());
    // All but the last layer is as it was.
    let last = after.model.graph().nodes.len() - 1;
    let mut compared = 0;
    for (a, b) in after.model.layout().entries().iter().zip(before.model.layout().entries()) {
        if a.node() != last {
            assert_eq!(after.model.params()[a.range()], before.model.params()[b.range()], "{}", a.name);
            compared += 1;
        }
    }
    assert!(compared > 2);

    let evaluation = grown.evaluation.clone().unwrap();
    let tested = old.evaluation.unwrap().images;
    let found = record(&grown.run_dir);
    let measured = found.old_classes.clone().unwrap();
    assert_eq!((measured.split.as_str(), measured.images), ("test", tested));
    assert!(measured.before >= 0.8 && measured.after >= measured.before - 0.15, "{measured:?}");
    assert_eq!((found.known, found.added.len(), found.further.len()), (2, 1, 0));
    let new_tested = evaluation.predictions.len();
    assert!(new_tested >= 2 && evaluation.images == tested + new_tested, "{evaluation:?}");
    assert!(evaluation.per_class[2].recall > 0.6, "{evaluation:?}");

    // What it says of the old classes is what an evaluation of their images says.
    let old_data = Data::Path(dir.path().join("photos"));
    let how = EvaluateOptions {
        data: old_data,
        split: Some(Split::Test),
        compute: Compute::on(1),
        max_bad: 0.0,
        mirror: false,
    };
    let again = evaluate(&after, &how, &NEVER, &mut |_| {}).unwrap();
    assert_eq!((again.images, again.accuracy), (tested, measured.after));

    // Again: a fourth class, whose images are bars with another light.
    let fourth = add(&dir, data(&dir, "more", &[("others", 0)], 7), &grown.run_dir).unwrap();
    let file = open_model(&fourth.run_dir).unwrap();
    assert_eq!(file.meta.classes, ["bars", "columns", "checks", "others"]);
    assert_eq!(file.meta.trained().unwrap().parent, Some(record(&fourth.run_dir).parent.version));
    let replay = Replay::read(&fourth.best, &file).unwrap().unwrap();
    let labels: std::collections::BTreeSet<u32> = replay.train.labels.iter().copied().collect();
    assert_eq!((labels.len(), replay.data.len(), replay.seen.len()), (4, 3, 80 + 30 + 30));
    assert_eq!(record(&fourth.run_dir).old_classes.unwrap().images, evaluation.images);
}

#[test]
fn the_same_bits_come_of_any_number_of_threads_and_verification_finds_them() {
    let dir = tempfile::tempdir().unwrap();
    let old = parent(&dir);
    let new = data(&dir, "new", &[("checks", 2)], 6);
    let run = |threads: u32, seed: u64| {
        let recipe = Recipe { threads, seed, ..Recipe::default() };
        let chosen = |name: &str| (name.to_owned(), "command line".to_owned());
        let origins = Origins::from([chosen("threads"), chosen("seed")]);
        let options = TrainOptions { origins, ..options(&dir, new.clone(), recipe) };
        add_with(&options, &old.run_dir).unwrap()
    };
    let (one, three) = (run(1, 42), run(3, 42));
    assert_eq!(bits(&open_model(&one.run_dir).unwrap()), bits(&open_model(&three.run_dir).unwrap()));
    assert_ne!(bits(&open_model(&one.run_dir).unwrap()), bits(&open_model(&run(1, 43).run_dir).unwrap()));

    let found = verify(&one.run_dir, None, &NEVER, &mut |_| {}).unwrap();
    assert!(found.same && !found.data.differs() && found.first_difference.is_none(), "{found:?}");
    let error = verify(&one.run_dir, Some(&three.run_dir), &NEVER, &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("it added classes to version"), "{error}");
    fs::write(dir.path().join("new/photos/checks/0.bmp"), bmp(&pattern(2, &mut Rng::new(99)), 1)).unwrap();
    let found = verify(&one.run_dir, Some(&old.run_dir), &NEVER, &mut |_| {}).unwrap();
    assert!(!found.same && found.data.differs());
}

#[test]
fn images_that_the_model_knows_are_not_taken_twice() {
    let dir = tempfile::tempdir().unwrap();
    let old = parent(&dir);
    // The folder of the old classes, with one more class, and some more images of an old one.
    let all = folder_data(dir.path(), &[("checks", 2)], 30, 6);
    let Data::Path(root) = all.clone() else { unreachable!() };
    let mut rng = Rng::new(8);
    for i in 0..10 {
        fs::write(root.join("bars").join(format!("more{i}.bmp")), bmp(&pattern(0, &mut rng), 1)).unwrap();
    }
    let mut notes = Vec::new();
    let parent = Parent::open(&old.run_dir).unwrap();
    let options = options(&dir, all.clone(), Recipe::default());
    let grown = add_classes(&options, &parent, &NEVER, &mut |event| {
        if let Event::Dataset { notes: of, train, val, test, .. } = event {
            notes.clone_from(of);
            assert_eq!(train + val + test, 40);
        }
    });
    let grown = grown.unwrap();
    let said = |text: &str| notes.iter().any(|note| note.contains(text));
    assert!(said("80 images are in the data of the model already"), "{notes:?}");
    assert!(said("the model knows bars: "), "{notes:?}");
    let found = record(&grown.run_dir);
    assert_eq!((found.added[0].name.as_str(), found.further[0].name.as_str()), ("checks", "bars"));

    let count = || fs::read_dir(dir.path().join("runs")).unwrap().count();
    let before = count();
    let error = add(&dir, all, &grown.run_dir).unwrap_err().to_string();
    assert!(error.contains("all 120 images; add a folder for each new class"), "{error}");
    assert_eq!(count(), before, "a folder is left");
}

#[test]
fn a_model_without_replay_and_a_recipe_for_another_model_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let old = parent(&dir);
    let new = data(&dir, "new", &[("checks", 2)], 6);
    let error = |path: &Path| Parent::open(path).map(|_| ()).unwrap_err().to_string();
    assert!(error(Path::new("imagenet")).contains("imagenet: this model is in the program"));
    // A copy of the file alone, then with its folder.
    let copy = dir.path().join("copy.ocelli");
    fs::copy(&old.best, &copy).unwrap();
    let found = error(&copy);
    assert!(found.contains("replay/replay.json is missing: this model kept no features"), "{found}");
    copy_folder(&old.best.with_file_name("replay"), &dir.path().join("replay"));
    Parent::open(&copy).unwrap();
    assert!(error(&old.best.with_file_name("last.ocelli")).contains("it holds the features of model"));

    let grown = add(&dir, new.clone(), &old.run_dir).unwrap();
    let text = fs::read_to_string(grown.run_dir.join("recipe.toml")).unwrap();
    let recipe = Recipe::from_toml(&text).unwrap();
    let with_recipe = options(&dir, new, recipe);
    let message = |result: Result<Outcome, PipelineError>| result.map(|_| ()).unwrap_err().to_string();
    let found = message(train(&with_recipe, &NEVER, &mut |_| {}));
    assert!(found.starts_with("add_classes: the recipe is of a model"), "{found}");
    let found = message(add_with(&with_recipe, &grown.run_dir));
    assert!(found.starts_with("add_classes: the recipe adds classes to model"), "{found}");
    let found = message(resume(&grown.run_dir, Some(99), &NEVER, &mut |_| {}));
    assert!(found.contains("its classes are added and it has no epochs"), "{found}");
}

#[test]
fn stopped_it_leaves_nothing_and_nothing_is_kept_where_nothing_is_to_be() {
    let dir = tempfile::tempdir().unwrap();
    let old = parent(&dir);
    let new = data(&dir, "new", &[("checks", 2)], 6);
    let stop = AtomicBool::new(false);
    let parent = Parent::open(&old.run_dir).unwrap();
    let mut options = options(&dir, new, Recipe::default());
    let stopped = add_classes(&options, &parent, &stop, &mut |event| {
        if matches!(event, Event::Model { .. }) {
            stop.store(true, Ordering::Relaxed);
        }
    });
    assert!(matches!(stopped, Err(PipelineError::Stopped)));
    assert_eq!(fs::read_dir(dir.path().join("runs")).unwrap().count(), 1);
    options.within.no_replay = true;
    let grown = add_with(&options, &old.run_dir).unwrap();
    let error = Parent::open(&grown.run_dir).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("kept no features"), "{error}");
}
