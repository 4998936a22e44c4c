//! Embeddings of real files, and what follows from them.

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use ocelli_engine::Pool;
use tempfile::TempDir;

use super::{Embeddings, MAX_PAIRS};
use crate::Compute;
use crate::built_in::open_model;
use crate::error::PipelineError;
use crate::predict::{Ask, Predictor};

/// A photo of the fixtures that the built-in models know.
const SNEAKER: &[u8] = include_bytes!("../../tests/fixtures/sneaker.png");

fn predictor() -> Predictor {
    Predictor::from_model_file(open_model(Path::new("fashion-mnist")).unwrap(), Compute::on(2)).unwrap()
}

fn embed(path: &Path) -> Result<Embeddings, PipelineError> {
    Embeddings::of(path, &mut predictor(), &AtomicBool::new(false), &mut |_| {})
}

/// A gray BMP of 28x28 pixels, by a formula.
fn picture(f: impl Fn(u32, u32) -> u8) -> Vec<u8> {
    let image = image::GrayImage::from_fn(28, 28, |x, y| image::Luma([f(x, y)]));
    ocelli_testing::encode(image, image::ImageFormat::Bmp)
}

fn stripes(width: u32, shift: u32) -> Vec<u8> {
    picture(|x, _| if ((x + shift) / width).is_multiple_of(2) { 220 } else { 10 })
}

fn bars(height: u32, shift: u32) -> Vec<u8> {
    picture(|_, y| if ((y + shift) / height).is_multiple_of(2) { 220 } else { 10 })
}

/// Embeddings that no model gave: directions in a plane.
fn directions(degrees: &[f32], labels: &[u32]) -> Embeddings {
    let row = |degrees: &f32| [degrees.to_radians().cos() * 3.0, degrees.to_radians().sin() * 3.0];
    Embeddings {
        model: "none".to_owned(),
        len: 2,
        names: (0..degrees.len()).map(|i| i.to_string()).collect(),
        classes: vec!["a".to_owned(), "b,c".to_owned(), "d".to_owned()],
        labels: labels.to_vec(),
        features: degrees.iter().flat_map(row).collect(),
        skipped: Vec::new(),
        notes: Vec::new(),
    }
}

#[test]
fn images_of_a_data_set_are_embedded_with_names_and_classes() {
    let dir = TempDir::new().unwrap();
    for (class, make) in [("bars", bars as fn(u32, u32) -> Vec<u8>), ("stripes", stripes)] {
        fs::create_dir_all(dir.path().join(class)).unwrap();
        // More than one chunk.
        for shift in 0..40 {
            fs::write(dir.path().join(class).join(format!("{shift:02}.bmp")), make(4, shift)).unwrap();
        }
    }
    fs::write(dir.path().join("bars/broken.png"), b"\x89PNG\r\n\x1a\n and so on").unwrap();
    let found = embed(dir.path()).unwrap();
    assert_eq!((found.images(), found.len, found.features.len()), (80, 128, 80 * 128));
    assert_eq!(found.classes, ["bars", "stripes"]);
    assert_eq!((found.names[0].as_str(), found.class(0)), ("bars/00.bmp", Some("bars")));
    assert_eq!((found.names[79].as_str(), found.class(79)), ("stripes/39.bmp", Some("stripes")));
    assert_eq!(found.skipped.len(), 1);
    assert_eq!(found.skipped[0].name, "bars/broken.png");

    // Alone, an image has the same features, and those are what `answer` gives.
    let mut predictor = predictor();
    assert_eq!(found.model, predictor.version());
    let prepared = predictor.decoder().prepare(&stripes(4, 39)).unwrap();
    let ask = Ask { top_k: 1, features: true };
    let answered = predictor.answer(std::slice::from_ref(&prepared), ask).unwrap().remove(0);
    assert_eq!(answered.features.as_deref(), Some(found.row(79)));
    assert_eq!(answered.prediction, predictor.predict_prepared(&[prepared], 1).unwrap().remove(0));

    // What repeats after eight pixels is there five times; images of the other class are less alike.
    let pool = Pool::new(2).unwrap();
    let near = found.similar(found.row(79), 6, &pool).unwrap();
    let names: Vec<&str> = near.iter().map(|near| found.names[near.index].as_str()).collect();
    assert_eq!(
        &names[..5],
        ["stripes/07.bmp", "stripes/15.bmp", "stripes/23.bmp", "stripes/31.bmp", "stripes/39.bmp"]
    );
    assert!(
        near[..5].iter().all(|near| near.similarity > 0.999_99) && near[5].similarity < near[4].similarity
    );
    let duplicates = found.duplicates(0.999_99, &pool).unwrap();
    // Five of one kind have ten pairs, and there are eight kinds in each class.
    assert!(duplicates.found >= 2 * 8 * 10, "{}", duplicates.found);
    assert!(duplicates.pairs.iter().all(|pair| pair.first < pair.second));
}

#[test]
fn folders_without_labels_and_single_images_are_embedded_too() {
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join("sub")).unwrap();
    fs::write(dir.path().join("b.png"), SNEAKER).unwrap();
    fs::write(dir.path().join("sub/a.bmp"), stripes(3, 0)).unwrap();
    fs::write(dir.path().join("notes.txt"), "hello").unwrap();
    let single = embed(&dir.path().join("b.png")).unwrap();
    assert_eq!((single.images(), single.class(0)), (1, None));
    assert!(single.names[0].ends_with("b.png"));

    let flat = dir.path().join("sub");
    let found = embed(&flat).unwrap();
    assert_eq!((found.images(), found.labels.len(), found.classes.len()), (1, 0, 0));
    assert!(found.notes.iter().any(|note| note.starts_with("no labels: ")), "{:?}", found.notes);

    assert!(embed(&dir.path().join("notes.txt")).is_err());
    assert!(embed(&dir.path().join("absent")).is_err());
}

#[test]
fn a_raised_flag_stops_it() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("a.png"), SNEAKER).unwrap();
    let stopped =
        Embeddings::of(&dir.path().join("a.png"), &mut predictor(), &AtomicBool::new(true), &mut |_| {});
    assert!(matches!(stopped, Err(PipelineError::Stopped)));
}

#[test]
fn similar_images_come_by_angle_and_equal_ones_in_their_order() {
    let pool = Pool::new(2).unwrap();
    let all = directions(&[90.0, 10.0, 40.0, 10.0, 180.0], &[]);
    let found = all.similar(&[1.0, 0.0], 4, &pool).unwrap();
    assert_eq!(found.iter().map(|near| near.index).collect::<Vec<_>>(), [1, 3, 2, 0]);
    assert!((found[2].similarity - 40f32.to_radians().cos()).abs() < 1e-6);
    assert_eq!(all.similar(&[1.0, 0.0], 9, &pool).unwrap().len(), 5);
    // Without a direction nothing is similar, and nothing is no number.
    assert!(all.similar(&[0.0, 0.0], 5, &pool).unwrap().iter().all(|near| near.similarity == 0.0));
}

#[test]
fn duplicates_are_pairs_from_the_threshold_on() {
    let pool = Pool::new(2).unwrap();
    let all = directions(&[0.0, 50.0, 5.0, 51.0, 120.0], &[]);
    let found = all.duplicates(6f32.to_radians().cos(), &pool).unwrap();
    let pairs: Vec<_> = found.pairs.iter().map(|pair| (pair.first, pair.second)).collect();
    assert_eq!((pairs, found.found), (vec![(1, 3), (0, 2)], 2));
    let none = all.duplicates(1.1, &pool).unwrap();
    assert_eq!((none.pairs.len(), none.found), (0, 0));

    // All the same: more pairs than are kept, and their true number.
    let same = directions(&[30.0; 200], &[]);
    let found = same.duplicates(0.99, &pool).unwrap();
    assert_eq!((found.pairs.len(), found.found), (MAX_PAIRS, 200 * 199 / 2));
}

#[test]
fn a_label_among_others_is_a_suspect() {
    let pool = Pool::new(2).unwrap();
    // Around 0 degrees all are of class 0 but the third; around 90 degrees all are of class 1.
    let degrees = [0.0, 1.0, 2.0, 3.0, 4.0, 90.0, 91.0, 92.0, 93.0];
    let labels = [0, 0, 1, 0, 0, 1, 1, 1, 1];
    let found = directions(&degrees, &labels).suspects(3, &pool).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].index, found[0].class, found[0].neighbours), (2, 1, 0));
    assert_eq!((found[0].share, found[0].own_share), (1.0, 0.0));
    assert!([1, 3].contains(&found[0].nearest.index));
    // Half of the neighbours are not most of them.
    assert!(directions(&[0.0, 1.0, 2.0], &[0, 1, 2]).suspects(2, &pool).unwrap().is_empty());
    // Without labels there is nothing to suspect; alone, an image has no neighbours.
    assert!(directions(&degrees, &[]).suspects(3, &pool).unwrap().is_empty());
    assert!(directions(&[0.0], &[0]).suspects(3, &pool).unwrap().is_empty());
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let degrees: Vec<f32> = (0..150).map(|i| (i * 37 % 360) as f32 * 0.7).collect();
    let labels: Vec<u32> = (0..150).map(|i| i % 3).collect();
    let all = directions(&degrees, &labels);
    let results = |threads| {
        let pool = Pool::new(threads).unwrap();
        (
            all.duplicates(0.9, &pool).unwrap(),
            all.suspects(5, &pool).unwrap(),
            all.similar(&[0.3, 1.0], 20, &pool).unwrap(),
        )
    };
    assert_eq!(results(1), results(3));
}

#[test]
fn files_hold_what_numpy_and_tables_need() {
    let mut all = directions(&[0.0, 90.0], &[1, 0]);
    all.features = vec![1.5, -0.25, f32::MIN_POSITIVE, 1e30];
    let mut npy = Vec::new();
    all.write_npy(&mut npy).unwrap();
    // Magic and version, the length of the header, the header, whose end is a multiple of 64, the floats.
    assert_eq!(&npy[..8], b"\x93NUMPY\x01\x00");
    let end = 10 + usize::from(u16::from_le_bytes([npy[8], npy[9]]));
    let header = std::str::from_utf8(&npy[10..end]).unwrap();
    assert!(end.is_multiple_of(64) && header.ends_with('\n'));
    assert_eq!(header.trim_end(), "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }");
    let floats: Vec<u8> = all.features.iter().flat_map(|value| value.to_le_bytes()).collect();
    assert_eq!(&npy[end..], floats);

    let text = |write: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = Vec::new();
        write(&mut bytes);
        String::from_utf8(bytes).unwrap()
    };
    assert_eq!(text(&|out| all.write_names(out).unwrap()), "name,class\n0,\"b,c\"\n1,a\n");
    let table = text(&|out| all.write_csv(out).unwrap());
    let rows: Vec<Vec<&str>> = table.lines().skip(1).map(|line| line.rsplitn(3, ',').collect()).collect();
    assert!(table.starts_with("name,class,f0,f1\n"));
    let value = |row: usize, column: usize| rows[row][1 - column].parse::<f32>().unwrap();
    assert_eq!([value(0, 0), value(0, 1), value(1, 0), value(1, 1)], *all.features);

    all.labels.clear();
    assert_eq!(text(&|out| all.write_names(out).unwrap()), "name\n0\n1\n");
}
