//! Requests for training: queued, refused, cancelled, followed.

use serde_json::{Value, json};

use super::events::follow;
use super::{Service, archive, model, photos, text, until};
use crate::http_client::try_request;
use crate::shapes::CLASSES;
use crate::support::Sandbox;

/// Training that is not over before it is told to end.
fn endless() -> Value {
    json!({ "epochs": 1000 })
}

#[test]
fn a_job_is_finished_with_the_best_of_its_epochs() {
    let sandbox = Sandbox::new();
    let service = Service::start(&sandbox, &model());
    service.upload("default", &archive(&photos(1, 8, &CLASSES)));
    let first = service.retrain(&endless());
    let finish = |id: u64| service.post(&format!("/v1/jobs/{id}/finish"), "", b"");
    let waiting = service.retrain(&endless());
    let refused = finish(waiting);
    assert!(
        refused.status == 409 && text(&refused.json()["detail"]).contains("has not begun"),
        "{refused:?}"
    );
    service.delete(&format!("/v1/jobs/{waiting}"));
    until("the first epoch", || (service.job(first)["epochs"] != json!([])).then_some(()));
    let asked = finish(first);
    assert!(asked.status == 200 && asked.json()["finish"] == true, "{asked:?}");
    let job = service.ended(first);
    assert!(job["state"] == "kept" || job["state"] == "promoted", "{job}");
    assert!(job["version"].is_string() && job["verdict"].is_object(), "{job}");
    assert!(job["notes"].to_string().contains("ended early"), "{job}");
    assert_eq!(finish(first).status, 409);
    assert_eq!(finish(99).status, 404);
}

#[test]
fn jobs_run_one_after_another_and_can_be_cancelled() {
    let sandbox = Sandbox::new();
    sandbox.write("limits.toml", "job_queue = 1\n");
    let service = Service::start(&sandbox, &format!("{} --config limits.toml", model()));
    let seed = service.version();
    service.upload("default", &archive(&photos(1, 8, &CLASSES)));
    let first = service.retrain(&endless());
    until("the first epoch", || (service.job(first)["epochs"] != json!([])).then_some(()));
    let second = service.retrain(&endless());
    assert_eq!(service.job(second)["state"], "queued");
    let full = service.post("/retrain", "", b"");
    // As long as the first one thinks that it takes.
    let wait: u64 = full.header("retry-after").unwrap().parse().unwrap();
    assert!(full.status == 429 && (1..=3600).contains(&wait), "{full:?}");
    assert!(text(&full.json()["detail"]).ends_with(&format!("try again in {wait} s")), "{full:?}");
    let status = service.json("/status");
    assert_eq!((&status["jobs"]["waiting"], &status["jobs"]["running"][0]["id"]), (&1.into(), &first.into()));
    // Its images are in use.
    assert_eq!(service.delete("/v1/datasets/default").status, 409);

    // One that waits ends at once, one that runs at its next step; both once.
    assert_eq!(service.delete(&format!("/v1/jobs/{second}")).json()["state"], "cancelled");
    let third = service.retrain(&endless());
    assert_eq!(service.delete(&format!("/v1/jobs/{first}")).json()["state"], "cancelling");
    assert_eq!(service.ended(first)["state"], "cancelled");
    assert_eq!(service.delete(&format!("/v1/jobs/{first}")).status, 409);
    until("the turn of the third", || (service.job(third)["state"] == "running").then_some(()));
    service.delete(&format!("/v1/jobs/{third}"));
    let last = follow(&service.addr, third, None).last().unwrap();
    assert_eq!((last.event.as_str(), &last.data["state"]), ("state", &"cancelled".into()));
    // Whoever has seen all of it is told to stop asking; whoever has not gets the rest.
    let end = last.id.unwrap();
    let path = format!("GET /v1/jobs/{third}/events");
    for (seen, status) in [(end, 204), (end + 1, 204), (end + 1000, 204), (end - 1, 200), (0, 200)] {
        let seen_header = ("last-event-id", &*seen.to_string());
        let answer = try_request(&service.addr, &path, &[seen_header], b"").unwrap();
        assert_eq!(answer.status, status, "{seen}: {answer:?}");
        assert_eq!(answer.body.is_empty(), status == 204, "{answer:?}");
        if status == 200 {
            assert_eq!(follow(&service.addr, third, Some(seen)).count(), end - seen);
        }
    }
    let head = try_request(&service.addr, &path.replace("GET", "HEAD"), &[], b"").unwrap();
    assert_eq!(head.status, 200);

    let list = service.json("/v1/jobs");
    let numbers: Vec<_> = list["jobs"].as_array().unwrap().iter().map(|job| job["id"].clone()).collect();
    assert_eq!(numbers, [third, second, first]);
    assert_eq!(service.version(), seed);
    assert_eq!(service.delete("/v1/datasets/default").status, 200);
}

#[test]
fn invalid_requests_start_no_job() {
    let sandbox = Sandbox::new();
    let service = Service::start(&sandbox, &model());
    service.upload("default", &archive(&photos(2, 2, &CLASSES)));
    for (body, status, words) in [
        (r#"{"dataset":"nowhere"}"#, 404, "nowhere"),
        (r#"{"dataset":"../secret"}"#, 400, "dataset"),
        (r#"{"epochs":0}"#, 422, "epochs"),
        (r#"{"recipe":{"lr":-1}}"#, 422, "lr"),
        (r#"{"recipe":{"model":"resnet"}}"#, 422, "resnet"),
        (r#"{"recipe":{"learning_rate":1}}"#, 422, "learning_rate"),
        (r#"{"gate":{"max_drop":7}}"#, 422, "max_drop"),
        (r#"{"epoch":3}"#, 400, "epoch"),
        (r#"{"epochs":"#, 400, "JSON"),
    ] {
        let answer = service.post("/retrain", "application/json", body.as_bytes());
        assert_eq!(answer.status, status, "{body}: {answer:?}");
        let detail = text(&answer.json()["detail"]);
        assert!(detail.contains(words), "{body}: {detail}");
    }
    assert_eq!(service.json("/v1/jobs"), json!({ "jobs": [] }));
    for path in ["/v1/jobs/1", "/v1/jobs/x", "/v1/jobs/1/events"] {
        assert_eq!(service.get(path).status, 404, "{path}");
    }
    // The split of an image never changes.
    let mut request = endless();
    request["recipe"] = json!({ "val_split": 0.5 });
    let answer = service.post("/retrain", "application/json", request.to_string().as_bytes());
    assert!(answer.status == 422 && text(&answer.json()["detail"]).contains("val_split"), "{answer:?}");
}

#[test]
fn enough_new_images_start_a_training() {
    let sandbox = Sandbox::new();
    let service = Service::start(&sandbox, &format!("{} --retrain-on-upload=10", model()));
    let few = photos(3, 3, &CLASSES);
    assert_eq!(service.upload("default", &archive(&few))["job"], Value::Null);
    // The same again is nothing new.
    assert_eq!(service.upload("default", &archive(&few))["job"], Value::Null);
    let report = service.upload("default", &archive(&photos(4, 1, &CLASSES)));
    let number = report["job"].as_u64().unwrap_or_else(|| panic!("{report}"));
    assert_eq!(service.job(number)["trigger"], "upload");
    service.delete(&format!("/v1/jobs/{number}"));
    assert_eq!(service.ended(number)["state"], "cancelled");
    assert_eq!(service.upload("other", &archive(&few))["job"], Value::Null);
}

#[test]
fn a_job_belongs_to_its_model_whichever_is_the_default_one() {
    let sandbox = Sandbox::new();
    let service = Service::start(&sandbox, &format!("{} --name alpha", model()));
    service.upload("default", &archive(&photos(3, 8, &CLASSES)));
    let number = service.retrain(&endless());
    until("the first epoch", || (service.job(number)["epochs"] != json!([])).then_some(()));
    let waiting = service.retrain(&endless());
    service.signal("KILL");
    assert_eq!(service.wait(), None);

    // With another default model the job goes on for its own, and each model has its own versions.
    let service = Service::start(&sandbox, &format!("{} --name beta", model()));
    let seed = service.version();
    until("the job", || (service.job(number)["state"] == "running").then_some(()));
    assert_eq!(service.job(number)["model"], "alpha");
    assert_eq!(service.delete("/v1/datasets/default").status, 409);
    for job in [waiting, number] {
        assert_eq!(service.delete(&format!("/v1/jobs/{job}")).status, 200);
        assert_eq!(service.ended(job)["state"], "cancelled");
    }
    let kept = service.ended(service.retrain(&json!({ "epochs": 1, "gate": { "mode": "never" } })));
    assert_eq!((&kept["state"], &kept["model"]), (&json!("kept"), &json!("beta")), "{kept}");
    assert_eq!(service.version(), seed);
    let versions = |model: &str| {
        service.json(&format!("/v1/models?model={model}"))["versions"].as_array().unwrap().len()
    };
    assert_eq!((versions("alpha"), versions("beta")), (1, 2));
    assert_eq!(service.delete("/v1/datasets/default").status, 200);
}
