//! Cross-validation end to end.

use std::collections::BTreeMap;

use super::*;

fn small(dir: &TempDir) -> TrainOptions {
    let data = folder_data(dir.path(), &[("a", 0), ("b", 1), ("c", 2)], 20, 3);
    options(dir, data, Recipe { size: Some((12, 12)), epochs: 3, ..recipe() })
}

#[test]
fn every_image_is_answered_once_by_a_model_that_was_not_trained_on_it() {
    let dir = tempfile::tempdir().unwrap();
    let data = folder_data(dir.path(), &[("a", 0), ("b", 1), ("c", 2)], 30, 3);
    // Long enough to be sure of its answers.
    let options = options(&dir, data, Recipe { size: Some((12, 12)), epochs: 25, ..recipe() });
    let Data::Path(root) = options.data.clone() else { unreachable!() };
    // A wrong label, and a copy that must go where its original goes.
    fs::rename(root.join("a/3.bmp"), root.join("b/wrong.bmp")).unwrap();
    fs::copy(root.join("c/4.bmp"), root.join("c/copy.bmp")).unwrap();
    let mut runs = Vec::new();
    let outcome = cross_validate(&options, (4, true), &NEVER, &mut |event| {
        if let Event::Model { run_dir, .. } = event {
            runs.push(run_dir.clone());
        }
    })
    .unwrap();
    assert_eq!(runs.len(), 5, "{runs:?}");
    let report = outcome.report.unwrap();
    assert_eq!(report.folds.len(), 4);
    assert_eq!(report.folds.iter().map(|fold| fold.images).sum::<usize>(), 91);
    assert!(report.accuracy.low <= report.accuracy.mean && report.accuracy.mean <= report.accuracy.high);
    assert_eq!(report.out_of_fold.images, 91);

    let text = fs::read_to_string(outcome.folder.join("out_of_fold.csv")).unwrap();
    let mut fold_of: BTreeMap<String, usize> = BTreeMap::new();
    for line in text.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        assert!(fold_of.insert(fields[0].to_owned(), fields[6].parse().unwrap()).is_none());
    }
    assert_eq!(fold_of["c/4.bmp"], fold_of["c/copy.bmp"]);
    for report in &report.folds {
        let run = outcome.folder.join(&report.run);
        // What the run itself reports of its test part is what is said of the fold.
        let own: Evaluation =
            serde_json::from_str(&fs::read_to_string(run.join("evaluation.json")).unwrap()).unwrap();
        assert_eq!((own.split.as_str(), own.images, own.accuracy), ("test", report.images, report.accuracy));
        let tested = fs::read_to_string(run.join("predictions.csv")).unwrap();
        for line in tested.lines().skip(1) {
            assert_eq!(fold_of[line.split(',').next().unwrap()], report.fold);
        }
        // Later evaluations take the fold, too.
        let on = EvaluateOptions {
            data: options.data.clone(),
            split: None,
            compute: Compute::on(1),
            max_bad: 0.0,
            mirror: false,
        };
        let again = evaluate(&open_model(&run).unwrap(), &on, &NEVER, &mut |_| {}).unwrap();
        assert_eq!((again.images, again.accuracy), (report.images, report.accuracy));
    }
    assert!(
        report.suspects.iter().any(|s| s.name == "b/wrong.bmp" && s.suggested == "a"),
        "{:?}",
        report.suspects
    );
    assert!(report.suspects.len() <= 6, "{:?}", report.suspects);
    let last = outcome.folder.join(report.final_run.unwrap());
    let text = fs::read_to_string(last.join("recipe.toml")).unwrap();
    let recipe = Recipe::from_toml(&text).unwrap();
    assert_eq!((recipe.fold, recipe.test_split), (None, 0.0));
}

#[test]
fn an_interrupted_cross_validation_goes_on_with_what_is_missing_to_the_same_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let options = small(&dir);
    let whole = cross_validate(&options, (3, false), &NEVER, &mut |_| {}).unwrap().report.unwrap();
    let stop = AtomicBool::new(false);
    let mut models = 0;
    let stopped = cross_validate(&options, (3, false), &stop, &mut |event| match event {
        Event::Model { .. } => models += 1,
        Event::Epoch { epoch: 2, .. } if models == 2 => stop.store(true, Ordering::Relaxed),
        _ => {}
    })
    .unwrap();
    assert!(stopped.report.is_none() && is_cross_validation(&stopped.folder));
    let mut trained = 0;
    let resumed = resume_cross_validation(&stopped.folder, &NEVER, &mut |event| {
        trained += usize::from(matches!(event, Event::Done { .. }));
    })
    .unwrap();
    assert_eq!(trained, 2, "a finished fold was trained again");
    let report = resumed.report.unwrap();
    assert_eq!((&report.folds, &report.suspects), (&whole.folds, &whole.suspects));
    assert!(report.out_of_fold.worst.len() <= 25 && report.out_of_fold.images == 60);
    // Done: nothing is trained, the report is made again.
    let again = resume_cross_validation(&stopped.folder, &NEVER, &mut |event| {
        assert!(!matches!(event, Event::Epoch { .. }));
    });
    assert_eq!(again.unwrap().report.unwrap(), report);
    // On other data it says nothing.
    let Data::Path(root) = &options.data else { unreachable!() };
    fs::copy(root.join("a/0.bmp"), root.join("a/2.bmp")).unwrap();
    let error = resume_cross_validation(&stopped.folder, &NEVER, &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("has changed"), "{error}");
}

#[test]
fn declared_test_images_stay_out_of_all_folds() {
    let dir = tempfile::tempdir().unwrap();
    // 97 training images, 31 for the test.
    let options = options(&dir, idx_data(dir.path()), Recipe { epochs: 1, ..recipe() });
    let outcome = cross_validate(&options, (2, true), &NEVER, &mut |_| {}).unwrap();
    let report = outcome.report.unwrap();
    assert_eq!(report.out_of_fold.images, 97);
    let last = outcome.folder.join(report.final_run.unwrap());
    let own: Evaluation =
        serde_json::from_str(&fs::read_to_string(last.join("evaluation.json")).unwrap()).unwrap();
    assert_eq!((own.split.as_str(), own.images), ("test", 31));
}

#[test]
fn what_cannot_be_folded_is_refused_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let options = small(&dir);
    for folds in [0, 1, 21] {
        let error = cross_validate(&options, (folds, false), &NEVER, &mut |_| {}).unwrap_err();
        assert!(matches!(error, PipelineError::Recipe { .. }), "{error}");
    }
    assert!(!dir.path().join("runs").exists());
    let Data::Path(root) = &options.data else { unreachable!() };
    fs::create_dir(root.join("d")).unwrap();
    fs::copy(root.join("a/0.bmp"), root.join("d/0.bmp")).unwrap();
    fs::copy(root.join("a/0.bmp"), root.join("d/1.bmp")).unwrap();
    let error = cross_validate(&options, (3, false), &NEVER, &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("\"d\" has too few different images"), "{error}");
}

#[test]
fn all_folds_have_the_network_of_a_file_and_a_learning_rate_that_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(&dir, idx_data(dir.path()), Recipe { epochs: 1, lr: None, ..recipe() });
    let options = options.with_network(&preparing::small_network(dir.path())).unwrap();
    let outcome = cross_validate(&options, (2, true), &NEVER, &mut |_| {}).unwrap();
    fs::remove_file(dir.path().join("small.toml")).unwrap();
    fs::remove_dir_all(outcome.folder.join("fold-2-001")).unwrap();
    let again = resume_cross_validation(&outcome.folder, &NEVER, &mut |_| {}).unwrap();
    assert_eq!(again.report.unwrap().folds, outcome.report.unwrap().folds);
    for name in ["fold-1-001", "fold-2-001", "final-001"] {
        let model = open_model(&outcome.folder.join(name)).unwrap().model;
        assert_eq!(model.graph().nodes.len(), 6, "{name}");
    }
}
