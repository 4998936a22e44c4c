//! The store on a real disk.

mod changes;
mod checks;
mod damage;
mod database;
mod datasets;
mod deletion;
mod feedback;
#[cfg(target_os = "linux")]
mod full;
mod jobs;
mod kills;
mod old_layout;
mod speed;
mod splits;
mod versions;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use ocelli_datasets::{Split, UploadLimits};
use ocelli_engine::model_file::ModelFile;
use ocelli_engine::{Model, Pool, Shape, zoo};
use tempfile::TempDir;

use crate::built_in::shipped_model;
use crate::store::image::Id;
use crate::store::{Actor, CheckReport, ImportReport, JobChange, Name, Store, StoreError, check};
use ocelli_testing::hostile::images::png;
use ocelli_testing::hostile::zips::{Part, zip};

fn by() -> Actor {
    Actor { scope: "admin".to_owned(), key: "test".to_owned() }
}

fn name(text: &str) -> Name {
    Name::new("data set", text).unwrap()
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
    let go = AtomicBool::new(false);
    store.datasets().import_zip(
        &name(to),
        &path,
        (&UploadLimits::default(), &Pool::shared(2).unwrap()),
        &go,
        &by(),
    )
}

/// An archive of `n` different images in two classes.
fn archive(seed: u8, n: u8) -> Vec<u8> {
    let part = |i| Part::file(format!("{}/{i}.png", ["a", "b"][i as usize % 2]), &png(4, 4, &[seed, i]));
    zip(&(0..n).map(part).collect::<Vec<_>>())
}

/// A small model; each seed gives another one.
fn model(seed: u64) -> ModelFile {
    let mut file = shipped_model().unwrap();
    let graph = zoo::build("keras-cnn", Shape::new(28, 28, 1), 10).unwrap();
    file.model = Model::init(graph, seed).unwrap();
    file
}

/// All files below a folder with their contents; those of SQLite and the lock are left out.
fn files(root: &Path) -> BTreeSet<(PathBuf, Vec<u8>)> {
    let mut found = BTreeSet::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            let path = entry.strip_prefix(root).unwrap().to_owned();
            let own = path == Path::new("lock") || path.to_string_lossy().starts_with("ocelli.db");
            if entry.is_dir() {
                folders.push(entry);
            } else if !own {
                found.insert((path, fs::read(&entry).unwrap()));
            }
        }
    }
    found
}

fn paths(root: &Path) -> Vec<String> {
    files(root).into_iter().map(|(path, _)| path.to_str().unwrap().to_owned()).collect()
}

/// A copy of a folder, byte by byte, its database among it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn ids(store: &Store, of: &str) -> BTreeSet<String> {
    let page = store.datasets().images(&name(of), None, 0, 1 << 30).unwrap();
    page.images.into_iter().map(|image| image.id).collect()
}

/// The split of every image of a data set.
fn splits(store: &Store, of: &str) -> Vec<(String, Split)> {
    let page = store.datasets().images(&name(of), None, 0, 1 << 30).unwrap();
    let mut splits: Vec<_> = page.images.into_iter().map(|image| (image.id, image.split)).collect();
    splits.sort();
    splits
}

/// Where the file of a PNG lies.
fn image_file(root: &Path, id: &str) -> PathBuf {
    root.join(format!("images/{}/{id}.png", &id[..2]))
}

/// Nothing is wrong with a folder, which may be in use.
fn assert_sound(dir: &Path) -> CheckReport {
    let report = check(dir).unwrap();
    assert!(report.problems.is_empty(), "{:#?}", report.problems);
    report
}

/// All image files are those that rows name, and nothing is in transit or in quarantine.
fn check_clean(store: &Store) {
    assert_sound(store.dir());
    for folder in ["quarantine", "incoming"] {
        assert!(
            !store.dir().join(folder).exists() || paths(&store.dir().join(folder)).is_empty(),
            "{folder}"
        );
    }
    let walked = paths(&store.dir().join("images")).len() as u64;
    assert_eq!(check(store.dir()).unwrap().images as u64, walked);
}

/// The number of a new job whose images are frozen.
fn job(store: &Store, on: &str) -> u64 {
    let id = store
        .jobs()
        .create(&name("m"), &name(on), &by(), |_| JobChange {
            record: "{}".to_owned(),
            ..JobChange::default()
        })
        .unwrap();
    store.jobs().data(id, &name(on)).unwrap();
    id
}

fn end_job(store: &Store, id: u64) {
    let change = JobChange { record: "{}".to_owned(), ended: true, ..JobChange::default() };
    store.jobs().change(id, &change).unwrap();
}

/// What the audit log says was done, oldest first.
fn actions(store: &Store) -> Vec<String> {
    let mut all: Vec<_> = store.audit().page(None, 1000).unwrap().into_iter().map(|e| e.action).collect();
    all.reverse();
    all
}
