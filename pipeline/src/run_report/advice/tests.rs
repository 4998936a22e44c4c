//! Every remark: where it is made, and that it is not made just short of it.

use super::*;
use crate::metrics::{PredictionRow, Tally};

/// A course of training: training loss, training accuracy, validation loss, validation accuracy of each epoch.
fn course(rows: &[(f64, f64, f64, f64)]) -> Progress {
    let mut progress = Progress::default();
    for (epoch, &(train_loss, train_accuracy, val_loss, val_accuracy)) in (1..).zip(rows) {
        progress.add(EpochRow {
            epoch,
            seconds: f64::from(epoch),
            lr: 0.1,
            train_loss,
            train_accuracy,
            val_loss: Some(val_loss),
            val_accuracy: Some(val_accuracy),
            val_map: None,
            communication: None,
        });
    }
    progress
}

/// A report on images by their confusion matrix, each answered with a probability of `sure`.
fn report(confusion: &[&[usize]], sure: f32) -> Evaluation {
    let n = confusion.len();
    let classes: Vec<String> =
        ["cat", "dog", "fox", "owl", "emu"][..n].iter().map(|s| (*s).to_owned()).collect();
    let mut tally = Tally::new(n, 1.0).unwrap();
    // Of the other classes each has an equal share of the rest.
    let logit = (sure * (n as f32 - 1.0) / (1.0 - sure)).ln();
    let mut predictions = Vec::new();
    for (label, row) in confusion.iter().enumerate() {
        for (predicted, &count) in row.iter().enumerate() {
            for _ in 0..count {
                let mut logits = vec![0.0; n];
                logits[predicted] = logit;
                tally.add(&logits, label);
                predictions.push(PredictionRow {
                    name: String::new(),
                    label: classes[label].clone(),
                    predicted: classes[predicted].clone(),
                    probability: sure,
                    loss: 0.0,
                });
            }
        }
    }
    Evaluation { predictions, ..tally.report("test", &classes) }
}

/// A training in which nothing is unusual, and what it gives.
fn usual() -> (Progress, Evaluation) {
    let rows: Vec<_> = (0..10).map(|e| (1.0 - 0.09 * f64::from(e), 0.93, 0.5, 0.9)).collect();
    (
        course(&rows),
        report(&[&[270, 10, 10, 10], &[10, 270, 10, 10], &[10, 10, 270, 10], &[10, 10, 10, 270]], 0.9),
    )
}

fn only(remark: Option<String>, says: &str) {
    let remark = remark.expect("the rule applies");
    assert!(remark.contains(says), "{remark}");
}

#[test]
fn nothing_is_said_of_a_usual_training() {
    let (progress, evaluation) = usual();
    assert_eq!(remarks(&progress, &evaluation), Vec::<String>::new());
}

#[test]
fn overfitting_needs_a_rise_after_the_lowest_loss() {
    let course_of = |rise: f64, lowest: usize| {
        let row = |at: usize| {
            (
                1.0 - 0.09 * at as f64,
                0.93,
                if at > lowest { 0.5 * rise } else { 0.5 - 0.001 * at as f64 },
                0.9,
            )
        };
        course(&(0..10).map(row).collect::<Vec<_>>()).history
    };
    only(overfitting(&course_of(1.2, 5)), "lowest at epoch 6 of 10");
    assert_eq!(overfitting(&course_of(1.05, 5)), None);
    assert_eq!(overfitting(&course_of(1.2, 8)), None);
    assert_eq!(overfitting(&course_of(1.2, 5)[..4]), None);
}

#[test]
fn a_gap_between_training_and_held_out_images_is_told_once() {
    let (_, evaluation) = usual();
    let with = |train: f64, rise: f64| {
        course(
            &(0..10)
                .map(|at| (1.0 - 0.09 * f64::from(at), train, if at > 4 { rise } else { 0.5 }, 0.9))
                .collect::<Vec<_>>(),
        )
    };
    only(training_gap(&with(1.0, 0.5), &Evaluation { accuracy: 0.8, ..evaluation.clone() }), "100.0 %");
    assert_eq!(training_gap(&with(1.0, 0.5), &evaluation), None);
    let worse = Evaluation { accuracy: 0.8, ..evaluation };
    assert_eq!(training_gap(&with(1.0, 0.9), &worse), None, "overfitting says it");
    assert_eq!(training_gap(&with(1.0, 0.5), &Evaluation { split: "train".to_owned(), ..worse }), None);
}

#[test]
fn trainings_that_learnt_little_or_were_not_over_are_told() {
    let flat = |train| course(&[(1.0, train, 1.0, 0.5); 6]).history;
    only(underfitting(&flat(0.6)), "60.0 %");
    assert_eq!(underfitting(&flat(0.75)), None);
    only(underfitting(&flat(0.6)[..1]), "60.0 %");
    let rising = |step: f64, train: f64| {
        course(&(0..10).map(|at| (1.0, train, 1.0, 0.5 + step * f64::from(at))).collect::<Vec<_>>()).history
    };
    only(still_improving(&rising(0.02, 0.8)), "epochs = 20");
    assert_eq!(still_improving(&rising(0.005, 0.8)), None);
    assert_eq!(still_improving(&rising(0.02, 0.99)), None);
}

#[test]
fn few_held_out_images_are_told() {
    only(few_held_out(&report(&[&[20, 2], &[2, 20]], 0.9)), "44 images");
    assert_eq!(few_held_out(&report(&[&[500, 50], &[50, 500]], 0.9)), None);
}

#[test]
fn a_weak_class_is_named_with_what_it_is_taken_for() {
    let weak = report(&[&[30, 0, 0], &[0, 30, 0], &[5, 15, 10]], 0.9);
    only(weak_classes(&weak), "fox (33.3 %, mostly taken for dog)");
    assert_eq!(weak_classes(&report(&[&[30, 0, 0], &[0, 30, 0], &[2, 8, 20]], 0.9)), None);
    assert_eq!(weak_classes(&report(&[&[30, 0, 0], &[0, 30, 0], &[1, 2, 1]], 0.9)), None, "too few images");
}

#[test]
fn a_pair_that_makes_many_mistakes_is_named() {
    only(
        one_pair(&report(&[&[30, 6, 0], &[5, 30, 1], &[1, 1, 30]], 0.9)),
        "11 of 14 mistakes mix up cat and dog",
    );
    assert_eq!(one_pair(&report(&[&[30, 2, 0], &[2, 30, 0], &[0, 0, 30]], 0.9)), None, "too few");
    assert_eq!(one_pair(&report(&[&[30, 6], &[5, 30]], 0.9)), None, "there is but one pair");
}

#[test]
fn mistakes_of_which_the_model_is_sure_are_counted() {
    only(sure_mistakes(&report(&[&[30, 1], &[2, 30]], 0.97)), "3 images are");
    only(sure_mistakes(&report(&[&[30, 1], &[0, 30]], 0.97)), "1 image is");
    assert_eq!(sure_mistakes(&report(&[&[30, 0], &[0, 30]], 0.97)), None);
    assert_eq!(sure_mistakes(&report(&[&[30, 1], &[2, 30]], 0.9)), None);
}

#[test]
fn probabilities_that_mislead_are_told() {
    only(uncalibrated(&report(&[&[80, 40], &[40, 80]], 0.95)), "28 points");
    assert_eq!(uncalibrated(&report(&[&[80, 40], &[40, 80]], 0.7)), None);
    assert_eq!(uncalibrated(&report(&[&[8, 4], &[4, 8]], 0.95)), None, "too few images");
}

#[test]
fn splits_that_differ_by_more_than_chance_are_told() {
    let (_, evaluation) = usual();
    let with = |val| course(&[(1.0, 0.9, 1.0, val); 6]);
    only(splits_differ(&with(0.99), &evaluation), "99.0 % and 90.0 %. The best epoch");
    only(splits_differ(&with(0.8), &evaluation), "easier");
    assert_eq!(splits_differ(&with(0.92), &evaluation), None);
    assert_eq!(splits_differ(&with(0.99), &Evaluation { split: "val".to_owned(), ..evaluation }), None);
}
