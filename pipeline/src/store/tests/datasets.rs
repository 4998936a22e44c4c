//! Data sets on a real disk: what is taken, what is refused, what a kill leaves.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;

use ocelli_datasets::{Source, UploadLimits};
use tempfile::TempDir;

use super::*;
use crate::store::hostile::images::{Fate, png};
use crate::store::hostile::zips::{Part, corpus, fine, unusual, zip};
use crate::store::{ImportReport, MAX_SKIPPED, Store, hostile};

static GO: AtomicBool = AtomicBool::new(false);

fn name(text: &str) -> Name {
    Name::new(WHAT, text).unwrap()
}

fn store() -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    (dir, store)
}

/// Uploads an archive in the way of a server: received into a staging folder.
fn upload(store: &Store, to: &str, bytes: &[u8]) -> Result<ImportReport, StoreError> {
    let staging = store.datasets().staging()?;
    let path = staging.path().join("upload.zip");
    fs::write(&path, bytes).unwrap();
    store.datasets().import_zip(&name(to), &path, &UploadLimits::default(), &GO)
}

/// All files below a folder with their contents, the lock left out.
fn files(root: &Path) -> BTreeSet<(PathBuf, Vec<u8>)> {
    let mut found = BTreeSet::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else if entry.file_name().unwrap() != "lock" {
                let content = fs::read(&entry).unwrap();
                found.insert((entry.strip_prefix(root).unwrap().to_owned(), content));
            }
        }
    }
    found
}

fn copy(from: &Path, to: &Path) {
    for (path, content) in files(from) {
        let target = to.join(path);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::write(target, content).unwrap();
    }
}

fn ids(store: &Store, of: &str) -> BTreeSet<String> {
    let page = store.datasets().images(&name(of), None, 0, usize::MAX).unwrap();
    page.images.into_iter().map(|image| image.id).collect()
}

/// The files of a data set are those that its list names, and staging is empty.
fn check_clean(store: &Store, of: &str) {
    let dir = store.dir().join("datasets");
    let mut expected: BTreeSet<PathBuf> = BTreeSet::new();
    for image in store.datasets().images(&name(of), None, 0, usize::MAX).unwrap().images {
        expected.insert(format!("{of}/images/{}/{}.png", &image.id[..2], image.id).into());
    }
    expected.insert(format!("{of}/images.csv").into());
    let found: BTreeSet<PathBuf> = files(&dir).into_iter().map(|(path, _)| path).collect();
    assert_eq!(found, expected);
}

#[test]
fn an_upload_is_listed_served_and_trained_on() {
    let (_keep, store) = store();
    let report = upload(&store, "pets", &zip(&fine(1))).unwrap();
    assert_eq!((report.accepted, report.duplicates, report.skipped_total), (4, 0, 0));
    assert_eq!((report.images, report.classes.len(), report.warning.clone()), (4, 2, None));
    check_clean(&store, "pets");

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

    let source = Source::open(&store.dir().join("datasets/pets/images.csv")).unwrap();
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
    let source = Source::open(&store.dir().join("datasets/x/images.csv")).unwrap();
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
    check_clean(&store, "pets");

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
    check_clean(&store, "x");
    let source = Source::open(&store.dir().join("datasets/x/images.csv")).unwrap();
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
    check_clean(&store, "pets");
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
    let outcome = store.datasets().import_zip(&name("x"), &path, &UploadLimits::default(), &stop);
    assert!(matches!(outcome, Err(StoreError::Stopped)));
    drop(staging);
    assert!(files(store.dir()).is_empty() && store.datasets().list().unwrap().is_empty());
}

#[test]
fn uploads_at_the_same_time_are_all_merged() {
    let (_keep, store) = store();
    std::thread::scope(|scope| {
        for seed in 0..8 {
            let store = &store;
            scope.spawn(move || upload(store, "pets", &zip(&fine(seed % 6))).unwrap());
        }
    });
    assert_eq!(store.datasets().inspect(&name("pets")).unwrap().images, 24);
    check_clean(&store, "pets");
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
    assert!(store.datasets().delete(&name("cars")).is_err());
    assert!(store.datasets().snapshot(&name("cars"), &name("j1")).is_err());
    assert!(!store.dir().join("datasets/cars").exists());
}

#[test]
fn a_snapshot_keeps_its_images_until_it_is_dropped() {
    let (keep, store) = store();
    upload(&store, "pets", &zip(&fine(1))).unwrap();
    let (pets, job) = (name("pets"), name("job-1"));
    let frozen = store.datasets().snapshot(&pets, &job).unwrap();
    let all = ids(&store, "pets");
    for id in &all {
        store.datasets().delete_image(&pets, id).unwrap();
    }
    upload(&store, "pets", &zip(&fine(2))).unwrap();
    assert!(ids(&store, "pets").is_disjoint(&all));
    assert_eq!(store.datasets().snapshot(&pets, &job).unwrap(), frozen, "a snapshot is frozen");
    let conflict = store.datasets().delete(&pets).unwrap_err();
    assert!(matches!(&conflict, StoreError::Conflict { reason } if reason.contains("job-1")), "{conflict}");
    drop(store);

    let store = Store::open(keep.path()).unwrap();
    let source = Source::open(&frozen).unwrap();
    assert_eq!((source.items().len(), source.name()), (4, "snapshot-job-1"));
    assert_eq!(store.datasets().inspect(&pets).unwrap().snapshots, ["job-1"]);
    store.datasets().drop_snapshot(&pets, &job).unwrap();
    store.datasets().drop_snapshot(&pets, &job).unwrap();
    check_clean(&store, "pets");
    store.datasets().delete(&pets).unwrap();
    assert!(files(store.dir()).is_empty(), "{:?}", files(store.dir()));
}

/// Every state that a kill during a merge can leave, built from the states before and after it.
#[test]
fn every_step_of_a_merge_leaves_the_old_data_set_or_the_new() {
    for first in [false, true] {
        let (_keep, store) = store();
        if !first {
            upload(&store, "pets", &zip(&fine(1))).unwrap();
        }
        let old = files(store.dir());
        let old_ids = if first { BTreeSet::new() } else { ids(&store, "pets") };
        upload(&store, "pets", &zip(&fine(2))).unwrap();
        let new_files: Vec<_> = files(store.dir()).difference(&old).cloned().collect();
        let (list, images): (Vec<_>, Vec<_>) =
            new_files.into_iter().partition(|(path, _)| path.ends_with("images.csv"));
        assert_eq!((list.len(), images.len()), (1, 4));
        for moved in 0..=images.len() {
            for half in [0, list[0].1.len() / 2, list[0].1.len()] {
                let dir = tempfile::tempdir().unwrap();
                let put = |path: &Path, bytes: &[u8]| {
                    let path = dir.path().join(path);
                    fs::create_dir_all(path.parent().unwrap()).unwrap();
                    fs::write(path, bytes).unwrap();
                };
                old.iter().for_each(|(path, content)| put(path, content));
                images[..moved].iter().for_each(|(path, content)| put(path, content));
                images[moved..].iter().for_each(|(path, content)| {
                    put(&Path::new("datasets/.staging/0").join(path.file_name().unwrap()), content);
                });
                put(Path::new("datasets/pets/.images.csv.tmp-77"), &list[0].1[..half]);
                let store = Store::open(dir.path()).unwrap();
                assert_eq!(files(store.dir()), old, "{moved} moved, {half} bytes of the list");
                if first {
                    assert!(store.datasets().inspect(&name("pets")).is_err());
                    assert!(!store.dir().join("datasets/pets").exists());
                } else {
                    assert_eq!(ids(&store, "pets"), old_ids);
                }
            }
        }
        let dir = tempfile::tempdir().unwrap();
        copy(store.dir(), dir.path());
        let reopened = Store::open(dir.path()).unwrap();
        assert_eq!(ids(&reopened, "pets"), ids(&store, "pets"));
        assert_eq!(files(reopened.dir()), files(store.dir()));
    }
}

#[test]
fn a_merge_that_fails_midway_is_undone() {
    let (_keep, store) = store();
    upload(&store, "pets", &zip(&fine(1))).unwrap();
    let dir = store.dir().join("datasets/pets");
    // A folder where the list's temporary file goes: everything is moved in, and the list cannot be written.
    let obstacle = dir.join(format!(".images.csv.tmp-{}", std::process::id()));
    fs::create_dir(&obstacle).unwrap();
    let before = files(store.dir());
    assert!(matches!(upload(&store, "pets", &zip(&fine(2))), Err(StoreError::Io { .. })));
    assert_eq!(files(store.dir()), before);
    assert_eq!(ids(&store, "pets").len(), 4);
    fs::remove_dir(&obstacle).unwrap();
    // A file where the folder of the last image goes: the others are moved in before it is found.
    let last = Id::of(&fine(2)[3].data).to_string();
    let obstacle = dir.join("images").join(&last[..2]);
    // The failure before left it, empty.
    fs::remove_dir(&obstacle).unwrap();
    fs::write(&obstacle, "in the way").unwrap();
    let before = files(store.dir());
    assert!(matches!(upload(&store, "pets", &zip(&fine(2))), Err(StoreError::Io { .. })));
    assert_eq!(files(store.dir()), before);
    assert_eq!(ids(&store, "pets").len(), 4);
    fs::remove_file(&obstacle).unwrap();
    assert_eq!(upload(&store, "pets", &zip(&fine(2))).unwrap().images, 8);
}

#[test]
fn a_damaged_list_is_told_and_nothing_of_it_is_swept() {
    let (keep, store) = store();
    upload(&store, "pets", &zip(&fine(1))).unwrap();
    upload(&store, "cars", &zip(&fine(2))).unwrap();
    drop(store);
    let list = keep.path().join("datasets/pets/images.csv");
    let whole = fs::read_to_string(&list).unwrap();
    let rows: Vec<&str> = whole.lines().collect();
    let stranger = whole.replace("images/", "../images/");
    for damaged in
        ["", "path,label\n", &whole[..whole.len() - 9], &stranger, &format!("{whole}{}\n", rows[1])]
    {
        fs::write(&list, damaged).unwrap();
        let before = files(keep.path());
        let store = Store::open(keep.path()).unwrap();
        let all = store.datasets().list().unwrap();
        assert!(all[0].damaged.is_none() && all[1].damaged.is_some(), "{damaged}");
        assert!(
            matches!(upload(&store, "pets", &zip(&fine(3))), Err(StoreError::Damaged { .. })),
            "{damaged}"
        );
        assert_eq!(files(keep.path()), before);
    }
}

#[test]
fn files_of_other_people_are_not_swept() {
    let (keep, store) = store();
    drop(store);
    for path in ["datasets/mine/cats/1.png", "datasets/mine/images/ab/note.png", "datasets/readme.txt"] {
        let path = keep.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    }
    let before = files(keep.path());
    let store = Store::open(keep.path()).unwrap();
    assert_eq!(files(keep.path()), before);
    assert!(store.datasets().list().unwrap().is_empty());
}

/// The environment variable that turns the next test into the process that is killed.
const VICTIM: &str = "OCELLI_TEST_UPLOADS_INTO";

/// Images of an upload that is killed: each has a file and most a folder to sync, so that no step is over at once.
const KILLED: usize = 40;

/// Not a test of its own: uploads without end and prints a line when one is acknowledged.
#[test]
fn victim() {
    let Some(dir) = std::env::var_os(VICTIM) else { return };
    let store = Store::open(Path::new(&dir)).unwrap();
    for seed in 1..=255 {
        let part = |i| Part::file(format!("{}/{i}.png", i % 2), &png(4, 4, &[seed, i]));
        upload(&store, "pets", &zip(&(0..KILLED as u8).map(part).collect::<Vec<_>>())).unwrap();
        println!("acknowledged {seed}");
    }
}

#[test]
fn a_kill_loses_nothing_that_was_acknowledged() {
    for round in 0..10 {
        let dir = tempfile::tempdir().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::datasets::tests::victim", "--nocapture"])
            .env(VICTIM, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let acknowledged = |line: &String| line.contains("acknowledged ");
        let started = std::time::Instant::now();
        assert!(lines.any(|line| acknowledged(&line)));
        // Into the next upload, a tenth of its length later each round.
        std::thread::sleep(started.elapsed() * round / 10);
        child.kill().unwrap();
        child.wait().unwrap();

        let store = Store::open(dir.path()).unwrap();
        let there = ids(&store, "pets");
        let complete = there.len() / KILLED;
        assert!(complete >= 1 && there.len() == complete * KILLED, "{} images", there.len());
        check_clean(&store, "pets");
        for id in &there {
            assert!(store.datasets().thumbnail(&name("pets"), id, 8).is_ok());
        }
    }
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

        let add = |seed| store.datasets().add_image(&name("x"), second, &image(seed), Origin::Feedback);
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
