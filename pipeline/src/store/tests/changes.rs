//! Changes of images: made as a whole, undone as a whole, and what they keep of files.

use std::collections::BTreeMap;
use std::fs;

use super::{actions, archive, by, check_clean, image_file, name, store, upload};
use crate::store::{KEPT_CHANGES, MAX_CHANGED, Store, StoreError, repair};
use ocelli_testing::hostile::images::png;
use ocelli_testing::hostile::zips::{Part, zip};

/// Class, split and name of every image.
fn rows(store: &Store, of: &str) -> BTreeMap<String, (String, String, String)> {
    let page = store.datasets().images(&name(of), None, 0, 1 << 30).unwrap();
    let row =
        |image: crate::store::ImageInfo| (image.id, (image.class, format!("{:?}", image.split), image.name));
    page.images.into_iter().map(row).collect()
}

fn of_class(store: &Store, of: &str, class: &str) -> Vec<String> {
    let page = store.datasets().images(&name(of), Some(class), 0, 1 << 30).unwrap();
    page.images.into_iter().map(|image| image.id).collect()
}

#[test]
fn images_change_their_class_and_keep_their_split() {
    let (_keep, store) = store();
    upload(&store, "pets", &archive(1, 20)).unwrap();
    let before = rows(&store, "pets");
    let moved = of_class(&store, "pets", "a")[..4].to_vec();
    let change = store.datasets().change(&name("pets"), &moved, Some("b"), &by()).unwrap();
    assert_eq!((change.images, change.class.as_deref(), change.undone), (4, Some("b"), None));
    for (id, (class, split, original)) in rows(&store, "pets") {
        let (old_class, old_split, old_name) = &before[&id];
        assert_eq!((&split, &original), (old_split, old_name));
        let expected = if moved.contains(&id) { "b" } else { old_class };
        assert_eq!(class, expected);
    }
    let undone = store.datasets().undo(&name("pets"), change.change, &by()).unwrap();
    assert!(undone.undone.is_some());
    assert_eq!(rows(&store, "pets"), before);
    assert_eq!(actions(&store)[1..], ["change images", "undo change of images"]);
    check_clean(&store);
}

#[test]
fn a_class_comes_and_goes_with_its_images() {
    let (_keep, store) = store();
    upload(&store, "pets", &archive(1, 6)).unwrap();
    let before = rows(&store, "pets");
    let all = of_class(&store, "pets", "a");
    let classes = |store: &Store| -> Vec<String> {
        store.datasets().inspect(&name("pets")).unwrap().classes.into_iter().map(|c| c.name).collect()
    };
    let change = store.datasets().change(&name("pets"), &all, Some("new"), &by()).unwrap();
    assert_eq!(classes(&store), ["b", "new"]);
    store.datasets().undo(&name("pets"), change.change, &by()).unwrap();
    assert_eq!(classes(&store), ["a", "b"]);
    let change = store.datasets().change(&name("pets"), &all, None, &by()).unwrap();
    assert_eq!(classes(&store), ["b"]);
    store.datasets().undo(&name("pets"), change.change, &by()).unwrap();
    assert_eq!(rows(&store, "pets"), before);
}

#[test]
fn files_of_removed_images_stay_until_they_cannot_come_back() {
    let (keep, store) = store();
    upload(&store, "pets", &archive(1, 8)).unwrap();
    let id = of_class(&store, "pets", "a")[0].clone();
    let other = of_class(&store, "pets", "b")[..1].to_vec();
    let change = store.datasets().change(&name("pets"), std::slice::from_ref(&id), None, &by()).unwrap();
    assert!(image_file(keep.path(), &id).is_file());
    check_clean(&store);
    for at in 0..KEPT_CHANGES - 1 {
        let class = ["a", "b"][at % 2];
        store.datasets().change(&name("pets"), &other, Some(class), &by()).unwrap();
    }
    assert!(image_file(keep.path(), &id).is_file());
    assert_eq!(store.datasets().changes(&name("pets"), 1 << 20).unwrap().len(), KEPT_CHANGES);
    let class = ["a", "b"][(KEPT_CHANGES - 1) % 2];
    store.datasets().change(&name("pets"), &other, Some(class), &by()).unwrap();
    assert!(!image_file(keep.path(), &id).exists());
    let gone = store.datasets().undo(&name("pets"), change.change, &by()).unwrap_err();
    assert!(matches!(gone, StoreError::NotFound { .. }), "{gone}");
    // Deleted for good: no change brings it back, and its file is gone at once.
    let removed = store.datasets().change(&name("pets"), &other, Some("c"), &by()).unwrap();
    store.datasets().delete_image(&name("pets"), &other[0], &by()).unwrap();
    assert!(!image_file(keep.path(), &other[0]).exists());
    assert_eq!(store.datasets().undo(&name("pets"), removed.change, &by()).unwrap().images, 0);
    check_clean(&store);
    let left = of_class(&store, "pets", "a")[..1].to_vec();
    store.datasets().change(&name("pets"), &left, None, &by()).unwrap();
    store.datasets().delete(&name("pets"), &by()).unwrap();
    assert!(!image_file(keep.path(), &left[0]).exists());
    check_clean(&store);
}

#[test]
fn what_changed_since_is_not_undone() {
    let (_keep, store) = store();
    upload(&store, "pets", &archive(1, 10)).unwrap();
    let [one, two] = [0, 1].map(|at| of_class(&store, "pets", "a")[at].clone());
    let both = [one.clone(), two];
    let first = store.datasets().change(&name("pets"), &both, Some("b"), &by()).unwrap();
    let second = store.datasets().change(&name("pets"), &[one], Some("c"), &by()).unwrap();
    let before = rows(&store, "pets");
    let error = store.datasets().undo(&name("pets"), first.change, &by()).unwrap_err();
    assert!(
        matches!(error, StoreError::Conflict { ref reason } if reason.contains("in class \"c\"")),
        "{error}"
    );
    assert_eq!(rows(&store, "pets"), before);
    store.datasets().undo(&name("pets"), second.change, &by()).unwrap();
    let again = store.datasets().undo(&name("pets"), second.change, &by()).unwrap_err();
    assert!(again.to_string().contains("undone already"), "{again}");
    store.datasets().undo(&name("pets"), first.change, &by()).unwrap();
    let removed = store.datasets().change(&name("pets"), &both, None, &by()).unwrap();
    upload(&store, "pets", &archive(1, 10)).unwrap();
    let error = store.datasets().undo(&name("pets"), removed.change, &by()).unwrap_err();
    assert!(error.to_string().contains("by now"), "{error}");
}

#[test]
fn what_cannot_be_done_changes_nothing() {
    let (_keep, store) = store();
    upload(&store, "pets", &archive(1, 6)).unwrap();
    upload(&store, "cars", &zip(&[Part::file("x/1.png", &png(4, 4, b"x"))])).unwrap();
    let before = rows(&store, "pets");
    let own = of_class(&store, "pets", "a");
    let foreign = of_class(&store, "cars", "x");
    let change = |ids: &[String], class: Option<&str>| {
        store.datasets().change(&name("pets"), ids, class, &by()).unwrap_err()
    };
    let with = |more: &[String]| [&own[..1], more].concat();
    let many: Vec<String> = (0..=MAX_CHANGED).map(|at| format!("{at:064x}")).collect();
    let cases = [
        (change(&[], Some("b")), "1 to 1000"),
        (change(&many, Some("b")), "1001 images"),
        (change(&with(&own[..1]), Some("b")), "named twice"),
        (change(&with(&foreign), Some("b")), "image"),
        (change(&with(&["../x".to_owned()]), None), "image"),
        (change(&own, Some(" b")), "spaces"),
        (change(&own, Some("a")), "already"),
    ];
    for (error, says) in cases {
        assert!(error.to_string().contains(says), "{error}");
    }
    assert_eq!(rows(&store, "pets"), before);
    assert!(store.datasets().changes(&name("pets"), 9).unwrap().is_empty());
    let other = store.datasets().change(&name("cars"), &foreign, Some("y"), &by()).unwrap();
    let error = store.datasets().undo(&name("pets"), other.change, &by()).unwrap_err();
    assert!(matches!(error, StoreError::NotFound { .. }), "{error}");
}

/// Makes the database one of the first version of the tables.
fn to_first_version(dir: &std::path::Path) {
    let raw = rusqlite::Connection::open(dir.join("ocelli.db")).unwrap();
    raw.execute_batch(
        "DROP TABLE changed; DROP TABLE changes; DROP TABLE version_labels; PRAGMA user_version = 1; VACUUM;",
    )
    .unwrap();
}

#[test]
fn a_database_of_the_first_version_is_brought_to_this_one() {
    let (keep, opened) = store();
    upload(&opened, "pets", &archive(1, 20)).unwrap();
    let before = rows(&opened, "pets");
    drop(opened);
    to_first_version(keep.path());
    let opened = Store::open(keep.path()).unwrap();
    assert_eq!(rows(&opened, "pets"), before);
    let ids = of_class(&opened, "pets", "a");
    opened.datasets().change(&name("pets"), &ids, Some("b"), &by()).unwrap();
}

#[test]
fn a_damaged_schema_is_mended_whatever_version_the_database_began_with() {
    for upgraded in [false, true] {
        let (keep, made) = store();
        drop(made);
        if upgraded {
            to_first_version(keep.path());
        }
        let opened = Store::open(keep.path()).unwrap();
        upload(&opened, "pets", &archive(1, 60)).unwrap();
        let ids = of_class(&opened, "pets", "a")[..3].to_vec();
        opened.datasets().change(&name("pets"), &ids, Some("b"), &by()).unwrap();
        let before = rows(&opened, "pets");
        drop(opened);
        let path = keep.path().join("ocelli.db");
        let mut bytes = fs::read(&path).unwrap();
        bytes[100..4096].fill(0xab);
        fs::write(&path, bytes).unwrap();
        repair(keep.path()).unwrap();
        let opened = Store::open(keep.path()).unwrap();
        assert_eq!(rows(&opened, "pets"), before, "upgraded: {upgraded}");
    }
}
