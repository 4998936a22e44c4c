//! What an evaluation says beyond the accuracy: calibration, mirror images, comparison, repetition.

use super::*;

fn on(data: &Data) -> EvaluateOptions {
    EvaluateOptions { data: data.clone(), split: None, compute: Compute::on(1), max_bad: 0.0, mirror: false }
}

/// A run with 20 and more validation images.
fn calibrated(dir: &TempDir, data: &Data) -> Outcome {
    let recipe = Recipe { epochs: 2, val_split: 0.3, label_smoothing: 0.2, ..recipe() };
    train_quietly(&options(dir, data.clone(), recipe))
}

#[test]
fn a_fitted_temperature_lowers_the_loss_of_the_validation_images_and_is_applied_everywhere() {
    let dir = tempfile::tempdir().unwrap();
    let data = idx_data(dir.path());
    let outcome = calibrated(&dir, &data);
    let file = open_model(&outcome.run_dir).unwrap();
    let temperature = file.meta.temperature.expect("a third of 97 images is enough");
    assert!(temperature > 0.0 && temperature != 1.0, "{temperature}");

    let val = EvaluateOptions { split: Some(Split::Val), ..on(&data) };
    let found = evaluate(&file, &val, &NEVER, &mut |_| {}).unwrap();
    let before = found.calibration.uncalibrated.unwrap();
    assert!(found.loss < before.loss, "{} {}", found.loss, before.loss);
    assert_eq!(found.calibration.temperature, temperature);
    let mut plain = file.clone();
    plain.meta.temperature = None;
    let without = evaluate(&plain, &val, &NEVER, &mut |_| {}).unwrap();
    assert_eq!((without.loss, without.calibration.ece), (before.loss, before.ece));
    assert_eq!(without.confusion, found.confusion);

    // The report of the run, a new evaluation, and single answers have the same probabilities.
    let again = evaluate(&file, &on(&data), &NEVER, &mut |_| {}).unwrap();
    assert_eq!(again.predictions, outcome.evaluation.unwrap().predictions);
    assert_eq!(
        again.worst.len(),
        again.predictions.iter().filter(|r| r.label != r.predicted).count().min(25)
    );
    assert!(again.worst.iter().all(|mistake| mistake.png.starts_with(b"\x89PNG")));

    let folder = dir.path().join("report/of/it");
    again.write_into(&folder, "it").unwrap();
    let read: Evaluation =
        serde_json::from_str(&fs::read_to_string(folder.join("evaluation.json")).unwrap()).unwrap();
    assert_eq!(read.calibration, again.calibration);
    assert_eq!(fs::read_to_string(folder.join("per_class.csv")).unwrap().lines().count(), 4);
}

#[test]
fn few_validation_images_give_no_temperature() {
    let dir = tempfile::tempdir().unwrap();
    let data = folder_data(dir.path(), &[("a", 0), ("b", 1)], 8, 3);
    let outcome = train_quietly(&options(&dir, data, Recipe { size: Some((12, 12)), epochs: 1, ..recipe() }));
    assert_eq!(open_model(&outcome.run_dir).unwrap().meta.temperature, None);
    let card = fs::read_to_string(outcome.run_dir.join("README.md")).unwrap();
    assert!(card.contains("Probabilities are not calibrated"), "{card}");
}

#[test]
fn mirror_images_count_alike_in_evaluation_and_prediction_and_only_where_they_are_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let data = folder_data(dir.path(), &[("a", 0), ("b", 1), ("c", 2)], 30, 3);
    let train_with = |hflip| {
        let recipe = Recipe { size: Some((12, 12)), epochs: 1, hflip: Some(hflip), ..recipe() };
        train_quietly(&options(&dir, data.clone(), recipe)).run_dir
    };
    let run = train_with(true);
    let file = open_model(&run).unwrap();
    let both = EvaluateOptions { mirror: true, ..on(&data) };
    let mean = evaluate(&file, &both, &NEVER, &mut |_| {}).unwrap();
    let plain = evaluate(&file, &on(&data), &NEVER, &mut |_| {}).unwrap();
    assert_ne!(mean.predictions, plain.predictions);
    assert!(mean.notes.iter().any(|note| note.contains("mirror image")), "{:?}", mean.notes);

    let Data::Path(root) = &data else { unreachable!() };
    let mut predictor = Predictor::open(&run, Compute::on(1)).unwrap();
    predictor.average_mirrored().unwrap();
    for row in &mean.predictions {
        let answer = predictor.predict_bytes(&fs::read(root.join(&row.name)).unwrap(), 3).unwrap();
        assert_eq!((&answer.label, answer.probability), (&row.predicted, row.probability), "{}", row.name);
    }

    let fixed = open_model(&train_with(false)).unwrap();
    let error = evaluate(&fixed, &both, &NEVER, &mut |_| {}).unwrap_err();
    assert!(matches!(error, PipelineError::NoMirror { .. }) && error.to_string().contains("hflip = false"));
    let mut predictor = Predictor::from_model_file(fixed, Compute::on(1)).unwrap();
    assert!(predictor.average_mirrored().is_err());
}

#[test]
fn two_models_are_compared_on_images_that_neither_was_trained_on() {
    let dir = tempfile::tempdir().unwrap();
    let data = folder_data(dir.path(), &[("a", 0), ("b", 1), ("c", 2)], 60, 3);
    let model = |seed, epochs, size| {
        let recipe = Recipe { seed, epochs, size: Some((size, size)), test_split: 0.3, ..recipe() };
        open_model(&train_quietly(&options(&dir, data.clone(), recipe)).run_dir).unwrap()
    };
    let (good, poor) = (model(1, 5, 12), model(2, 1, 14));
    let found = compare((&good, &poor), &on(&data), &NEVER, &mut |_| {}).unwrap();
    assert_eq!(found.images, found.both_right + found.won + found.lost + found.both_wrong);
    let own = evaluate(&good, &on(&data), &NEVER, &mut |_| {}).unwrap();
    // Seeds differ, so some of the first model's test images were training images of the other.
    assert!(found.images > 0 && found.images < own.images, "{} {}", found.images, own.images);
    assert!(
        found.notes.iter().any(|note| note.ends_with("the other model was trained on them")),
        "{:?}",
        found.notes
    );
    let accuracy = |right: usize| (right as f64 / found.images as f64) as f32;
    assert_eq!(found.model.accuracy, accuracy(found.both_right + found.won));
    assert_eq!(found.other.accuracy, accuracy(found.both_right + found.lost));
    assert_eq!(found.classes.iter().map(|class| class.images).sum::<usize>(), found.images);
    assert!(found.flips.len() >= found.won + found.lost);
    assert!(found.flips.iter().all(|flip| flip.model != flip.other));
    // Turned round, all is turned round but the images, which each chooses for itself.
    let same = compare((&good, &good), &on(&data), &NEVER, &mut |_| {}).unwrap();
    assert_eq!((same.won, same.lost, same.p_value, same.flips.len()), (0, 0, 1.0, 0));
    assert_eq!(same.images, own.images);
}

#[test]
fn classes_that_one_model_does_not_know_are_no_part_of_a_comparison() {
    let dir = tempfile::tempdir().unwrap();
    let classes = [("a", 0), ("b", 1), ("c", 2)];
    let data = folder_data(&dir.path().join("new"), &classes, 10, 3);
    let model = |classes: &[(&str, usize)], name: &str| {
        let data = folder_data(&dir.path().join(name), classes, 20, 5);
        let recipe = Recipe { size: Some((12, 12)), epochs: 1, ..recipe() };
        let options = TrainOptions { data_name: Some(name.to_owned()), ..options(&dir, data, recipe) };
        open_model(&train_quietly(&options).run_dir).unwrap()
    };
    let (three, two) = (model(&classes, "three"), model(&classes[..2], "two"));
    for pair in [(&three, &two), (&two, &three)] {
        let found = compare(pair, &on(&data), &NEVER, &mut |_| {}).unwrap();
        assert_eq!(found.images, 20);
        assert!(found.notes.iter().any(|note| note.starts_with("10 images left out")), "{:?}", found.notes);
    }
}

#[test]
fn a_run_is_repeated_to_the_same_bits_and_a_changed_image_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let data = folder_data(dir.path(), &[("a", 0), ("b", 1)], 12, 3);
    let short = Recipe { size: Some((12, 12)), epochs: 2, ..recipe() };
    let run = train_quietly(&options(&dir, data.clone(), short)).run_dir;
    let found = verify(&run, None, &NEVER, &mut |_| {}).unwrap();
    assert!(found.same && found.weights.is_none() && found.first_difference.is_none(), "{found:?}");
    assert!(!found.data.differs() && !found.version.differs() && !found.isa.differs(), "{found:?}");
    assert!(found.isa.recorded.is_some());

    // Other weights: as if another machine had computed them.
    let best = run.join("weights/best.ocelli");
    let kept = fs::read(&best).unwrap();
    let mut file = ModelFile::load(&best).unwrap();
    let first = file.model.layout().entries()[0].range().start;
    file.model.params_mut()[first] += 0.5;
    file.probes = None;
    file.save(&best).unwrap();
    let found = verify(&run, None, &NEVER, &mut |_| {}).unwrap();
    let weights = found.weights.unwrap();
    assert_eq!((found.same, weights.differing), (false, 1));
    assert!((weights.largest - 0.5).abs() < 1e-6, "{weights:?}");
    fs::write(&best, kept).unwrap();

    // Another loss in the second epoch.
    let results = fs::read_to_string(run.join("results.csv")).unwrap();
    let changed: Vec<String> = results
        .lines()
        .map(|line| if line.starts_with("2,") { line.replacen(',', ",9", 3) } else { line.to_owned() })
        .collect();
    fs::write(run.join("results.csv"), changed.join("\n")).unwrap();
    let found = verify(&run, None, &NEVER, &mut |_| {}).unwrap();
    assert_eq!(found.first_difference.unwrap().epoch, 2);
    assert!(found.same);

    let Data::Path(root) = &data else { unreachable!() };
    fs::copy(root.join("a/0.bmp"), root.join("a/2.bmp")).unwrap();
    let mut epochs = 0;
    let found =
        verify(&run, None, &NEVER, &mut |event| epochs += usize::from(matches!(event, Event::Epoch { .. })));
    let found = found.unwrap();
    assert!(!found.same && found.data.differs() && epochs == 0, "{found:?}");

    let unfinished = dir.path().join("unfinished");
    copy_folder(&run, &unfinished);
    fs::remove_file(unfinished.join("evaluation.json")).unwrap();
    let error = verify(&unfinished, None, &NEVER, &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("has not finished"), "{error}");
}

#[test]
fn a_run_that_started_from_a_model_needs_that_model_unless_it_is_in_the_program() {
    let dir = tempfile::tempdir().unwrap();
    let data = idx_data(dir.path());
    let started = |file: ModelFile| {
        let version = ocelli_engine::model_file::version_id(&file.content_hash().unwrap());
        let start = StartModel::new(version, file);
        let recipe = Recipe { epochs: 1, ..recipe() };
        let options = TrainOptions { start: Some(start.clone()), ..options(&dir, data.clone(), recipe) };
        (train_quietly(&options).run_dir, start)
    };
    let (run, _) = started(shipped_model().unwrap());
    assert!(verify(&run, None, &NEVER, &mut |_| {}).unwrap().same);

    let (other, own) = started(open_model(&run).unwrap());
    let error = verify(&other, None, &NEVER, &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains(&own.version), "{error}");
    let error =
        verify(&other, Some(Path::new("fashion-mnist")), &NEVER, &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("it started from version"), "{error}");
    assert!(verify(&other, Some(&run), &NEVER, &mut |_| {}).unwrap().same);
}
