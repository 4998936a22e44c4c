//! Folders of the layout that had lists in place of a database.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use ocelli_datasets::Split;

use super::{assert_sound, copy, ids, name, paths, png};
use crate::store::image::Id;
use crate::store::{NewVersion, Store};

fn put(path: &Path, bytes: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// An old folder: two data sets that share an image, feedback, two versions of which the second serves, two jobs.
fn old(dir: &Path) -> [String; 2] {
    for (set, seed, count) in [("pets", 1_u8, 20_u8), ("cars", 2, 6)] {
        let mut list = "path,label,split,name,added,source,bytes\n".to_owned();
        for i in 0..count {
            let image = if i == 0 { png(4, 4, b"shared") } else { png(4, 4, &[seed, i]) };
            let id = Id::of(&image).to_string();
            let path = format!("images/{}/{id}.png", &id[..2]);
            put(&dir.join("datasets").join(set).join(&path), &image);
            let split = if set == "cars" { ["train", "val"][i as usize % 2] } else { "" };
            let class = ["a", "b"][i as usize % 2];
            writeln!(list, "{path},{class},{split},{i}.png,{},upload,{}", 1000 + u64::from(i), image.len())
                .unwrap();
        }
        put(&dir.join("datasets").join(set).join("images.csv"), list);
    }
    put(&dir.join("datasets/pets/snapshot-job-2.csv"), "path,label,split\n");
    let image = png(5, 5, b"waits");
    let id = Id::of(&image).to_string();
    put(&dir.join(format!("feedback/{id}.png")), &image);
    let entry = format!(
        r#"{{"id":"{id}","added":7,"bytes":{},"extension":"png","label":"a","predicted":null,"version":null,"note":"n"}}"#,
        image.len()
    );
    put(&dir.join(format!("feedback/{id}.json")), entry);
    // Models are written by a store of today, and their records put where they were.
    let scratch = tempfile::tempdir().unwrap();
    let store = Store::open(scratch.path()).unwrap();
    let versions = store.versions(&name("m")).unwrap();
    let ids = [0, 1].map(|seed| {
        let record = versions.add(&super::model(seed), &NewVersion::default()).unwrap();
        let mut json = serde_json::to_value(&record).unwrap();
        json.as_object_mut().unwrap().remove("damaged");
        put(&dir.join(format!("models/m/{}.json", record.version)), json.to_string());
        let file = format!("models/m/{}.ocelli", record.version);
        put(&dir.join(&file), fs::read(scratch.path().join(&file)).unwrap());
        record.version
    });
    put(&dir.join("models/m/current"), format!(r#"{{"version":"{}","previous":["{}"]}}"#, ids[1], ids[0]));
    for (id, state) in [(1, "promoted"), (2, "running")] {
        let record = format!(
            r#"{{"id":{id},"state":"{state}","request":{{"dataset":"pets"}},"run":"m-00{id}","epochs":[{{"epoch":1}}],"notes":[]}}"#
        );
        put(&dir.join(format!("jobs/{id}/job.json")), record);
        put(&dir.join(format!("jobs/{id}/events.jsonl")), "{\"event\":\"state\",\"data\":{\"x\":1}}\n");
    }
    put(&dir.join("lock"), "");
    ids
}

type State =
    (Vec<(String, Split)>, Vec<(String, Split)>, Vec<String>, Vec<(u64, bool)>, Vec<String>, Vec<String>);

fn state(store: &Store) -> State {
    let jobs = store.jobs().all().unwrap().into_iter().map(|job| (job.id, job.ended)).collect();
    (
        super::splits(store, "pets"),
        super::splits(store, "cars"),
        store.versions(&name("m")).unwrap().history().unwrap(),
        jobs,
        store.feedback().page(0, 9).unwrap().feedback.into_iter().map(|entry| entry.id).collect(),
        paths(store.dir()),
    )
}

#[test]
fn an_old_folder_is_taken_over_whole_and_once() {
    let dir = tempfile::tempdir().unwrap();
    let versions = old(dir.path());
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.notes().len(), 1, "{:?}", store.notes());
    assert!(
        store.notes()[0].contains("26 images, 2 versions, 2 jobs, 1 images that wait"),
        "{:?}",
        store.notes()
    );
    assert_eq!((ids(&store, "pets").len(), ids(&store, "cars").len()), (20, 6));
    let info = store.datasets().inspect(&name("cars")).unwrap();
    assert_eq!((info.classes[0].train, info.classes[1].val), (3, 3));
    let pets = super::splits(&store, "pets");
    assert_eq!(pets.iter().filter(|(_, split)| *split != Split::Train).count(), 4);
    assert_eq!(
        store.versions(&name("m")).unwrap().history().unwrap(),
        [versions[1].clone(), versions[0].clone()]
    );
    let jobs = store.jobs().all().unwrap();
    assert_eq!(
        jobs.iter().map(|job| (job.id, job.ended, job.model.as_str())).collect::<Vec<_>>(),
        [(1, true, "m"), (2, false, "m")]
    );
    let (epochs, events) = store.jobs().history(1).unwrap();
    assert_eq!((epochs.len(), events.len()), (1, 1));
    assert_eq!(store.feedback().page(0, 9).unwrap().feedback[0].input.note.as_deref(), Some("n"));
    for gone in ["datasets", "feedback", "jobs"] {
        assert!(!dir.path().join(gone).exists(), "{gone}");
    }
    assert!(dir.path().join("old-layout/datasets/pets/images.csv").exists());
    assert!(dir.path().join("old-layout/datasets/pets/snapshot-job-2.csv").exists());
    assert_sound(dir.path());
    let before = state(&store);
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    assert!(store.notes().is_empty() && state(&store) == before);
}

/// Each step of taking over may be the last one before a kill.
#[test]
fn a_kill_while_taking_over_changes_nothing_of_the_result() {
    let done = tempfile::tempdir().unwrap();
    old(done.path());
    let expected = {
        let store = Store::open(done.path()).unwrap();
        (state(&store), store.notes().to_vec())
    };
    // Images on their way.
    for moved in [0, 1, 7, 26] {
        let dir = tempfile::tempdir().unwrap();
        old(dir.path());
        let fresh = tempfile::tempdir().unwrap();
        drop(Store::open(fresh.path()).unwrap());
        fs::copy(fresh.path().join("ocelli.db"), dir.path().join("ocelli.db")).unwrap();
        let raw = rusqlite::Connection::open(dir.path().join("ocelli.db")).unwrap();
        raw.execute("DELETE FROM facts", []).unwrap();
        drop(raw);
        let of_images = |path: &&String| path.starts_with("datasets/") && path.ends_with(".png");
        for path in paths(dir.path()).iter().filter(of_images).take(moved) {
            let to = dir.path().join(&path[path.find("images/").unwrap()..]);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::rename(dir.path().join(path), to).unwrap();
        }
        let store = Store::open(dir.path()).unwrap();
        assert_eq!((state(&store), store.notes().to_vec()), expected, "{moved} moved");
        assert_sound(dir.path());
    }
    // Rows are written, and lists on their way.
    let lists: Vec<String> = paths(&done.path().join("old-layout"));
    for aside in 0..=lists.len() {
        let dir = tempfile::tempdir().unwrap();
        copy(done.path(), dir.path());
        let raw = rusqlite::Connection::open(dir.path().join("ocelli.db")).unwrap();
        raw.execute_batch("DELETE FROM facts WHERE name = 'layout'; DELETE FROM kept_files").unwrap();
        drop(raw);
        for list in &lists[aside..] {
            let back = dir.path().join(list);
            fs::create_dir_all(back.parent().unwrap()).unwrap();
            fs::rename(dir.path().join("old-layout").join(list), back).unwrap();
        }
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(store.notes(), expected.1, "{aside} aside");
        assert_eq!(state(&store), expected.0, "{aside} aside");
        assert_sound(dir.path());
    }
}

#[test]
fn damaged_lists_cost_what_they_do_not_hold_and_delete_nothing() {
    type Case = (&'static str, fn(&Path, &[String; 2]), &'static str, usize, usize);
    fn cut_rows(list: &Path, rows: usize) {
        let text = fs::read_to_string(list).unwrap();
        let left: Vec<&str> = text.split_inclusive('\n').take(rows + 1).collect();
        fs::write(list, left.concat()).unwrap();
    }
    let cases: [Case; 11] = [
        (
            "list deleted",
            |d, _| fs::remove_file(d.join("datasets/pets/images.csv")).unwrap(),
            "images.csv is missing",
            0,
            1,
        ),
        (
            "header only",
            |d, _| cut_rows(&d.join("datasets/pets/images.csv"), 0),
            "20 files in datasets/pets",
            0,
            1,
        ),
        (
            "cut at a row's end",
            |d, _| cut_rows(&d.join("datasets/pets/images.csv"), 9),
            "11 files in datasets/pets",
            9,
            1,
        ),
        ("cut in a row", |d, _| super::damage::cut(&d.join("datasets/pets/images.csv")), "is damaged", 9, 1),
        (
            "list emptied",
            |d, _| fs::write(d.join("datasets/pets/images.csv"), "").unwrap(),
            "is damaged",
            0,
            1,
        ),
        ("noise", |d, _| super::damage::noise(&d.join("datasets/pets/images.csv")), "is damaged", 0, 1),
        (
            "record of what serves cut",
            |d, v| super::damage::cut(&d.join(format!("models/m/{}.json", v[1]))),
            "taken up from its model file",
            20,
            1,
        ),
        (
            "record of the other deleted",
            |d, v| fs::remove_file(d.join(format!("models/m/{}.json", v[0]))).unwrap(),
            "taken up from its model file",
            20,
            1,
        ),
        (
            "current cut",
            |d, _| super::damage::cut(&d.join("models/m/current")),
            "current is damaged or missing",
            20,
            1,
        ),
        (
            "current deleted",
            |d, _| fs::remove_file(d.join("models/m/current")).unwrap(),
            "current is damaged or missing",
            20,
            1,
        ),
        (
            "job cut",
            |d, _| super::damage::cut(&d.join("jobs/1/job.json")),
            "jobs/1/job.json is damaged",
            20,
            1,
        ),
    ];
    for (story, harm, says, images, serves) in cases {
        let dir = tempfile::tempdir().unwrap();
        let versions = old(dir.path());
        harm(dir.path(), &versions);
        let before: Vec<_> = super::files(dir.path()).into_iter().collect();
        let store = Store::open(dir.path()).unwrap();
        let notes = store.notes().join("\n");
        assert!(notes.contains(says), "{story}: {notes}");
        let there = store.datasets().images(&name("pets"), None, 0, 99).map_or(0, |page| page.total);
        assert!(there == images || story == "cut in a row" && (8..=11).contains(&there), "{story}: {there}");
        assert_eq!(ids(&store, "cars").len(), 6, "{story}");
        let all = store.versions(&name("m")).unwrap();
        assert_eq!(all.current().unwrap().as_ref(), Some(&versions[serves]), "{story}");
        assert_eq!(all.list().unwrap().len(), 2, "{story}");
        let after: Vec<_> = super::files(dir.path()).into_iter().map(|(_, content)| content).collect();
        for (path, content) in before {
            assert!(after.contains(&content), "{story}: {} is gone", path.display());
        }
        assert_sound(dir.path());
    }
}
