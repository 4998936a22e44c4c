//! Images of no class, from training to prediction.

use std::fs;

use ocelli_datasets::rng::Rng;
use tempfile::TempDir;

use super::{bmp, folder_data, options, pattern, recipe, train_quietly};
use crate::{Compute, Predictor, Recipe, open_model};

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
