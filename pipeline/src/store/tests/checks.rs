//! `check` names what is wrong, `repair` deletes nothing, and a backup is whole while others write.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, Ordering};

use super::database::used;
use super::{archive, assert_sound, by, copy, damage, ids, name, upload};
use crate::store::{Store, StoreError, backup, check, repair};

#[test]
fn every_file_of_a_used_folder_is_named_when_it_is_damaged() {
    let made = tempfile::tempdir().unwrap();
    used(made.path());
    Store::open(made.path()).unwrap().copy_database().unwrap();
    let report = assert_sound(made.path());
    assert_eq!((report.images, report.versions, report.files), (53, 2, 2));
    let all = super::paths(made.path());
    // Every eighth image, and all else.
    let few =
        |(at, path): &(usize, &String)| !path.starts_with("images/") || path.contains("job-") || at % 8 == 0;
    for (_, path) in all.iter().enumerate().filter(few) {
        let own = path.contains("job-") || path.starts_with("copies/");
        for (story, harm) in [
            ("deleted", damage::clear as fn(&std::path::Path)),
            ("emptied", |path| fs::write(path, "").unwrap()),
            ("cut", damage::cut),
            ("noise", damage::noise),
        ] {
            let dir = tempfile::tempdir().unwrap();
            copy(made.path(), dir.path());
            harm(&dir.path().join(path));
            let found = check(dir.path()).unwrap().problems;
            let named = found.iter().any(|problem| problem.path == *path);
            // The table of a job is written anew when it begins.
            let expected = !path.contains("job-");
            assert_eq!(named, expected, "{path} {story}: {found:?}");
            let store = Store::open(dir.path()).unwrap();
            assert_eq!(ids(&store, "pets").len(), 40, "{path} {story}");
            drop(store);
            let before: Vec<_> = super::files(dir.path()).into_iter().map(|(_, content)| content).collect();
            repair(dir.path()).unwrap();
            let after: Vec<_> = super::files(dir.path()).into_iter().map(|(_, content)| content).collect();
            assert!(before.iter().all(|content| own || after.contains(content)), "{path} {story}");
            Store::open(dir.path()).unwrap();
        }
    }
}

#[test]
fn what_nothing_names_is_told_and_moved() {
    let dir = tempfile::tempdir().unwrap();
    used(dir.path());
    let odd = std::ffi::OsStr::from_bytes(b"images/ab/\xff\xfe.png");
    for path in ["note.txt", "images/cd/x.png", "models/m/x.txt", "runs/m-001/more", "elsewhere/y"] {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    }
    fs::create_dir_all(dir.path().join("images/ab")).unwrap();
    fs::write(dir.path().join(odd), "odd").unwrap();
    fs::write(dir.path().join("lock"), "not empty").unwrap();
    assert_eq!(check(dir.path()).unwrap().problems.len(), 7);
    let before = super::files(dir.path()).len();
    let report = repair(dir.path()).unwrap();
    assert_eq!(report.problems.iter().filter(|p| p.next.contains("quarantine/")).count(), 6, "{report:?}");
    assert_eq!(super::files(dir.path()).len(), before);
    let moved = std::ffi::OsStr::from_bytes(b"quarantine/images/ab/");
    assert!(fs::read_dir(dir.path().join(moved)).unwrap().count() == 1);
    assert_sound(dir.path());
    assert!(repair(dir.path()).unwrap().problems.is_empty());
}

#[test]
fn a_backup_is_of_one_moment_and_whole_while_others_write() {
    let dir = tempfile::tempdir().unwrap();
    used(dir.path());
    let store = Store::open(dir.path()).unwrap();
    let done = AtomicBool::new(false);
    let backups: Vec<_> = (0..4).map(|_| tempfile::tempdir().unwrap()).collect();
    std::thread::scope(|scope| {
        for set in ["one", "two"] {
            let (store, done) = (&store, &done);
            scope.spawn(move || {
                let versions = store.versions(&name("m")).unwrap();
                for seed in (10..=250).cycle() {
                    upload(store, set, &archive(seed, 12)).unwrap();
                    let id =
                        versions.add(&super::model(u64::from(seed)), &Default::default()).unwrap().version;
                    store.datasets().delete(&name(set), &by()).unwrap();
                    let _ = versions.delete(&id, &by());
                    if done.load(Ordering::Relaxed) {
                        return;
                    }
                }
            });
        }
        for to in &backups {
            let to = to.path().join("b");
            let made = backup(dir.path(), &to).unwrap();
            assert!(made.missing.is_empty(), "{:?}", made.missing);
            assert_sound(&to);
            let copied = Store::open(&to).unwrap();
            assert!(copied.notes().is_empty(), "{:?}", copied.notes());
            assert_eq!(ids(&copied, "pets"), ids(&store, "pets"));
            assert!(copied.versions(&name("m")).unwrap().current().unwrap().is_some());
            let again = backup(dir.path(), &to);
            assert!(matches!(again, Err(StoreError::Conflict { .. })), "{again:?}");
        }
        done.store(true, Ordering::Relaxed);
    });
    let inside = backup(dir.path(), &dir.path().join("b"));
    assert!(matches!(inside, Err(StoreError::Conflict { .. })), "{inside:?}");
    assert_sound(dir.path());
}
