//! kill -9 at any moment of uploading, training and promoting: what was answered is there after the restart, the service
//! answers, jobs go on to their end, and nothing half-written piles up.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Service, add_renamed, archive, attempt, listing, model, of_form, photos, text};
use crate::shapes::{CLASSES, Rng};
use crate::support::Sandbox;

/// What a client knows of a service that may die in the middle of an answer.
#[derive(Default)]
struct Known {
    /// Images that an answer said are there, and those of uploads that never got an answer.
    uploaded: BTreeMap<String, bool>,
    /// Versions that an answer said serve, and those of promotions that never got one.
    promoted: BTreeSet<String>,
    /// Jobs that an answer said will be done.
    jobs: BTreeSet<u64>,
    /// Uploads made.
    seed: u64,
}

impl Known {
    /// Uploads, asks for training and promotes in turn until the service is gone.
    fn work(&mut self, addr: &str, versions: &[String], rng: &mut Rng) {
        while self.step(addr, versions, rng).is_ok() {}
    }

    fn step(&mut self, addr: &str, versions: &[String], rng: &mut Rng) -> std::io::Result<()> {
        self.seed += 1;
        let files = photos(self.seed, 1, &CLASSES);
        let ids: Vec<String> = files.iter().map(|(_, bytes)| hex(&Sha256::digest(bytes))).collect();
        self.uploaded.extend(ids.iter().map(|id| (id.clone(), false)));
        let answer = attempt(addr, "POST /upload-data", "application/zip", &archive(&files))?;
        // An answer may be cut off as a whole, in which case there is none, or inside of its body.
        assert!(answer.status == 200, "{answer:?}");
        self.uploaded.extend(ids.into_iter().map(|id| (id, true)));

        let request = super::short_training().to_string();
        let answer = attempt(addr, "POST /retrain", "application/json", request.as_bytes())?;
        match (answer.status, serde_json::from_slice::<Value>(&answer.body)) {
            (202, Ok(job)) => drop(self.jobs.insert(job["id"].as_u64().unwrap())),
            (202 | 429, _) => {}
            _ => panic!("{answer:?}"),
        }

        let version = &versions[(rng.next() % versions.len() as u64) as usize];
        self.promoted.insert(version.clone());
        let answer = attempt(addr, &format!("POST /v1/models/{version}/promote"), "", b"")?;
        assert_eq!(answer.status, 200, "{answer:?}");
        Ok(())
    }

    /// Looks at what a restart found.
    fn check(&self, service: &Service, image: &[u8]) {
        let answer = service.predict(image);
        let serving = text(&answer["model"]["version"]);
        let list = service.json("/v1/models");
        let trained =
            list["versions"].as_array().unwrap().iter().filter(|version| version["origin"] == "trained");
        let trained: Vec<String> = trained.map(|version| text(&version["version"])).collect();
        assert!(self.promoted.contains(&serving) || trained.contains(&serving), "{serving}: {list}");

        let there = images(service);
        for (id, answered) in &self.uploaded {
            assert!(there.contains(id) || !answered, "an upload that was answered is gone: {id}");
        }
        assert!(there.iter().all(|id| self.uploaded.contains_key(id)));
        for id in &there {
            let image = service.get(&format!("/v1/datasets/default/images/{id}"));
            assert_eq!((image.status, &hex(&Sha256::digest(&image.body))), (200, id));
        }
        for &job in &self.jobs {
            service.job(job);
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The images of the data set, which may not be there yet.
fn images(service: &Service) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    loop {
        let path = format!("/v1/datasets/default/images?limit=1000&offset={}", found.len());
        let answer = service.get(&path);
        if answer.status == 404 {
            return found;
        }
        let page = answer.json();
        found.extend(page["images"].as_array().unwrap().iter().map(|image| text(&image["id"])));
        if found.len() as u64 == page["total"].as_u64().unwrap() {
            return found;
        }
    }
}

/// Files that only a write in progress has.
fn temporary(data: &Path) -> Vec<String> {
    let inner = |path: PathBuf| path.strip_prefix(data).unwrap().display().to_string();
    let all = listing(data).into_iter().map(|(path, _)| inner(path));
    all.filter(|path| path.contains(".tmp-") || path.contains("incoming")).collect()
}

#[test]
fn killed_at_any_moment_it_keeps_what_it_answered() {
    let sandbox = Sandbox::new();
    let image = photos(0, 1, &["circle"]).remove(0).1;
    let versions: Vec<String> = ["a-", "b-"].map(|prefix| add_renamed(&sandbox, "data", prefix)).into();
    let mut known = Known { seed: 1000, ..Known::default() };
    let mut rng = Rng(of_form(11, 12));
    let mut service = Service::start(&sandbox, &model());
    known.promoted.insert(service.version());
    for _ in 0..of_form(6, 50) {
        let life = Duration::from_millis(rng.next() % 600);
        thread::scope(|scope| {
            scope.spawn(|| known.work(&service.addr, &versions, &mut rng));
            thread::sleep(life);
            service.signal("KILL");
        });
        drop(service);
        // Where few kills do not hit a write, these stand for it.
        for half in ["images/.job-1.csv.tmp-1", "runs/default-001/weights/.last.ocelli.tmp-1-0"] {
            sandbox.write(&format!("data/{half}"), "half of a fi");
        }
        service = Service::start(&sandbox, "");
        known.check(&service, &image);
    }
    // Jobs that were under way go on by themselves; one that saw the end of the service thrice is given up.
    for &job in &known.jobs {
        let job = service.ended(job);
        let given_up = job["state"] == "failed" && text(&job["error"]).contains("the service ended");
        assert!(job["state"] == "promoted" || given_up, "{job}");
    }
    println!("{} images, {} jobs", known.uploaded.len(), known.jobs.len());
    let data = sandbox.path().join("data");
    assert_eq!(temporary(&data), Vec::<String>::new());
    let is_image = |path: &Path| path.extension().is_some_and(|e| e == "png");
    let stored = listing(&data.join("images")).iter().filter(|(path, _)| is_image(path)).count();
    assert_eq!(stored, images(&service).len());
    assert_eq!(service.stop("TERM"), Some(0));
}
