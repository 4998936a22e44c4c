//! Classes left out, merged and renumbered, on real files.

use super::*;
use crate::DecodeLimits;
use image::ImageFormat;
use ocelli_testing::{encode, picture};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// A folder with a picture of its own for each name.
fn folder(names: &[&str]) -> TempDir {
    let dir = TempDir::new().unwrap();
    for (seed, name) in (0..).zip(names) {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, encode(picture(seed, 4, 4), ImageFormat::Png)).unwrap();
    }
    dir
}

fn open(dir: &Path) -> Source {
    Source::open(dir).unwrap()
}

/// The contents of all items: what is to be the same after items were left out.
fn contents(source: &Source) -> Vec<(String, String, Vec<u8>)> {
    let limits = DecodeLimits::default();
    let one = |i: usize| {
        let item = &source.items()[i];
        let (image, _) = source.image(i, &limits).unwrap();
        let crate::Pixels::U8(values) = image.pixels else { panic!("8-bit files") };
        (item.name.clone(), source.classes()[item.class() as usize].clone(), values)
    };
    (0..source.items().len()).map(one).collect()
}

#[test]
fn a_class_without_training_images_is_left_out_and_named_with_its_images() {
    let dir = folder(&[
        "train/cats/1.png",
        "train/dogs/1.png",
        "val/cats/2.png",
        "val/auks/1.png",
        "val/owls/1.png",
        "val/owls/2.png",
        "test/owls/3.png",
        "test/dogs/3.png",
        "test/emus/1.png",
    ]);
    let mut source = open(dir.path());
    let mut before = contents(&source);
    let note = source.drop_untrained(0).unwrap();
    assert_eq!(
        note,
        "left out: auks (1 image in val), emus (1 image in test), owls (2 images in val and 1 in test): these classes \
         have no training image"
    );
    assert_eq!(source.notes().last(), Some(&note));
    assert_eq!(source.classes(), ["cats", "dogs"]);
    before.retain(|(_, class, _)| ["cats", "dogs"].contains(&class.as_str()));
    assert_eq!(contents(&source), before);
    assert_eq!(source.native_shape().size, Some((4, 4)));
    assert_eq!(source.drop_untrained(0), None);
}

#[test]
fn nothing_is_left_out_where_all_classes_are_trained_or_none() {
    for names in [
        vec!["cats/1.png", "dogs/1.png"],
        vec!["val/cats/1.png", "val/dogs/1.png"],
        vec!["train/cats/1.png", "train/dogs/1.png", "test/cats/2.png"],
    ] {
        let dir = folder(&names);
        let mut source = open(dir.path());
        assert_eq!(source.drop_untrained(0), None, "{names:?}");
        assert_eq!((source.classes().len(), source.items().len()), (2, names.len()));
    }
}

#[test]
fn classes_of_a_model_stay_where_they_are() {
    let dir = folder(&["train/b/1.png", "train/c/1.png", "val/a/1.png", "val/d/1.png"]);
    let mut source = open(dir.path());
    source.align_classes(&["d", "x", "b"].map(str::to_owned));
    assert_eq!(source.classes(), ["d", "x", "b", "a", "c"]);
    source.note_fading(3);
    let note = source.drop_untrained(3).unwrap();
    assert_eq!(note, "left out: a (1 image in val): the class has no training image");
    assert_eq!(source.classes(), ["d", "x", "b", "c"]);
    let notes = source.notes().join("\n");
    assert!(notes.contains("no training images of d, x: what the model knows of them may fade"), "{notes}");
    let classes: Vec<_> = contents(&source).into_iter().map(|(name, class, _)| (name, class)).collect();
    let expected = [("train/b/1.png", "b"), ("train/c/1.png", "c"), ("val/d/1.png", "d")];
    assert_eq!(classes, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
}

#[test]
fn items_of_array_files_keep_their_pixels() {
    let dir = TempDir::new().unwrap();
    for (part, labels) in [("train", [0, 2, 0, 2]), ("t10k", [1, 0, 1, 2])] {
        let mut images = vec![0, 0, 8, 3, 0, 0, 0, 4, 0, 0, 0, 2, 0, 0, 0, 2];
        images.extend((0..16).map(|i| i + if part == "train" { 0 } else { 100 }));
        fs::write(dir.path().join(format!("{part}-images-idx3-ubyte")), images).unwrap();
        let bytes = [&[0, 0, 8, 1, 0, 0, 0, 4], &labels[..]].concat();
        fs::write(dir.path().join(format!("{part}-labels-idx1-ubyte")), bytes).unwrap();
    }
    fs::write(dir.path().join("labels.txt"), "zero\none\ntwo\nthree\n").unwrap();
    let mut source = open(dir.path());
    let mut before = contents(&source);
    let note = source.drop_untrained(0).unwrap();
    assert!(note.contains("one (2 images in test)") && note.contains("three (no image)"), "{note}");
    assert_eq!(source.classes(), ["zero", "two"]);
    before.retain(|(_, class, _)| class != "one");
    assert_eq!(before.len(), 6);
    assert_eq!(contents(&source), before);
}

#[test]
fn classes_are_aligned_after_nfc_and_never_doubled() {
    let (composed, decomposed) = ("caf\u{e9}", "cafe\u{301}");
    let dir = folder(&[&format!("{decomposed}/1.png"), "bar/1.png"]);
    let mut source = open(dir.path());
    source.align_classes(&[composed.to_owned()]);
    assert_eq!(source.classes(), [composed, "bar"]);
    assert_eq!(source.items().iter().map(|item| item.class()).collect::<Vec<_>>(), [1, 0]);
    // Two spellings in one source become one class, as it is written first.
    source.classes = vec![decomposed.to_owned(), composed.to_owned()];
    source.align_classes(&[]);
    assert_eq!(source.classes(), [decomposed]);
    // A model that was made with both keeps them apart.
    source.classes = vec![composed.to_owned(), decomposed.to_owned()];
    source.items[0].labels = crate::Labels::One(1);
    source.items[1].labels = crate::Labels::One(0);
    source.align_classes(&[decomposed.to_owned(), composed.to_owned()]);
    assert_eq!(source.classes(), [decomposed, composed]);
    assert_eq!(source.items().iter().map(|item| item.class()).collect::<Vec<_>>(), [0, 1]);
}
