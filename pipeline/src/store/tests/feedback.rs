//! Feedback: how it waits and becomes training data.

use std::fs;

use super::{by, check_clean, name, paths, store};
use crate::store::image::Id;
use crate::store::info::StoredImage;
use crate::store::{
    FeedbackEntry, FeedbackInput, MAX_FEEDBACK, MAX_FEEDBACK_BYTES, MAX_FEEDBACK_TOTAL, Origin, Store,
    StoreError,
};
use ocelli_testing::hostile::images::{Fate, corpus, png};

fn input(label: &str) -> FeedbackInput {
    FeedbackInput { predicted: Some("cat".to_owned()), label: Some(label.to_owned()), ..Default::default() }
}

fn add(store: &Store, image: &[u8], input: FeedbackInput) -> Result<String, StoreError> {
    store.feedback().add(image, &input, store.datasets(), &by())
}

fn waiting(store: &Store) -> Vec<FeedbackEntry> {
    store.feedback().page(0, MAX_FEEDBACK).unwrap().feedback
}

#[test]
fn feedback_survives_a_restart_and_becomes_training_data() {
    let (keep, store) = store();
    let (one, two) = (png(8, 8, b"one"), png(8, 8, b"two"));
    let first = add(&store, &one, input("dog")).unwrap();
    let second = add(&store, &two, input("cat")).unwrap();
    assert_eq!(add(&store, &one, input("fox")).unwrap(), first, "the latest word counts");
    drop(store);

    let store = Store::open(keep.path()).unwrap();
    assert_eq!(waiting(&store).len(), 2);
    assert_eq!(waiting(&store).iter().find(|e| e.id == first).unwrap().input, input("fox"));
    assert_eq!(store.feedback().image(&first).unwrap(), StoredImage { bytes: one, media_type: "image/png" });

    let pets = name("pets");
    let added = store.feedback().approve(&first, &pets, None, &by()).unwrap();
    assert_eq!((added.class.as_str(), added.duplicate), ("fox", false));
    let added = store.feedback().approve(&second, &pets, Some("dog"), &by()).unwrap();
    assert_eq!(added.class, "dog");
    let page = store.datasets().images(&pets, None, 0, 9).unwrap();
    assert!(page.total == 2 && page.images.iter().all(|image| image.source == Origin::Feedback));
    assert!(waiting(&store).is_empty());
    check_clean(&store);
    let gone = store.feedback().reject(&first, &by());
    assert!(matches!(gone, Err(StoreError::NotFound { .. })));
}

#[test]
fn approving_what_is_there_adds_nothing() {
    let (_keep, store) = store();
    let image = png(8, 8, b"x");
    let id = add(&store, &image, input("dog")).unwrap();
    let pets = name("pets");
    store.datasets().add_image(&pets, "dog", &image, &by()).unwrap();
    let added = store.feedback().approve(&id, &pets, None, &by()).unwrap();
    assert!(added.duplicate);
    assert_eq!(store.datasets().inspect(&pets).unwrap().images, 1);
    assert!(waiting(&store).is_empty());
    // Another label is a conflict, and the entry stays.
    let id = add(&store, &image, input("cat")).unwrap();
    let error = store.feedback().approve(&id, &pets, None, &by()).unwrap_err();
    assert!(matches!(&error, StoreError::Conflict { reason } if reason.contains("\"dog\"")), "{error}");
    assert_eq!(waiting(&store).len(), 1);
    check_clean(&store);
}

#[test]
fn damage_to_an_image_that_waits_is_told_and_mended_by_sending_it_again() {
    let (_keep, store) = store();
    let image = png(8, 8, b"x");
    let id = add(&store, &image, input("dog")).unwrap();
    fs::write(super::image_file(store.dir(), &id), "noise").unwrap();
    assert!(matches!(store.feedback().image(&id), Err(StoreError::Damaged { .. })));
    let approved = store.feedback().approve(&id, &name("pets"), None, &by());
    assert!(matches!(approved, Err(StoreError::Damaged { .. })));
    assert!(waiting(&store)[0].damaged.is_some());
    assert!(store.datasets().list().unwrap().is_empty());
    add(&store, &image, input("dog")).unwrap();
    assert!(waiting(&store)[0].damaged.is_none());
    store.feedback().approve(&id, &name("pets"), None, &by()).unwrap();
    check_clean(&store);
}

/// Writes rows of so many entries, whose files were lost.
fn fill(store: &Store, count: usize, bytes: u64) {
    let raw = rusqlite::Connection::open(store.dir().join("ocelli.db")).unwrap();
    raw.execute_batch("BEGIN").unwrap();
    for i in 0..count as u64 {
        let hash = *Id::of(&i.to_le_bytes()).bytes();
        raw.execute("INSERT INTO files (hash, extension, bytes) VALUES (?, 'png', ?)", (hash, bytes as i64))
            .unwrap();
        raw.execute("INSERT INTO feedback (file, added) VALUES (last_insert_rowid(), 1)", []).unwrap();
    }
    raw.execute_batch("COMMIT").unwrap();
}

#[test]
fn so_many_wait_and_no_more() {
    let (_keep, store) = store();
    fill(&store, MAX_FEEDBACK - 1, 1);
    assert_eq!(store.feedback().page(0, 1).unwrap().total, MAX_FEEDBACK - 1);
    let id = add(&store, &png(8, 8, b"last"), input("dog")).unwrap();
    let error = add(&store, &png(8, 8, b"more"), input("dog")).unwrap_err();
    assert!(matches!(&error, StoreError::TooLarge { reason } if reason.contains("10000 images")), "{error}");
    add(&store, &png(8, 8, b"last"), input("fox")).unwrap();
    store.feedback().reject(&id, &by()).unwrap();
    add(&store, &png(8, 8, b"more"), input("dog")).unwrap();
}

#[test]
fn so_many_bytes_wait_and_no_more() {
    let image = png(8, 8, b"last");
    for (taken, fits) in [(MAX_FEEDBACK_TOTAL - image.len() as u64, true), (MAX_FEEDBACK_TOTAL, false)] {
        let (_keep, store) = store();
        fill(&store, 1, taken);
        assert_eq!(add(&store, &image, input("dog")).is_ok(), fits);
    }
}

#[test]
fn pages_are_of_all_in_the_order_in_which_they_came() {
    let (_keep, store) = store();
    let all: Vec<String> = (0..7).map(|i| add(&store, &png(8, 8, &[i]), input("dog")).unwrap()).collect();
    let mut paged = Vec::new();
    for offset in (0..9).step_by(3) {
        let page = store.feedback().page(offset, 3).unwrap();
        assert_eq!(page.total, 7);
        paged.extend(page.feedback.into_iter().map(|entry| entry.id));
    }
    assert_eq!(paged, all);
}

#[test]
fn bad_feedback_is_refused_and_leaves_nothing() {
    let (_keep, store) = store();
    for (name, bytes, fate) in corpus() {
        if let Fate::Refused(_) = fate {
            assert!(matches!(add(&store, &bytes, input("x")), Err(StoreError::Refused { .. })), "{name}");
        }
    }
    let large = vec![0; MAX_FEEDBACK_BYTES as usize + 1];
    let large = [png(8, 8, b"x"), large].concat();
    assert!(matches!(add(&store, &large, input("x")), Err(StoreError::TooLarge { .. })));
    let image = png(8, 8, b"x");
    let note = FeedbackInput { note: Some("x".repeat(2001)), ..FeedbackInput::default() };
    for bad in [input(""), input(" dog"), input("a\nb"), input(&"x".repeat(257)), note] {
        assert!(matches!(add(&store, &image, bad), Err(StoreError::Refused { .. })));
    }
    assert!(paths(store.dir()).is_empty());
    let id = add(&store, &image, FeedbackInput::default()).unwrap();
    let error = store.feedback().approve(&id, &name("pets"), None, &by()).unwrap_err();
    assert!(error.to_string().contains("no label"), "{error}");
    let error = store.feedback().approve(&id, &name("pets"), Some("a\nb"), &by()).unwrap_err();
    assert!(matches!(error, StoreError::Refused { .. }), "{error}");
}
