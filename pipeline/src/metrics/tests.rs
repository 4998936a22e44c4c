use super::tally::{MAX_CLASSES, cross_entropy, interval, rank_of};
use super::*;
use crate::probability::ranking;

/// Logits with the largest value at `class`.
fn says(class: usize, classes: usize) -> Vec<f32> {
    (0..classes).map(|c| if c == class { 2.0 } else { -(c as f32) }).collect()
}

#[test]
fn matches_values_computed_by_hand() {
    // label -> said: a: a a a b; b: b a; c: b
    let mut tally = Tally::new(3, 1.0).unwrap();
    for (label, said) in [(0, 0), (0, 0), (0, 0), (0, 1), (1, 1), (1, 0), (2, 1)] {
        assert_eq!(tally.add(&says(said, 3), label).predicted, said);
    }
    let names = ["a", "b", "c"].map(str::to_owned);
    let e = tally.report("test", &names);
    let close = |a: f32, b: f64| assert!((f64::from(a) - b).abs() < 1e-6, "{a} {b}");
    assert_eq!(e.confusion, [[3, 1, 0], [1, 1, 0], [0, 1, 0]]);
    close(e.accuracy, 4.0 / 7.0);
    assert_eq!(e.top5, 1.0);
    close(e.per_class[0].precision, 3.0 / 4.0);
    close(e.per_class[0].recall, 3.0 / 4.0);
    close(e.per_class[1].precision, 1.0 / 3.0);
    close(e.per_class[1].recall, 1.0 / 2.0);
    close(e.per_class[1].f1, 0.4);
    assert_eq!((e.per_class[2].precision, e.per_class[2].recall, e.per_class[2].f1), (0.0, 0.0, 0.0));
    close(e.macro_f1, (0.75 + 0.4) / 3.0);
    close(e.balanced_accuracy, (0.75 + 0.5) / 3.0);
    assert_eq!(e.per_class.iter().map(|c| c.support).collect::<Vec<_>>(), [4, 2, 1]);
    let worst = e.most_confused(2);
    assert_eq!((worst[0].label.as_str(), worst[0].predicted.as_str(), worst[0].images), ("a", "b", 1));
    assert_eq!(e.confusion_csv(), "label\\predicted,a,b,c\na,3,1,0\nb,1,1,0\nc,0,1,0\n");
}

#[test]
fn cross_entropy_of_known_logits() {
    // Softmax of ln 1, ln 2, ln 5 is 1/8, 2/8, 5/8; a shift changes nothing, even a huge one.
    for shift in [0.0, 40.0, -40.0] {
        let logits = [1f32.ln() + shift, 2f32.ln() + shift, 5f32.ln() + shift];
        assert!((cross_entropy(&logits, 1, 1.0) - 4f64.ln()).abs() < 1e-5);
    }
    assert_eq!(cross_entropy(&[1000.0, 0.0], 1, 1.0), 1000.0);
}

#[test]
fn ranking_and_rank_agree_for_all_k_and_break_ties_by_index() {
    let logits = [0.5, 2.0, -1.0, 2.0, 0.0, 0.5, 3.0];
    let full = ranking(&logits, 99);
    assert_eq!(full, [6, 1, 3, 0, 5, 4, 2]);
    for k in 0..=logits.len() {
        assert_eq!(ranking(&logits, k), full[..k]);
    }
    for (place, &class) in full.iter().enumerate() {
        assert_eq!(rank_of(&logits, class), place);
    }
}

#[test]
fn wilson_matches_published_values() {
    // 81 of 263: 0.2553 to 0.3662 (Newcombe, 1998, method 3); 0 of 20 and 20 of 20 from the closed form.
    let (low, high) = interval(81, 263);
    assert!((low - 0.2553).abs() < 5e-5 && (high - 0.3662).abs() < 5e-5, "{low} {high}");
    let (low, high) = interval(0, 20);
    assert!(low == 0.0 && (high - 0.1611).abs() < 5e-5, "{high}");
    let (low, high) = interval(20, 20);
    assert!((low - 0.8389).abs() < 5e-5 && high == 1.0, "{low}");
    assert_eq!(interval(0, 0), (0.0, 1.0));
}

#[test]
fn no_images_give_numbers_and_too_many_classes_an_error() {
    let e = Tally::new(2, 1.0).unwrap().report("val", &["a".to_owned(), "b".to_owned()]);
    assert_eq!((e.accuracy, e.loss, e.macro_f1), (0.0, 0.0, 0.0));
    assert!(Tally::new(MAX_CLASSES + 1, 1.0).is_err());
}

#[test]
fn a_temperature_changes_loss_and_calibration_and_no_answer() {
    let rows: Vec<(Vec<f32>, usize)> =
        (0..60).map(|i| (says(i % 3, 3), if i % 4 == 0 { (i + 1) % 3 } else { i % 3 })).collect();
    let names = ["a", "b", "c"].map(str::to_owned);
    let report = |temperature| {
        let mut tally = Tally::new(3, temperature).unwrap();
        rows.iter().for_each(|(row, class)| {
            tally.add(row, *class);
        });
        tally.report("val", &names)
    };
    let (plain, scaled) = (report(1.0), report(1.7));
    assert_eq!((plain.accuracy, &plain.confusion), (scaled.accuracy, &scaled.confusion));
    assert!(plain.calibration.uncalibrated.is_none());
    let uncalibrated = scaled.calibration.uncalibrated.unwrap();
    assert_eq!((uncalibrated.ece, uncalibrated.loss), (plain.calibration.ece, plain.loss));
    // Of the images 3 in 4 are right; the network says 0.85 and more of all of them.
    assert!(plain.calibration.ece > 0.05 && scaled.loss < plain.loss, "{} {}", scaled.loss, plain.loss);
    let text = serde_json::to_string(&scaled).unwrap();
    assert_eq!(serde_json::from_str::<Evaluation>(&text).unwrap(), scaled);
}

#[test]
fn reports_of_earlier_versions_are_read() {
    let report = Tally::new(2, 1.0).unwrap().report("val", &["a".to_owned(), "b".to_owned()]);
    let mut value = serde_json::to_value(&report).unwrap();
    for name in ["balanced_accuracy", "calibration", "worst"] {
        assert!(value.as_object_mut().unwrap().remove(name).is_some(), "{name}");
    }
    let read: Evaluation = serde_json::from_value(value).unwrap();
    assert_eq!((read.images, read.worst.len(), read.calibration.bins.len()), (0, 0, 0));
}

#[test]
fn worst_mistakes_come_by_loss_and_right_answers_never() {
    let row = |name: &str, predicted: &str, loss| PredictionRow {
        name: name.to_owned(),
        label: "a".to_owned(),
        predicted: predicted.to_owned(),
        probability: 0.5,
        loss,
    };
    let rows =
        [row("0", "b", 1.0), row("1", "a", 9.0), row("2", "b", 3.0), row("3", "b", 3.0), row("4", "b", 2.0)];
    assert_eq!(Evaluation::worst_mistakes(&rows, 3), [2, 3, 4]);
    assert_eq!(Evaluation::worst_mistakes(&rows, 99), [2, 3, 4, 0]);
    assert!(Evaluation::worst_mistakes(&rows[1..2], 9).is_empty());
}
