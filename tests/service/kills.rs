//! kill -9 at any moment of uploading, deleting, correcting, training, promoting and going back: what was acknowledged
//! holds after the restart, what was not is done as a whole or not at all, and no partial files accumulate.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{
    Service, add_renamed, archive, attempt, has_ended, listing, model, of_form, photos, text, until,
};
use crate::http_client::Answer;
use crate::shapes::{CLASSES, Rng};
use crate::support::Sandbox;

/// The data sets of the clients. Jobs train on the first one.
const DATASETS: [&str; 2] = ["default", "other"];

/// A random one of some things.
fn one_of<'a, T>(things: &'a [T], rng: &mut Rng) -> Option<&'a T> {
    things.get((rng.next_u64() % things.len().max(1) as u64) as usize)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Images by data set and id, and corrections that wait, by id; with their classes.
#[derive(Clone, Debug, Default, PartialEq)]
struct Data {
    images: BTreeMap<(&'static str, String), String>,
    feedback: BTreeMap<String, String>,
}

/// A change of [`Data`].
#[derive(Clone, Debug)]
enum Change {
    Upload { dataset: &'static str, images: Vec<(String, String)> },
    DeleteImage { dataset: &'static str, id: String },
    DeleteDataset { dataset: &'static str },
    Feedback { id: String, class: String },
    Approve { dataset: &'static str, id: String },
    Reject { id: String },
}

impl Data {
    fn apply(&mut self, change: &Change) {
        match change {
            Change::Upload { dataset, images } => {
                let images = images.iter().cloned();
                self.images.extend(images.map(|(id, class)| ((*dataset, id), class)));
            }
            Change::DeleteImage { dataset, id } => drop(self.images.remove(&(*dataset, id.clone()))),
            Change::DeleteDataset { dataset } => self.images.retain(|(own, _), _| own != dataset),
            Change::Feedback { id, class } => drop(self.feedback.insert(id.clone(), class.clone())),
            Change::Approve { dataset, id } => {
                let class = self.feedback.remove(id).expect("only what waits is approved");
                self.images.insert((*dataset, id.clone()), class);
            }
            Change::Reject { id } => drop(self.feedback.remove(id)),
        }
    }

    /// What the service says.
    fn of(service: &Service) -> Data {
        let mut data = Data::default();
        for dataset in DATASETS {
            let path = format!("/v1/datasets/{dataset}/images");
            let images = pages(service, &path, "images").into_iter();
            data.images.extend(images.map(|image| ((dataset, text(&image["id"])), text(&image["class"]))));
        }
        let waiting = pages(service, "/v1/feedback", "feedback").into_iter();
        data.feedback = waiting.map(|entry| (text(&entry["id"]), text(&entry["label"]))).collect();
        data
    }

    /// The images that some data set has or that wait.
    fn ids(&self) -> BTreeSet<String> {
        self.images.keys().map(|(_, id)| id).chain(self.feedback.keys()).cloned().collect()
    }
}

/// All entries of a list in pages; none where there is no such list. Damaged ones are none.
fn pages(service: &Service, path: &str, name: &str) -> Vec<Value> {
    let mut found = Vec::new();
    loop {
        let answer = service.get(&format!("{path}?limit=1000&offset={}", found.len()));
        if answer.status == 404 {
            return found;
        }
        let page = answer.json();
        found.extend(page[name].as_array().unwrap().iter().cloned());
        if found.len() as u64 == page["total"].as_u64().unwrap() {
            assert!(found.iter().all(|entry| entry["damaged"].is_null()), "{found:?}");
            return found;
        }
    }
}

/// A client that sends, deletes and corrects images.
struct Sender {
    /// What the answers so far made of the data.
    known: Data,
    /// What was requested and not acknowledged.
    doubt: Option<Change>,
    /// All images that were ever made, with their classes: those that were deleted are sent again now and then.
    made: BTreeMap<String, (String, Vec<u8>)>,
    /// Images without which no job could train.
    base: BTreeSet<String>,
    /// Images whose files came in a request that was never answered.
    doubted: BTreeSet<String>,
    rng: Rng,
    seed: u64,
    answered: usize,
}

impl Sender {
    fn new(seed: u64) -> Sender {
        let empty = BTreeMap::new();
        Sender {
            known: Data::default(),
            doubt: None,
            made: empty,
            base: BTreeSet::new(),
            doubted: BTreeSet::new(),
            rng: Rng(seed),
            seed: 1000,
            answered: 0,
        }
    }

    fn make(&mut self, per_class: usize) -> Vec<String> {
        self.seed += 1;
        let mut ids = Vec::new();
        for (name, bytes) in photos(self.seed, per_class, &CLASSES) {
            let id = hex(&Sha256::digest(&bytes));
            let class = name.split('/').next().unwrap().to_owned();
            self.made.insert(id.clone(), (class, bytes));
            ids.push(id);
        }
        ids
    }

    /// Works until the service is killed.
    fn work(&mut self, addr: &str) {
        loop {
            let change = self.think();
            if self.ask(addr, change).is_err() {
                return;
            }
        }
    }

    fn think(&mut self) -> Change {
        loop {
            let dataset = *one_of(&DATASETS, &mut self.rng).unwrap();
            let known =
                self.known.images.keys().filter(|(own, id)| *own == dataset && !self.base.contains(id));
            let there: Vec<String> = known.map(|(_, id)| id.clone()).collect();
            let waiting: Vec<String> = self.known.feedback.keys().cloned().collect();
            match self.rng.next_u64() % 20 {
                0..4 => return self.upload(dataset, 2),
                4 => {
                    // Some that are there, some that are not any more.
                    let all: Vec<String> = self.made.keys().cloned().collect();
                    let again: BTreeSet<String> =
                        (0..3).filter_map(|_| one_of(&all, &mut self.rng).cloned()).collect();
                    let images = again.into_iter().map(|id| (id.clone(), self.made[&id].0.clone())).collect();
                    return Change::Upload { dataset, images };
                }
                5..11 => {
                    if let Some(id) = one_of(&there, &mut self.rng).cloned() {
                        return Change::DeleteImage { dataset, id };
                    }
                }
                11..15 => {
                    let id = if !self.rng.next_u64().is_multiple_of(4) {
                        self.make(1).remove(0)
                    } else {
                        let all: Vec<String> = self.made.keys().cloned().collect();
                        one_of(&all, &mut self.rng).unwrap().clone()
                    };
                    let class = self.made[&id].0.clone();
                    return Change::Feedback { id, class };
                }
                15..17 => {
                    if let Some(id) = one_of(&waiting, &mut self.rng).cloned() {
                        return Change::Approve { dataset, id };
                    }
                }
                17..19 => {
                    if let Some(id) = one_of(&waiting, &mut self.rng).cloned() {
                        return Change::Reject { id };
                    }
                }
                _ => {
                    if self.known.images.keys().any(|(own, _)| *own == "other") {
                        return Change::DeleteDataset { dataset: "other" };
                    }
                }
            }
        }
    }

    fn upload(&mut self, dataset: &'static str, per_class: usize) -> Change {
        let ids = self.make(per_class).into_iter();
        Change::Upload { dataset, images: ids.map(|id| (id.clone(), self.made[&id].0.clone())).collect() }
    }

    fn ask(&mut self, addr: &str, change: Change) -> io::Result<()> {
        self.doubt = Some(change.clone());
        let (line, kind, body) = match &change {
            Change::Upload { dataset, images } => {
                let file =
                    |(id, class): &(String, String)| (format!("{class}/{id}.png"), self.made[id].1.clone());
                let body = archive(&images.iter().map(file).collect::<Vec<_>>());
                (format!("POST /upload-data?dataset={dataset}"), "application/zip", body)
            }
            Change::DeleteImage { dataset, id } => {
                (format!("DELETE /v1/datasets/{dataset}/images/{id}"), "", Vec::new())
            }
            Change::DeleteDataset { dataset } => (format!("DELETE /v1/datasets/{dataset}"), "", Vec::new()),
            Change::Feedback { id, class } => {
                (format!("POST /v1/feedback?label={class}"), "image/png", self.made[id].1.clone())
            }
            Change::Approve { dataset, id } => {
                (format!("POST /v1/feedback/{id}/approve?dataset={dataset}"), "", Vec::new())
            }
            Change::Reject { id } => (format!("DELETE /v1/feedback/{id}"), "", Vec::new()),
        };
        let answer = attempt(addr, &line, kind, &body)?;
        assert!(matches!(answer.status, 200 | 201), "{change:?}: {answer:?}");
        self.known.apply(&change);
        self.doubt = None;
        self.answered += 1;
        Ok(())
    }

    /// Compares with what a restart found, which is known from then on.
    fn check(&mut self, service: &Service, data: &Path) {
        let found = Data::of(service);
        let mut done = self.known.clone();
        if let Some(change) = self.doubt.take() {
            done.apply(&change);
            match &change {
                Change::Upload { images, .. } => self.doubted.extend(images.iter().map(|(id, _)| id.clone())),
                Change::Feedback { id, .. } => drop(self.doubted.insert(id.clone())),
                _ => {}
            }
            let whole = found == self.known || found == done;
            assert!(
                whole,
                "{change:?} in doubt:\n{}\n{}",
                differences(&self.known, &found),
                differences(&done, &found)
            );
        } else {
            assert!(found == self.known, "{}", differences(&self.known, &found));
        }
        self.known = found;
        let files = image_files(data, "images");
        for id in self.known.ids() {
            let path = files.get(&id).unwrap_or_else(|| panic!("the file of {id} is gone"));
            assert_eq!(std::fs::read(path).unwrap(), self.made[&id].1, "{id}");
        }
        // What was deleted lies nowhere; what never got an answer may lie where a person can look at it.
        for id in image_files(data, "quarantine").keys() {
            assert!(self.doubted.contains(id), "{id} is in quarantine");
        }
    }

    /// Whether the files are those of the images that are there, and no others.
    fn has_all_and_no_more(&self, data: &Path) -> bool {
        image_files(data, "images").into_keys().collect::<BTreeSet<_>>() == self.known.ids()
    }
}

/// In words, what somebody knows and was not found, and the other way round.
fn differences(known: &Data, found: &Data) -> String {
    let only = |a: &Data, b: &Data| {
        let images = a.images.iter().filter(|(key, class)| b.images.get(*key) != Some(*class));
        let feedback = a.feedback.iter().filter(|(key, class)| b.feedback.get(*key) != Some(*class));
        format!("images {:?}, feedback {:?}", images.collect::<Vec<_>>(), feedback.collect::<Vec<_>>())
    };
    format!("lost: {}; too many: {}", only(known, found), only(found, known))
}

/// Image files below a folder by the id in their name.
fn image_files(data: &Path, folder: &str) -> BTreeMap<String, PathBuf> {
    let folder = data.join(folder);
    let files = if folder.is_dir() { listing(&folder) } else { Vec::new() };
    let images = files.into_iter().filter(|(path, _)| path.extension().is_some_and(|e| e == "png"));
    images.map(|(path, _)| (path.file_stem().unwrap().to_str().unwrap().to_owned(), path)).collect()
}

/// A change of what serves and of what versions there are.
#[derive(Clone, Debug)]
enum Step {
    Promote(String),
    RollBack,
    Delete(String),
    Retrain,
    Cancel(u64),
}

/// A client that trains, promotes, goes back and deletes versions.
struct Operator {
    /// What serves, then what served before.
    history: Vec<String>,
    /// Versions that an answer named, with the bytes of their files.
    versions: BTreeMap<String, Vec<u8>>,
    /// Versions that may be deleted: those of jobs that have ended.
    kept: BTreeSet<String>,
    deleted: BTreeSet<String>,
    /// Jobs that an answer named, with their last known state where there is one.
    jobs: BTreeMap<u64, Option<String>>,
    /// Jobs that an answer said are or will be cancelled.
    cancelled: BTreeSet<u64>,
    doubt: Option<Step>,
    rng: Rng,
    seed: u64,
    answered: usize,
}

impl Operator {
    /// Works until the service is killed.
    fn work(&mut self, addr: &str) {
        loop {
            let step = self.think();
            if self.ask(addr, step).is_err() || self.look(addr).is_err() {
                return;
            }
        }
    }

    fn think(&mut self) -> Step {
        loop {
            let serving = &self.history[0];
            let kept: Vec<String> = self.kept.iter().filter(|own| *own != serving).cloned().collect();
            let open: Vec<u64> =
                self.jobs.iter().filter(|(_, end)| end.is_none()).map(|(job, _)| *job).collect();
            let versions: Vec<String> = self.versions.keys().cloned().collect();
            match self.rng.next_u64() % 16 {
                0..6 => return Step::Promote(one_of(&versions, &mut self.rng).unwrap().clone()),
                6..10 if self.history.len() > 1 => return Step::RollBack,
                10..12 => {
                    if let Some(version) = one_of(&kept, &mut self.rng) {
                        return Step::Delete(version.clone());
                    }
                }
                12..15 if open.len() < 3 => return Step::Retrain,
                15 => {
                    if let Some(job) = one_of(&open, &mut self.rng) {
                        return Step::Cancel(*job);
                    }
                }
                _ => {}
            }
        }
    }

    fn ask(&mut self, addr: &str, step: Step) -> io::Result<()> {
        self.doubt = Some(step.clone());
        let (line, body) = match &step {
            Step::Promote(version) => (format!("POST /v1/models/{version}/promote"), String::new()),
            Step::RollBack => ("POST /v1/models/rollback".to_owned(), String::new()),
            Step::Delete(version) => (format!("DELETE /v1/models/{version}"), String::new()),
            Step::Retrain => {
                // A seed of its own makes it a version of its own. No job begins at a version that may be deleted.
                self.seed += 1;
                let recipe = json!({ "size": [16, 16], "seed": self.seed, "batch": 8 });
                let request =
                    json!({ "epochs": 1, "from": "fresh", "recipe": recipe, "gate": { "mode": "never" } });
                ("POST /retrain".to_owned(), request.to_string())
            }
            Step::Cancel(job) => (format!("DELETE /v1/jobs/{job}"), String::new()),
        };
        let answer = attempt(addr, &line, "application/json", body.as_bytes())?;
        self.doubt = None;
        self.answered += 1;
        match (&step, answer.status) {
            (Step::Retrain, 202) => {
                let location = answer.header("location").unwrap();
                self.jobs.insert(location.rsplit('/').next().unwrap().parse().unwrap(), None);
            }
            (Step::Retrain, 429) => {}
            // It ended meanwhile.
            (Step::Cancel(_), 409) => {}
            // A job that has not ended may need it; the client does not know which.
            (Step::Delete(_), 409) if self.jobs.values().any(Option::is_none) => {}
            (Step::Cancel(job), 200) => drop(self.cancelled.insert(*job)),
            (_, 200) => self.apply(&step),
            _ => panic!("{step:?}: {answer:?}"),
        }
        Ok(())
    }

    fn apply(&mut self, step: &Step) {
        self.history = self.after(step);
        if let Step::Delete(version) = step {
            self.versions.remove(version);
            self.kept.remove(version);
            self.deleted.insert(version.clone());
        }
    }

    fn after(&self, step: &Step) -> Vec<String> {
        let mut history = self.history.clone();
        match step {
            Step::Promote(version) if history[0] != *version => history.insert(0, version.clone()),
            Step::RollBack => drop(history.remove(0)),
            Step::Delete(version) => history.retain(|own| own != version),
            _ => {}
        }
        history
    }

    /// What came of jobs: it is known from then on.
    fn look(&mut self, addr: &str) -> io::Result<()> {
        let read = |path: &str| -> io::Result<Option<Value>> {
            let answer: Answer = attempt(addr, &format!("GET {path}"), "", b"")?;
            assert_eq!(answer.status, 200, "{answer:?}");
            // It may be cut off by the end of the service.
            Ok(serde_json::from_slice(&answer.body).ok())
        };
        let Some(jobs) = read("/v1/jobs")? else { return Ok(()) };
        self.note_jobs(&jobs);
        Ok(())
    }

    fn note_jobs(&mut self, jobs: &Value) {
        for job in jobs["jobs"].as_array().unwrap() {
            let number = job["id"].as_u64().unwrap();
            let state = text(&job["state"]);
            let ended = has_ended(job);
            let known = self.jobs.entry(number).or_default();
            if let Some(known) = &*known {
                assert_eq!(*known, state, "job {number} had ended: {job}");
            } else if ended {
                *known = Some(state.clone());
                let given_up = state == "failed" && text(&job["error"]).contains("the service ended");
                let cancelled = state == "cancelled";
                assert!(state == "kept" || given_up || cancelled, "{job}");
                if self.cancelled.contains(&number) {
                    assert!(cancelled, "it was to be cancelled: {job}");
                }
                if state == "kept" {
                    let version = text(&job["version"]);
                    self.kept.insert(version);
                }
            }
        }
    }

    /// Compares with what a restart found, which is known from then on.
    fn check(&mut self, service: &Service, data: &Path, image: &[u8]) {
        let jobs = service.json("/v1/jobs");
        let listed: BTreeSet<u64> =
            jobs["jobs"].as_array().unwrap().iter().map(|job| job["id"].as_u64().unwrap()).collect();
        assert!(self.jobs.keys().all(|job| listed.contains(job)), "{:?} {listed:?}", self.jobs);
        let new = listed.iter().filter(|job| !self.jobs.contains_key(job)).count();
        assert!(new <= usize::from(matches!(self.doubt, Some(Step::Retrain))), "{new} {:?}", self.doubt);
        self.note_jobs(&jobs);

        let list = service.json("/v1/models");
        let now = (text(&list["serving"]), list["previous"].as_str().map(str::to_owned));
        assert_eq!(service.version(), now.0);
        assert_eq!(text(&service.predict(image)["model"]["version"]), now.0);
        assert_eq!(service.json("/status")["stand_in"], Value::Null);
        let first_two = |history: &[String]| (history[0].clone(), history.get(1).cloned());
        let there: BTreeSet<String> =
            list["versions"].as_array().unwrap().iter().map(|version| text(&version["version"])).collect();
        if let Some(step) = self.doubt.take() {
            let after = self.after(&step);
            let is_done = match &step {
                Step::Delete(version) => !there.contains(version),
                _ => now != first_two(&self.history),
            };
            if is_done {
                assert_eq!(now, first_two(&after), "{step:?} in doubt: {list}");
                self.apply(&step);
            }
        }
        assert_eq!(now, first_two(&self.history), "{list}");
        assert!(self.deleted.is_disjoint(&there), "{:?} {list}", self.deleted);
        let folder = data.join("models").join(text(&list["model"]));
        for version in &there {
            let bytes = std::fs::read(folder.join(format!("{version}.ocelli"))).unwrap();
            assert!(self.versions.get(version).is_none_or(|known| *known == bytes), "{version}");
            self.versions.insert(version.clone(), bytes);
        }
        assert!(self.versions.keys().all(|version| there.contains(version)), "{list}");
        assert!(
            list["versions"].as_array().unwrap().iter().all(|version| version["damaged"].is_null()),
            "{list}"
        );
        let files: BTreeSet<String> = listing(&folder)
            .iter()
            .filter_map(|(path, _)| path.file_name()?.to_str()?.strip_suffix(".ocelli").map(str::to_owned))
            .collect();
        assert!(files.is_disjoint(&self.deleted), "{files:?} {:?}", self.deleted);
    }
}

/// Files that only a write in progress has.
fn temporary(data: &Path) -> Vec<String> {
    let inner = |path: PathBuf| path.strip_prefix(data).unwrap().display().to_string();
    let all = listing(data).into_iter().map(|(path, _)| inner(path));
    all.filter(|path| path.contains(".tmp-") || path.contains("incoming")).collect()
}

#[test]
fn a_service_killed_at_any_moment_keeps_what_it_acknowledged() {
    let sandbox = Sandbox::new();
    // Nothing but the client deletes anything.
    sandbox.write("limits.toml", "keep_versions = 100000\nkeep_runs = 20\n");
    let data = sandbox.path().join("data");
    let image = photos(0, 1, &["circle"]).remove(0).1;
    for prefix in ["a-", "b-"] {
        add_renamed(&sandbox, "data", prefix);
    }
    let start =
        |args: &str| Service::start(&sandbox, &format!("{args} --config limits.toml --drain-delay 0"));
    let mut service = start(&model());
    let mut sender = Sender::new(of_form(11, 12));
    let base = sender.upload("default", 6);
    sender.ask(&service.addr, base).unwrap();
    sender.base = sender.known.ids();
    let mut operator = Operator {
        history: vec![service.version()],
        versions: BTreeMap::new(),
        kept: BTreeSet::new(),
        deleted: BTreeSet::new(),
        jobs: BTreeMap::new(),
        cancelled: BTreeSet::new(),
        doubt: None,
        rng: Rng(of_form(13, 14)),
        seed: 0,
        answered: 0,
    };
    operator.check(&service, &data, &image);
    let mut rng = Rng(of_form(15, 16));
    let mut doubts: BTreeMap<String, usize> = BTreeMap::new();
    let kills = of_form(6, 200);
    for kill in 0..kills {
        let life = Duration::from_millis(rng.next_u64() % 600);
        thread::scope(|scope| {
            scope.spawn(|| sender.work(&service.addr));
            scope.spawn(|| operator.work(&service.addr));
            thread::sleep(life);
            service.signal("KILL");
        });
        drop(service);
        let doubted = [
            sender.doubt.as_ref().map(|d| format!("{d:?}")),
            operator.doubt.as_ref().map(|d| format!("{d:?}")),
        ];
        for doubt in doubted.into_iter().flatten() {
            let name = doubt.split([' ', '(']).next().unwrap().to_owned();
            *doubts.entry(name).or_default() += 1;
        }
        // Where few kills do not hit a write, these stand for it.
        for half in ["images/.job-1.csv.tmp-1", "runs/default-001/weights/.last.ocelli.tmp-1-0"] {
            sandbox.write(&format!("data/{half}"), "half of a fi");
        }
        service = start("");
        sender.check(&service, &data);
        operator.check(&service, &data, &image);
        if kill % 10 == 9 || kill + 1 == kills {
            // Jobs that were under way go on by themselves; while they do, they need images that were deleted.
            let open: Vec<u64> =
                operator.jobs.iter().filter(|(_, end)| end.is_none()).map(|(n, _)| *n).collect();
            open.into_iter().for_each(|job| drop(service.ended(job)));
            until("the files of deleted images to go", || sender.has_all_and_no_more(&data).then_some(()));
            operator.check(&service, &data, &image);
        }
    }
    let mut ends: BTreeMap<&str, usize> = BTreeMap::new();
    for end in operator.jobs.values() {
        *ends.entry(end.as_deref().unwrap()).or_default() += 1;
    }
    println!(
        "{kills} kills: {} changes of data and {} of versions and jobs answered; in doubt {doubts:?}; {} images and {} corrections left of {}, {} in quarantine; {} versions left, {} deleted; jobs {ends:?}",
        sender.answered,
        operator.answered,
        sender.known.images.len(),
        sender.known.feedback.len(),
        sender.made.len(),
        image_files(&data, "quarantine").len(),
        operator.versions.len(),
        operator.deleted.len(),
    );
    for (_, id) in sender.known.images.keys().filter(|(dataset, _)| *dataset == "default").take(20) {
        let image = service.get(&format!("/v1/datasets/default/images/{id}"));
        assert_eq!((image.status, &hex(&Sha256::digest(&image.body))), (200, id));
    }
    assert_eq!(service.stop("TERM"), Some(0));
    assert_eq!(temporary(&data), Vec::<String>::new());
    let run = sandbox.run("store check data --json");
    let report: Value = serde_json::from_str(run.stdout.trim()).unwrap();
    assert_eq!(report["problems"], json!([]), "{report:#}");
}
