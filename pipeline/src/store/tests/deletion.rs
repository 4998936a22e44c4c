//! What is deleted goes for ever, and only once nothing needs it any more.

use std::fs;

use super::{archive, by, check_clean, end_job, ids, image_file, job, name, paths, store, upload};
use crate::store::image::Id;
use crate::store::{FeedbackInput, Store};
use ocelli_testing::hostile::images::png;

#[test]
fn a_file_stays_until_the_last_that_has_it_goes() {
    // Data set x, data set y, feedback, a job: in every order.
    let mut orders: Vec<Vec<usize>> = vec![vec![]];
    for _ in 0..4 {
        let mut longer = Vec::new();
        for order in &orders {
            for next in (0..4).filter(|next| !order.contains(next)) {
                longer.push([order.clone(), vec![next]].concat());
            }
        }
        orders = longer;
    }
    assert_eq!(orders.len(), 24);
    for order in orders {
        let (keep, store) = store();
        let image = png(4, 4, &[1, 0]);
        let id = Id::of(&image).to_string();
        upload(&store, "x", &archive(1, 4)).unwrap();
        upload(&store, "y", &archive(1, 4)).unwrap();
        store.feedback().add(&image, &FeedbackInput::default(), store.datasets(), &by()).unwrap();
        let job = job(&store, "x");
        let file = image_file(keep.path(), &id);
        for (at, what) in order.iter().enumerate() {
            match what {
                0 => store.datasets().delete_image(&name("x"), &id, &by()).unwrap(),
                1 => store.datasets().delete(&name("y"), &by()).unwrap(),
                2 => store.feedback().reject(&id, &by()).unwrap(),
                _ => end_job(&store, job),
            }
            assert_eq!(file.exists(), at < 3, "{order:?} at {at}");
            super::assert_sound(keep.path());
        }
        drop(store);
        let store = Store::open(keep.path()).unwrap();
        assert!(!file.exists() && store.notes().is_empty());
        assert_eq!(ids(&store, "x").len(), 3);
        check_clean(&store);
    }
}

/// What a kill leaves between the commit of a deletion and the removal of its files.
#[test]
fn a_kill_after_the_commit_of_a_deletion_brings_nothing_back() {
    let (keep, store) = store();
    upload(&store, "x", &archive(1, 6)).unwrap();
    upload(&store, "y", &archive(2, 6)).unwrap();
    let versions = store.versions(&name("m")).unwrap();
    let version = versions.add(&super::model(0), &Default::default()).unwrap().version;
    let gone: Vec<_> = super::files(keep.path()).into_iter().collect();
    versions.delete(&version, &by()).unwrap();
    store.datasets().delete(&name("x"), &by()).unwrap();
    store.datasets().delete_image(&name("y"), ids(&store, "y").first().unwrap(), &by()).unwrap();
    let left = paths(keep.path());
    assert_eq!(left.len(), 5);
    drop((versions, store));
    for (path, content) in gone {
        let path = keep.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let store = Store::open(keep.path()).unwrap();
    assert!(store.versions(&name("m")).unwrap().list().unwrap().is_empty());
    assert_eq!((paths(keep.path()), store.notes().len()), (left, 0));
    check_clean(&store);
    // And what comes again stays.
    upload(&store, "x", &archive(1, 6)).unwrap();
    drop(store);
    let store = Store::open(keep.path()).unwrap();
    assert_eq!(ids(&store, "x").len(), 6);
    check_clean(&store);
}

#[test]
fn what_is_to_go_and_cannot_does_not_stop_the_start() {
    let (keep, store) = store();
    upload(&store, "x", &archive(1, 4)).unwrap();
    let all: Vec<_> = ids(&store, "x").into_iter().collect();
    let (first, file) = (&all[0], image_file(keep.path(), &all[0]));
    super::damage::folder(&file);
    store.datasets().delete_image(&name("x"), first, &by()).unwrap();
    drop(store);
    // And rows that no deletion wrote.
    let raw = rusqlite::Connection::open(keep.path().join("ocelli.db")).unwrap();
    fs::write(keep.path().join("mine.txt"), "x").unwrap();
    for path in ["mine.txt", "../mine.txt", "images/../mine.txt", "lock", "ocelli.db", "", "images", "/etc/x"]
    {
        raw.execute("INSERT OR REPLACE INTO removed (path) VALUES (?)", [path]).unwrap();
    }
    drop(raw);
    for _ in 0..2 {
        let store = Store::open(keep.path()).unwrap();
        assert_eq!(ids(&store, "x").len(), 3);
        assert!(keep.path().join("mine.txt").exists());
        assert!(!file.exists());
    }
}

#[test]
fn a_quota_refuses_and_keeps_nothing() {
    let (keep, store) = store();
    upload(&store, "x", &archive(1, 4)).unwrap();
    let before = (paths(keep.path()), store.usage());
    store.set_max_bytes(before.1.total() + 10);
    let full = |error: &crate::store::StoreError| {
        assert!(
            matches!(error, crate::store::StoreError::Full { reason } if reason.contains("max_data_bytes")),
            "{error}"
        );
    };
    full(&upload(&store, "x", &archive(2, 4)).unwrap_err());
    full(&upload(&store, "new", &archive(2, 4)).unwrap_err());
    full(&store.datasets().add_image(&name("x"), "a", &png(9, 9, b"1"), &by()).unwrap_err());
    full(&store.feedback().add(&png(9, 9, b"1"), &Default::default(), store.datasets(), &by()).unwrap_err());
    full(&store.versions(&name("m")).unwrap().add(&super::model(0), &Default::default()).unwrap_err());
    full(&store.check_room(11).unwrap_err());
    store.check_room(10).unwrap();
    assert_eq!((paths(keep.path()), store.usage()), before);
    assert_eq!(store.datasets().list().unwrap().len(), 1);
    // What is there already needs no room; what goes makes some.
    assert_eq!(upload(&store, "y", &archive(1, 4)).unwrap().accepted, 4);
    store.datasets().delete(&name("y"), &by()).unwrap();
    store.datasets().delete(&name("x"), &by()).unwrap();
    assert_eq!(store.usage().images, 0);
    upload(&store, "x", &archive(2, 4)).unwrap();
    store.set_max_bytes(0);
    upload(&store, "x", &archive(3, 20)).unwrap();
    let counted = store.usage();
    drop(store);
    let store = Store::open(keep.path()).unwrap();
    assert_eq!((store.usage().images, store.usage().models), (counted.images, counted.models));
    check_clean(&store);
}
