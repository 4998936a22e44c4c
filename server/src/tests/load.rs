use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::support::*;
use crate::Config;
use crate::models::pass::Predict;

/// The model behind a gate, and the number of images that have come to the gate.
fn gated(config: Config) -> (Service, Gate, Arc<AtomicUsize>) {
    let (gate, arrived) = (Gate::default(), Arc::new(AtomicUsize::new(0)));
    let (held, count) = (gate.clone(), arrived.clone());
    let service = Service::wrapped(config, |mut model: Predict| {
        Box::new(move |images, ask| {
            count.fetch_add(images.len(), Ordering::Relaxed);
            held.pass();
            model(images, ask)
        })
    });
    (service, gate, arrived)
}

#[test]
fn each_of_many_clients_gets_its_own_answer() {
    let service = Service::start(patient());
    std::thread::scope(|scope| {
        for number in 0..32 {
            let service = &service;
            scope.spawn(move || {
                let mut model = predictor();
                let mut rng = Rng(number);
                let mut client = service.connect();
                for round in 0..20 {
                    let images: Vec<_> = (0..=rng.below(3)).map(|_| bmp(rng.next_u64())).collect();
                    let top_k = 1 + rng.below(4);
                    client.write(&post(&format!("/predict?top_k={top_k}"), FORM, &form("file", &images)));
                    if number % 4 == 0 && round % 2 == 0 {
                        // One in eight requests is abandoned at an arbitrary moment.
                        std::thread::sleep(Duration::from_micros(rng.below(500) as u64));
                        client = service.connect();
                        continue;
                    }
                    let answer = client.read();
                    assert_eq!(answer.status, 200, "{answer:?}");
                    let json = answer.json();
                    for (found, image) in json["predictions"].as_array().unwrap().iter().zip(&images) {
                        assert_same(found, &offline(&mut model, image, top_k));
                    }
                }
            });
        }
    });
    service.wait_for_load(0);
    wait_until("all memory back", || {
        service.server.backend.body_memory.available_permits() == service.server.backend.config.body_memory
    });
}

#[test]
fn a_full_queue_answers_429_at_once() {
    let (service, gate, _) = gated(Config { queue: 4, images_per_request: 3, ..patient() });
    let mut waiting: Vec<Client> = (0..3).map(|_| service.connect()).collect();
    for (seed, client) in waiting.iter_mut().enumerate() {
        client.write(&post("/predict", "", &bmp(seed as u64)));
    }
    service.wait_for_load(3);
    // Two images do not fit, all or nothing; one does; then none.
    let refused = service.send(&post("/predict", FORM, &form("file", &[bmp(8), bmp(9)])));
    assert_eq!((refused.status, refused.code().as_str()), (429, "busy"));
    assert_eq!(refused.headers["retry-after"], "1");
    service.wait_for_load(3);
    let mut last = service.connect();
    last.write(&post("/predict", "", &bmp(3)));
    service.wait_for_load(4);
    waiting.push(last);
    for _ in 0..50 {
        assert_eq!(service.send(&post("/predict", "", &bmp(8))).status, 429);
    }
    // Everything that needs no model is answered as ever.
    assert_eq!(service.send(&get("/status")).json()["queue"]["length"], 4);
    assert_eq!(service.send(&get("/health/live")).status, 200);
    gate.open();
    let mut model = predictor();
    for (seed, client) in waiting.iter_mut().enumerate() {
        assert_same(&client.read().json()["predictions"][0], &offline(&mut model, &bmp(seed as u64), 5));
    }
    assert_eq!(service.send(&post("/predict", "", &bmp(8))).status, 200);
}

#[test]
fn disconnected_clients_cost_no_computation() {
    let (service, gate, arrived) = gated(patient());
    let mut first = service.connect();
    first.write(&post("/predict", "", &bmp(0)));
    wait_until("the first image at the gate", || arrived.load(Ordering::Relaxed) == 1);
    let departing: Vec<Client> = (1..=20)
        .map(|seed| {
            let mut client = service.connect();
            client.write(&post("/predict", "", &bmp(seed)));
            client
        })
        .collect();
    service.wait_for_load(21);
    drop(departing);
    wait_until("their connections to end", || service.server.backend.connections.open() == 1);
    gate.open();
    assert_eq!(first.read().status, 200);
    service.wait_for_load(0);
    assert_eq!(arrived.load(Ordering::Relaxed), 1);
}

#[test]
fn a_fault_of_the_model_hits_only_the_image_that_causes_it() {
    // The model fails whenever the poisoned image is in its batch; a panic and an error take the same way.
    for panics in [false, true] {
        let gate = Gate::default();
        let held = gate.clone();
        let poison = {
            let mut model = predictor();
            offline(&mut model, &bmp(666), 1).probability
        };
        let service = Service::wrapped(patient(), |mut model: Predict| {
            Box::new(move |images, ask| {
                held.pass();
                let answered = model(images, ask)?;
                if !answered.iter().any(|a| a.prediction.probability == poison) {
                    return Ok(answered);
                }
                if panics {
                    std::panic::resume_unwind(Box::new("poisoned"));
                }
                Err("poisoned".into())
            })
        });
        let seeds = [0, 1, 666, 2, 3];
        let mut clients: Vec<Client> = seeds
            .iter()
            .map(|&seed| {
                let mut client = service.connect();
                client.write(&post("/predict", "", &bmp(seed)));
                client
            })
            .collect();
        service.wait_for_load(seeds.len());
        gate.open();
        let mut model = predictor();
        for (seed, client) in seeds.into_iter().zip(&mut clients) {
            let answer = client.read();
            if seed == 666 {
                assert_eq!((answer.status, answer.code().as_str()), (500, "internal"));
            } else {
                assert_same(&answer.json()["predictions"][0], &offline(&mut model, &bmp(seed), 5));
            }
        }
        assert_eq!(service.send(&post("/predict", "", &bmp(5))).status, 200);
    }
}

#[test]
fn bodies_share_a_bounded_memory() {
    let service = Service::start(Config { max_body: 1000, body_memory: 1000, ..patient() });
    let request = post("/predict", "image/bmp", &bmp(1));
    let mut stalled = service.connect();
    stalled.write(b"POST /predict HTTP/1.1\r\nhost: t\r\ncontent-length: 1000\r\n\r\n");
    stalled.write(&[0; 900]);
    wait_until("the stalled body", || service.server.backend.body_memory.available_permits() == 100);
    let refused = service.send(&request);
    assert_eq!((refused.status, refused.code().as_str()), (429, "busy"));
    drop(stalled);
    wait_until("the memory", || service.server.backend.body_memory.available_permits() == 1000);
    assert_eq!(service.send(&request).status, 200);
}
