//! Candidates that must not take over by themselves: whatever was uploaded, and whoever asked.

use serde_json::{Value, json};

use super::{Service, archive, model, photos, text, until};
use crate::shapes::CLASSES;
use crate::support::Sandbox;

/// Trains on a data set and gives the job, which must have ended as kept, with the serving version as it was.
#[track_caller]
fn kept(service: &Service, dataset: &str, request: Value) -> Value {
    let before = service.version();
    let mut request = request;
    request["dataset"] = dataset.into();
    let job = service.ended(service.retrain(&request));
    assert_eq!(job["state"], "kept", "{job:#}");
    assert_eq!(service.version(), before);
    job
}

fn named(files: &mut [(String, Vec<u8>)], from: &str, to: &str) {
    files.iter_mut().for_each(|(name, _)| *name = name.replace(from, to));
}

#[test]
fn too_little_evidence_promotes_nothing() {
    let sandbox = Sandbox::new();
    let service = Service::start(&sandbox, &model());
    let short = || json!({ "epochs": 1 });
    let reasons = |job: &Value| job["verdict"]["reasons"].to_string();

    // Two images in all.
    service.upload("two", &archive(&photos(1, 1, &CLASSES[..2])));
    let job = kept(&service, "two", short());
    assert!(
        reasons(&job).contains("missing from the candidate") || reasons(&job).contains("no held-out"),
        "{job:#}"
    );

    // A class that serves is missing, however many images there are of the others.
    service.upload("without", &archive(&photos(2, 60, &CLASSES[..2])));
    let job = kept(&service, "without", short());
    assert!(reasons(&job).contains("triangle"), "{job:#}");

    // A class has another name.
    let mut files = photos(3, 60, &CLASSES);
    named(&mut files, "triangle", "Dreieck");
    service.upload("renamed", &archive(&files));
    let job = kept(&service, "renamed", json!({ "epochs": 1, "from": "fresh" }));
    assert!(reasons(&job).contains("triangle"), "{job:#}");

    // One class outnumbered by another's images, with labels that unteach it.
    let mut files = photos(4, 80, &["circle", "triangle"]);
    files.extend(photos(5, 30, &["square"]));
    let mut drowning = photos(6, 60, &["square"]);
    drowning.iter_mut().enumerate().for_each(|(i, (name, _))| *name = format!("circle/drowned-{i}.png"));
    files.extend(drowning);
    service.upload("drowned", &archive(&files));
    let job =
        kept(&service, "drowned", json!({ "epochs": 6, "from": "fresh", "recipe": { "size": [32, 32] } }));
    assert!(reasons(&job).contains("square") || reasons(&job).contains("worse"), "{job:#}");

    // All images are for training: there is nothing to judge by but what was trained on.
    let mut files = photos(7, 40, &CLASSES);
    files.iter_mut().for_each(|(name, _)| *name = format!("val/{name}"));
    let mut more = photos(8, 40, &CLASSES);
    more.iter_mut().for_each(|(name, _)| *name = format!("train/{name}"));
    files.extend(more);
    service.upload("emptied", &archive(&files));
    let page = service.json("/v1/datasets/emptied/images?limit=1000");
    for image in page["images"].as_array().unwrap().iter().filter(|image| image["split"] == "val") {
        assert_eq!(
            service.delete(&format!("/v1/datasets/emptied/images/{}", text(&image["id"]))).status,
            200
        );
    }
    let info = service.json("/v1/datasets/emptied");
    let classes = info["classes"].as_array().unwrap();
    assert!(
        classes.iter().all(|class| class["train"] == 40 && class["val"] == 0 && class["test"] == 0),
        "{info}"
    );
    let job = kept(&service, "emptied", short());
    assert_eq!(job["verdict"]["images"], 0, "{job:#}");
}

#[test]
fn a_training_started_by_an_upload_waits_for_a_person() {
    let sandbox = Sandbox::new();
    let service = Service::start(&sandbox, &format!("{} --retrain-on-upload=10", model()));
    let seed = service.version();
    let report = service.upload("default", &archive(&photos(9, 60, &CLASSES)));
    let job = service.ended(report["job"].as_u64().unwrap());
    assert_eq!((&job["state"], &job["trigger"]), (&"kept".into(), &"upload".into()), "{job:#}");
    assert!(job["verdict"]["reasons"].to_string().contains("upload"), "{job:#}");
    assert_eq!(service.version(), seed);
    let version = text(&job["version"]);
    assert_eq!(service.post(&format!("/v1/models/{version}/promote"), "", b"").status, 200);
    assert_eq!(service.version(), version);
}

#[test]
fn a_better_candidate_is_promoted_and_its_images_stay_the_reference() {
    let sandbox = Sandbox::new();
    let service = Service::start(&sandbox, &model());
    service.upload("default", &archive(&photos(10, 60, &CLASSES)));
    let job = service.ended(service.retrain(&json!({ "epochs": 2 })));
    assert_eq!(job["state"], "promoted", "{job:#}");
    assert_eq!(
        (&job["verdict"]["images"], &job["verdict"]["reference_images"]),
        (&36.into(), &0.into()),
        "{job:#}"
    );
    let version = text(&job["version"]);
    // Another data set, whose labels say something else: its own held-out images agree with it, the old ones do not.
    let mut files = photos(11, 60, &CLASSES);
    for (name, _) in &mut files {
        *name = match name.split_once('/').unwrap() {
            ("circle", file) => format!("square/{file}"),
            ("square", file) => format!("circle/{file}"),
            (class, file) => format!("{class}/{file}"),
        };
    }
    service.upload("swapped", &archive(&files));
    let job =
        kept(&service, "swapped", json!({ "epochs": 8, "from": "fresh", "recipe": { "size": [32, 32] } }));
    assert_eq!(job["verdict"]["reference_images"], 36, "{job:#}");
    assert_eq!(service.version(), version);
}

#[test]
fn an_image_keeps_its_split() {
    let sandbox = Sandbox::new();
    let service = Service::start(&sandbox, &model());
    let splits = || {
        let page = service.json("/v1/datasets/default/images?limit=1000");
        let images = page["images"].as_array().unwrap().iter();
        let mut splits: Vec<_> = images.map(|image| (text(&image["id"]), text(&image["split"]))).collect();
        splits.sort();
        splits
    };
    let files = photos(12, 10, &CLASSES);
    service.upload("default", &archive(&files));
    let first = splits();
    assert_eq!(first.iter().filter(|(_, split)| split != "train").count(), 6);
    // The same images again, declared for another split, with others around them.
    for part in ["val", "test", "train"] {
        let mut again = files.clone();
        again.extend(
            photos(13 + part.len() as u64, 3, &CLASSES)
                .into_iter()
                .map(|(name, b)| (name.replace('/', "/x"), b)),
        );
        again.iter_mut().for_each(|(name, _)| *name = format!("{part}/{name}"));
        let report = service.upload("default", &archive(&again));
        assert_eq!(report["duplicates"], 30, "{report}");
        assert!(report["notes"].to_string().contains("keep their split"), "{report}");
        let now = splits();
        assert!(first.iter().all(|image| now.contains(image)));
    }
    // Nor does a training with another seed.
    let job = service.ended(service.retrain(&json!({ "epochs": 1, "recipe": { "seed": 99 } })));
    until("the end", || (job["state"] != "running").then_some(()));
    let now = splits();
    assert!(first.iter().all(|image| now.contains(image)));
}
