//! Images of no class, from training to prediction.

use std::fs;
use std::sync::atomic::AtomicBool;

use ocelli_datasets::rng::Rng;
use tempfile::TempDir;

use super::{bmp, folder_data, options, pattern, recipe, train_quietly};
use crate::{Compute, Data, EvaluateOptions, Predictor, Recipe, evaluate, open_model};

#[test]
fn a_model_learns_a_threshold_and_answers_by_it() {
    let dir = TempDir::new().unwrap();
    let data = folder_data(dir.path(), &[("rows", 0), ("columns", 1)], 80, 5);
    let recipe = Recipe { epochs: 6, val_split: 0.3, false_rejects: 0.1, ..recipe() };
    let outcome = train_quietly(&options(&dir, data.clone(), recipe.clone()));
    let file = open_model(&outcome.best).unwrap();
    let rejection = file.meta.rejection.clone().unwrap();
    assert!(rejection.images >= 40 && rejection.false_rejects == 0.1, "{rejection:?}");

    // New images of the same kind: about one in ten is turned away, by the score that is told.
    let mut predictor = Predictor::from_model_file(file.clone(), Compute::on(1)).unwrap();
    let mut rng = Rng::new(77);
    let mut rejected = 0;
    for i in 0..200 {
        let answer = predictor.predict_bytes(&bmp(&pattern(i % 2, &mut rng), 1), 2).unwrap();
        assert_eq!(answer.known, answer.score.unwrap() <= rejection.threshold);
        rejected += usize::from(!answer.known);
    }
    assert!(rejected <= 60, "{rejected} of 200");

    // Whatever the threshold says; the label stays the likeliest class.
    let mut strict = file.clone();
    strict.meta.rejection.as_mut().unwrap().threshold = -1.0;
    let mut strict = Predictor::from_model_file(strict, Compute::on(1)).unwrap();
    let image = bmp(&pattern(0, &mut rng), 1);
    let (answer, plain) =
        (strict.predict_bytes(&image, 1).unwrap(), predictor.predict_bytes(&image, 1).unwrap());
    assert!(!answer.known);
    assert_eq!((answer.label, answer.probability), (plain.label, plain.probability));

    let never = train_quietly(&options(&dir, data, Recipe { false_rejects: 0.0, ..recipe }));
    let file = open_model(&never.best).unwrap();
    assert_eq!(file.meta.rejection, None);
    let answer = Predictor::from_model_file(file, Compute::on(1)).unwrap().predict_bytes(&image, 1).unwrap();
    assert_eq!((answer.known, answer.score), (true, None));
    assert!(!fs::read_to_string(never.run_dir.join("events.jsonl")).unwrap().contains("unknown images"));
}

/// Images of evenly random light, which are of no class.
fn noise(rng: &mut Rng) -> Vec<u8> {
    (0..144).map(|_| rng.below(256) as u8).collect()
}

#[test]
fn a_folder_of_no_class_is_learnt_from_and_is_no_class() {
    let dir = TempDir::new().unwrap();
    let data = folder_data(dir.path(), &[("rows", 0), ("columns", 1)], 80, 5);
    let mut rng = Rng::new(13);
    let folder = dir.path().join("photos/_Unknown_");
    fs::create_dir(&folder).unwrap();
    for i in 0..40 {
        fs::write(folder.join(format!("{i}.bmp")), bmp(&noise(&mut rng), 1)).unwrap();
    }
    let recipe = Recipe { epochs: 6, val_split: 0.3, false_rejects: 0.1, ..recipe() };
    let outcome = train_quietly(&options(&dir, data.clone(), recipe.clone()));
    let file = open_model(&outcome.best).unwrap();
    assert_eq!(file.meta.classes, ["columns", "rows"]);
    let rejection = file.meta.rejection.clone().unwrap();
    assert_eq!(rejection.strange, 40);
    assert!(rejection.area > 0.7, "{rejection:?}");
    let events = fs::read_to_string(outcome.run_dir.join("events.jsonl")).unwrap();
    assert!(events.contains("40 images in _Unknown_ show no class"), "{events}");
    assert!(events.contains("of the 40 images of no class are found"), "{events}");

    // The same counts by prediction and by evaluation.
    let mut predictor = Predictor::from_model_file(file.clone(), Compute::on(1)).unwrap();
    let mut found = 0;
    for i in 0..40 {
        let bytes = fs::read(folder.join(format!("{i}.bmp"))).unwrap();
        found += usize::from(!predictor.predict_bytes(&bytes, 1).unwrap().known);
    }
    assert_eq!(rejection.detected, found as f32 / 40.0);
    let options_of = EvaluateOptions {
        data: data.clone(),
        split: None,
        compute: Compute::on(1),
        max_bad: 0.0,
        mirror: false,
    };
    let evaluation = evaluate(&file, &options_of, &AtomicBool::new(false), &mut |_| {}).unwrap();
    let unknown = evaluation.unknown.unwrap();
    assert_eq!((unknown.unknown_images, unknown.unknown_found), (40, rejection.detected));
    assert!(unknown.known_images > 0 && unknown.known_rejected < 0.5, "{unknown:?}");
    assert!(evaluation.notes.iter().any(|note| note.starts_with("called unknown: ")));

    // Where nothing is to be told, the folder is left out all the same.
    let never = train_quietly(&options(&dir, data, Recipe { false_rejects: 0.0, ..recipe }));
    let file = open_model(&never.best).unwrap();
    assert_eq!((file.meta.classes.len(), file.meta.rejection), (2, None));
}

#[test]
fn split_folders_have_images_of_no_class_of_their_own() {
    let dir = TempDir::new().unwrap();
    let root = dir.path().join("photos");
    let mut rng = Rng::new(21);
    for (split, each) in [("train", 40), ("val", 15), ("test", 10)] {
        for (class, name) in ["rows", "columns", "_background_"].into_iter().enumerate() {
            let folder = root.join(split).join(name);
            fs::create_dir_all(&folder).unwrap();
            for i in 0..each {
                let image = if class == 2 { noise(&mut rng) } else { pattern(class, &mut rng) };
                fs::write(folder.join(format!("{i}.bmp")), bmp(&image, 1)).unwrap();
            }
        }
    }
    let data = Data::Path(root);
    let outcome = train_quietly(&options(&dir, data.clone(), Recipe { epochs: 3, ..recipe() }));
    let file = open_model(&outcome.best).unwrap();
    assert_eq!(file.meta.classes, ["columns", "rows"]);
    // Those for training and validation are learnt from, those of the test are for the evaluation.
    let rejection = file.meta.rejection.clone().unwrap();
    assert_eq!((rejection.strange, rejection.images), (55, 30));
    let options_of =
        EvaluateOptions { data, split: None, compute: Compute::on(1), max_bad: 0.0, mirror: false };
    let evaluation = evaluate(&file, &options_of, &AtomicBool::new(false), &mut |_| {}).unwrap();
    let unknown = evaluation.unknown.unwrap();
    assert_eq!((unknown.unknown_images, unknown.known_images), (10, 20));
    let json = serde_json::to_value(&evaluation).unwrap();
    assert_eq!(json["unknown"]["unknown_images"], 10);
}
