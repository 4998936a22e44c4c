//! Data sets on a real disk: what is taken, what is refused, what a kill leaves.

use crate::store::JobChange;
use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::AtomicBool;

use ocelli_datasets::{Source, Split, UploadLimits};
use ocelli_engine::Pool;

use super::{by, check_clean, end_job, files, ids, job, name, store, upload};
use crate::store::image::Id;
use crate::store::{MAX_SKIPPED, Store, StoreError};
use ocelli_testing::hostile;
use ocelli_testing::hostile::images::{Fate, png};
use ocelli_testing::hostile::zips::{Part, corpus, fine, unusual, zip};

#[test]
fn an_upload_is_listed_served_and_trained_on() {
    let (_keep, store) = store();
    let report = upload(&store, "pets", &zip(&fine(1))).unwrap();
    assert_eq!((report.accepted, report.duplicates, report.skipped_total), (4, 0, 0));
    assert_eq!((report.images, report.classes.len(), report.warning.clone()), (4, 2, None));
    check_clean(&store);

    let [summary] = store.datasets().list().unwrap().try_into().unwrap();
    assert_eq!((summary.name.as_str(), summary.images, summary.classes), ("pets", 4, 2));
    let info = store.datasets().inspect(&name("pets")).unwrap();
    assert_eq!((info.bytes, info.classes[0].images), (report.bytes, 2));
    let page = store.datasets().images(&name("pets"), Some("dogs"), 1, 5).unwrap();
    assert_eq!((page.total, page.images.len(), page.images[0].name.as_str()), (2, 1, "dogs/2.png"));
    let image = store.datasets().image(&name("pets"), &page.images[0].id).unwrap();
    assert_eq!((image.media_type, image.bytes), ("image/png", fine(1)[3].data.clone()));
    let small = store.datasets().thumbnail(&name("pets"), &page.images[0].id, 4).unwrap();
    assert!(small.starts_with(b"\x89PNG"));

    let id = store.jobs().create(&name("m"), &name("pets"), &by(), |_| JobChange::default()).unwrap();
    let source = Source::open(&store.jobs().data(id, &name("pets")).unwrap().table).unwrap();
    assert_eq!((source.kind(), source.items().len()), ("csv", 4));
    assert_eq!(source.classes(), ["cats", "dogs"]);
    drop(store);
}

#[test]
fn declared_splits_reach_training() {
    let (_keep, store) = store();
    let names = ["train/a/1.png", "train/b/2.png", "test/a/3.png", "val/b/4.png"];
    let parts: Vec<Part> = (0..).zip(names).map(|(i, n)| Part::file(n, &png(4, 4, &[i]))).collect();
    upload(&store, "x", &zip(&parts)).unwrap();
    let id = store.jobs().create(&name("m"), &name("x"), &by(), |_| JobChange::default()).unwrap();
    let source = Source::open(&store.jobs().data(id, &name("x")).unwrap().table).unwrap();
    let mut splits: Vec<_> = source.items().iter().map(|item| item.split.unwrap()).collect();
    splits.sort();
    assert_eq!(splits, [Split::Train, Split::Train, Split::Val, Split::Test]);
    let info = store.datasets().inspect(&name("x")).unwrap();
    assert_eq!((info.classes[0].train, info.classes[0].test, info.classes[1].val), (1, 1, 1));
}

#[test]
fn duplicates_conflicts_and_damage_are_told_one_by_one() {
    let (_keep, store) = store();
    upload(&store, "pets", &zip(&fine(1))).unwrap();
    let there = fine(1)[0].data.clone();
    let parts = [
        Part::file("cats/again.png", &there),
        Part::file("dogs/wrong.png", &there),
        Part::file("dogs/new.png", &png(8, 8, b"new")),
        Part::file("foxes/new.png", &png(8, 8, b"new")),
        Part::file("dogs/broken.png", &there[..there.len() - 20]),
    ];
    let report = upload(&store, "pets", &zip(&parts)).unwrap();
    assert_eq!((report.accepted, report.duplicates, report.skipped_total), (1, 1, 3));
    let reason = |name: &str| report.skipped.iter().find(|s| s.name == name).unwrap().reason.as_str();
    assert!(reason("dogs/wrong.png").contains("\"cats\""));
    assert!(reason("foxes/new.png").contains("\"dogs\""));
    assert!(reason("dogs/broken.png").contains("PNG file"));
    check_clean(&store);

    let before = files(store.dir());
    let again = upload(&store, "pets", &zip(&fine(1))).unwrap();
    assert_eq!((again.accepted, again.duplicates), (0, 4));
    let nothing = upload(&store, "pets", &zip(&[Part::file("a/1.png", b"no"), Part::file("b/2.png", b"")]));
    let text = nothing.unwrap_err().to_string();
    assert!(text.contains("none of the 2 images") && text.contains("a/1.png: not an image"), "{text}");
    assert_eq!(files(store.dir()), before);
}

#[test]
fn names_of_classes_are_any_text_and_never_files() {
    let (_keep, store) = store();
    let classes = ["<img onerror=x>", "=cmd()", "a,b\"c", "M\u{e4}use \u{1f431}", &"x".repeat(256)];
    let parts: Vec<Part> =
        (0..).zip(classes).map(|(i, class)| Part::file(format!("{class}/1.png"), &png(4, 4, &[i]))).collect();
    upload(&store, "x", &zip(&parts)).unwrap();
    check_clean(&store);
    let id = store.jobs().create(&name("m"), &name("x"), &by(), |_| JobChange::default()).unwrap();
    let source = Source::open(&store.jobs().data(id, &name("x")).unwrap().table).unwrap();
    assert_eq!(source.classes().iter().map(String::as_str).collect::<BTreeSet<_>>(), BTreeSet::from(classes));
    let long = Part::file(format!("{}/1.png", "x".repeat(257)), &png(4, 4, b"z"));
    let error = upload(&store, "x", &zip(&[long])).unwrap_err();
    assert!(matches!(error, StoreError::Refused { ref reason } if reason.contains("257 bytes")), "{error}");
}

#[test]
fn everything_hostile_leaves_the_data_set_as_it_was() {
    let (_keep, store) = store();
    upload(&store, "pets", &zip(&fine(1))).unwrap();
    let before = files(store.dir());
    for case in corpus() {
        let error = upload(&store, "pets", &case.bytes).unwrap_err();
        let expected = matches!(error, StoreError::Refused { .. } | StoreError::TooLarge { .. });
        let text = error.to_string();
        assert!(expected && text.contains(case.says), "{}: {text}", case.name);
        assert!(!text.contains(store.dir().to_str().unwrap()), "{}: {text}", case.name);
        let error = upload(&store, "fresh", &case.bytes).unwrap_err();
        assert!(error.to_string().contains(case.says), "{}", case.name);
        assert!(files(store.dir()) == before, "{}", case.name);
    }
    for (story, bytes) in unusual() {
        assert_eq!(upload(&store, "pets", &bytes).unwrap().images % 4, 0, "{story}");
    }
    check_clean(&store);
}

#[test]
fn images_from_the_edges_of_their_formats_are_taken_or_named() {
    let (_keep, store) = store();
    // Every name has the wrong extension for most of the contents, which alone count.
    let images = hostile::images::corpus();
    let part = |i: usize, bytes: &[u8]| Part::file(format!("{}/{i}.gif", ["a", "b"][i % 2]), bytes);
    let parts: Vec<Part> = images.iter().enumerate().map(|(i, (_, bytes, _))| part(i, bytes)).collect();
    let report = upload(&store, "x", &zip(&parts)).unwrap();
    let accepted = images.iter().filter(|(.., fate)| matches!(fate, Fate::Accepted(..))).count();
    assert_eq!((report.accepted, report.skipped_total), (accepted, images.len() - accepted));
    for skipped in &report.skipped {
        let number: usize = skipped.name[2..].strip_suffix(".gif").unwrap().parse().unwrap();
        let (story, _, fate) = &images[number];
        assert!(matches!(fate, Fate::Refused(says) if skipped.reason.contains(says)), "{story}: {skipped:?}");
    }
    let page = store.datasets().images(&name("x"), None, 0, usize::MAX).unwrap();
    let mut types = BTreeSet::new();
    for image in page.images {
        types.insert(store.datasets().image(&name("x"), &image.id).unwrap().media_type);
        store.datasets().thumbnail(&name("x"), &image.id, 16).unwrap();
    }
    assert_eq!(types, BTreeSet::from(["image/gif", "image/jpeg", "image/png"]));
}

#[test]
fn a_report_names_so_many_skipped_images_and_counts_all() {
    let (_keep, store) = store();
    let mut parts = fine(1);
    parts.extend((0..=MAX_SKIPPED).map(|i| Part::file(format!("cats/{i}.jpg"), b"no image")));
    let report = upload(&store, "pets", &zip(&parts)).unwrap();
    assert_eq!((report.skipped.len(), report.skipped_total), (MAX_SKIPPED, MAX_SKIPPED + 1));
    // Twenty cats to two dogs.
    let cats: Vec<Part> = (0..18).map(|i| Part::file(format!("cats/x{i}.png"), &png(4, 4, &[i]))).collect();
    let warning = upload(&store, "pets", &zip(&cats)).unwrap().warning.unwrap();
    assert!(warning.contains("cats has 20 images, dogs has 2"), "{warning}");
}

#[test]
fn a_raised_flag_stops_and_keeps_nothing() {
    let (_keep, store) = store();
    let staging = store.datasets().staging().unwrap();
    let path = staging.path().join("upload.zip");
    fs::write(&path, zip(&fine(1))).unwrap();
    let stop = AtomicBool::new(true);
    let outcome = store.datasets().import_zip(
        &name("x"),
        &path,
        (&UploadLimits::default(), &Pool::shared(2).unwrap()),
        &stop,
        &by(),
    );
    assert!(matches!(outcome, Err(StoreError::Stopped)));
    drop(staging);
    assert!(files(store.dir()).is_empty(), "{:?}", files(store.dir()));
    assert!(store.datasets().list().unwrap().is_empty());
}

#[test]
fn what_is_not_there_is_told_with_what_there_is() {
    let (_keep, store) = store();
    upload(&store, "pets", &zip(&fine(1))).unwrap();
    let text = store.datasets().inspect(&name("cars")).unwrap_err().to_string();
    assert_eq!(text, "there is no data set cars (there are: pets)");
    for id in ["", "../../lock", &"0".repeat(64), &"F".repeat(64)] {
        let outcome = store.datasets().image(&name("pets"), id);
        assert!(matches!(outcome, Err(StoreError::NotFound { what: "image", .. })), "{id}");
    }
    assert!(store.datasets().delete(&name("cars"), &by()).is_err());
    let asked = store.jobs().create(&name("m"), &name("cars"), &by(), |_| JobChange::default());
    assert!(matches!(asked, Err(StoreError::NotFound { what: "data set", .. })));
    assert!(store.jobs().all().unwrap().is_empty());
}

#[test]
fn a_snapshot_keeps_its_images_until_its_job_ends() {
    let (keep, store) = store();
    upload(&store, "pets", &zip(&fine(1))).unwrap();
    let pets = name("pets");
    let job = job(&store, "pets");
    let frozen = store.jobs().data(job, &pets).unwrap();
    let table = fs::read(&frozen.table).unwrap();
    let all = ids(&store, "pets");
    for id in &all {
        store.datasets().delete_image(&pets, id, &by()).unwrap();
    }
    upload(&store, "pets", &zip(&fine(2))).unwrap();
    assert!(ids(&store, "pets").is_disjoint(&all));
    store.jobs().data(job, &pets).unwrap();
    assert_eq!(fs::read(&frozen.table).unwrap(), table, "a snapshot is frozen");
    let conflict = store.datasets().delete(&pets, &by()).unwrap_err();
    assert!(matches!(&conflict, StoreError::Conflict { reason } if reason.contains("job 1;")), "{conflict}");
    drop(store);

    let store = Store::open(keep.path()).unwrap();
    assert!(store.notes().is_empty(), "{:?}", store.notes());
    let source = Source::open(&frozen.table).unwrap();
    assert_eq!((source.items().len(), source.name()), (4, "job-1"));
    assert_eq!(store.datasets().inspect(&pets).unwrap().jobs, [job]);
    end_job(&store, job);
    end_job(&store, job);
    check_clean(&store);
    assert_eq!(files(store.dir()).len(), 4, "{:?}", files(store.dir()));
    store.datasets().delete(&pets, &by()).unwrap();
    assert!(files(store.dir()).is_empty(), "{:?}", files(store.dir()));
}

/// Every state that a kill can leave before the transaction of an upload, built from the files of before and after it.
#[test]
fn every_step_before_the_commit_leaves_the_old_data_set() {
    for first in [false, true] {
        let (keep, store) = store();
        if !first {
            upload(&store, "pets", &zip(&fine(1))).unwrap();
        }
        let old_ids = if first { BTreeSet::new() } else { ids(&store, "pets") };
        drop(store);
        let old = files(keep.path());
        let all: Vec<_> = fine(2).into_iter().map(|part| part.data).collect();
        for moved in 0..=all.len() {
            let dir = tempfile::tempdir().unwrap();
            super::copy(keep.path(), dir.path());
            for (at, image) in all.iter().enumerate() {
                let id = Id::of(image).to_string();
                let path = if at < moved {
                    super::image_file(dir.path(), &id)
                } else {
                    dir.path().join(format!("incoming/0/{id}.png"))
                };
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, image).unwrap();
            }
            let store = Store::open(dir.path()).unwrap();
            if first {
                assert!(store.datasets().inspect(&name("pets")).is_err());
            } else {
                assert_eq!(ids(&store, "pets"), old_ids);
            }
            // What was moved in is put aside, as it might be somebody's; nothing else is new.
            let found = files(store.dir());
            assert!(found.is_superset(&old));
            let new: Vec<_> = found.difference(&old).collect();
            assert_eq!(new.len(), moved);
            assert!(new.iter().all(|(path, _)| path.starts_with("quarantine/images")), "{new:?}");
            assert_eq!(store.notes().len(), usize::from(moved > 0), "{:?}", store.notes());
            super::assert_sound(store.dir());
            assert_eq!(upload(&store, "pets", &zip(&fine(2))).unwrap().accepted, 4);
        }
    }
}

#[test]
fn a_merge_that_fails_midway_is_undone() {
    let (_keep, store) = store();
    upload(&store, "pets", &zip(&fine(1))).unwrap();
    let before = files(store.dir());
    let usage = store.usage().images;
    // Everything is moved in, and the transaction fails at its last step.
    let raw = rusqlite::Connection::open(store.dir().join("ocelli.db")).unwrap();
    raw.execute_batch("ALTER TABLE audit RENAME TO elsewhere").unwrap();
    upload(&store, "pets", &zip(&fine(2))).unwrap_err();
    store.datasets().add_image(&name("pets"), "dogs", &png(5, 5, b"one"), &by()).unwrap_err();
    raw.execute_batch("ALTER TABLE elsewhere RENAME TO audit").unwrap();
    assert_eq!(files(store.dir()), before);
    assert_eq!((ids(&store, "pets").len(), store.usage().images), (4, usage));
    // A folder that cannot be made: the others are moved in before it is found.
    let last = Id::of(&fine(2)[3].data).to_string();
    let obstacle = store.dir().join("images").join(&last[..2]);
    let _ = fs::remove_dir(&obstacle);
    std::os::unix::fs::symlink("/dev/null/nothing", &obstacle).unwrap();
    assert!(matches!(upload(&store, "pets", &zip(&fine(2))), Err(StoreError::Io { .. })));
    fs::remove_file(&obstacle).unwrap();
    assert_eq!(files(store.dir()), before);
    assert_eq!(ids(&store, "pets").len(), 4);
    assert_eq!(upload(&store, "pets", &zip(&fine(2))).unwrap().images, 8);
    check_clean(&store);
}

#[test]
fn files_of_other_people_are_kept() {
    let (keep, store) = store();
    drop(store);
    for path in ["images/mine/cats/1.png", "images/ab/note.png", "elsewhere/readme.txt", "note.txt"] {
        let path = keep.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    }
    let store = Store::open(keep.path()).unwrap();
    let expected = [
        "elsewhere/readme.txt",
        "note.txt",
        "quarantine/images/ab/note.png",
        "quarantine/images/mine/cats/1.png",
    ];
    assert_eq!(super::paths(keep.path()), expected);
    assert!(store.notes()[0].contains("images/ab/note.png"), "{:?}", store.notes());
    assert!(store.datasets().list().unwrap().is_empty());
}

#[test]
fn class_names_are_one_after_nfc_however_they_come() {
    let (composed, decomposed) = ("\u{e9}\u{e9}n", "e\u{301}e\u{301}n");
    for (first, second) in [(composed, decomposed), (decomposed, composed)] {
        let (_keep, store) = store();
        let image = |seed: u8| png(8, 8, &[seed]);
        let part = |class: &str, seed: u8| Part::file(format!("{class}/{seed}.png"), &image(seed));
        upload(&store, "x", &zip(&[part(first, 1), part("twee", 2)])).unwrap();
        let again = zip(&[part(second, 1), part(second, 3), part("twee", 4)]);
        let report = upload(&store, "x", &again).unwrap();
        assert_eq!((report.accepted, report.duplicates, report.skipped_total), (2, 1, 0));
        let counts: BTreeSet<_> =
            report.classes.iter().map(|c| (c.name.as_str(), c.before, c.after)).collect();
        assert_eq!(counts, BTreeSet::from([(first, 1, 2), ("twee", 1, 2)]));

        let add = |seed| store.datasets().add_image(&name("x"), second, &image(seed), &by());
        let (added, there) = (add(5).unwrap(), add(1).unwrap());
        assert_eq!((added.class.as_str(), added.duplicate), (first, false));
        assert_eq!((there.class.as_str(), there.duplicate), (first, true));
        for class in [first, second] {
            let page = store.datasets().images(&name("x"), Some(class), 0, 9).unwrap();
            assert!(page.total == 3 && page.images.iter().all(|image| image.class == first), "{page:?}");
        }
        // Both at once in one archive, of a class that is new.
        let (a, b) = (format!("{first}-b"), format!("{second}-b"));
        let report = upload(&store, "x", &zip(&[part(&a, 6), part(&b, 7)])).unwrap();
        assert_eq!((report.accepted, report.classes.len()), (2, 3));
        let info = store.datasets().inspect(&name("x")).unwrap();
        assert_eq!((info.images, info.classes.len()), (7, 3));
        drop(store);
    }
}
