//! A shared store in a folder, and services beside it.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use ocelli_pipeline::store::{Actor, Name, NewVersion, Store, VersionLabels, VersionRecord};
use ocelli_pipeline::{Compute, ModelFile, Predictor, version_id};
use tempfile::TempDir;
use tokio::sync::watch;

use crate::http::problem::Problem;
use crate::shared_status::{Role, Status};
use crate::shared_store::follow::Follower;
use crate::shared_store::local::{LocalModels, labelled};
use crate::shared_store::objects::Objects;
use crate::shared_store::pointer::Writer;
use crate::shared_store::publish::{Limits, Publisher};
use crate::tests::support::model_file;

/// The one model of most tests.
pub(super) fn name() -> Name {
    "m".parse().unwrap()
}

/// Three versions of it.
pub(super) fn versions() -> [ModelFile; 3] {
    let first = model_file();
    ["one", "two", "three"].map(|label| {
        let mut meta = first.meta.clone();
        meta.classes[0] = label.into();
        ModelFile { meta, training: None, probes: None, ..first.clone() }
    })
}

pub(super) fn id(file: &ModelFile) -> String {
    version_id(&file.content_hash().unwrap())
}

pub(super) fn stable(file: &ModelFile) -> VersionLabels {
    VersionLabels { stable: Some(id(file)), ..VersionLabels::default() }
}

/// A shared store in a folder.
pub(super) struct Shared(TempDir);

impl Shared {
    pub(super) fn new() -> Shared {
        let shared = Shared(tempfile::tempdir().unwrap());
        fs::create_dir(shared.path()).unwrap();
        shared
    }

    pub(super) fn path(&self) -> PathBuf {
        self.0.path().join("store")
    }

    pub(super) fn objects(&self) -> Objects {
        Objects::open(self.path().to_str().unwrap()).unwrap()
    }

    pub(super) fn service(&self) -> Arc<Service> {
        Arc::new(Service::new())
    }

    pub(super) fn publisher(&self, of: &Arc<Service>) -> (Publisher, Arc<Status>) {
        self.publisher_keeping(of, 20)
    }

    pub(super) fn publisher_keeping(&self, of: &Arc<Service>, pointers: usize) -> (Publisher, Arc<Status>) {
        self.publisher_with(of, 1 << 30, pointers)
    }

    pub(super) fn publisher_with(
        &self,
        of: &Arc<Service>,
        max_model_bytes: u64,
        keep_pointers: usize,
    ) -> (Publisher, Arc<Status>) {
        static WRITERS: AtomicU64 = AtomicU64::new(1);
        let number = WRITERS.fetch_add(1, Ordering::Relaxed);
        let writer = Writer { id: format!("{number:016x}"), host: "here".into() };
        let status = Arc::new(Status::new(Role::Writer, "store"));
        let limits = Limits { max_model_bytes, keep_pointers };
        (Publisher::new(self.objects(), of.clone(), status.clone(), limits, writer), status)
    }

    pub(super) fn follower(&self, of: &Arc<Service>) -> (Follower, Arc<Status>) {
        self.follower_with(of, 1 << 30)
    }

    pub(super) fn follower_with(&self, of: &Arc<Service>, max: u64) -> (Follower, Arc<Status>) {
        let status = Arc::new(Status::new(Role::Replica, "store"));
        (Follower::new(self.objects(), of.clone(), status.clone(), max, of.folder.path()), status)
    }

    /// All files, relative.
    pub(super) fn keys(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut folders = vec![self.path()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                if entry.is_dir() {
                    folders.push(entry);
                } else {
                    found.push(entry.strip_prefix(self.path()).unwrap().display().to_string());
                }
            }
        }
        found.sort();
        found
    }

    /// Numbers of the pointers.
    pub(super) fn numbers(&self) -> Vec<u64> {
        let digits =
            |key: &String| key.strip_prefix("models/m/pointers/")?.strip_suffix(".json")?.parse().ok();
        self.keys().iter().filter_map(digits).collect()
    }

    /// Versions whose model is there.
    pub(super) fn models(&self) -> Vec<String> {
        let version =
            |key: &String| Some(key.strip_prefix("models/m/")?.strip_suffix(".ocelli")?[..12].to_owned());
        self.keys().iter().filter_map(version).collect()
    }

    pub(super) fn pointer(&self, number: u64) -> PathBuf {
        self.path().join(format!("models/m/pointers/{number:011}.json"))
    }

    /// The file of a model.
    pub(super) fn model(&self, file: &ModelFile) -> PathBuf {
        let sha256 = crate::shared_store::pointer::hex(&file.content_hash().unwrap());
        self.path().join(format!("models/m/{sha256}.ocelli"))
    }

    /// Makes all files older.
    pub(super) fn age(&self, by: Duration) {
        for key in self.keys() {
            let file = fs::File::options().append(true).open(self.path().join(key)).unwrap();
            file.set_modified(SystemTime::now() - by).unwrap();
        }
    }
}

/// The models of a service: a real store with labels beside it.
pub(super) struct Service {
    folder: TempDir,
    store: Store,
    labels: Mutex<VersionLabels>,
    changed: watch::Sender<u64>,
    adds: AtomicUsize,
    history: Mutex<Vec<VersionLabels>>,
}

impl Service {
    fn new() -> Service {
        let folder = tempfile::tempdir().unwrap();
        Service {
            store: Store::open(folder.path()).unwrap(),
            folder,
            labels: Mutex::default(),
            changed: watch::channel(0).0,
            adds: AtomicUsize::new(0),
            history: Mutex::default(),
        }
    }

    /// Versions that were added by a follower.
    pub(super) fn adds(&self) -> usize {
        self.adds.load(Ordering::Relaxed)
    }

    /// All labels that it had.
    pub(super) fn history(&self) -> Vec<VersionLabels> {
        self.history.lock().unwrap().clone()
    }

    pub(super) fn add_file(&self, file: &ModelFile) {
        self.store.versions(&name()).unwrap().add(file, &NewVersion::default()).unwrap();
    }

    pub(super) fn label(&self, labels: &VersionLabels) {
        self.set_labels(&name(), labels, &Actor::service("test")).unwrap();
    }
}

impl LocalModels for Service {
    fn names(&self) -> Vec<Name> {
        self.store.models().unwrap()
    }

    fn is_default(&self, _: &Name) -> bool {
        true
    }

    fn labels(&self, name: &Name) -> Result<VersionLabels, Problem> {
        if self.names().contains(name) {
            Ok(self.labels.lock().unwrap().clone())
        } else {
            Err(Problem::NotFound("no model".to_owned()))
        }
    }

    fn add(&self, name: &Name, file: ModelFile, _: &Actor) -> Result<VersionRecord, Problem> {
        // Its probes, as a service does.
        Predictor::with_batch(file.clone(), Compute::on(1), 1)
            .map_err(|error| Problem::Refused(error.to_string()))?;
        self.adds.fetch_add(1, Ordering::Relaxed);
        Ok(self.store.versions(name)?.add(&file, &NewVersion::default())?)
    }

    fn set_labels(&self, name: &Name, labels: &VersionLabels, _: &Actor) -> Result<(), Problem> {
        for version in labelled(labels) {
            self.store.versions(name)?.load(version)?;
        }
        *self.labels.lock().unwrap() = labels.clone();
        self.history.lock().unwrap().push(labels.clone());
        self.changed.send_modify(|count| *count += 1);
        Ok(())
    }

    fn file(&self, name: &Name, version: &str) -> Result<PathBuf, Problem> {
        Ok(self.store.versions(name)?.file(version)?)
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}
