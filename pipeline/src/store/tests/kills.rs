//! A process that is killed for real: what it acknowledged is there, what it deleted stays away.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use super::{by, check_clean, ids, name, store, upload};
use crate::store::image::Id;
use crate::store::{NewVersion, Store, check};
use ocelli_testing::hostile::images::png;
use ocelli_testing::hostile::zips::{Part, fine, zip};

/// The environment variable that turns the next tests into the process that is killed.
const VICTIM: &str = "OCELLI_TEST_UPLOADS_INTO";

/// Images of an upload that is killed: each has a file and most a folder to sync, so that no step is over at once.
const KILLED: u8 = 40;

fn images(seed: u8) -> Vec<Part> {
    (0..KILLED).map(|i| Part::file(format!("{}/{i}.png", i % 2), &png(4, 4, &[seed, i]))).collect()
}

fn say(text: String) {
    // Past the test harness, which keeps what `println!` is given to threads.
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}").unwrap();
    out.flush().unwrap();
}

/// Not a test of its own: uploads, deletes, promotes and goes on without end, and says what is done.
#[test]
fn victim() {
    let Some(dir) = std::env::var_os(VICTIM) else { return };
    let store = Store::open(Path::new(&dir)).unwrap();
    let versions = store.versions(&name("m")).unwrap();
    for seed in 1..=255 {
        upload(&store, "pets", &zip(&images(seed))).unwrap();
        say(format!("acknowledged {seed}"));
        let id = versions.add(&super::model(u64::from(seed)), &NewVersion::default()).unwrap().version;
        versions.promote(&id, &by()).unwrap();
        say(format!("promoted {id}"));
        let waits = store.feedback().add(&png(6, 6, &[seed]), &Default::default(), store.datasets(), &by());
        say(format!("waits {}", waits.unwrap()));
        let gone = Id::of(&png(4, 4, &[seed, 0])).to_string();
        say(format!("deleting {gone}"));
        store.datasets().delete_image(&name("pets"), &gone, &by()).unwrap();
        say(format!("deleted {gone}"));
    }
}

/// The lines of a process that was killed `share` of the time to its first acknowledgement after it.
fn killed(dir: &Path, share: u32) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::tests::kills::victim", "--nocapture"])
        .env(VICTIM, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let started = std::time::Instant::now();
    let mut said = Vec::new();
    for line in lines.by_ref() {
        said.push(line);
        if said.last().unwrap().contains("acknowledged ") {
            break;
        }
    }
    // Each round a part of the way further into what follows.
    std::thread::sleep(started.elapsed() * share / 6);
    child.kill().unwrap();
    child.wait().unwrap();
    said.extend(lines);
    said
}

#[test]
fn a_kill_loses_nothing_that_was_acknowledged() {
    for round in 0..12 {
        let dir = tempfile::tempdir().unwrap();
        let said = killed(dir.path(), round);
        let of = |what: &str| -> Vec<String> {
            said.iter().filter_map(|line| Some(line.split_once(what)?.1.trim().to_owned())).collect()
        };
        // Nothing is wrong with what a kill leaves but files that were on their way.
        let found = check(dir.path()).unwrap().problems;
        assert!(found.iter().all(|problem| problem.what == "nothing names it"), "{found:?}");

        let store = Store::open(dir.path()).unwrap();
        let there = ids(&store, "pets");
        let complete = of("acknowledged ").len();
        assert!(complete >= 1);
        for seed in 1..=complete as u8 + 1 {
            let sent: BTreeSet<String> =
                images(seed).iter().map(|part| Id::of(&part.data).to_string()).collect();
            let lost: Vec<_> = sent.difference(&there).collect();
            let (deleted, deleting) = (of("deleted "), of("deleting "));
            let whole = lost.iter().all(|id| deleting.contains(*id)) && lost.len() <= 1;
            let none = seed as usize > complete && lost.len() == KILLED as usize;
            assert!(whole || none, "{} of upload {seed} are lost", lost.len());
            assert!(deleted.iter().all(|id| !there.contains(id)), "what was deleted came back");
            assert!(deleted.iter().all(|id| !super::image_file(store.dir(), id).exists()));
        }
        for id in of("deleted ") {
            let quarantined = format!("quarantine/images/{}/{id}.png", &id[..2]);
            assert!(!store.dir().join(quarantined).exists());
        }
        let waiting = store.feedback().page(0, 1000).unwrap().feedback;
        assert!(of("waits ").iter().all(|id| waiting.iter().any(|entry| entry.id == *id)));
        let versions = store.versions(&name("m")).unwrap();
        let history = versions.history().unwrap();
        let promoted = of("promoted ");
        // The last one, or the one whose acknowledgement the kill cut off.
        assert!(promoted.last().is_none_or(|last| history[..2.min(history.len())].contains(last)));
        assert!(history.len() <= promoted.len() + 1);
        for id in there.iter().step_by(7) {
            assert!(store.datasets().thumbnail(&name("pets"), id, 8).is_ok());
        }
        super::assert_sound(store.dir());
    }
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
    check_clean(&store);
}

/// Uploads, single images, feedback and deletions of the same images at the same time: rows and files agree at the end.
#[test]
fn the_same_images_come_and_go_at_the_same_time() {
    let (keep, store) = store();
    let one = png(8, 8, &[1, 0]);
    let id = Id::of(&one).to_string();
    std::thread::scope(|scope| {
        for set in ["x", "y"] {
            let (store, one, id) = (&store, &one, &id);
            scope.spawn(move || {
                for _ in 0..15 {
                    upload(store, set, &zip(&fine(1))).unwrap();
                    store.datasets().delete_image(&name(set), id, &by()).unwrap();
                    store.datasets().add_image(&name(set), "cats", one, &by()).unwrap();
                    store.datasets().delete(&name(set), &by()).unwrap();
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..30 {
                store.feedback().add(&one, &Default::default(), store.datasets(), &by()).unwrap();
                assert_eq!(store.feedback().image(&id).unwrap().bytes, one);
                store.feedback().reject(&id, &by()).unwrap();
            }
        });
        scope.spawn(|| {
            for _ in 0..30 {
                // Anything but damage: it is there, or it is not.
                if let Err(error) = store.datasets().image(&name("x"), &id) {
                    assert!(!matches!(error, crate::store::StoreError::Database { .. }), "{error}");
                }
            }
        });
    });
    assert!(super::paths(keep.path()).is_empty(), "{:?}", super::paths(keep.path()));
    assert_eq!(store.usage().images, 0);
    check_clean(&store);
}
