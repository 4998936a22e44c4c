//! Several models in one service: loaded when they are asked, within their memory; labels; models that are pushed or put into
//! a folder.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ocelli_pipeline::store::{Name, NewVersion, Store};
use ocelli_pipeline::{Compute, ModelFile, Predictor, version_id};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::support::*;
use crate::{Access, Config, ModelLimits, Server};

/// The model that all tests share with other names of classes, which is another version.
fn labelled(classes: [&str; 3]) -> ModelFile {
    let first = model_file();
    let mut meta = first.meta.clone();
    meta.classes = classes.map(str::to_owned).to_vec();
    ModelFile { meta, training: None, probes: None, ..first }
}

fn id(file: &ModelFile) -> String {
    version_id(&file.content_hash().unwrap())
}

fn name(text: &str) -> Name {
    Name::new("model", text).unwrap()
}

/// Bytes of memory that a model takes while it is loaded.
fn memory(file: &ModelFile) -> u64 {
    Predictor::memory_needed(file, Compute::on(1), Config::default().max_batch).unwrap()
        + 4 * file.model.layout().total() as u64
}

/// A service over a folder, with a default model `m`.
fn serve(folder: &TempDir, config: Config) -> Service {
    let store = Store::open(folder.path()).unwrap();
    let seed = labelled(["m0", "m1", "m2"]);
    let server = Server::with_data(
        store,
        (&name("m"), Some(seed)),
        Compute::on(1),
        config,
        Access::default(),
        no_worker(),
    );
    Service::serve(server.unwrap())
}

/// Adds versions of a model to a folder that no service uses; the first one serves.
fn add(folder: &TempDir, model: &str, files: &[ModelFile]) {
    let store = Store::open(folder.path()).unwrap();
    let versions = store.versions(&name(model)).unwrap();
    for file in files {
        versions.add(file, &NewVersion::default()).unwrap();
    }
    versions.promote(&id(&files[0]), &ocelli_pipeline::store::Actor::service("test")).unwrap();
}

fn labels(service: &Service, model: &str) -> Value {
    service.send(&get(&format!("/v1/models/labels?model={model}"))).json()
}

#[test]
fn twenty_models_answer_from_the_memory_of_five() {
    const MODELS: usize = 20;
    let folder = tempfile::tempdir().unwrap();
    let class = |model: usize, class: usize| format!("{model}/{class}");
    let file = |model| labelled([&class(model, 0), &class(model, 1), &class(model, 2)]);
    for model in 0..MODELS {
        add(&folder, &format!("m{model}"), &[file(model)]);
    }
    let limit = 5 * memory(&file(0));
    let service = serve(&folder, Config { models_memory: limit, ..patient() });
    let mut offline = predictor();
    let images: Vec<_> =
        (0..16).map(|seed| (bmp(seed), super::support::offline(&mut offline, &bmp(seed), 1).index)).collect();
    let done = AtomicBool::new(false);
    let most = std::thread::scope(|scope| {
        let askers: Vec<_> = (0..6)
            .map(|asker| {
                let (service, images, class) = (&service, &images, &class);
                scope.spawn(move || {
                    let (mut client, mut rng) = (service.connect(), Rng(asker));
                    for _ in 0..60 {
                        let model = (rng.next_u64() % MODELS as u64) as usize;
                        let (image, index) = &images[(rng.next_u64() % 16) as usize];
                        let path = format!("/predict?model=m{model}");
                        client.write(&post(&path, "image/bmp", image));
                        let answer = client.read();
                        assert_eq!(answer.status, 200, "{answer:?}");
                        assert_eq!(answer.json()["label"], json!(class(model, *index)));
                        assert_eq!(answer.json()["model"]["name"], json!(format!("m{model}")));
                    }
                })
            })
            .collect();
        let looker = scope.spawn(|| {
            let mut most = 0;
            while !done.load(Ordering::Relaxed) {
                let status = service.send(&get("/status")).json();
                most = most.max(status["models"]["memory"].as_u64().unwrap());
            }
            most
        });
        let ended: Vec<_> = askers.into_iter().map(|asker| asker.join()).collect();
        // Also where one has failed: nobody waits for the looker for ever.
        done.store(true, Ordering::Relaxed);
        let most = looker.join().unwrap();
        ended.into_iter().for_each(|ended| ended.unwrap());
        most
    });
    assert!(most <= limit, "{most} of {limit}");
    let status = service.send(&get("/status")).json();
    // With the default model.
    assert_eq!(status["models"]["count"], json!(MODELS + 1));
    assert!(status["models"]["evicted"].as_u64().unwrap() > 0, "{status}");
    let loaded = status["models"]["loaded"].as_u64().unwrap();
    assert!((2..=6).contains(&loaded), "{status}");
    let metrics = service.metrics();
    assert!(metrics.contains("ocelli_model_loads_total{model=\"m1\"}"), "{metrics}");
}

#[test]
fn a_model_larger_than_the_memory_is_refused_and_the_default_one_never() {
    let folder = tempfile::tempdir().unwrap();
    add(&folder, "other", &[labelled(["a", "b", "c"])]);
    let service = serve(&folder, Config { models_memory: 1, ..patient() });
    assert_eq!(service.send(&post("/predict", "", &bmp(1))).status, 200);
    let refused = service.send(&post("/predict?model=other", "", &bmp(1)));
    assert_eq!((refused.status, refused.code().as_str()), (507, "no_model_memory"), "{refused:?}");
    let text = refused.json()["detail"].as_str().unwrap().to_owned();
    assert!(text.contains("\"other\"") && text.contains("models_memory"), "{text}");
}

#[test]
fn a_request_names_a_model_and_finds_it_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    let file = labelled(["a", "b", "c"]);
    add(&folder, "other", std::slice::from_ref(&file));
    let service = serve(&folder, patient());
    for path in ["/predict?model=other", "/v1/explain?model=other&method=occlusion"] {
        let answer = service.send(&post(path, "", &bmp(1)));
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        assert!(String::from_utf8_lossy(&answer.body).contains(&id(&file)), "{path}: {answer:?}");
    }
    for path in ["/predict?model=none", "/v1/models/labels/canary?model=none", "/v2/models/none/infer"] {
        let answer = service.send(&post(path, "", &bmp(1)));
        assert_eq!(answer.status, 404, "{path}: {answer:?}");
        assert!(
            answer.json()["detail"].as_str().unwrap().contains("this service has m, other"),
            "{answer:?}"
        );
    }
    // Without a name, the four old routes mean the default model.
    assert_eq!(service.send(&post("/predict", "", &bmp(1))).json()["model"]["name"], json!("m"));
    assert_eq!(service.send(&get("/status")).json()["model"]["name"], json!("m"));
    let list = service.send(&get("/v1/models?model=other")).json();
    assert_eq!((&list["model"], &list["serving"]), (&json!("other"), &json!(id(&file))));
    let names: Vec<_> = list["models"].as_array().unwrap().iter().map(|m| m["name"].clone()).collect();
    assert_eq!(names, ["m", "other"]);
    let metadata = service.send(&get("/v2/models/other")).json();
    assert_eq!((&metadata["name"], &metadata["versions"][0]), (&json!("other"), &json!(id(&file))));
    let index = service.send(&post("/v2/repository/index", "", b"")).json();
    assert_eq!(index.as_array().unwrap().len(), 2, "{index}");
    // Unloaded, it is loaded again when it is asked.
    assert_eq!(service.send(&post("/v2/repository/models/other/unload", "", b"")).status, 200);
    assert_eq!(service.send(&get("/v1/models")).json()["models"][1]["loaded"], json!(false));
    assert_eq!(service.send(&get("/v2/models/other/ready")).status, 200);
    assert_eq!(service.send(&get("/v1/models")).json()["models"][1]["loaded"], json!(true));
}

#[test]
fn a_canary_answers_its_share_and_a_broken_one_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (labelled(["a", "b", "c"]), labelled(["d", "e", "f"]));
    add(&folder, "x", &[a.clone(), b.clone()]);
    let service = serve(&folder, patient());
    let count = |service: &Service| {
        let mut client = service.connect();
        let mut of = BTreeMap::new();
        for seed in 0..100 {
            client.write(&post("/predict?model=x", "", &bmp(seed)));
            let version = client.read().json()["model"]["version"].as_str().unwrap().to_owned();
            *of.entry(version).or_insert(0) += 1;
        }
        (of.get(&id(&a)).copied().unwrap_or(0), of.get(&id(&b)).copied().unwrap_or(0))
    };
    let path = "/v1/models/labels/canary?model=x";
    let body = |share: u8| json!({ "version": id(&b), "share": share }).to_string().into_bytes();
    for (share, status) in [(0, 422), (100, 422)] {
        assert_eq!(service.send(&post(path, "application/json", &body(share))).status, status);
    }
    let own = json!({ "version": id(&a), "share": 5 }).to_string().into_bytes();
    assert_eq!(service.send(&post(path, "application/json", &own)).status, 409);
    assert_eq!(count(&service), (100, 0));
    assert_eq!(service.send(&post(path, "application/json", &body(25))).status, 200);
    assert_eq!(count(&service), (75, 25));
    let named = service.send(&post("/predict?model=x&version=canary", "", &bmp(1))).json();
    assert_eq!(named["model"]["version"], json!(id(&b)));
    // It is needed, so nobody deletes it.
    let delete = format!("DELETE /v1/models/{}?model=x HTTP/1.1\r\nhost: t\r\n\r\n", id(&b));
    assert_eq!(service.send(delete.as_bytes()).status, 409);
    drop(service);
    // It is the canary after a restart, too; with a file that cannot be read, what serves answers for it.
    let service = serve(&folder, patient());
    assert_eq!(count(&service), (75, 25));
    drop(service);
    let file = folder.path().join(format!("models/x/{}.ocelli", id(&b)));
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let service = serve(&folder, patient());
    assert_eq!(count(&service), (100, 0));
    let delete = "DELETE /v1/models/labels/canary?model=x HTTP/1.1\r\nhost: t\r\n\r\n";
    assert_eq!(service.send(delete.as_bytes()).json()["canary"], Value::Null);
}

#[test]
fn a_promoted_canary_is_none_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (labelled(["a", "b", "c"]), labelled(["d", "e", "f"]));
    add(&folder, "x", &[a, b.clone()]);
    let service = serve(&folder, patient());
    let body = json!({ "version": id(&b), "share": 50 }).to_string();
    service.send(&post("/v1/models/labels/canary?model=x", "", body.as_bytes()));
    assert_eq!(service.send(&post(&format!("/v1/models/{}/promote?model=x", id(&b)), "", b"")).status, 200);
    let now = labels(&service, "x");
    assert_eq!((&now["stable"], &now["canary"]), (&json!(id(&b)), &Value::Null), "{now}");
}

#[test]
fn a_shadow_is_compared_class_by_class_and_answers_nobody() {
    let folder = tempfile::tempdir().unwrap();
    // The shadow says the same of the class "c" alone.
    let (a, b) = (labelled(["a", "b", "c"]), labelled(["b", "a", "c"]));
    add(&folder, "x", &[a.clone(), b.clone()]);
    let service = serve(&folder, patient());
    let body = json!({ "version": id(&b) }).to_string();
    let set = service.send(&post("/v1/models/labels/shadow?model=x", "", body.as_bytes()));
    assert_eq!(set.json()["shadow"], json!(id(&b)), "{set:?}");
    let mut client = service.connect();
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    for seed in 0..30 {
        client.write(&post("/predict?model=x", "", &bmp(seed)));
        let answer = client.read().json();
        assert_eq!(answer["model"]["version"], json!(id(&a)));
        *expected.entry(answer["label"].as_str().unwrap().to_owned()).or_default() += 1;
        // One at a time: the next one would be left out.
        wait_until("the shadow", || {
            let agreement = labels(&service, "x")["agreement"].clone();
            agreement["images"].as_u64().unwrap() + agreement["left_out"].as_u64().unwrap() > seed
        });
    }
    let agreement = labels(&service, "x")["agreement"].clone();
    assert_eq!(agreement["left_out"], json!(0), "{agreement}");
    for (class, images) in &expected {
        assert_eq!(agreement["classes"][class]["images"], json!(images), "{agreement}");
        let agree = if class == "c" { *images } else { 0 };
        assert_eq!(agreement["classes"][class]["agree"], json!(agree), "{agreement}");
    }
    assert!(service.metrics().contains("ocelli_shadow_images{model=\"x\"} 30"), "{}", service.metrics());
}

#[test]
fn a_pushed_model_is_verified_and_listed_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let service = serve(&folder, Config { max_model_bytes: 1 << 20, ..patient() });
    let (a, b) = (labelled(["a", "b", "c"]), labelled(["d", "e", "f"]));
    let bytes = |file: &ModelFile| {
        let path = folder.path().join("pushed.ocelli");
        file.save(&path).unwrap();
        std::fs::read(&path).unwrap()
    };
    let push = |query: &str, body: &[u8]| {
        service.send(&post(&format!("/v1/models?{query}"), "application/octet-stream", body))
    };
    let mut broken = bytes(&a);
    let last = broken.len() - 1;
    broken[last] ^= 1;
    for (query, body, status) in [
        ("model=new", &b""[..], 400),
        ("model=new", b"no model", 422),
        ("model=new", &broken, 422),
        ("model=a/b", &bytes(&a), 400),
        ("model=new&label=best", &bytes(&a), 400),
        ("model=new&label=canary", &bytes(&a), 400),
        ("model=new&share=3", &bytes(&a), 400),
        ("model=new", &vec![0; (1 << 20) + 1], 413),
    ] {
        let answer = push(query, body);
        assert_eq!(answer.status, status, "{query}: {answer:?}");
        // Where the data folder lies is nobody's business.
        let place = folder.path().display().to_string();
        assert!(!String::from_utf8_lossy(&answer.body).contains(&place), "{answer:?}");
    }
    assert_eq!(service.send(&get("/v2/models/new")).status, 404);
    let first = push("model=new", &bytes(&a));
    assert_eq!(first.status, 201, "{first:?}");
    assert_eq!((&first.json()["serving"], &first.json()["version"]), (&json!(true), &json!(id(&a))));
    assert_eq!(service.send(&post("/predict?model=new", "", &bmp(1))).status, 200);
    // A later version waits, and may have a label at once.
    let second = push("model=new&label=canary&share=10", &bytes(&b)).json();
    assert_eq!((&second["serving"], &second["number"]), (&json!(false), &json!(2)), "{second}");
    assert_eq!(labels(&service, "new")["canary"]["share"], json!(10));
    // The same once more changes nothing.
    assert_eq!(push("model=new", &bytes(&b)).json()["number"], json!(2));
    let audit = service.send(&get("/v1/audit")).json().to_string();
    assert!(audit.contains("\"promote\"") && audit.contains("\"label\""), "{audit}");
    drop(service);
    let service = serve(&folder, patient());
    assert_eq!(service.send(&get("/v1/models?model=new")).json()["versions"].as_array().unwrap().len(), 2);
}

#[test]
fn a_file_put_into_the_folder_becomes_a_model() {
    let (folder, models) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let put = |path: &str, file: &ModelFile| {
        let path = models.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        file.save(&path).unwrap();
        // As if it had been there for a while.
        let past = std::time::SystemTime::now() - Duration::from_secs(60);
        std::fs::File::options().append(true).open(&path).unwrap().set_modified(past).unwrap();
    };
    put("one.ocelli", &labelled(["a", "b", "c"]));
    put("two/first.ocelli", &labelled(["d", "e", "f"]));
    let store = Store::open(folder.path()).unwrap();
    let seed = Some(labelled(["m0", "m1", "m2"]));
    let mut server = Server::with_data(
        store,
        (&name("m"), seed),
        Compute::on(1),
        patient(),
        Access::default(),
        no_worker(),
    )
    .unwrap();
    server.watch_folder(models.path()).unwrap();
    let service = Service::serve(server);
    for (model, label) in [("one", "abc"), ("two", "def")] {
        let answer = service.send(&post(&format!("/predict?model={model}"), "", &bmp(1)));
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(label.contains(answer.json()["label"].as_str().unwrap()), "{answer:?}");
    }
    std::fs::write(models.path().join("bad.ocelli"), b"not a model").unwrap();
    std::fs::write(models.path().join("notes.txt"), b"nothing to look at").unwrap();
    put("two/second.ocelli", &labelled(["g", "h", "i"]));
    put("three.ocelli", &labelled(["j", "k", "l"]));
    wait_until("the third model", || service.send(&get("/v2/models/three")).status == 200);
    let list = || service.send(&get("/v1/models?model=two")).json();
    wait_until("the second version", || list()["versions"].as_array().unwrap().len() == 2);
    // Later versions wait.
    assert_eq!(list()["serving"], json!(id(&labelled(["d", "e", "f"]))));
    let refused = || service.send(&get("/status")).json()["models"]["refused"].clone();
    wait_until("the refusal", || refused().as_array().unwrap().len() == 1);
    assert_eq!(refused()[0]["file"], json!("bad.ocelli"));
    std::fs::remove_file(models.path().join("bad.ocelli")).unwrap();
    wait_until("its end", || refused().as_array().unwrap().is_empty());
}

#[test]
fn a_model_has_limits_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    add(&folder, "x", &[labelled(["a", "b", "c"])]);
    let own = ModelLimits { queue: Some(1), default_top_k: Some(2), ..ModelLimits::default() };
    let models = BTreeMap::from([("x".to_owned(), own)]);
    let service = serve(&folder, Config { models, ..patient() });
    let top = |path: &str| {
        let answer = service.send(&post(path, "", &bmp(1)));
        answer.json()["predictions"][0]["top"].as_array().unwrap().len()
    };
    assert_eq!((top("/predict"), top("/predict?model=x")), (3, 2));
    let two = form("file", &[bmp(1), bmp(2)]);
    assert_eq!(service.send(&post("/predict", FORM, &two)).status, 200);
    let refused = service.send(&post("/predict?model=x", FORM, &two));
    assert_eq!((refused.status, refused.code().as_str()), (413, "too_many_images"));
    for (name, limits) in [
        ("a/b", ModelLimits::default()),
        ("x", ModelLimits { queue: Some(0), ..ModelLimits::default() }),
        ("x", ModelLimits { queue: Some(1 << 20), ..ModelLimits::default() }),
        ("x", ModelLimits { max_batch: Some(0), ..ModelLimits::default() }),
    ] {
        let models = BTreeMap::from([(name.to_owned(), limits)]);
        let config = Config { models, ..patient() };
        assert!(Server::new(predictor(), config, Access::default()).is_err(), "{name}");
    }
}
