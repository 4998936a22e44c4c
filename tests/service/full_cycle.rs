//! Upload, train, promote, roll back, restart: over HTTP alone.

use std::fs;

use serde_json::{Value, json};

use super::events::follow;
use super::{Service, add_renamed, archive, model, photos, short_training, text, until};
use crate::http_client::form;
use crate::shapes::CLASSES;
use crate::support::Sandbox;

/// The label of an answer, and the version that gave it.
fn labelled(answer: &Value) -> (String, String) {
    (text(&answer["label"]), text(&answer["model"]["version"]))
}

#[test]
fn uploads_become_a_promoted_version_that_can_be_rolled_back() {
    let sandbox = Sandbox::new();
    let service = Service::start(&sandbox, &model());
    let seed = service.version();

    // A form, then the same as a raw body: nothing is taken twice.
    let files = photos(1, 8, &CLASSES);
    let zip = archive(&files);
    let (kind, body) = form(&[&zip]);
    let report = service.post("/upload-data?dataset=shapes", &kind, &body).json();
    assert_eq!((&report["accepted"], &report["images"]), (&24.into(), &24.into()), "{report}");
    let report = service.upload("shapes", &zip);
    assert_eq!((&report["accepted"], &report["duplicates"]), (&0.into(), &24.into()), "{report}");

    let mut request = short_training();
    request["dataset"] = "shapes".into();
    let number = service.retrain(&request);
    let told: Vec<_> = follow(&service.addr, number, None).collect();
    let kept: Vec<_> = told.iter().filter(|told| told.id.is_some()).cloned().collect();
    assert!(kept.iter().map(|told| told.id.unwrap()).eq(1..=kept.len()), "{told:?}");
    let states: Vec<_> = kept.iter().filter(|told| told.event == "state").map(|t| &t.data["state"]).collect();
    assert_eq!(states, ["queued", "running", "promoted"], "{told:?}");
    assert!(kept.iter().any(|told| told.event == "epoch" && told.data["epoch"] == 1), "{told:?}");
    // Whoever comes back with the last id it saw gets the rest, and nothing twice.
    for seen in 0..=kept.len() {
        let rest: Vec<_> = follow(&service.addr, number, Some(seen)).collect();
        assert_eq!(rest, kept[seen..], "after {seen}");
    }

    let job = service.job(number);
    let trained = text(&job["version"]);
    assert_eq!(
        (&job["state"], &job["verdict"]["serving"]),
        (&"promoted".into(), &Value::from(seed.as_str()))
    );
    assert_ne!(trained, seed);
    let image = &files[0].1;
    let (label, version) = labelled(&service.predict(image));
    assert_eq!(version, trained);

    let list = service.json("/v1/models");
    assert_eq!((&list["serving"], &list["previous"]), (&json!(trained), &json!(seed)), "{list}");
    let versions: Vec<_> = list["versions"].as_array().unwrap().iter().map(|v| &v["version"]).collect();
    assert_eq!(versions, [&seed, &trained]);
    let shown = service.json(&format!("/v1/models/{trained}"));
    assert_eq!(
        (&shown["origin"], &shown["job"], &shown["parent"]),
        (&"trained".into(), &"1".into(), &json!(seed))
    );
    let evaluation = service.json(&format!("/v1/models/{trained}/evaluation"));
    assert_eq!(evaluation["accuracy"], shown["metrics"]["accuracy"], "{evaluation}");
    assert_eq!(job["verdict"]["images"], 6, "two images of each class are held out: {job}");

    // The file that is downloaded is a model like any other, and answers alike.
    let file = service.get(&format!("/v1/models/{trained}/file"));
    assert_eq!(file.header("content-length"), Some(file.body.len().to_string().as_str()));
    sandbox.write("down.ocelli", &file.body);
    sandbox.write("one.png", image);
    let offline = sandbox.run("predict -m down.ocelli one.png --json").json_lines().remove(0);
    let online = service.predict(image);
    assert_eq!((&offline["label"], &offline["top"]), (&json!(label), &online["predictions"][0]["top"]));

    // Going back: the other version answers who asks for it, and the one that serves cannot be deleted.
    let changed = service.post("/v1/models/rollback", "", b"");
    assert_eq!(changed.json(), json!({ "serving": seed, "before": trained }));
    assert_eq!(service.post("/v1/models/rollback", "", b"").status, 409);
    for version in [&seed, &trained] {
        let answer = service.post(&format!("/predict?version={version}"), "image/png", image);
        assert_eq!(labelled(&answer.json()).1, *version);
    }
    assert_eq!(labelled(&service.predict(image)).1, seed);
    assert_eq!(service.post("/predict?version=0123456789ab", "image/png", image).status, 404);
    assert_eq!(service.delete(&format!("/v1/models/{seed}")).status, 409);
    assert_eq!(service.post(&format!("/v1/models/{trained}/promote"), "", b"").status, 200);
    assert_eq!(service.stop("TERM"), Some(0));

    // What served last serves again, whether the model is named or not.
    let service = Service::start(&sandbox, "");
    assert_eq!(labelled(&service.predict(image)), (label, trained.clone()));
    assert_eq!(service.stop("INT"), Some(0));
    let service = Service::start(&sandbox, &model());
    assert_eq!(service.version(), trained);
    assert!(service.log().contains(&format!("POST /v1/models/{seed}/promote")), "{}", service.log());

    // The file of the version that should serve is truncated: the one before it stands in, and status, health and log say so.
    assert_eq!(service.stop("TERM"), Some(0));
    let name = text(&list["model"]);
    let path = sandbox.path().join(format!("data/models/{name}/{trained}.ocelli"));
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let service = Service::start(&sandbox, "");
    assert_eq!(labelled(&service.predict(image)).1, seed);
    for told in [service.json("/status"), service.json("/health/ready")] {
        assert_eq!(told["stand_in"]["wanted"], json!(trained), "{told}");
    }
    assert!(service.log().contains("another version serves"), "{}", service.log());
    let shown = service.json(&format!("/v1/models/{trained}"));
    assert!(text(&shown["damaged"]).contains("bytes"), "{shown}");
    let refused = service.post(&format!("/v1/models/{trained}/promote"), "", b"");
    assert!(refused.status == 409 && text(&refused.json()["detail"]).contains("damaged"), "{refused:?}");
    assert_eq!(labelled(&service.predict(image)).1, seed);
    // Its file is back: a reload serves the version that should.
    fs::write(&path, &whole).unwrap();
    service.signal("HUP");
    until("the reload", || (service.version() == trained).then_some(()));
    assert_eq!(service.json("/status")["stand_in"], Value::Null);
    assert_eq!(service.json(&format!("/v1/models/{trained}"))["damaged"], Value::Null);
    assert_eq!(service.delete(&format!("/v1/models/{seed}")).status, 200);
    assert_eq!(service.get(&format!("/v1/models/{seed}")).status, 404);
    // Who did what.
    let audit = service.json("/v1/audit");
    let actions: Vec<_> = audit["audit"].as_array().unwrap().iter().map(|e| text(&e["action"])).collect();
    for action in ["upload", "retrain", "promote", "roll back", "delete version"] {
        assert!(actions.iter().any(|own| own == action), "{action}: {audit}");
    }
}

#[test]
fn new_classes_extend_the_last_layer() {
    let sandbox = Sandbox::new();
    let service = Service::start(&sandbox, &model());
    let mut files = photos(2, 8, &["circle"]);
    files.iter_mut().for_each(|(name, _)| *name = name.replace("circle", "disc"));
    files.extend(photos(3, 8, &["square"]));
    service.upload("default", &archive(&files));
    let mut request = short_training();
    request["from"] = "current".into();
    let job = service.ended(service.retrain(&request));
    assert_eq!(job["state"], "promoted", "{job}");
    let status = service.json("/status");
    assert_eq!(status["model"]["classes"], json!(["circle", "square", "triangle", "disc"]));
    assert_eq!(service.predict(&files[0].1)["predictions"][0]["top"].as_array().unwrap().len(), 4);
    // What asks for weights that do not fit says so.
    request["recipe"] = json!({ "model": "resnet9" });
    let answer = service.post("/retrain", "application/json", request.to_string().as_bytes());
    let detail = text(&answer.json()["detail"]);
    assert!(answer.status == 422 && detail.contains("\"from\": \"fresh\""), "{answer:?}");
}

#[test]
fn the_gate_does_not_promote_a_worse_version_and_says_why() {
    let sandbox = Sandbox::new();
    let service = Service::start(&sandbox, &model());
    let seed = service.version();
    service.upload("default", &archive(&photos(4, 60, &CLASSES)));
    // Weights that hardly change from their random start.
    let recipe = json!({ "lr": 1e-9, "size": [32, 32] });
    let gated = |gate: Value| {
        let request = json!({ "epochs": 1, "from": "fresh", "recipe": recipe, "gate": gate });
        let job = service.ended(service.retrain(&request));
        assert_eq!(job["state"], "kept", "{job}");
        (text(&job["version"]), job["verdict"]["reasons"].to_string())
    };
    let (_, reasons) = gated(json!({ "min_accuracy": 0.99 }));
    assert!(reasons.contains("99.00 % are asked for"), "{reasons}");
    let (version, reasons) = gated(json!({}));
    assert!(reasons.contains("worse: ") && reasons.contains(" against "), "{reasons}");
    assert_eq!(service.version(), seed);
    // A person may know better.
    assert_eq!(service.post(&format!("/v1/models/{version}/promote"), "", b"").status, 200);
    assert_eq!(service.version(), version);
}

#[test]
fn approved_feedback_becomes_images_of_a_data_set() {
    let sandbox = Sandbox::new();
    let service = Service::start(&sandbox, &model());
    let image = &photos(5, 1, &["circle"])[0].1;
    let added = service.post("/v1/feedback?label=circle&predicted=square&note=round", "image/png", image);
    assert_eq!(added.status, 201, "{added:?}");
    let id = text(&added.json()["id"]);
    let other = &photos(6, 1, &["circle"])[0].1;
    let dropped = text(&service.post("/v1/feedback?label=square", "image/png", other).json()["id"]);
    assert_eq!(service.json("/v1/feedback")["feedback"].as_array().unwrap().len(), 2);
    assert_eq!(service.get(&format!("/v1/feedback/{id}/image")).body, *image);
    assert_eq!(service.delete(&format!("/v1/feedback/{dropped}")).status, 200);
    let approved = service.post(&format!("/v1/feedback/{id}/approve?dataset=better"), "", b"");
    assert_eq!(approved.status, 200, "{approved:?}");
    assert_eq!(service.json("/v1/feedback"), json!({ "feedback": [], "total": 0 }));
    let images = service.json("/v1/datasets/better/images");
    let [only] = images["images"].as_array().unwrap().as_slice() else { panic!("{images}") };
    assert_eq!(
        (&only["id"], &only["class"], &only["source"]),
        (&json!(id), &"circle".into(), &"feedback".into())
    );
    assert_eq!(service.get(&format!("/v1/datasets/better/images/{id}")).body, *image);
    // A version that was added to the folder while no service ran is known at the next start.
    assert_eq!(service.stop("TERM"), Some(0));
    let version = add_renamed(&sandbox, "data", "laid-");
    let service = Service::start(&sandbox, "");
    let answer = service.post(&format!("/predict?version={version}"), "image/png", image);
    assert!(labelled(&answer.json()).0.starts_with("laid-"));
}
