//! All kinds of work at the same time for a long time: memory and descriptors stay where they were after the warm-up.
//!
//! `OCELLI_SOAK_SECONDS` says for how long, `make soak` for an hour on the program that ships; a few seconds otherwise,
//! in which memory is printed and not judged: it is still warming up.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{Service, archive, descriptors, has_ended, listing, memory, model, of_form, photos, text, until};
use crate::http_client::{Answer, form};
use crate::shapes::{CLASSES, Rng};
use crate::support::Sandbox;

/// Before this, memory is not judged.
const WARM_UP: f64 = 0.2;
/// Shortest run of which memory is judged.
const JUDGED: Duration = Duration::from_secs(300);
/// How much more memory the last part of the run may take than the first one after the warm-up: a tenth, which is what
/// the allocator keeps or not by chance, and this many KiB.
const SPARE_KIB: u64 = 8 << 10;
/// Descriptors that may be more at the end: connections to the database are opened when they are first needed.
const SPARE_DESCRIPTORS: usize = 8;

/// What was done, and how it was answered.
#[derive(Default)]
struct Tally(Mutex<BTreeMap<(&'static str, u16), u64>>);

impl Tally {
    /// Counts an answer, which must be one of these.
    #[track_caller]
    fn count(&self, what: &'static str, answer: &Answer, allowed: &[u16]) {
        let body = String::from_utf8_lossy(&answer.body);
        assert!(allowed.contains(&answer.status), "{what}: {} {body}", answer.status);
        *self.0.lock().unwrap().entry((what, answer.status)).or_default() += 1;
    }
}

/// A service and what works on it.
struct Soak<'a> {
    service: &'a Service,
    images: Vec<Vec<u8>>,
    archives: Vec<Vec<u8>>,
    tally: Tally,
    stop: AtomicBool,
}

impl Soak<'_> {
    /// Does something again and again, with a generator of its own, until the end.
    fn repeat(&self, seed: u64, pause: Duration, work: impl Fn(&mut Rng)) {
        let mut rng = Rng(seed);
        while !self.stop.load(Ordering::Relaxed) {
            work(&mut rng);
            thread::sleep(pause);
        }
    }

    fn version(&self, rng: &mut Rng) -> String {
        let models = self.service.json("/v1/models");
        let versions = models["versions"].as_array().unwrap();
        text(&versions[rng.next_u64() as usize % versions.len()]["version"])
    }

    /// Every way to ask; a version that is asked for may have been deleted meanwhile.
    fn predict(&self, rng: &mut Rng) {
        let image = |rng: &mut Rng| self.images[rng.next_u64() as usize % self.images.len()].as_slice();
        let (path, kind, body) = match rng.next_u64() % 8 {
            0 => {
                let (kind, body) = form(&[image(rng), image(rng), image(rng)]);
                ("/predict?top_k=2".to_owned(), kind, body)
            }
            1 => (format!("/predict?version={}", self.version(rng)), "image/png".into(), image(rng).to_vec()),
            2 => ("/predict".to_owned(), "image/png".to_owned(), image(rng)[..40].to_vec()),
            _ => ("/predict".to_owned(), "image/png".to_owned(), image(rng).to_vec()),
        };
        let answer = self.service.post(&path, &kind, &body);
        self.tally.count("predict", &answer, &[200, 404, 422]);
    }

    /// Data sets come and go, and so do single images.
    fn upload(&self, rng: &mut Rng) {
        let archive = &self.archives[rng.next_u64() as usize % self.archives.len()];
        let answer = self.service.post("/upload-data?dataset=other", "application/zip", archive);
        self.tally.count("upload", &answer, &[200, 429]);
        let broken = &archive[..archive.len() / 2];
        let answer = self.service.post("/upload-data?dataset=other", "application/zip", broken);
        self.tally.count("upload", &answer, &[400, 422, 429]);
        let page = self.service.json("/v1/datasets/other/images?limit=1");
        let id = text(&page["images"][0]["id"]);
        for rest in ["", "/thumbnail"] {
            let path = format!("/v1/datasets/other/images/{id}{rest}");
            self.tally.count("image", &self.service.get(&path), &[200]);
        }
        let answer = self.service.delete(&format!("/v1/datasets/other/images/{id}"));
        self.tally.count("delete image", &answer, &[200]);
        self.tally.count("delete data set", &self.service.delete("/v1/datasets/other"), &[200]);
    }

    fn correct(&self, rng: &mut Rng) {
        let image = &self.images[rng.next_u64() as usize % self.images.len()];
        let answer = self.service.post("/v1/feedback?label=circle", "image/png", image);
        self.tally.count("feedback", &answer, &[201, 409]);
        let waiting = self.service.json("/v1/feedback?limit=1");
        let Some(id) = waiting["feedback"].get(0).map(|entry| text(&entry["id"])) else { return };
        let answer = self.service.delete(&format!("/v1/feedback/{id}"));
        self.tally.count("feedback", &answer, &[200, 404]);
    }

    /// Trains; every other job is cancelled.
    fn train(&self, rng: &mut Rng) {
        let cancelled = rng.next_u64().is_multiple_of(4);
        let request = json!({ "epochs": if cancelled { 1000 } else { 1 }, "from": "fresh",
            "recipe": { "size": [16, 16], "batch": 8, "seed": rng.next_u64() % 1_000_000 }, "gate": { "mode": "always" } });
        let answer = self.service.post("/retrain", "application/json", request.to_string().as_bytes());
        self.tally.count("retrain", &answer, &[202]);
        let number = answer.json()["id"].as_u64().unwrap();
        if cancelled {
            let answer = self.service.delete(&format!("/v1/jobs/{number}"));
            self.tally.count("cancel", &answer, &[200]);
        }
        let job = self.service.ended(number);
        assert!(["promoted", "kept", "cancelled"].contains(&job["state"].as_str().unwrap()), "{job}");
        let events = self.service.get(&format!("/v1/jobs/{number}/events"));
        self.tally.count("events", &events, &[200]);
    }

    /// Other versions take over, old ones are deleted. A version may be gone, serve, or be needed.
    fn swap(&self, rng: &mut Rng) {
        let version = self.version(rng);
        let answer = match rng.next_u64() % 4 {
            0 => self.service.post("/v1/models/rollback", "", b""),
            1 => self.service.delete(&format!("/v1/models/{version}")),
            _ => self.service.post(&format!("/v1/models/{version}/promote"), "", b""),
        };
        self.tally.count("swap", &answer, &[200, 404, 409]);
    }

    fn look(&self, rng: &mut Rng) {
        let paths = [
            "/status",
            "/metrics",
            "/health/ready",
            "/openapi.json",
            "/v1/jobs",
            "/v1/models",
            "/v1/audit",
            "/v2",
        ];
        let path = paths[rng.next_u64() as usize % paths.len()];
        self.tally.count("look", &self.service.get(path), &[200]);
        self.tally.count("look", &self.service.get("/no/such/path"), &[404]);
    }

    /// Descriptors once nothing is under way.
    fn idle_descriptors(&self) -> Option<usize> {
        until("rest", || {
            let status = self.service.json("/status");
            let idle = status["connections"] == 1 && status["jobs"]["running"] == json!([]);
            (idle && status["queue"]["length"] == 0).then_some(())
        });
        descriptors(self.service)
    }

    /// All of it for so long; memory in KiB by the second.
    fn run(&self, length: Duration) -> Vec<u64> {
        self.stop.store(false, Ordering::Relaxed);
        let started = Instant::now();
        let mut used = Vec::new();
        let ms = Duration::from_millis;
        thread::scope(|scope| {
            let workers = [
                scope.spawn(|| self.repeat(1, ms(2), |rng| self.predict(rng))),
                scope.spawn(|| self.repeat(2, ms(2), |rng| self.predict(rng))),
                scope.spawn(|| self.repeat(3, ms(50), |rng| self.upload(rng))),
                scope.spawn(|| self.repeat(4, ms(50), |rng| self.correct(rng))),
                scope.spawn(|| self.repeat(5, ms(100), |rng| self.train(rng))),
                scope.spawn(|| self.repeat(6, ms(200), |rng| self.swap(rng))),
                scope.spawn(|| self.repeat(7, ms(20), |rng| self.look(rng))),
            ];
            // A worker that has failed ends the others: its message is what counts.
            while started.elapsed() < length && !workers.iter().any(|worker| worker.is_finished()) {
                thread::sleep(Duration::from_secs(1).min(length));
                used.extend(memory(self.service, "VmRSS"));
            }
            self.stop.store(true, Ordering::Relaxed);
        });
        used
    }
}

#[test]
fn mixed_work_for_hours_takes_no_more_memory_or_descriptors() {
    let seconds = std::env::var("OCELLI_SOAK_SECONDS").ok();
    let seconds = seconds.map(|text| text.parse().expect("OCELLI_SOAK_SECONDS is a number of seconds"));
    let length = Duration::from_secs(seconds.unwrap_or(of_form(5, 60)));
    let sandbox = Sandbox::new();
    sandbox.write("limits.toml", "keep_versions = 6\nkeep_runs = 4\nkeep_events = 500\n");
    let service = Service::start(&sandbox, &format!("{} --config limits.toml --drain-delay 0", model()));
    service.upload("default", &archive(&photos(1, 4, &CLASSES)));
    let soak = Soak {
        service: &service,
        images: photos(2, 40, &CLASSES).into_iter().map(|(_, bytes)| bytes).collect(),
        archives: (10..16).map(|seed| archive(&photos(seed, 20, &CLASSES))).collect(),
        tally: Tally::default(),
        stop: AtomicBool::new(false),
    };
    soak.run(length.mul_f64(WARM_UP));
    let descriptors_before = soak.idle_descriptors();
    let used = soak.run(length.mul_f64(1.0 - WARM_UP));
    let descriptors_after = soak.idle_descriptors();

    for ((what, status), count) in soak.tally.0.lock().unwrap().iter() {
        println!("{what:16} {status} {count:8}");
    }
    let jobs = service.json("/v1/jobs");
    let jobs = jobs["jobs"].as_array().unwrap();
    assert!(jobs.iter().all(has_ended), "{jobs:?}");
    let part = |samples: &[u64]| samples.iter().sum::<u64>() / samples.len().max(1) as u64;
    let fifth = used.len().div_ceil(5);
    let (early, late) = (part(&used[..fifth]), part(&used[used.len() - fifth..]));
    let bytes: u64 = listing(&sandbox.path().join("data")).iter().map(|(_, bytes)| bytes).sum();
    println!("{} s, {} jobs, {} MiB in the data folder", length.as_secs(), jobs.len(), bytes >> 20);
    println!("memory {early} KiB in the first fifth, {late} KiB in the last one");
    println!("descriptors {descriptors_before:?} before, {descriptors_after:?} after");
    if let (Some(before), Some(after)) = (descriptors_before, descriptors_after) {
        assert!(after <= before + SPARE_DESCRIPTORS, "{before} descriptors, then {after}");
    }
    if length >= JUDGED {
        assert!(late * 10 <= early * 11 + SPARE_KIB * 10, "memory grows: {used:?}");
    }
    assert_eq!(service.stop("TERM"), Some(0));
}
