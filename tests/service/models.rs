//! Several models in one service: the real program with more models than its memory holds, trained one by one, killed while
//! models are pushed.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use ocelli_engine::model_file::{ModelFile, version_id};
use ocelli_pipeline::open_model;
use serde_json::{Value, json};

use super::{Service, archive, is_long, memory, model, of_form, photos, serve, short_training, text, until};
use crate::http_client::{head, request};
use crate::shapes::{CLASSES, Rng, TRAINED};
use crate::support::Sandbox;

/// A model whose classes have a prefix of their own: another version with known answers.
fn renamed(file: &ModelFile, prefix: &str) -> ModelFile {
    let mut meta = file.meta.clone();
    for class in &mut meta.classes {
        class.insert_str(0, prefix);
    }
    ModelFile { meta, training: None, probes: None, ..file.clone() }
}

fn shared() -> ModelFile {
    ModelFile::load(&TRAINED.run_dir.join("weights/best.ocelli")).unwrap()
}

/// What `/v1/models` says of a model.
fn summary(service: &Service, name: &str) -> Value {
    let list = service.json("/v1/models");
    let found = list["models"].as_array().unwrap().iter().find(|model| model["name"] == name);
    found.unwrap_or_else(|| panic!("no {name}: {list}")).clone()
}

#[test]
fn twenty_models_answer_from_the_memory_of_five() {
    const MODELS: usize = 20;
    let sandbox = Sandbox::new();
    // In the long form a network of real size.
    let file = if is_long() { open_model(Path::new("imagenet")).unwrap() } else { shared() };
    std::fs::create_dir(sandbox.path().join("models")).unwrap();
    for at in 0..MODELS {
        renamed(&file, &format!("m{at}-"))
            .save(&sandbox.path().join(format!("models/m{at:02}.ocelli")))
            .unwrap();
    }
    // What one of them takes while it is loaded and its file is in memory, too.
    let of_one = {
        let service = Service::start(&sandbox, "models --data-dir first --threads 2");
        let of_file = 4 * file.model.layout().total() as u64;
        summary(&service, "m00")["memory"].as_u64().unwrap() + of_file
    };
    let limit = 5 * of_one;
    sandbox.write("limits.toml", format!("models_memory = {limit}\n"));
    let service = Service::start(&sandbox, "models --config limits.toml --threads 2");
    let images: Vec<Vec<u8>> = photos(3, 5, &CLASSES).into_iter().map(|(_, bytes)| bytes).collect();
    let labels: Vec<String> = images
        .iter()
        .map(|image| {
            let label = text(&service.predict(image)["label"]);
            label.strip_prefix("m0-").unwrap_or_else(|| panic!("{label}")).to_owned()
        })
        .collect();
    let done = AtomicBool::new(false);
    let (mut times, most) = thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|client| {
                let (service, images, labels) = (&service, &images, &labels);
                scope.spawn(move || {
                    let mut rng = Rng(client);
                    let mut times = Vec::new();
                    for _ in 0..of_form(50, 500) {
                        let (at, i) =
                            (rng.next_u64() as usize % MODELS, rng.next_u64() as usize % images.len());
                        let started = Instant::now();
                        let line = format!("POST /predict?model=m{at:02}");
                        let answer = request(&service.addr, &line, "image/png", &images[i]);
                        times.push(started.elapsed());
                        assert_eq!(answer.status, 200, "{answer:?}");
                        assert_eq!(answer.json()["label"], json!(format!("m{at}-{}", labels[i])));
                    }
                    times
                })
            })
            .collect();
        let looker = scope.spawn(|| {
            let mut most = 0;
            while !done.load(Ordering::Relaxed) {
                most = most.max(service.json("/status")["models"]["memory"].as_u64().unwrap());
                thread::sleep(std::time::Duration::from_millis(5));
            }
            most
        });
        let ended: Vec<_> = clients.into_iter().map(|client| client.join()).collect();
        // Also where a client has failed: nobody waits for the looker for ever.
        done.store(true, Ordering::Relaxed);
        let most = looker.join().unwrap();
        (ended.into_iter().flat_map(|times| times.unwrap()).collect::<Vec<_>>(), most)
    });
    assert!(most <= limit, "{most} bytes of {limit}");
    let models = service.json("/status")["models"].clone();
    assert_eq!(models["count"], json!(MODELS));
    assert!(models["evicted"].as_u64().unwrap() > 0, "{models}");
    times.sort();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    println!(
        "{} requests of {MODELS} models, {of_one} bytes each, {limit} allowed, {most} taken, process {:?} KiB at most; \
         p50 {:?}, p99 {:?}, longest {:?}; {}",
        times.len(),
        memory(&service, "VmHWM"),
        at(0.5),
        at(0.99),
        at(1.0),
        models
    );
}

#[test]
fn each_model_is_trained_and_judged_by_itself() {
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.path().join("models")).unwrap();
    shared().save(&sandbox.path().join("models/shapes.ocelli")).unwrap();
    let service = Service::start(&sandbox, &format!("{} --models models", model()));
    let default = text(&service.json("/v1/models")["model"]);
    let before = service.version();
    service.upload("default", &archive(&photos(5, 12, &CLASSES)));
    let body = short_training().to_string();
    let asked = service.post("/retrain?model=shapes", "application/json", body.as_bytes());
    assert_eq!(asked.status, 202, "{asked:?}");
    let job = service.ended(asked.json()["id"].as_u64().unwrap());
    assert_eq!((&job["state"], &job["model"]), (&json!("promoted"), &json!("shapes")), "{job}");
    assert_eq!(summary(&service, "shapes")["serving"], job["version"]);
    // The default model has nothing of it.
    assert_eq!(service.version(), before);
    let own = service.json(&format!("/v1/models?model={default}"));
    assert_eq!(own["versions"].as_array().unwrap().len(), 1, "{own}");
    let image = &photos(6, 1, &CLASSES)[0].1;
    let answer = service.post("/predict?model=shapes", "image/png", image).json();
    assert_eq!(answer["model"]["version"], job["version"]);
    assert_eq!(service.post("/retrain?model=none", "application/json", body.as_bytes()).status, 404);
    // A restart knows both, and which one is the default.
    assert_eq!(service.stop("TERM"), Some(0));
    let service = Service::start(&sandbox, "");
    assert_eq!(text(&service.json("/v1/models")["model"]), default);
    assert_eq!(summary(&service, "shapes")["serving"], job["version"]);
}

#[test]
fn a_kill_while_models_are_pushed_leaves_whole_ones() {
    let sandbox = Sandbox::new();
    let pushed: Vec<(String, Vec<u8>)> = (0..8)
        .map(|at| {
            let file = renamed(&shared(), &format!("p{at}-"));
            let path = sandbox.path().join("push.ocelli");
            file.save(&path).unwrap();
            (version_id(&file.content_hash().unwrap()), std::fs::read(&path).unwrap())
        })
        .collect();
    let mut rng = Rng(7);
    for round in 0..of_form(3, 20) {
        let service = Service::launch(&sandbox, serve(&sandbox, &model())).unwrap();
        let addr = service.addr.clone();
        let pushing = {
            let pushed = pushed.clone();
            thread::spawn(move || {
                let mut answered = Vec::new();
                for (at, (version, bytes)) in pushed.iter().enumerate() {
                    let line = format!("POST /v1/models?model=p{at}");
                    let Ok(answer) = super::attempt(&addr, &line, "application/octet-stream", bytes) else {
                        break;
                    };
                    if answer.status == 201 {
                        answered.push((at, version.clone()));
                    }
                }
                answered
            })
        };
        thread::sleep(std::time::Duration::from_millis(rng.next_u64() % of_form(150, 300)));
        service.signal("KILL");
        let answered = pushing.join().unwrap();
        service.wait();
        let service = Service::start(&sandbox, &model());
        for (at, version) in &answered {
            let shown = summary(&service, &format!("p{at}"));
            assert_eq!(shown["serving"], json!(version), "round {round}");
        }
        // What is listed is whole, also what was pushed without an answer.
        for shown in service.json("/v1/models")["models"].as_array().unwrap() {
            let name = text(&shown["name"]);
            let image = &photos(1, 1, &CLASSES)[0].1;
            let answer = service.post(&format!("/predict?model={name}"), "image/png", image);
            assert_eq!(answer.status, 200, "round {round}, {name}: {answer:?}");
        }
        assert_eq!(service.stop("TERM"), Some(0));
    }
}

#[test]
fn a_push_that_stops_half_way_leaves_nothing() {
    use std::io::Write;
    let sandbox = Sandbox::new();
    let service = Service::start(&sandbox, &model());
    let path = sandbox.path().join("push.ocelli");
    renamed(&shared(), "half-").save(&path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let header = head(
        &service.addr,
        "POST /v1/models?model=half",
        &[("content-type", "application/octet-stream")],
        bytes.len(),
    );
    let mut stream = std::net::TcpStream::connect(&service.addr).unwrap();
    stream.write_all(header.as_bytes()).unwrap();
    stream.write_all(&bytes[..bytes.len() / 2]).unwrap();
    drop(stream);
    let incoming = sandbox.path().join("data/incoming");
    until("the end of the push", || {
        let left = std::fs::read_dir(&incoming).map_or(0, Iterator::count);
        (left == 0).then_some(())
    });
    assert_eq!(service.get("/v2/models/half").status, 404);
    if is_long() {
        println!("nothing is left of a push that stopped half way");
    }
}
