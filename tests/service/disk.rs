//! A data folder that is full, and a service that trains for weeks.

use serde_json::{Value, json};

use super::{Service, archive, listing, memory, model, of_form, photos, text};
use crate::shapes::CLASSES;
use crate::support::Sandbox;

#[test]
fn hundreds_of_jobs_keep_the_folder_small() {
    let sandbox = Sandbox::new();
    sandbox.write("limits.toml", "keep_versions = 5\nkeep_runs = 4\nkeep_events = 60\n");
    let service = Service::start(&sandbox, &format!("{} --config limits.toml", model()));
    service.upload("default", &archive(&photos(1, 4, &CLASSES)));
    let data = sandbox.path().join("data");
    let bytes = || listing(&data).iter().map(|(_, bytes)| bytes).sum::<u64>();
    let mut grown = Vec::new();
    for i in 0..of_form(12, 500) {
        let request = json!({ "epochs": 1, "from": "fresh", "recipe": { "size": [16, 16], "seed": i, "batch": 8 },
            "gate": { "mode": if i % 3 == 0 { "always" } else { "never" } } });
        let job = service.ended(service.retrain(&request));
        assert!(["promoted", "kept"].map(Value::from).contains(&job["state"]), "{job}");
        if i % of_form(4, 50) == 0 {
            grown.push((i, bytes(), memory(&service, "VmRSS")));
        }
    }
    println!("jobs, bytes of the data folder, KiB of memory: {grown:?}");
    let versions = service.json("/v1/models");
    let listed = versions["versions"].as_array().unwrap();
    // The serving one, the one before it and its parent stay, whatever their age.
    assert!(listed.len() <= 8, "{versions}");
    let serving = text(&versions["serving"]);
    assert!(listed.iter().any(|version| version["version"] == json!(serving)));
    assert!(std::fs::read_dir(data.join("runs")).unwrap().count() <= 5);
    let audit = service.json("/v1/audit?limit=1000");
    assert!(audit["audit"].as_array().unwrap().len() <= 62, "{audit}");
    assert_eq!(service.post("/v1/models/rollback", "", b"").status, 200);
}

#[test]
fn a_full_folder_refuses_uploads_until_there_is_room() {
    let sandbox = Sandbox::new();
    let used: u64 = 8 << 20;
    sandbox.write("limits.toml", format!("max_data_bytes = {used}\n"));
    let service = Service::start(&sandbox, &format!("{} --config limits.toml", model()));
    let storage = service.json("/status")["storage"].clone();
    assert!(storage["limit"] == used && storage["models"].as_u64().unwrap() > 0, "{storage}");
    let mut kept = 0;
    let refused = loop {
        let files = photos(100 + kept, 40, &CLASSES);
        let answer = service.post("/upload-data", "application/zip", &archive(&files));
        if answer.status != 200 {
            break answer;
        }
        kept += 1;
        assert!(kept < 100);
    };
    assert_eq!((refused.status, refused.json()["code"].as_str()), (507, Some("data_full")), "{refused:?}");
    assert!(text(&refused.json()["detail"]).contains("max_data_bytes"), "{refused:?}");
    let images = service.json("/v1/datasets/default");
    assert_eq!(images["images"], kept * 120);
    assert_eq!(service.delete("/v1/datasets/default").status, 200);
    let answer = service.post("/upload-data", "application/zip", &archive(&photos(1, 2, &CLASSES)));
    assert_eq!(answer.status, 200, "{answer:?}");
}
