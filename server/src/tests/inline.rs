//! Who runs the network: a thread that serves connections where that is soon done, the version's own thread elsewhere. The
//! answers are the same.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use super::support::*;
use crate::Config;
use crate::models::batcher::inline_images;
use crate::models::pass::Predict;

/// A batch, and whether the version's own thread ran it.
type Runs = Arc<Mutex<Vec<(usize, bool)>>>;

/// A service that writes down its runs.
fn watched(config: Config, inline: usize) -> (Service, Runs) {
    let runs = Runs::default();
    let seen = runs.clone();
    let service = Service::wrapped_inline(config, inline, |mut model: Predict| {
        Box::new(move |images, ask| {
            seen.lock().unwrap().push((images.len(), is_own_thread()));
            model(images, ask)
        })
    });
    (service, runs)
}

fn is_own_thread() -> bool {
    std::thread::current().name() == Some("ocelli-batcher")
}

/// What a service says of an image, without what differs from request to request.
fn said(service: &Service, request: &[u8]) -> Value {
    let answer = service.send(request);
    assert_eq!(answer.status, 200, "{answer:?}");
    let mut json = answer.json();
    let fields = json.as_object_mut().unwrap();
    for name in ["timing_ms", "request_id"] {
        assert!(fields.remove(name).is_some(), "{name}");
    }
    json
}

#[test]
fn inline_answers_are_those_of_the_thread() {
    let (inline, inline_runs) = watched(patient(), 8);
    let (queued, queued_runs) = watched(patient(), 0);
    for seed in 0..20 {
        let request = post("/predict?top_k=3", "", &bmp(seed));
        assert_eq!(said(&inline, &request), said(&queued, &request));
        let images: Vec<_> = (0..=seed % 5).map(|image| bmp(100 * seed + image)).collect();
        let request = post("/predict", FORM, &form("file", &images));
        assert_eq!(said(&inline, &request), said(&queued, &request));
    }
    let (inline_runs, queued_runs) = (inline_runs.lock().unwrap(), queued_runs.lock().unwrap());
    let images = |runs: &[(usize, bool)]| runs.iter().map(|(images, _)| images).sum::<usize>();
    assert_eq!(images(&inline_runs), images(&queued_runs));
    assert!(inline_runs.iter().all(|(_, own)| !own), "{inline_runs:?}");
    assert!(queued_runs.iter().all(|(_, own)| *own), "{queued_runs:?}");
    // They count like all others.
    let (metrics, batches) = (inline.metrics(), inline_runs.len());
    assert!(metrics.contains(&format!("ocelli_batch_size_count {batches}\n")), "{metrics}");
}

#[test]
fn more_images_than_may_run_inline_go_to_the_thread() {
    let (service, runs) = watched(patient(), 2);
    for (images, own) in [(1, false), (2, false), (3, true), (7, true)] {
        let files: Vec<_> = (0..images).map(|image| bmp(image as u64)).collect();
        said(&service, &post("/predict", FORM, &form("file", &files)));
        let runs = std::mem::take(&mut *runs.lock().unwrap());
        assert_eq!(runs.iter().map(|(images, _)| images).sum::<usize>(), images);
        assert!(runs.iter().all(|run| run.1 == own), "{images}: {runs:?}");
    }
}

#[test]
fn a_network_runs_inline_only_as_long_as_others_can_wait() {
    let images = |micros| inline_images(Duration::from_micros(micros));
    assert_eq!([images(20), images(100), images(101), images(200)], [10, 2, 1, 1]);
    assert_eq!([images(201), images(5_000)], [0, 0]);
    // A clock that saw no time pass.
    assert!(images(0) > 1000);
}

#[test]
fn a_network_that_may_not_run_inline_keeps_nobody_who_wants_something_else() {
    let gate = Gate::default();
    let held = gate.clone();
    let service = Service::wrapped(Config { queue: 8, images_per_request: 8, ..patient() }, |mut model| {
        Box::new(move |images, ask| {
            assert!(is_own_thread());
            held.pass();
            model(images, ask)
        })
    });
    let mut clients: Vec<Client> = (0..8).map(|_| service.connect()).collect();
    for (seed, client) in clients.iter_mut().enumerate() {
        client.write(&post("/predict", "", &bmp(seed as u64)));
    }
    service.wait_for_load(8);
    assert_eq!(service.send(&get("/health/live")).status, 200);
    assert_eq!(service.send(&post("/predict", "", &bmp(9))).status, 429);
    gate.open();
    assert!(clients.iter_mut().all(|client| client.read().status == 200));
}

#[test]
fn many_clients_of_a_network_that_runs_inline_get_their_own_answers() {
    let (service, runs) = watched(patient(), 3);
    std::thread::scope(|scope| {
        for number in 0..16 {
            let service = &service;
            scope.spawn(move || {
                let (mut model, mut rng) = (predictor(), Rng(number));
                let mut client = service.connect();
                for round in 0..30 {
                    let image = bmp(rng.next_u64());
                    client.write(&post("/predict", "", &image));
                    if number % 4 == 0 && round % 3 == 0 {
                        // Some leave before their answer: nothing they took may be kept.
                        client = service.connect();
                        continue;
                    }
                    assert_same(&client.read().json()["predictions"][0], &offline(&mut model, &image, 5));
                }
            });
        }
    });
    service.wait_for_load(0);
    wait_until("all memory back", || {
        service.server.backend.body_memory.available_permits() == service.server.backend.config.body_memory
    });
    // However many came together: a thread that serves connections ran three of them at most.
    let runs = runs.lock().unwrap();
    assert!(runs.iter().all(|(images, own)| *own || *images <= 3), "{runs:?}");
}

#[test]
fn a_panic_inline_ends_with_its_image() {
    let calls = Arc::new(AtomicUsize::new(0));
    let count = calls.clone();
    let service = Service::wrapped_inline(patient(), 4, |mut model: Predict| {
        Box::new(move |images, ask| {
            if count.fetch_add(1, Ordering::Relaxed) == 0 {
                std::panic::resume_unwind(Box::new("on purpose"));
            }
            model(images, ask)
        })
    });
    let mut client = service.connect();
    client.write(&post("/predict", "", &bmp(1)));
    let answer = client.read();
    assert_eq!((answer.status, answer.code().as_str()), (500, "internal"));
    // The same connection goes on.
    client.write(&post("/predict", "", &bmp(1)));
    assert_same(&client.read().json()["predictions"][0], &offline(&mut predictor(), &bmp(1), 5));
    service.wait_for_load(0);
}

#[test]
fn a_file_that_is_no_image_is_refused_inline_as_elsewhere() {
    for inline in [0, 4] {
        let (service, runs) = watched(patient(), inline);
        let answer = service.send(&post("/predict", "image/png", b"\x89PNG\r\n\x1a\nnothing"));
        assert_eq!((answer.status, answer.code().as_str()), (422, "undecodable_image"), "{answer:?}");
        assert!(runs.lock().unwrap().is_empty());
        service.wait_for_load(0);
    }
}
