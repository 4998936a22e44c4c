//! Heat maps over HTTP.

use std::sync::atomic::AtomicBool;

use ocelli_pipeline::explain::{ExplainMethod, ExplainOptions, Explainer, Explanation, Picture};
use ocelli_pipeline::store::{Name, Store};
use ocelli_pipeline::{Compute, version_id};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::support::*;
use crate::{Access, Config, Server};

/// A service that keeps its model in a folder, as services do.
fn service(config: Config) -> (TempDir, Service) {
    let folder = tempfile::tempdir().unwrap();
    let name = Name::new("model", "m").unwrap();
    let store = Store::open(folder.path()).unwrap();
    let seed = Some(model_file());
    let server =
        Server::with_data(store, (&name, seed), Compute::on(2), config, Access::default(), no_worker())
            .unwrap();
    (folder, Service::serve(server))
}

/// What the pipeline makes of an image, the layer, and the image as the network sees it.
fn offline(image: &[u8], method: ExplainMethod, class: Option<usize>) -> (Explanation, Value, Picture) {
    let options = ExplainOptions { method, layer: None };
    let mut explainer = Explainer::new(&model_file(), &options, Compute::on(2)).unwrap();
    let prepared = explainer.decoder().prepare(image).unwrap();
    let picture = Picture::of(&prepared, explainer.decoder().preprocessing());
    let explained = explainer.explain(&[prepared], &[class], &AtomicBool::new(false)).unwrap().remove(0);
    (explained, json!(explainer.layer()), picture)
}

#[track_caller]
fn assert_explains(found: &Value, expected: &(Explanation, Value, Picture)) {
    let (explanation, layer, picture) = expected;
    assert_eq!(found["class"], json!(explanation.class), "{found}");
    assert_eq!(found["index"], json!(explanation.index));
    assert_eq!(found["probability"].as_f64().unwrap() as f32, explanation.probability);
    assert_eq!(&found["layer"], layer);
    assert_eq!(found["input"]["png"], json!(base64(&picture.png())));
    assert_eq!((&found["input"]["width"], &found["input"]["height"]), (&json!(12), &json!(12)));
    // The image is smaller than the largest map.
    let map = explanation.map.resized(12, 12);
    assert_eq!((&found["map"]["width"], &found["map"]["height"]), (&json!(12), &json!(12)));
    let values = found["map"]["values"].as_array().unwrap();
    assert_eq!(values.len(), map.values.len());
    for (found, expected) in values.iter().zip(&map.values) {
        assert!((found.as_f64().unwrap() - f64::from(*expected)).abs() <= 5.1e-5, "{found} {expected}");
    }
}

#[test]
fn maps_are_those_of_the_pipeline_however_the_image_is_sent() {
    let (_folder, service) = service(patient());
    let image = bmp(1);
    let expected = offline(&image, ExplainMethod::GradCam, None);
    let one = json!({ "image": base64(&image) }).to_string();
    let list = json!({ "images": [base64(&image)] }).to_string();
    for request in [
        post("/v1/explain", "image/bmp", &image),
        post("/v1/explain", "", &image),
        post("/v1/explain", FORM, &form("file", std::slice::from_ref(&image))),
        post("/v1/explain", "application/json", one.as_bytes()),
        post("/v1/explain", "application/json", list.as_bytes()),
    ] {
        let answer = service.send(&request);
        assert_eq!(answer.status, 200, "{answer:?}");
        let json = answer.json();
        assert_explains(&json, &expected);
        assert_eq!(json["version"], json!(version_id(&model_file().content_hash().unwrap())));
        assert_eq!(json["method"], "gradcam");
        assert_eq!(json["request_id"], answer.headers["x-request-id"].as_str());
    }
}

#[test]
fn method_class_and_version_can_be_chosen() {
    let (_folder, service) = service(patient());
    let version = version_id(&model_file().content_hash().unwrap());
    let class = |index: usize| {
        let name = model_file().meta.classes[index].clone();
        name.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>()
    };
    for method in ExplainMethod::ALL {
        for index in 0..3 {
            let image = bmp(index as u64);
            let target = format!("/v1/explain?method={method}&class={}&version={version}", class(index));
            let answer = service.send(&post(&target, "", &image));
            assert_eq!(answer.status, 200, "{answer:?}");
            assert_explains(&answer.json(), &offline(&image, method, Some(index)));
            assert_eq!(answer.json()["layer"].is_null(), method == ExplainMethod::Occlusion);
        }
    }
}

#[test]
fn what_cannot_be_explained_is_refused() {
    let (_folder, service) = service(patient());
    let two = [bmp(1), bmp(2)];
    let pair = json!({ "images": two.each_ref().map(|image| base64(image)) }).to_string();
    for (request, status, code, says) in [
        (post("/v1/explain", "", b""), 400, "no_image", ""),
        (post("/v1/explain", "", b"text"), 422, "undecodable_image", ""),
        (post("/v1/explain?method=saliency", "", &bmp(1)), 400, "bad_query", "gradcam, layercam, occlusion"),
        (post("/v1/explain?class=quote", "", &bmp(1)), 400, "bad_query", "most like it: quote\"d"),
        (post("/v1/explain?layer=x", "", &bmp(1)), 400, "bad_query", "are: class, method, model, version"),
        (post("/v1/explain?version=000000000000", "", &bmp(1)), 404, "not_found", ""),
        (post("/v1/explain", FORM, &form("file", &two)), 413, "too_many_images", "1 image"),
        (post("/v1/explain", "application/json", pair.as_bytes()), 413, "too_many_images", "1 image"),
    ] {
        let answer = service.send(&request);
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{answer:?}");
        assert!(answer.json()["detail"].as_str().unwrap().contains(says), "{answer:?}");
    }
    // Without a data folder there is no file to read the network from.
    let service = Service::start(patient());
    let answer = service.send(&post("/v1/explain", "", &bmp(1)));
    assert_eq!((answer.status, answer.code().as_str()), (409, "conflict"), "{answer:?}");
    assert_eq!(service.send(&post("/predict", "", &bmp(1))).status, 200);
}

#[test]
fn more_than_some_at_a_time_are_turned_away_and_predictions_go_on() {
    let (_folder, service) = service(patient());
    let explaining = &service.server.backend.explaining;
    let mut places = Vec::new();
    while let Ok(place) = explaining.place() {
        places.push(place);
    }
    let answer = service.send(&post("/v1/explain", "", &bmp(1)));
    assert_eq!((answer.status, answer.code().as_str()), (429, "busy"), "{answer:?}");
    assert!(answer.headers.contains_key("retry-after"), "{answer:?}");
    assert_eq!(service.send(&post("/predict", "", &bmp(1))).status, 200);
    places.pop();
    assert_eq!(service.send(&post("/v1/explain", "", &bmp(1))).status, 200);
    drop(places);

    // Both at once: each client gets its own image back, and every prediction is answered.
    std::thread::scope(|scope| {
        for client in 0..3u64 {
            let service = &service;
            scope.spawn(move || {
                let (explained, image) = (offline(&bmp(client), ExplainMethod::Occlusion, None), bmp(client));
                for _ in 0..4 {
                    let answer = service.send(&post("/v1/explain?method=occlusion", "", &image));
                    assert_eq!(answer.status, 200, "{answer:?}");
                    assert_explains(&answer.json(), &explained);
                    assert_eq!(service.send(&post("/predict", "", &image)).status, 200);
                }
            });
        }
    });
}
