//! Damage to the database: it stops the start, is named, and is mended as far as its file goes.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{archive, by, copy, damage, ids, job, name, splits, store, upload};
use crate::store::{Store, StoreError, check, repair};

/// A folder that was used in every way: uploads, feedback, versions, an ended job and an open one.
pub(super) fn used(dir: &Path) {
    let store = Store::open(dir).unwrap();
    upload(&store, "pets", &archive(1, 40)).unwrap();
    upload(&store, "cars", &archive(2, 12)).unwrap();
    let moved: Vec<String> = ids(&store, "pets").into_iter().take(12).collect();
    store.datasets().change(&name("pets"), &moved, Some("moved"), &by()).unwrap();
    store.feedback().add(&super::png(9, 9, b"f"), &Default::default(), store.datasets(), &by()).unwrap();
    let versions = store.versions(&name("m")).unwrap();
    for seed in 0..2 {
        let id = versions.add(&super::model(seed), &Default::default()).unwrap().version;
        versions.promote(&id, &by()).unwrap();
    }
    let ended = job(&store, "cars");
    let run = store.runs_dir().join("m-001");
    fs::create_dir_all(&run).unwrap();
    fs::write(run.join("run.toml"), "x = 1").unwrap();
    fs::write(run.join("events.jsonl"), "{}\n").unwrap();
    store.jobs().keep_run("m-001").unwrap();
    super::end_job(&store, ended);
    job(&store, "pets");
}

type State =
    (Vec<(String, ocelli_datasets::Split)>, Vec<(String, ocelli_datasets::Split)>, usize, usize, Vec<String>);

fn state(store: &Store) -> State {
    let versions = store.versions(&name("m")).unwrap();
    let waiting = store.feedback().page(0, 9).unwrap().total;
    let jobs = store.jobs().all().unwrap().len();
    (splits(store, "pets"), splits(store, "cars"), waiting, jobs, versions.history().unwrap())
}

/// Bytes of the files that stand for the database.
fn database(dir: &Path) -> Vec<Option<Vec<u8>>> {
    ["ocelli.db", "ocelli.db-wal"]
        .iter()
        .map(|name| fs::read(dir.join(name)).ok().filter(|b| !b.is_empty()))
        .collect()
}

fn noise_at(path: &Path, from: usize, to: usize) {
    let mut bytes = fs::read(path).unwrap();
    let (from, to) = (from.min(bytes.len()), to.min(bytes.len()));
    for (at, byte) in bytes[from..to].iter_mut().enumerate() {
        *byte = (at as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0];
    }
    fs::write(path, bytes).unwrap();
}

fn indexes(path: &Path) {
    let raw = rusqlite::Connection::open(path).unwrap();
    raw.execute_batch(
        "PRAGMA writable_schema = ON;
         UPDATE sqlite_schema SET rootpage = (SELECT rootpage FROM sqlite_schema WHERE name = 'images_file')
         WHERE name = 'images_class'",
    )
    .unwrap();
}

type Harm = (&'static str, fn(&Path));

const HARMS: [Harm; 12] = [
    ("deleted", |path| fs::remove_file(path).unwrap()),
    ("emptied", |path| fs::write(path, "").unwrap()),
    ("cut at half", damage::cut),
    ("cut after its first page", |path| {
        fs::OpenOptions::new().write(true).open(path).unwrap().set_len(4096).unwrap()
    }),
    ("cut in its header", |path| fs::OpenOptions::new().write(true).open(path).unwrap().set_len(50).unwrap()),
    ("noise", damage::noise),
    ("noise in the middle", |path| {
        let length = fs::metadata(path).unwrap().len() as usize;
        noise_at(path, length / 2 - 4096, length / 2 + 4096);
    }),
    ("noise in the header", |path| noise_at(path, 0, 100)),
    ("noise in the schema", |path| noise_at(path, 100, 4096)),
    ("noise at the end", |path| {
        // Two whole pages: the last ones may be empty but for their headers.
        noise_at(path, fs::metadata(path).unwrap().len() as usize - 8192, usize::MAX)
    }),
    ("a folder", damage::folder),
    ("an index of another", indexes),
];

#[test]
fn a_damaged_database_stops_the_start_and_is_mended() {
    let made = tempfile::tempdir().unwrap();
    used(made.path());
    let whole = {
        let dir = tempfile::tempdir().unwrap();
        copy(made.path(), dir.path());
        state(&Store::open(dir.path()).unwrap())
    };
    for with_copy in [false, true] {
        for (story, harm) in HARMS {
            let dir = tempfile::tempdir().unwrap();
            copy(made.path(), dir.path());
            if with_copy {
                Store::open(dir.path()).unwrap().copy_database().unwrap();
            }
            let path = dir.path().join("ocelli.db");
            harm(&path);
            let before = (super::files(dir.path()), database(dir.path()));
            for _ in 0..2 {
                let error = Store::open(dir.path()).err().unwrap_or_else(|| panic!("{story}: it opens"));
                let text = error.to_string();
                assert!(matches!(error, StoreError::Database { .. }), "{story}: {error:?}");
                assert!(text.contains("ocelli.db") && text.contains("cannot be used"), "{story}: {text}");
                assert!((super::files(dir.path()), database(dir.path())) == before, "{story}");
                let found = check(dir.path()).unwrap().problems;
                assert!(found.iter().any(|problem| problem.path == "ocelli.db"), "{story}: {found:?}");
                assert!((super::files(dir.path()), database(dir.path())) == before, "{story}");
            }
            let report = repair(dir.path()).unwrap();
            println!("{story}, copy {with_copy}: {}", report.problems[0].next);
            assert_eq!(report.problems[0].path, "ocelli.db", "{story}");
            // Nothing is gone: every file is where it was, or in quarantine.
            let after: Vec<_> = super::files(dir.path()).into_iter().map(|(_, content)| content).collect();
            let tables = |path: &Path| path.to_string_lossy().contains("job-");
            let lost = before.0.iter().find(|(path, content)| !tables(path) && !after.contains(content));
            assert!(lost.is_none(), "{story}: {:?}", lost.map(|(path, _)| path));
            let store = Store::open(dir.path()).unwrap();
            if with_copy || story.contains("index") {
                assert!(state(&store) == whole, "{story}, copy {with_copy}: {:?}", report.problems);
            }
            assert_eq!(store.versions(&name("m")).unwrap().list().unwrap().len(), 2, "{story}");
            let images: usize = store.datasets().list().unwrap().iter().map(|set| set.images).sum();
            if ["noise in the middle", "noise at the end", "noise in the header"].contains(&story) {
                assert_eq!(images, 52, "{story}: {:?}", report.problems);
            }
            drop(store);
            let left = check(dir.path()).unwrap().problems;
            assert!(left.is_empty(), "{story}, copy {with_copy}: {left:?}");
            // It goes on.
            let store = Store::open(dir.path()).unwrap();
            upload(&store, "pets", &archive(1, 40)).unwrap();
            assert_eq!(ids(&store, "pets").len(), 40, "{story}");
        }
    }
}

/// Of a database that is damaged in one place, everything is kept that lies elsewhere.
#[test]
fn a_page_of_noise_costs_what_it_held() {
    let made = tempfile::tempdir().unwrap();
    used(made.path());
    let pages = fs::metadata(made.path().join("ocelli.db")).unwrap().len() as usize / 4096;
    let mut kept = Vec::new();
    for page in 1..pages {
        let dir = tempfile::tempdir().unwrap();
        copy(made.path(), dir.path());
        noise_at(&dir.path().join("ocelli.db"), page * 4096, (page + 1) * 4096);
        match Store::open(dir.path()) {
            // A page that nothing uses.
            Ok(_) => {}
            Err(StoreError::Database { .. }) => drop(repair(dir.path()).unwrap()),
            Err(error) => panic!("page {page}: {error}"),
        }
        let store = Store::open(dir.path()).unwrap();
        let images: usize = store.datasets().list().unwrap().iter().map(|set| set.images).sum();
        let versions = store.versions(&name("m")).unwrap().list().unwrap().len();
        kept.push(images + versions);
        assert!(versions == 2, "page {page}");
        super::assert_sound(dir.path());
    }
    // Indexes are made anew, so most pages cost nothing or little.
    let whole = kept.iter().filter(|&&kept| kept == 54).count();
    assert!(whole * 2 > pages, "{kept:?}");
}

#[test]
fn a_log_that_a_kill_left_and_that_is_damaged_costs_what_only_it_held() {
    let harms: [Harm; 5] = [
        ("deleted", |path| fs::remove_file(path).unwrap()),
        ("emptied", |path| fs::write(path, "").unwrap()),
        ("cut", damage::cut),
        ("noise", damage::noise),
        ("noise at its end", |path| {
            noise_at(path, fs::metadata(path).unwrap().len() as usize / 2, usize::MAX)
        }),
    ];
    for (story, harm) in harms {
        let (keep, store) = store();
        upload(&store, "pets", &archive(1, 10)).unwrap();
        store.inner.database.settle();
        upload(&store, "pets", &archive(2, 10)).unwrap();
        // What a kill leaves: the files as they are while the store is open.
        let dir = tempfile::tempdir().unwrap();
        copy(keep.path(), dir.path());
        assert!(check(dir.path()).unwrap().problems.is_empty(), "{story}");
        let dir = tempfile::tempdir().unwrap();
        copy(keep.path(), dir.path());
        harm(&dir.path().join("ocelli.db-wal"));
        let found = check(dir.path()).unwrap().problems;
        if !story.contains("at its end") {
            let named = found.iter().any(|problem| problem.path == "ocelli.db-wal");
            assert!(named, "{story}: {found:?}");
        }
        let opened = Store::open(dir.path()).unwrap();
        let there = ids(&opened, "pets").len();
        assert!(there == 10 || there == 20, "{story}: {there}");
        // Whose rows are lost lie in quarantine, and can be sent again.
        assert_eq!(upload(&opened, "pets", &archive(2, 10)).unwrap().images, 20, "{story}");
        super::assert_sound(dir.path());
    }
}

#[test]
fn the_index_of_the_log_says_nothing() {
    let harms: [Harm; 4] = [
        ("deleted", |path| fs::remove_file(path).unwrap()),
        ("emptied", |path| fs::write(path, "").unwrap()),
        ("cut", damage::cut),
        ("noise", damage::noise),
    ];
    for (story, harm) in harms {
        let (keep, store) = store();
        upload(&store, "pets", &archive(1, 10)).unwrap();
        let dir = tempfile::tempdir().unwrap();
        copy(keep.path(), dir.path());
        harm(&dir.path().join("ocelli.db-shm"));
        check(dir.path()).unwrap();
        let opened = Store::open(dir.path()).unwrap();
        assert_eq!(ids(&opened, "pets").len(), 10, "{story}");
        super::assert_sound(dir.path());
    }
}

#[test]
fn a_database_of_a_newer_program_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    used(dir.path());
    let raw = rusqlite::Connection::open(dir.path().join("ocelli.db")).unwrap();
    raw.execute_batch("PRAGMA user_version = 99").unwrap();
    drop(raw);
    let before = (super::files(dir.path()), database(dir.path()));
    let error = Store::open(dir.path()).err().unwrap();
    let text = error.to_string();
    assert!(matches!(error, StoreError::Conflict { .. }), "{error:?}");
    assert!(text.contains("version 99") && text.contains("start the program that wrote it"), "{text}");
    assert!(!text.contains("--repair"), "{text}");
    let repaired = repair(dir.path());
    assert!(matches!(repaired, Err(StoreError::Conflict { .. })), "{repaired:?}");
    let found = check(dir.path()).unwrap().problems;
    assert!(
        found.iter().any(|problem| problem.path == "ocelli.db" && problem.what.contains("99")),
        "{found:?}"
    );
    assert!((super::files(dir.path()), database(dir.path())) == before);
}

#[test]
fn tables_come_step_by_step() {
    let (keep, opened) = store();
    let version = |dir: &Path| -> i64 {
        let raw = rusqlite::Connection::open(dir.join("ocelli.db")).unwrap();
        raw.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap()
    };
    assert!(version(keep.path()) >= 1);
    drop(opened);
    let last = version(keep.path());
    // A kill before the first step: the file has no tables yet.
    let dir = tempfile::tempdir().unwrap();
    let raw = rusqlite::Connection::open(dir.path().join("ocelli.db")).unwrap();
    raw.execute_batch("PRAGMA journal_mode = wal; CREATE TABLE x (y); DROP TABLE x").unwrap();
    drop(raw);
    let opened = Store::open(dir.path()).unwrap();
    upload(&opened, "pets", &archive(1, 4)).unwrap();
    drop(opened);
    assert_eq!(version(dir.path()), last);
    // A kill before anything was written.
    let dir = tempfile::tempdir().unwrap();
    for name in ["lock", "ocelli.db"] {
        fs::write(dir.path().join(name), "").unwrap();
    }
    upload(&Store::open(dir.path()).unwrap(), "pets", &archive(1, 4)).unwrap();
}

#[test]
fn a_folder_that_lost_its_database_is_not_a_new_one() {
    // Whatever else it holds: what served, and what was asked for, is lost.
    for what in
        ["models/m/0123456789ab.ocelli", "runs/m-001/run.toml", "images/ab/x", "copies/x", "quarantine/x"]
    {
        let (keep, store) = store();
        drop(store);
        let path = keep.path().join(what);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
        fs::remove_file(keep.path().join("ocelli.db")).unwrap();
        assert!(matches!(Store::open(keep.path()), Err(StoreError::Database { .. })), "{what}");
        repair(keep.path()).unwrap();
        Store::open(keep.path()).unwrap();
    }
    // A folder that was never used, with a model that somebody laid there.
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("models/m")).unwrap();
    super::model(0).save(&dir.path().join("models/m/mine.ocelli")).unwrap();
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.versions(&name("m")).unwrap().list().unwrap().len(), 1);
}

#[test]
fn a_moved_folder_works() {
    let around = tempfile::tempdir().unwrap();
    let (from, to) = (around.path().join("here"), around.path().join("there/and/elsewhere"));
    used(&from);
    let before = state(&Store::open(&from).unwrap());
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::rename(&from, &to).unwrap();
    let store = Store::open(&to).unwrap();
    assert!(store.notes().is_empty() && state(&store) == before);
    let open = store.jobs().all().unwrap().into_iter().find(|job| !job.ended).unwrap().id;
    let data = store.jobs().data(open, &name("pets")).unwrap();
    assert_eq!(ocelli_datasets::Source::open(&data.table).unwrap().items().len(), 40);
    assert!(data.left_out.is_empty() && !from.exists());
    let held = around.path().to_str().unwrap().as_bytes().to_owned();
    drop(store);
    for file in walk(&to) {
        let bytes = fs::read(&file).unwrap();
        assert!(!bytes.windows(held.len()).any(|window| window == held), "{}", file.display());
    }
    super::assert_sound(&to);
}

fn walk(dir: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

/// The environment variable that names the folder of the next test.
const SECOND: &str = "OCELLI_TEST_SECOND_PROCESS";

/// Not a test of its own: opens and repairs a folder that another process uses.
#[test]
fn second() {
    let Some(dir) = std::env::var_os(SECOND) else { return };
    for outcome in [Store::open(Path::new(&dir)).err(), repair(Path::new(&dir)).err()] {
        println!("outcome {}", outcome.map_or("opened".to_owned(), |error| error.to_string()));
    }
    println!("outcome {}", check(Path::new(&dir)).unwrap().problems.len());
}

#[test]
fn of_two_processes_the_second_is_told() {
    let (keep, store) = store();
    upload(&store, "pets", &archive(1, 4)).unwrap();
    assert!(matches!(Store::open(keep.path()), Err(StoreError::Locked { .. })));
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::tests::database::second", "--nocapture"])
        .env(SECOND, keep.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(text.matches("outcome another process uses the data folder").count(), 2, "{text}");
    assert!(text.contains("outcome 0"), "{text}");
    assert_eq!(ids(&store, "pets").len(), 4);
}
