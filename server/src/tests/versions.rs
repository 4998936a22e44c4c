//! Several versions in a data folder: loading them once, going back, changing nothing, reading anew.

use std::sync::Barrier;

use ocelli_pipeline::store::{Actor, Name, NewVersion, Store};
use ocelli_pipeline::{Compute, ModelFile, version_id};
use serde_json::json;
use tempfile::TempDir;

use super::support::*;
use crate::{Access, Config, Keys, Server};

/// A service with three versions, of which the first one serves, in the folder of its data.
fn service(config: Config) -> (TempDir, Service, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let name = Name::new("model", "m").unwrap();
    let first = model_file();
    let files: Vec<ModelFile> = ["one", "two", "three"]
        .into_iter()
        .map(|label| {
            let mut meta = first.meta.clone();
            meta.classes[0] = label.into();
            ModelFile { meta, training: None, probes: None, ..first.clone() }
        })
        .collect();
    let store = Store::open(folder.path()).unwrap();
    let versions = store.versions(&name).unwrap();
    for file in &files {
        versions.add(file, &NewVersion::default()).unwrap();
    }
    drop(versions);
    let seed = Some(files[0].clone());
    let state =
        Server::with_data(store, (&name, seed), Compute::on(1), config, Access::default(), no_worker())
            .unwrap();
    let versions = files.iter().map(|file| version_id(&file.content_hash().unwrap())).collect();
    (folder, Service::serve(state), versions)
}

#[test]
fn a_version_is_loaded_once_for_concurrent_requests() {
    const ASKERS: usize = 24;
    let (_folder, service, versions) = service(patient());
    for version in &versions[1..] {
        let barrier = Barrier::new(ASKERS);
        std::thread::scope(|scope| {
            for seed in 0..ASKERS {
                let (service, barrier) = (&service, &barrier);
                scope.spawn(move || {
                    let request = post(&format!("/predict?version={version}"), "", &bmp(seed as u64));
                    let mut client = service.connect();
                    barrier.wait();
                    client.write(&request);
                    let answer = client.read();
                    assert_eq!(answer.status, 200, "{answer:?}");
                    assert_eq!(answer.json()["model"]["version"], json!(version));
                });
            }
        });
        // A second load would have taken a part of them.
        let stats = service.send(&get(&format!("/v2/models/m/versions/{version}/stats"))).json();
        assert_eq!(stats["model_stats"][0]["inference_count"], json!(ASKERS), "{stats}");
    }
    for path in ["/predict", "/v1/embed"] {
        let missing = service.send(&post(&format!("{path}?version=0123456789ab"), "", &bmp(1)));
        assert_eq!(missing.status, 404, "{missing:?}");
    }
}

#[test]
fn a_repeated_rollback_goes_back_once() {
    let (_folder, service, versions) = service(patient());
    let [a, b, c] = &versions[..] else { panic!("{versions:?}") };
    let ask = |path: &str| {
        let answer = service.send(&post(path, "", b""));
        (answer.status, answer.json()["serving"].clone(), answer.json()["before"].clone())
    };
    let promote = |version: &str| {
        assert_eq!(ask(&format!("/v1/models/{version}/promote")).0, 200);
    };
    let back = |from: &str| ask(&format!("/v1/models/rollback?from={from}"));
    let done = |from: &str, to: &str| (200, json!(to), json!(from));
    promote(b);
    promote(c);
    // The answer got lost, and the client asks again.
    for _ in 0..3 {
        assert_eq!(back(c), done(c, b));
    }
    // Another version than the client thinks serves: nothing is changed.
    for from in [a.as_str(), "nonsense", ""] {
        assert_eq!(back(from).0, 409, "{from}");
        assert_eq!(service.server.version(), *b);
    }
    assert_eq!(back(b), done(b, a));
    // What was gone back to no longer serves.
    assert_eq!(back(c).0, 409);
    assert_eq!(back(b), done(b, a));
    // Once it serves again, going back from it is a new request.
    promote(b);
    assert_eq!(back(b), done(b, a));
    promote(c);
    assert_eq!(back(b).0, 409);
    assert_eq!(back(c), done(c, a));
    // Without a version, every request is a new one.
    promote(b);
    assert_eq!(ask("/v1/models/rollback"), done(b, a));
    assert_eq!(ask("/v1/models/rollback").0, 409);
    assert_eq!(ask("/v1/models/rollback?from=x&from=y").0, 400);
}

#[test]
fn a_read_only_service_changes_nothing() {
    let (_folder, service, versions) = service(Config { read_only: true, ..patient() });
    let before = service.send(&get("/v1/models")).json();
    let document = service.send(&get("/openapi.json")).json();
    let mut refused = 0;
    for route in crate::routes::all() {
        let path = route.path.replace("{version}", &versions[1]).replace("{model}", "m");
        let path = path
            .replace("{name}", "default")
            .replace("{id}", "1")
            .replace("{file}", "style.css")
            .replace("{label}", "canary");
        let verb = route.method.key();
        let method = verb.to_ascii_uppercase();
        let request = format!("{method} {path} HTTP/1.1\r\nhost: t\r\ncontent-length: 0\r\n\r\n");
        let answer = service.send(request.as_bytes());
        let changes = route.effect == crate::route::Effect::Changes;
        refused += usize::from(changes);
        let is_refused = answer.status == 403 && answer.code() == "read_only";
        assert_eq!(is_refused, changes, "{method} {path}: {answer:?}");
        assert_eq!(document["paths"][route.path][verb].is_null(), changes, "{method} {path}");
    }
    assert_eq!(refused, 19);
    assert_eq!(service.send(&post("/predict", "", &bmp(1))).status, 200);
    assert_eq!(service.send(&post(&format!("/predict?version={}", versions[1]), "", &bmp(1))).status, 200);
    let after = service.send(&get("/v1/models")).json();
    for kept in ["model", "serving", "labels", "versions"] {
        assert_eq!(after[kept], before[kept]);
    }
}

#[test]
fn a_reload_never_takes_the_last_key_away() {
    const KEY: &str = "a-key-of-16-letters";
    let (_folder, service, _) = service(patient());
    let keyed = || Access { keys: Keys::new(None, None, Some(KEY)).unwrap(), ..Access::default() };
    let ask = |client: &mut Client, key: &str| {
        client.write(
            format!("GET /status HTTP/1.1\r\nhost: t\r\nauthorization: Bearer {key}\r\n\r\n").as_bytes(),
        );
        client.read().status
    };
    let mut client = service.connect();
    assert_eq!(ask(&mut client, ""), 200);
    service.server.reload(keyed()).unwrap();
    // The connection is the old one, the request a new one.
    assert_eq!([ask(&mut client, ""), ask(&mut client, KEY)], [401, 200]);
    for access in [Access::default(), Access { anybody: true, ..Access::default() }] {
        let refused = service.server.reload(access).unwrap_err();
        assert!(refused.contains("stay as they were"), "{refused}");
        assert_eq!([ask(&mut client, ""), ask(&mut client, KEY)], [401, 200]);
    }
    let other = Keys::new(None, None, Some("another-key-of-some")).unwrap();
    service.server.reload(Access { keys: other, ..Access::default() }).unwrap();
    assert_eq!([ask(&mut client, KEY), ask(&mut client, "another-key-of-some")], [401, 200]);
}

#[test]
fn a_reload_that_fails_halfway_says_what_took_effect() {
    const KEY: &str = "a-key-of-16-letters";
    let (folder, service, versions) = service(patient());
    let [a, b, _] = &versions[..] else { panic!("{versions:?}") };
    service.server.backend.models.default().versions().unwrap().promote(b, &Actor::service("test")).unwrap();
    let file = folder.path().join("models/m").join(format!("{b}.ocelli"));
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    let access = Access { keys: Keys::new(None, None, Some(KEY)).unwrap(), ..Access::default() };
    let said = service.server.reload(access).unwrap_err();
    assert!(said.contains("keys and certificate are the new ones, the old version goes on: "), "{said}");
    assert_eq!(service.server.version(), *a);
    let ask = |key: &str| {
        let request = format!("GET /status HTTP/1.1\r\nhost: t\r\nauthorization: Bearer {key}\r\n\r\n");
        service.send(request.as_bytes()).status
    };
    assert_eq!([ask(""), ask(KEY)], [401, 200]);
}
