//! Jobs as the store keeps them.

use std::fs;
use std::sync::mpsc;

use super::{archive, by, end_job, job, name, store, upload};
use crate::store::{JobChange, Store, StoreError};

fn change(record: &str) -> JobChange {
    JobChange { record: record.to_owned(), ..JobChange::default() }
}

#[test]
fn a_job_is_known_with_its_epochs_and_events() {
    let (keep, store) = store();
    upload(&store, "x", &archive(1, 6)).unwrap();
    assert_eq!(store.datasets().fresh(&name("x")).unwrap(), 6);
    let id = store
        .jobs()
        .create(&name("m"), &name("x"), &by(), |id| JobChange {
            record: format!("new {id}"),
            ..JobChange::default()
        })
        .unwrap();
    assert_eq!((id, store.datasets().fresh(&name("x")).unwrap()), (1, 0));
    for epoch in [1, 2, 3, 2] {
        let done = JobChange {
            epochs: vec![(epoch, format!("epoch {epoch}"))],
            events: vec![(epoch as usize, "epoch".to_owned(), epoch.to_string())],
            ..change("running")
        };
        store.jobs().change(id, &done).unwrap();
    }
    drop(store);
    let store = Store::open(keep.path()).unwrap();
    let (epochs, events) = store.jobs().history(id).unwrap();
    // The second epoch was done again: what came after it is no more.
    assert_eq!((epochs, events.len()), (vec!["epoch 1".to_owned(), "epoch 2".to_owned()], 3));
    let [known] = store.jobs().all().unwrap().try_into().unwrap();
    assert_eq!((known.record.as_str(), known.ended, known.model.as_str()), ("running", false, "m"));
    store.jobs().change(id, &JobChange { ended: true, ..change("done") }).unwrap();
    store.jobs().delete(id).unwrap();
    assert!(store.jobs().all().unwrap().is_empty());
    // A number is never given twice.
    assert_eq!(job(&store, "x"), 2);
    super::assert_sound(keep.path());
}

#[test]
fn an_ended_job_lets_go_of_its_data_set() {
    let (_keep, store) = store();
    for ended_before_data in [true, false] {
        upload(&store, "x", &archive(1, 6)).unwrap();
        let id = store.jobs().create(&name("m"), &name("x"), &by(), |_| JobChange::default()).unwrap();
        if !ended_before_data {
            store.jobs().data(id, &name("x")).unwrap();
        }
        assert!(matches!(store.datasets().delete(&name("x"), &by()), Err(StoreError::Conflict { .. })));
        end_job(&store, id);
        store.datasets().delete(&name("x"), &by()).unwrap();
        assert!(super::paths(store.dir()).is_empty(), "{:?}", super::paths(store.dir()));
    }
}

#[test]
fn pruning_keeps_the_newest_runs_events_and_what_is_needed() {
    let (keep, store) = store();
    upload(&store, "x", &archive(1, 6)).unwrap();
    let ended = job(&store, "x");
    let open = job(&store, "x");
    for id in [ended, open] {
        let events = (1..=10).map(|n| (n, "e".to_owned(), n.to_string())).collect();
        store.jobs().change(id, &JobChange { events, ended: id == ended, ..change("") }).unwrap();
    }
    for i in 0..6 {
        let run = keep.path().join(format!("runs/m-{i:03}"));
        fs::create_dir_all(&run).unwrap();
        fs::write(run.join("last.ckpt"), [i]).unwrap();
        let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1000 + u64::from(i));
        fs::File::open(&run).unwrap().set_modified(at).unwrap();
        store.jobs().keep_run(&format!("m-{i:03}")).unwrap();
    }
    assert_eq!(store.usage().runs, 6);
    store.jobs().prune(2, 4, &["m-001".to_owned()]).unwrap();
    let mut left: Vec<_> = fs::read_dir(store.runs_dir())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["m-001", "m-004", "m-005"]);
    assert_eq!(store.usage().runs, 3);
    let data = |id| store.jobs().history(id).unwrap().1.into_iter().map(|(_, data)| data).collect::<Vec<_>>();
    assert_eq!(data(ended), ["7", "8", "9", "10"]);
    assert_eq!(data(open).len(), 10, "a job that goes on keeps its events");
    assert_eq!(store.audit().page(None, 100).unwrap().len(), 3, "there were 3 changes");
    store.jobs().prune(2, 1, &[]).unwrap();
    assert_eq!(store.audit().page(None, 100).unwrap().len(), 1);
    super::assert_sound(keep.path());
}

/// Readers are answered while a transaction that writes is open.
#[test]
fn readers_do_not_wait_for_a_writer() {
    let (_keep, store) = store();
    upload(&store, "x", &archive(1, 6)).unwrap();
    let versions = store.versions(&name("m")).unwrap();
    let version = versions.add(&super::model(0), &Default::default()).unwrap().version;
    versions.promote(&version, &by()).unwrap();
    let job = job(&store, "x");
    let (open, opened) = mpsc::channel();
    let (go, wait) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let store = &store;
        scope.spawn(move || {
            // Holds what an upload and a deletion hold, too.
            let _turn = store.inner.files();
            let written = store.inner.database.write(|tx| {
                tx.execute("UPDATE datasets SET fresh = 77", [])?;
                open.send(()).unwrap();
                wait.recv().unwrap();
                Ok(())
            });
            written.unwrap();
        });
        opened.recv().unwrap();
        // None of these returns before the writer ends, if it waits for it; the writer ends after them.
        for _ in 0..20 {
            assert_eq!(store.datasets().fresh(&name("x")).unwrap(), 0);
            assert_eq!(store.datasets().list().unwrap().len(), 1);
            assert_eq!(store.datasets().inspect(&name("x")).unwrap().images, 6);
            let page = store.datasets().images(&name("x"), None, 0, 9).unwrap();
            store.datasets().thumbnail(&name("x"), &page.images[0].id, 8).unwrap();
            assert_eq!(store.jobs().all().unwrap().len(), 1);
            store.jobs().history(job).unwrap();
            store.jobs().data(job, &name("x")).unwrap();
            assert_eq!(versions.current().unwrap().as_ref(), Some(&version));
            versions.list().unwrap();
            versions.load(&version).unwrap();
            assert_eq!(store.models().unwrap().len(), 1);
            store.versions(&name("m")).unwrap();
            store.feedback().page(0, 9).unwrap();
            store.audit().page(None, 9).unwrap();
            store.usage();
            std::thread::scope(|scope| {
                for _ in 0..30 {
                    scope.spawn(|| store.datasets().list().unwrap());
                }
            });
        }
        go.send(()).unwrap();
    });
    assert_eq!(store.datasets().fresh(&name("x")).unwrap(), 77);
}

/// Each change and its entry in the audit log are one transaction: without the log nothing changes.
#[test]
fn a_change_and_its_audit_entry_are_one() {
    let (_keep, store) = store();
    upload(&store, "x", &archive(1, 6)).unwrap();
    let image = super::ids(&store, "x").first().unwrap().clone();
    let waits =
        store.feedback().add(&super::png(4, 4, b"f"), &Default::default(), store.datasets(), &by()).unwrap();
    let versions = store.versions(&name("m")).unwrap();
    let [a, b, c] =
        [0, 1, 2].map(|seed| versions.add(&super::model(seed), &Default::default()).unwrap().version);
    versions.promote(&a, &by()).unwrap();
    versions.promote(&b, &by()).unwrap();
    let state = || {
        let raw = rusqlite::Connection::open(store.dir().join("ocelli.db")).unwrap();
        let mut all = Vec::new();
        for table in ["files", "datasets", "images", "jobs", "versions", "served", "feedback", "removed"] {
            let mut statement = raw.prepare(&format!("SELECT * FROM {table}")).unwrap();
            let columns = statement.column_count();
            let rows = statement.query_map([], |row| {
                (0..columns).map(|at| row.get::<_, rusqlite::types::Value>(at)).collect::<Result<Vec<_>, _>>()
            });
            all.push(rows.unwrap().map(|row| format!("{row:?}")).collect::<Vec<_>>());
        }
        (all, super::files(store.dir()))
    };
    type Change<'a> = (&'static str, Box<dyn Fn() -> Result<(), StoreError> + 'a>);
    let label = Some("a");
    let changes: Vec<Change> = vec![
        ("upload", Box::new(|| upload(&store, "x", &archive(2, 6)).map(drop))),
        (
            "add image",
            Box::new(|| {
                store.datasets().add_image(&name("x"), "a", &super::png(4, 4, b"n"), &by()).map(drop)
            }),
        ),
        ("delete image", Box::new(|| store.datasets().delete_image(&name("x"), &image, &by()))),
        (
            "feedback",
            Box::new(|| {
                store
                    .feedback()
                    .add(&super::png(4, 4, b"g"), &Default::default(), store.datasets(), &by())
                    .map(drop)
            }),
        ),
        (
            "approve feedback",
            Box::new(|| store.feedback().approve(&waits, &name("x"), label, &by()).map(drop)),
        ),
        (
            "reject feedback",
            Box::new(|| store.feedback().reject(&super::Id::of(&super::png(4, 4, b"g")).to_string(), &by())),
        ),
        ("promote", Box::new(|| versions.promote(&c, &by()).map(drop))),
        ("roll back", Box::new(|| versions.roll_back(&c, &b, &by()))),
        ("delete version", Box::new(|| versions.delete(&c, &by()))),
        ("delete data set", Box::new(|| store.datasets().delete(&name("x"), &by()))),
    ];
    let raw = rusqlite::Connection::open(store.dir().join("ocelli.db")).unwrap();
    for (action, change) in changes {
        let before = state();
        raw.execute_batch("ALTER TABLE audit RENAME TO elsewhere").unwrap();
        change().expect_err(action);
        raw.execute_batch("ALTER TABLE elsewhere RENAME TO audit").unwrap();
        assert!(state() == before, "{action}");
        change().unwrap_or_else(|error| panic!("{action}: {error}"));
        let [last] = store.audit().page(None, 1).unwrap().try_into().unwrap();
        assert_eq!((last.action.as_str(), last.scope.as_str(), last.key.as_str()), (action, "admin", "test"));
    }
    let id = {
        upload(&store, "y", &archive(3, 6)).unwrap();
        raw.execute_batch("ALTER TABLE audit RENAME TO elsewhere").unwrap();
        store.jobs().create(&name("m"), &name("y"), &by(), |_| JobChange::default()).unwrap_err();
        raw.execute_batch("ALTER TABLE elsewhere RENAME TO audit").unwrap();
        assert!(store.jobs().all().unwrap().is_empty() && store.datasets().fresh(&name("y")).unwrap() == 6);
        job(&store, "y")
    };
    assert_eq!(store.audit().page(None, 1).unwrap()[0].subject, id.to_string());
    // Pages of the log go backwards.
    let all = store.audit().page(None, 100).unwrap();
    let mut paged = Vec::new();
    let mut before = None;
    loop {
        let page = store.audit().page(before, 3).unwrap();
        let Some(last) = page.last() else { break };
        before = Some(last.id);
        paged.extend(page);
    }
    assert!(paged == all && all.len() == 16, "{}", all.len());
}
