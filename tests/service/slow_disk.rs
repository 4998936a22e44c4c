//! A disk on which every sync takes long: requests that only read do not wait for it, and an upload waits for it a few times,
//! however many images it has.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{Service, add_renamed, archive, has_ended, model, of_form, photos, serve, until};
use crate::http_client::request;
use crate::shapes::CLASSES;
use crate::support::Sandbox;

/// Compiles what slows syncs down; none where the system cannot, or the program does not load it.
fn shim(sandbox: &Sandbox) -> Option<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/slow_sync.c");
    let shim = sandbox.path().join("slow_sync.so");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-o"]).args([&shim, &source]).arg("-ldl");
    match compiler.output() {
        _ if !cfg!(target_os = "linux") => println!("SKIPPED: syncs are slowed down on Linux alone"),
        Err(error) => println!("SKIPPED: no C compiler: {error}"),
        Ok(output) => {
            assert!(output.status.success(), "{output:?}");
            let loaded = sandbox.path().join("loaded");
            let mut version = sandbox.command("--version");
            version.env("LD_PRELOAD", &shim).env("OCELLI_SYNC_COUNT", &loaded);
            assert!(version.status().unwrap().success());
            if loaded.exists() {
                return Some(shim);
            }
            println!("SKIPPED: into a static program nothing can be loaded");
        }
    }
    None
}

/// A service whose syncs take so many milliseconds more, and the file to which each of them adds a letter.
fn start(sandbox: &Sandbox, shim: &Path, milliseconds: u32) -> (Service, PathBuf) {
    let count = sandbox.path().join(format!("syncs-{milliseconds}"));
    let mut command = serve(sandbox, &format!("{} --drain-delay 0", model()));
    command.env("LD_PRELOAD", shim);
    command.env("OCELLI_SYNC_MS", milliseconds.to_string()).env("OCELLI_SYNC_COUNT", &count);
    let service = Service::launch(sandbox, command).unwrap();
    let syncs = fs::metadata(&count).map_or(0, |meta| meta.len());
    assert!(syncs > 0, "a start makes a database, and the shim saw no sync");
    (service, count)
}

/// Asks for something without pause until it is told to stop; how long each answer took.
fn ask(addr: &str, line: &str, body: &[u8], stop: &AtomicBool) -> Vec<Duration> {
    let mut taken = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let started = Instant::now();
        let answer = request(addr, line, if body.is_empty() { "" } else { "image/png" }, body);
        taken.push(started.elapsed());
        assert_eq!(answer.status, 200, "{line}: {answer:?}");
    }
    taken
}

/// Uploads, corrects, trains, cancels and promotes for a while; how often.
fn change(service: &Service, versions: &[String], length: Duration) -> BTreeMap<&'static str, usize> {
    let started = Instant::now();
    let goes_on = || started.elapsed() < length;
    let image = |seed| photos(seed, 1, &["circle"]).remove(0).1;
    let repeat = |work: &dyn Fn(u64)| -> usize {
        let mut done = 0;
        while goes_on() {
            work(done as u64);
            done += 1;
        }
        done
    };
    let upload = |i: u64| drop(service.upload("default", &archive(&photos(100 + i, 100, &CLASSES))));
    let train = |i: u64| {
        let job = service.retrain(&json!({ "epochs": 1000, "recipe": { "size": [16, 16], "seed": i } }));
        let epochs = |job: u64| service.job(job)["epochs"].as_array().unwrap().len();
        // Half of them are cancelled before they began, half in the middle.
        if i.is_multiple_of(2) {
            until("epochs", || (epochs(job) >= 2 || !goes_on()).then_some(()));
        }
        let answer = service.delete(&format!("/v1/jobs/{job}"));
        assert_eq!(answer.status, 200, "{answer:?}");
        until("the end of a job", || Some(service.job(job)).filter(has_ended));
    };
    let promote = |i: u64| {
        let line = format!("/v1/models/{}/promote", versions[i as usize % versions.len()]);
        assert_eq!(service.post(&line, "", b"").status, 200);
        thread::sleep(Duration::from_millis(50));
    };
    let correct = |i: u64| {
        let answer = service.post("/v1/feedback?label=circle", "image/png", &image(10_000 + i));
        assert_eq!(answer.status, 201, "{answer:?}");
    };
    thread::scope(|scope| {
        let uploads = scope.spawn(|| repeat(&upload));
        let jobs = scope.spawn(|| repeat(&train));
        let promotions = scope.spawn(|| repeat(&promote));
        let corrections = repeat(&correct);
        BTreeMap::from([
            ("uploads of 300", uploads.join().unwrap()),
            ("jobs", jobs.join().unwrap()),
            ("promotions", promotions.join().unwrap()),
            ("corrections", corrections),
        ])
    })
}

#[test]
fn reading_requests_do_not_wait_for_the_disk() {
    for milliseconds in of_form(&[40][..], &[0, 4, 40]) {
        let sandbox = Sandbox::new();
        let Some(shim) = shim(&sandbox) else { return };
        let versions: Vec<String> = ["a-", "b-"].map(|prefix| add_renamed(&sandbox, "data", prefix)).into();
        let (service, count) = start(&sandbox, &shim, *milliseconds);
        let image = photos(1, 1, &["circle"]).remove(0).1;
        service.upload("default", &archive(&photos(2, 8, &CLASSES)));
        let stop = AtomicBool::new(false);
        let questions: [(&str, &[u8]); 4] = [
            ("GET /status", b""),
            ("GET /v1/jobs", b""),
            ("GET /health/ready", b""),
            ("POST /predict", &image),
        ];
        let (done, answers) = thread::scope(|scope| {
            let (addr, stop) = (&service.addr, &stop);
            let askers = questions.map(|(line, body)| scope.spawn(move || ask(addr, line, body, stop)));
            let work = scope.spawn(|| change(&service, &versions, Duration::from_secs(of_form(4, 20))));
            let done = work.join();
            stop.store(true, Ordering::Relaxed);
            (done.unwrap(), askers.map(|asker| asker.join().unwrap()))
        });
        println!(
            "{milliseconds} ms more for each of {} syncs: {done:?}",
            fs::metadata(&count).unwrap().len()
        );
        for ((line, _), mut taken) in questions.into_iter().zip(answers) {
            taken.sort();
            let at = |part: f64| taken[((taken.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e3;
            println!(
                "  {line:18} {:6} answers: p50 {:6.2} ms, p99 {:6.2} ms, most {:6.2} ms",
                taken.len(),
                at(0.5),
                at(0.99),
                at(1.0)
            );
        }
        assert_eq!(service.stop("TERM"), Some(0));
    }
}

#[test]
fn an_upload_takes_a_few_syncs_whatever_its_size() {
    let sandbox = Sandbox::new();
    let Some(shim) = shim(&sandbox) else { return };
    let (service, count) = start(&sandbox, &shim, 0);
    service.upload("default", &archive(&photos(1, 1, &CLASSES)));
    let syncs = || fs::read(&count).unwrap().len();
    // What a start does beside serving is over.
    let quiet = || {
        until("a quiet disk", || {
            let before = syncs();
            thread::sleep(Duration::from_millis(300));
            (syncs() == before).then_some(before)
        })
    };
    let mut needed = BTreeMap::new();
    for (seed, per_class) in [(2, 17), (3, 170), (4, of_form(170, 1500))] {
        let files = archive(&photos(seed, per_class, &CLASSES));
        let before = quiet();
        let started = Instant::now();
        assert_eq!(service.upload("default", &files)["accepted"], per_class * CLASSES.len());
        let (taken, now) = (started.elapsed(), syncs());
        let calls = String::from_utf8(fs::read(&count).unwrap()[before..now].to_vec()).unwrap();
        println!("{} images: {} syncs ({calls}), {taken:?}", per_class * CLASSES.len(), now - before);
        needed.insert(per_class, now - before);
    }
    let (fewest, most) = (needed.values().min().unwrap(), needed.values().max().unwrap());
    assert!(most - fewest <= 3 && *most <= 12, "{needed:?}");
    assert_eq!(service.stop("TERM"), Some(0));
}
