//! The split of an image is for ever.

use std::collections::BTreeMap;

use ocelli_datasets::Split;

use super::{by, name, splits, store, upload};
use crate::store::{FeedbackInput, Store};
use ocelli_testing::hostile::images::png;
use ocelli_testing::hostile::zips::{Part, zip};

/// Images `from..to` of class `a`, all below `folder`.
fn parts(folder: &str, range: std::ops::Range<u8>) -> Vec<Part> {
    range.map(|i| Part::file(format!("{folder}a/{i}.png"), &png(4, 4, &[7, i]))).collect()
}

fn others(folder: &str) -> Vec<Part> {
    (0..4).map(|i| Part::file(format!("{folder}b/{i}.png"), &png(4, 4, &[8, i]))).collect()
}

fn counts(store: &Store) -> BTreeMap<String, (usize, usize, usize)> {
    let classes = store.datasets().inspect(&name("x")).unwrap().classes;
    classes.into_iter().map(|class| (class.name, (class.train, class.val, class.test))).collect()
}

#[test]
fn nothing_that_comes_later_moves_an_image() {
    let folders: [&[&str]; 4] =
        [&[""], &["train/", "val/"], &["train/", "test/"], &["train/", "val/", "test/"]];
    for first in folders {
        let (keep, store) = store();
        let share = |folders: &[&str], shift: usize| {
            let mut all = Vec::new();
            for (at, part) in (0..40).zip(0..40_u8) {
                let folder = folders[(at + shift) % folders.len()];
                all.extend(parts(folder, part..part + 1));
            }
            folders.iter().take(1).for_each(|folder| all.extend(others(folder)));
            all
        };
        upload(&store, "x", &zip(&share(first, 0))).unwrap();
        let before: BTreeMap<_, _> = splits(&store, "x").into_iter().collect();
        let same = |store: &Store, story: &str| {
            let now = splits(store, "x");
            for (id, split) in &now {
                assert!(before.get(id).is_none_or(|own| own == split), "{first:?}: {story}");
            }
            now.len()
        };
        for then in folders {
            for shift in 0..then.len() {
                let mut again = share(then, shift);
                again.reverse();
                let report = upload(&store, "x", &zip(&again)).unwrap();
                assert_eq!((report.accepted, report.duplicates), (0, 44));
                let told = report.notes.iter().any(|note| note.contains("keep their split"));
                assert!(told, "{:?}", report.notes);
                assert_eq!(same(&store, "the same images"), 44);
            }
        }
        // New ones beside them, declared and not.
        for (at, folder) in (0..).zip(["", "train/", "val/", "test/"]) {
            let mut more = parts(folder, 100 + at * 10..110 + at * 10);
            more.extend(parts(folder, 0..5));
            upload(&store, "x", &zip(&[more, others(folder)].concat())).unwrap();
            same(&store, "more images");
        }
        // Single ones.
        for i in 0..5 {
            store.datasets().add_image(&name("x"), "a", &png(4, 4, &[7, i]), &by()).unwrap();
            let image = png(4, 4, &[9, i]);
            let input = FeedbackInput { label: Some("a".to_owned()), ..FeedbackInput::default() };
            let id = store.feedback().add(&image, &input, store.datasets(), &by()).unwrap();
            store.feedback().approve(&id, &name("x"), None, &by()).unwrap();
        }
        assert_eq!(same(&store, "single images"), 44 + 40 + 5);
        // Without those that were held out.
        let all = splits(&store, "x");
        for (id, _) in all.iter().filter(|(_, split)| *split != Split::Train) {
            store.datasets().delete_image(&name("x"), id, &by()).unwrap();
        }
        let left = same(&store, "held-out images deleted");
        assert!(splits(&store, "x").iter().all(|(_, split)| *split == Split::Train));
        upload(&store, "x", &zip(&[parts("", 200..220), others("")].concat())).unwrap();
        assert!(same(&store, "more after that") >= left + 20);
        let at_last = splits(&store, "x");
        drop(store);
        let store = Store::open(keep.path()).unwrap();
        assert_eq!(splits(&store, "x"), at_last);
        super::assert_sound(keep.path());
    }
}

#[test]
fn what_an_archive_declares_is_kept() {
    let (_keep, store) = store();
    let both = |a: Vec<Part>, b: Vec<Part>| zip(&[a, b].concat());
    let train = [parts("train/", 0..20), others("train/")].concat();
    // With validation images: as it is.
    upload(&store, "x", &both(train.clone(), parts("val/", 20..25))).unwrap();
    assert_eq!(counts(&store)["a"], (20, 5, 0));
    assert_eq!(counts(&store)["b"], (4, 0, 0));
    store.datasets().delete(&name("x"), &by()).unwrap();
    // With test images alone: as it is, too.
    upload(&store, "x", &both(train.clone(), parts("test/", 20..25))).unwrap();
    assert_eq!(counts(&store)["a"], (20, 0, 5));
    store.datasets().delete(&name("x"), &by()).unwrap();
    // All for training, or nothing said: drawn.
    for images in [train, [parts("", 0..20), others("")].concat()] {
        upload(&store, "x", &zip(&images)).unwrap();
        assert_eq!(counts(&store)["a"], (16, 2, 2));
        assert_eq!(counts(&store)["b"], (3, 0, 1));
        store.datasets().delete(&name("x"), &by()).unwrap();
    }
}

#[test]
fn an_image_of_two_data_sets_has_a_split_in_each() {
    let (_keep, store) = store();
    upload(&store, "x", &zip(&[parts("train/", 0..10), parts("val/", 10..12), others("train/")].concat()))
        .unwrap();
    upload(&store, "y", &zip(&[parts("val/", 0..10), parts("train/", 10..12), others("train/")].concat()))
        .unwrap();
    let (x, y) = (splits(&store, "x"), splits(&store, "y"));
    let differ = x.iter().zip(&y).filter(|(a, b)| a.0 == b.0 && a.1 != b.1).count();
    assert_eq!((x.len(), differ), (16, 12));
}
