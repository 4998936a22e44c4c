//! What people look at and change by hand: images of a data set, the answers behind a report, the last day.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Service, archive, model, photos, short_training, text};
use crate::http_client::try_request;
use crate::shapes::CLASSES;
use crate::support::Sandbox;

/// Class of every image of a data set.
fn classes(service: &Service, dataset: &str) -> BTreeMap<String, String> {
    let page = service.json(&format!("/v1/datasets/{dataset}/images?limit=1000"));
    let images = page["images"].as_array().unwrap();
    images.iter().map(|image| (text(&image["id"]), text(&image["class"]))).collect()
}

#[test]
fn images_are_moved_taken_out_and_put_back() {
    let sandbox = Sandbox::new();
    let service = Service::start(&sandbox, &model());
    service.upload("shapes", &archive(&photos(1, 6, &CLASSES)));
    let before = classes(&service, "shapes");
    let ids: Vec<&String> = before.iter().filter(|(_, class)| *class == "circle").map(|(id, _)| id).collect();
    let post = |path: &str, body: &Value| {
        service.post(
            &format!("/v1/datasets/shapes/changes{path}"),
            "application/json",
            body.to_string().as_bytes(),
        )
    };
    let moved = post("", &json!({ "images": ids[..2], "class": "<img src=x onerror=alert(1)>" }));
    assert_eq!(moved.status, 200, "{moved:?}");
    let moved = moved.json();
    assert_eq!((&moved["images"], &moved["undone"]), (&2.into(), &Value::Null), "{moved}");
    assert_eq!(classes(&service, "shapes")[ids[0]], "<img src=x onerror=alert(1)>");
    let removed = post("", &json!({ "images": ids[2..4], "remove": true })).json();
    assert_eq!(classes(&service, "shapes").len(), before.len() - 2);
    let listed = service.json("/v1/datasets/shapes/changes");
    assert_eq!(listed["changes"], json!([removed, moved]));
    for change in [&moved, &removed] {
        let undo = format!("/{}/undo", change["change"]);
        assert_eq!(post(&undo, &Value::Null).status, 200);
        assert_eq!(post(&undo, &Value::Null).json()["code"], "conflict");
    }
    assert_eq!(classes(&service, "shapes"), before);
    for (body, status, says) in [
        (json!({ "images": ids }), 400, "either"),
        (json!({ "images": ids, "class": "a", "remove": true }), 400, "either"),
        (json!({ "images": ids, "classes": "a" }), 400, "unknown field"),
        (json!({ "images": [], "remove": true }), 422, "1 to 1000"),
        (json!({ "images": ["0"], "remove": true }), 404, "image"),
        (json!({ "images": ids, "class": " " }), 422, "class name"),
    ] {
        let refused = post("", &body);
        assert_eq!(refused.status, status, "{body}: {refused:?}");
        assert!(text(&refused.json()["detail"]).contains(says), "{body}: {refused:?}");
    }
    assert_eq!(post("/9/undo", &Value::Null).status, 404);
    assert_eq!(post("/x/undo", &Value::Null).status, 400);
}

#[test]
fn the_answers_behind_a_report_are_listed() {
    let sandbox = Sandbox::new();
    let service = Service::start(&sandbox, &model());
    service.upload("shapes", &archive(&photos(1, 10, &CLASSES)));
    let mut request = short_training();
    request["dataset"] = "shapes".into();
    let number = service.retrain(&request);
    let version = text(&service.ended(number)["version"]);
    let list = |query: &str| service.json(&format!("/v1/models/{version}/predictions{query}"));
    let evaluation = service.json(&format!("/v1/models/{version}/evaluation"));
    let all = list("");
    assert_eq!((&all["total"], &all["dataset"]), (&evaluation["images"], &"shapes".into()), "{all}");
    let known = classes(&service, "shapes");
    let predictions = all["predictions"].as_array().unwrap();
    let losses: Vec<f64> = predictions.iter().map(|row| row["loss"].as_f64().unwrap()).collect();
    assert!(losses.is_sorted_by(|a, b| a >= b), "{losses:?}");
    for row in predictions {
        assert_eq!(known[&text(&row["image"])], text(&row["label"]));
    }
    // Every cell of the confusion matrix has as many images as it says.
    let per_class = evaluation["per_class"].as_array().unwrap();
    let mut wrong = 0;
    for (label, row) in per_class.iter().zip(evaluation["confusion"].as_array().unwrap()) {
        for (predicted, count) in per_class.iter().zip(row.as_array().unwrap()) {
            let (label, predicted) = (text(&label["name"]), text(&predicted["name"]));
            let cell = list(&format!("?label={label}&predicted={predicted}"));
            assert_eq!(&cell["total"], count, "{label} {predicted}");
            wrong += if label == predicted { 0 } else { count.as_u64().unwrap() };
        }
    }
    assert_eq!(list("?wrong=true&limit=1")["total"], wrong);
    assert_eq!(list("?offset=1&limit=1")["predictions"][0], predictions[1]);
    assert_eq!(service.get(&format!("/v1/models/{version}/predictions?wrong=maybe")).status, 400);
    let report = service.get(&format!("/v1/models/{version}/report"));
    assert_eq!((report.status, report.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(report.header("content-security-policy").is_some_and(|policy| policy.contains("sandbox")));
    let page = String::from_utf8(report.body).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.contains("Confusion matrix"), "{page:.300}");
    let seed = text(&service.json("/v1/models")["versions"][0]["version"]);
    let unknown = service.get(&format!("/v1/models/{seed}/predictions"));
    assert!(
        unknown.status == 404 && text(&unknown.json()["detail"]).contains("not trained here"),
        "{unknown:?}"
    );
}

#[test]
fn the_last_day_counts_requests_and_classes() {
    let sandbox = Sandbox::new();
    let service = Service::start(&sandbox, &model());
    assert_eq!(service.json("/v1/history")["buckets"], json!([]));
    let mut labels: BTreeMap<String, u64> = BTreeMap::new();
    for (_, image) in photos(3, 2, &CLASSES) {
        *labels.entry(text(&service.predict(&image)["label"])).or_default() += 1;
    }
    assert_eq!(service.post("/predict", "image/png", b"none").status, 422);
    let day = service.json("/v1/history");
    assert_eq!(day["bucket_s"], 300);
    let buckets = day["buckets"].as_array().unwrap();
    let sum = |name: &str| buckets.iter().map(|bucket| bucket[name].as_u64().unwrap()).sum::<u64>();
    assert_eq!((sum("requests"), sum("errors"), sum("images")), (7, 1, 6), "{day}");
    let mut told: BTreeMap<String, u64> = BTreeMap::new();
    for (class, count) in buckets.iter().flat_map(|bucket| bucket["classes"].as_object().unwrap()) {
        *told.entry(class.clone()).or_default() += count.as_u64().unwrap();
    }
    assert_eq!(told, labels);
}

#[test]
fn callers_are_told_what_they_may_do() {
    let sandbox = Sandbox::new();
    let service = Service::start(&sandbox, &model());
    let me = service.json("/v1/me");
    assert_eq!(
        me,
        json!({ "keys": false, "scope": "admin", "name": "anybody", "read_only": false, "data": true })
    );
    sandbox.write("keys.toml", "data = \"data-key-0123456789\"\nadmin = \"admin-key-0123456789\"\n");
    let service =
        Service::start(&sandbox, &format!("{} --keys keys.toml --read-only --data-dir other", model()));
    let ask = |key: &str| {
        let header = ("authorization", &*format!("Bearer {key}"));
        let headers = if key.is_empty() { &[][..] } else { &[header][..] };
        let me = try_request(&service.addr, "GET /v1/me", headers, b"").unwrap().json();
        assert_eq!((&me["keys"], &me["read_only"]), (&true.into(), &true.into()), "{me}");
        (text(&me["scope"]), text(&me["name"]))
    };
    let said = |scope: &str, name: &str| (scope.to_owned(), name.to_owned());
    assert_eq!(ask(""), said("none", "anybody"));
    assert_eq!(ask("nobody-has-this-key"), said("none", "anybody"));
    assert_eq!(ask("data-key-0123456789"), said("data", "data"));
    assert_eq!(ask("admin-key-0123456789"), said("admin", "admin"));
}

#[test]
fn the_sample_can_be_uploaded() {
    let sandbox = Sandbox::new();
    let service = Service::start(&sandbox, &model());
    let sample = service.get("/sample.zip");
    assert_eq!((sample.status, sample.header("content-type")), (200, Some("application/zip")));
    let report = service.upload("hands", &sample.body);
    assert_eq!(
        (&report["accepted"], report["classes"].as_array().unwrap().len()),
        (&600.into(), 10),
        "{report}"
    );
}
