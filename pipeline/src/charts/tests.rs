use super::confusion::MAX_NUMBERED;
use super::*;
use crate::metrics::{Evaluation, Mistake, PredictionRow, Tally};
use crate::progress::EpochRow;
use ocelli_testing::xml::elements;

fn worst_of(evaluation: &Evaluation) -> String {
    worst_mistakes("x", &evaluation.split, &evaluation.pictures())
}

fn rows(n: u32, val: bool) -> Vec<EpochRow> {
    let row = |epoch: u32| {
        let t = f64::from(epoch);
        EpochRow {
            epoch,
            seconds: t,
            lr: 0.1,
            train_loss: 2.0 / t,
            train_accuracy: 1.0 - 0.5 / t,
            val_loss: val.then_some(2.5 / t),
            val_accuracy: val.then_some(1.0 - 0.6 / t),
            val_map: None,
            communication: None,
        }
    };
    (1..=n).map(row).collect()
}

#[test]
fn curves_are_well_formed_for_any_number_of_epochs() {
    for n in [0, 1, 2, 3, 10, 100, 5000] {
        for val in [false, true] {
            let text = curves("a <b> & \"c\"", &rows(n, val), (n > 0).then_some(n.div_ceil(2)));
            let names = elements(&text);
            let lines = 2 + if n == 0 { 0 } else { 2 + 2 * usize::from(val) };
            assert_eq!(names.iter().filter(|name| *name == "polyline").count(), lines);
            assert!(text.len() < 300_000, "{}", text.len());
        }
    }
    let mut odd = rows(3, true);
    odd[1].train_loss = f64::NAN;
    odd[2].val_loss = Some(f64::INFINITY);
    elements(&curves("x", &odd, Some(9)));
    let flat = vec![EpochRow { train_loss: 0.0, train_accuracy: 1.0, ..rows(1, false)[0] }; 3];
    elements(&curves("x", &flat, None));
}

#[test]
fn matrices_are_well_formed_from_two_to_many_classes() {
    for n in [2usize, 3, 10, 30, 31, 100, 101, 400] {
        let mut tally = Tally::new(n, 1.0).unwrap();
        for image in 0..3 * n {
            let said = if image % 5 == 0 { (image + 1) % n } else { image % n };
            let logits: Vec<f32> = (0..n).map(|c| f32::from(u8::from(c == said))).collect();
            tally.add(&logits, image % n);
        }
        let classes: Vec<String> = (0..n).map(|c| format!("<class> & 'é' number {c}")).collect();
        let text = confusion_matrix("x & y", &tally.report("test", &classes));
        let names = elements(&text);
        let cells = names.iter().filter(|name| *name == "rect").count();
        if n <= MAX_NUMBERED {
            assert_eq!(cells, n * n);
        } else {
            assert!(cells <= 3 * n, "{cells}");
        }
        assert!(text.len() < 400_000, "{n}: {}", text.len());
    }
}

fn report(images: usize) -> Evaluation {
    let mut tally = Tally::new(3, 1.5).unwrap();
    for image in 0..images {
        let logits: Vec<f32> = (0..3).map(|c| ((image * 7 + c * 5) % 11) as f32 / 3.0).collect();
        tally.add(&logits, image % 3);
    }
    tally.report("val", &["a", "b", "c"].map(str::to_owned))
}

#[test]
fn reliability_is_well_formed_with_and_without_images() {
    for images in [0, 1, 7, 500] {
        let evaluation = report(images);
        let text = reliability("x & <y>", &evaluation);
        let names = elements(&text);
        let full = evaluation.calibration.bins.iter().filter(|bin| bin.images > 0).count();
        assert_eq!(names.iter().filter(|name| *name == "rect").count(), 2 * full, "{images}");
    }
    // A report of an earlier version has no bins.
    elements(&reliability("x", &Evaluation { calibration: crate::Calibration::default(), ..report(3) }));
}

#[test]
fn mistakes_are_well_formed_for_any_number_of_them() {
    let png = vec![0x89, b'P', b'N', b'G'];
    for n in [0usize, 1, 4, 5, 6, 25] {
        let mistake = |i: usize| Mistake {
            row: PredictionRow {
                name: format!("<folder>/{i} & \"x\".png"),
                label: "a".to_owned(),
                predicted: "b".to_owned(),
                probability: 0.75,
                loss: 2.0,
            },
            png: if i == 3 { Vec::new() } else { png.clone() },
        };
        let text = worst_of(&Evaluation { worst: (0..n).map(mistake).collect(), ..report(9) });
        let images = elements(&text).iter().filter(|name| *name == "image").count();
        assert_eq!(images, n - usize::from(n > 3));
    }
}
