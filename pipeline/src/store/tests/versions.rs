//! Versions of a model: how they come, serve, go back and go.

use std::fs;

use super::{by, copy, model, name, paths, store};
use crate::store::{NewVersion, Store, StoreError, Versions};

fn versions(store: &Store) -> Versions {
    store.versions(&name("m")).unwrap()
}

fn add(versions: &Versions, seed: u64) -> String {
    versions.add(&model(seed), &NewVersion::default()).unwrap().version
}

#[test]
fn versions_come_serve_go_back_and_go() {
    let (keep, store) = store();
    let all = versions(&store);
    assert_eq!(all.current().unwrap(), None);
    let ids = [0, 1, 2].map(|seed| add(&all, seed));
    assert_eq!(all.list().unwrap().iter().map(|r| r.number).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(all.add(&model(1), &NewVersion::default()).unwrap().number, 2);
    for id in &ids {
        assert!(all.promote(id, &by()).unwrap());
        assert!(!all.promote(id, &by()).unwrap());
    }
    assert!(matches!(all.delete(&ids[2], &by()), Err(StoreError::Conflict { .. })));
    all.delete(&ids[1], &by()).unwrap();
    assert_eq!(all.previous().unwrap().as_ref(), Some(&ids[0]));
    assert!(matches!(all.roll_back(&ids[0], &ids[1], &by()), Err(StoreError::NotFound { .. })));
    assert!(matches!(all.roll_back(&ids[0], &ids[0], &by()), Err(StoreError::Conflict { .. })));
    all.roll_back(&ids[2], &ids[0], &by()).unwrap();
    let done = super::actions(&store);
    assert_eq!(done, ["promote", "promote", "promote", "delete version", "roll back"]);
    drop((all, store));

    let store = Store::open(keep.path()).unwrap();
    let again = versions(&store);
    assert_eq!((again.current().unwrap().as_ref(), again.previous().unwrap()), (Some(&ids[0]), None));
    assert_eq!(again.load(&ids[2]).unwrap().model.params(), model(2).model.params());
    for bad in ["", "..", "../../../../etc/passwd", &ids[1], "ABCDEF012345"] {
        assert!(matches!(again.get(bad), Err(StoreError::NotFound { .. })), "{bad}");
    }
    super::assert_sound(store.dir());
}

#[test]
fn what_a_kill_leaves_is_swept_or_taken_up() {
    let (keep, store) = store();
    let kept = add(&versions(&store), 0);
    let folder = store.dir().join("models/m");
    // Killed while the file was written, before its row was; and what somebody laid there.
    fs::write(folder.join(format!(".{kept}.ocelli.tmp-1-0")), "half").unwrap();
    model(1).save(&folder.join("copied.ocelli")).unwrap();
    fs::write(folder.join("0123456789ab.ocelli"), "no model").unwrap();
    drop(store);
    let store = Store::open(keep.path()).unwrap();
    let records = versions(&store).list().unwrap();
    assert_eq!(records.iter().map(|r| r.number).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(records[0].version, kept);
    let mut expected = records.iter().map(|r| format!("models/m/{}.ocelli", r.version)).collect::<Vec<_>>();
    expected.push("quarantine/models/m/0123456789ab.ocelli".to_owned());
    expected.sort();
    assert_eq!(paths(store.dir()), expected);
    super::assert_sound(store.dir());
}

#[test]
fn a_version_that_was_deleted_and_made_again_stays() {
    let (keep, store) = store();
    let all = versions(&store);
    let id = add(&all, 0);
    all.delete(&id, &by()).unwrap();
    assert!(paths(store.dir()).is_empty());
    assert_eq!(add(&all, 0), id);
    // Its file goes before its row is written: a power cut may bring it back, and the note of its removal is there.
    drop((all, store));
    for _ in 0..2 {
        let store = Store::open(keep.path()).unwrap();
        assert_eq!(versions(&store).load(&id).unwrap().model.params(), model(0).model.params());
        super::assert_sound(store.dir());
    }
}

#[test]
fn a_version_whose_row_could_not_be_written_leaves_no_file() {
    let (_keep, store) = store();
    let all = versions(&store);
    let id = add(&all, 0);
    let raw = rusqlite::Connection::open(store.dir().join("ocelli.db")).unwrap();
    raw.execute_batch("ALTER TABLE versions RENAME COLUMN evaluation TO elsewhere").unwrap();
    all.add(&model(1), &NewVersion::default()).unwrap_err();
    all.add(&model(0), &NewVersion::default()).unwrap_err();
    raw.execute_batch("ALTER TABLE versions RENAME COLUMN elsewhere TO evaluation").unwrap();
    assert_eq!(paths(store.dir()), [format!("models/m/{id}.ocelli")]);
    super::assert_sound(store.dir());
}

/// Two handles of one model never lose the file of a version that is there.
#[test]
fn versions_that_come_and_go_at_the_same_time_are_whole() {
    let (_keep, store) = store();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let all = versions(&store);
                for _ in 0..8 {
                    let id = add(&all, 0);
                    match all.delete(&id, &by()) {
                        Ok(()) | Err(StoreError::NotFound { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
                add(&all, 0);
            });
        }
    });
    super::assert_sound(store.dir());
}

#[test]
fn pruning_keeps_what_serves_what_it_came_from_and_what_is_needed() {
    let (_keep, store) = store();
    let all = versions(&store);
    let ids: Vec<String> = (0..8).map(|seed| add(&all, seed)).collect();
    let mut child = model(8);
    child.meta.trained_mut().unwrap().parent = Some(ids[0].clone());
    let child = all.add(&child, &NewVersion::default()).unwrap().version;
    for id in [&ids[1], &ids[2], &ids[3], &child] {
        all.promote(id, &by()).unwrap();
    }
    let gone = all.prune(2, &[ids[4].clone()]).unwrap();
    assert_eq!(gone, [&ids[1], &ids[2], &ids[5], &ids[6], &ids[7]].map(Clone::clone));
    let left: Vec<String> = all.list().unwrap().into_iter().map(|record| record.version).collect();
    assert_eq!(left, [ids[0].clone(), ids[3].clone(), ids[4].clone(), child.clone()]);
    assert_eq!(all.history().unwrap(), [child, ids[3].clone()]);
    assert!(all.prune(4, &[]).unwrap().is_empty());
    assert!(super::actions(&store).iter().filter(|action| *action == "delete version").count() == 5);
    super::assert_sound(store.dir());
}

/// A way to damage a file, with a part of what is said of it.
type Harm = (&'static str, fn(&std::path::Path), &'static str);

#[test]
fn damage_to_a_version_costs_that_version() {
    let harms: [Harm; 5] = [
        ("deleted", |path| fs::remove_file(path).unwrap(), "missing"),
        ("emptied", |path| fs::write(path, "").unwrap(), "0 bytes in place of"),
        ("cut", |path| super::damage::cut(path), "bytes in place of"),
        ("noise", |path| super::damage::noise(path), ""),
        ("a folder", |path| super::damage::folder(path), "in its place"),
    ];
    for (story, harm, says) in harms {
        let (keep, store) = store();
        let all = versions(&store);
        let [good, bad] = [0, 1].map(|seed| add(&all, seed));
        all.promote(&good, &by()).unwrap();
        all.promote(&bad, &by()).unwrap();
        all.promote(&good, &by()).unwrap();
        drop((all, store));
        let spare = tempfile::tempdir().unwrap();
        copy(keep.path(), spare.path());
        let file = keep.path().join(format!("models/m/{bad}.ocelli"));
        harm(&file);

        let store = Store::open(keep.path()).unwrap();
        let all = versions(&store);
        let listed = all.list().unwrap();
        let reason = listed[1].damaged.clone().unwrap_or_else(|| panic!("{story}: not listed as damaged"));
        assert!(reason.contains(says) && listed[0].damaged.is_none(), "{story}: {reason}");
        assert!(matches!(all.load(&bad), Err(StoreError::Damaged { .. })), "{story}");
        assert!(matches!(all.promote(&bad, &by()), Err(StoreError::Conflict { .. })), "{story}");
        assert!(matches!(all.roll_back(&good, &bad, &by()), Err(StoreError::Conflict { .. })), "{story}");
        assert_eq!(all.current().unwrap().as_ref(), Some(&good), "{story}");
        let path = format!("models/m/{bad}.ocelli");
        let found = crate::store::check(store.dir()).unwrap().problems;
        assert!(found.iter().any(|problem| problem.path == path), "{story}: {found:?}");
        // Going back passes over it.
        all.roll_back(&good, &good, &by()).unwrap();
        assert_eq!(all.history().unwrap(), std::slice::from_ref(&good), "{story}");
        drop((all, store));

        // The file is back.
        super::damage::clear(&file);
        fs::copy(spare.path().join(&path), &file).unwrap();
        let store = Store::open(keep.path()).unwrap();
        let all = versions(&store);
        assert!(all.list().unwrap()[1].damaged.is_none(), "{story}");
        assert!(all.promote(&bad, &by()).unwrap(), "{story}");
        super::assert_sound(store.dir());
        drop((all, store));

        // Made again by a job.
        harm(&file);
        let store = Store::open(keep.path()).unwrap();
        let all = versions(&store);
        let record = all.add(&model(1), &NewVersion { job: Some("1"), ..NewVersion::default() }).unwrap();
        assert_eq!((record.version, record.number, record.damaged), (bad.clone(), 2, None), "{story}");
        all.load(&bad).unwrap();
        super::assert_sound(store.dir());
    }
}

#[test]
fn a_file_that_was_changed_while_open_is_not_served() {
    let (_keep, store) = store();
    let all = versions(&store);
    let [a, b] = [0, 1].map(|seed| add(&all, seed));
    fs::copy(all.file(&a).unwrap(), all.file(&b).unwrap()).unwrap();
    assert!(matches!(all.promote(&b, &by()), Err(StoreError::Conflict { .. })));
    let error = all.load(&b).unwrap_err();
    assert!(matches!(&error, StoreError::Damaged { reason, .. } if reason.contains(&a)), "{error}");
    assert!(all.get(&b).unwrap().damaged.is_some() && all.get(&a).unwrap().damaged.is_none());
    fs::write(all.file(&a).unwrap(), "x").unwrap();
    assert!(matches!(all.load(&a), Err(StoreError::Damaged { .. })));
}
