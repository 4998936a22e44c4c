//! Images with any number of labels, from the command line: a table beside photos, training, evaluation, prediction.

use std::fs;

use image::RgbImage;
use image::imageops::{FilterType, replace, resize};
use serde_json::Value;

use crate::shapes::{CLASSES, Rng, photo, png};
use crate::support::Sandbox;

/// Two places side by side, each with one of the shapes or empty, and the shapes that are there.
fn pair(rng: &mut Rng) -> (RgbImage, Vec<&'static str>) {
    let mut image = RgbImage::from_pixel(64, 32, image::Rgb([128; 3]));
    let mut names = Vec::new();
    for place in 0..2 {
        if rng.next_u64().is_multiple_of(4) {
            continue;
        }
        let class = CLASSES[(rng.next_u64() % 3) as usize];
        let shape = resize(&photo(class, rng), 32, 32, FilterType::Triangle);
        replace(&mut image, &shape, 32 * place, 0);
        if !names.contains(&class) {
            names.push(class);
        }
    }
    (image, names)
}

#[test]
fn a_table_of_labels_becomes_a_model_that_says_them() {
    let sandbox = Sandbox::new();
    let mut rng = Rng(11);
    let mut table = String::from("file;labels;is_valid\n");
    for i in 0..240 {
        let (image, names) = pair(&mut rng);
        sandbox.write(&format!("photos/{i}.png"), png(&image));
        table += &format!("{i}.png;{};{}\n", names.join("|"), if i % 4 == 0 { "True" } else { "False" });
    }
    sandbox.write("labels.csv", table + "gone.png;circle;False\n");
    sandbox.write("photos/extra.png", png(&pair(&mut rng).0));
    let dry = sandbox.run("train photos --labels labels.csv --dry-run");
    assert!(dry.stdout.contains("task = \"multi-label\"") || dry.code == Some(0), "{dry:#?}");
    let run = sandbox
        .run("train photos --labels labels.csv --size 64x32 --epochs 12 --batch 16 --seed 3 --start none");
    assert_eq!(run.code, Some(0), "{run:#?}");
    for text in [
        "labels of 240 images from labels.csv",
        "3 labels",
        "1 row of labels.csv name images that are not there: gone.png",
        "left out: 1 image without a row: extra.png",
    ] {
        assert!(run.stderr.contains(text), "{text}: {run:#?}");
    }
    let last = run.stdout.lines().find(|line| line.starts_with("validation mAP ")).expect("a last line");
    let map: f32 = last["validation mAP ".len()..].parse().unwrap();
    assert!(map > 0.6, "{}", run.stdout);

    let json = sandbox.ok("evaluate runs/photos-001 photos --labels labels.csv --json");
    let report: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&report["task"], &report["split"]), (&"multi-label".into(), &"val".into()));
    assert!((report["mean_average_precision"].as_f64().unwrap() as f32 - map).abs() < 1e-3);
    assert_eq!(report["per_label"].as_array().unwrap().len(), 3);
    let missed = sandbox.run("evaluate runs/photos-001 photos --labels labels.csv --min-map 1");
    assert_eq!(missed.code, Some(3), "{missed:#?}");
    let wrong = sandbox.run("evaluate runs/photos-001 photos --labels labels.csv --min-accuracy 0.5");
    assert_eq!(wrong.code, Some(2), "{wrong:#?}");

    let lines = sandbox.ok("predict runs/photos-001 photos/0.png photos/1.png --json");
    for line in lines.lines() {
        let labels = serde_json::from_str::<Value>(line).unwrap()["labels"].as_array().unwrap().clone();
        assert_eq!(labels.len(), 3, "{line}");
        assert!(labels.iter().all(|label| {
            (label["probability"].as_f64() >= label["threshold"].as_f64())
                == label["applies"].as_bool().unwrap()
        }));
    }
    let csv = sandbox.ok("predict runs/photos-001 photos/0.png --csv");
    assert!(csv.starts_with("path,labels,circle,square,triangle\nphotos/0.png,"), "{csv}");
    let text = sandbox.ok("predict runs/photos-001 photos/0.png");
    assert!(text.starts_with("photos/0.png  "), "{text}");

    // Taken for classes, a list is one name, and an image without labels is a mistake.
    let single = sandbox.run("train photos --labels labels.csv --task single-label");
    assert!(single.code == Some(1) && single.stderr.contains("the label is empty"), "{single:#?}");
    let folds = sandbox.run("train photos --labels labels.csv --folds 3");
    assert!(folds.code != Some(0) && folds.stderr.contains("one class each"), "{folds:#?}");
    let balance = sandbox.run("train photos --labels labels.csv --balance weights");
    assert!(balance.code != Some(0) && balance.stderr.contains("threshold"), "{balance:#?}");
    assert!(fs::metadata(sandbox.path().join("runs/photos-001/average_precision.svg")).is_ok());
}
