use serde_json::Value;

use super::support::*;
use crate::Config;

fn rows(json: &Value) -> Vec<Vec<f32>> {
    let row = |row: &Value| row.as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect();
    json["features"].as_array().unwrap().iter().map(row).collect()
}

fn offline_features(image: &[u8]) -> Vec<f32> {
    let mut model = predictor();
    let prepared = model.decoder().prepare(image).unwrap();
    let mut features = Vec::new();
    model.features(&[prepared], &mut features).unwrap();
    features
}

#[test]
fn every_encoding_of_an_image_gets_its_features() {
    let service = Service::start(patient());
    let image = bmp(1);
    let expected = offline_features(&image);
    assert!(expected.len() > 1 && expected.iter().any(|&value| value != expected[0]));
    let json = serde_json::json!({ "image": base64(&image) }).to_string();
    for request in [
        post("/v1/embed", "image/bmp", &image),
        post("/v1/embed", "", &image),
        post("/v1/embed", FORM, &form("file", std::slice::from_ref(&image))),
        post("/v1/embed", "application/json", json.as_bytes()),
    ] {
        let answer = service.send(&request);
        assert_eq!(answer.status, 200, "{answer:?}");
        let json = answer.json();
        assert_eq!(rows(&json), std::slice::from_ref(&expected));
        assert_eq!(json["model"]["version"], predictor().version());
        assert_eq!(json["model"]["name"], predictor().meta().name.as_str());
        assert_eq!(json["request_id"], answer.headers["x-request-id"].as_str());
    }
}

#[test]
fn features_come_in_the_order_of_the_images_and_beside_predictions() {
    let service = Service::start(Config { max_batch: 3, ..patient() });
    let images: Vec<_> = (0..10).map(bmp).collect();
    let answer = service.send(&post("/v1/embed", FORM, &form("file", &images)));
    assert_eq!(answer.status, 200, "{answer:?}");
    let expected: Vec<_> = images.iter().map(|image| offline_features(image)).collect();
    assert_eq!(rows(&answer.json()), expected);

    // Clients of both routes share batches: nobody gets what another one asked for.
    std::thread::scope(|scope| {
        let (service, images, expected) = (&service, &images, &expected);
        for client in 0..4 {
            scope.spawn(move || {
                for (image, features) in images.iter().zip(expected) {
                    if client % 2 == 0 {
                        let json = service.send(&post("/v1/embed", "", image)).json();
                        assert_eq!(rows(&json), std::slice::from_ref(features));
                    } else {
                        let json = service.send(&post("/predict?top_k=2", "", image)).json();
                        assert_same(&json["predictions"][0], &offline(&mut predictor(), image, 2));
                        assert!(json.get("features").is_none(), "{json}");
                    }
                }
            });
        }
    });
}

#[test]
fn what_cannot_be_embedded_is_refused() {
    let service = Service::start(Config { images_per_request: 2, ..patient() });
    let three: Vec<_> = (0..3).map(bmp).collect();
    for (request, status, says) in [
        (post("/v1/embed", "", b""), 400, "no_image"),
        (post("/v1/embed", "", b"text"), 422, "undecodable_image"),
        (post("/v1/embed?top_k=2", "", &bmp(1)), 400, "bad_query"),
        (post("/v1/embed?version=000000000000", "", &bmp(1)), 409, "conflict"),
        (post("/v1/embed", FORM, &form("file", &three)), 413, "too_many_images"),
    ] {
        let answer = service.send(&request);
        assert_eq!((answer.status, answer.json()["code"].as_str()), (status, Some(says)), "{answer:?}");
    }
}

#[test]
fn a_version_that_has_no_features_gives_none() {
    let service = Service::wrapped(patient(), |model| model);
    let answer = service.send(&post("/v1/embed", "", &bmp(1)));
    assert_eq!((answer.status, answer.json()["code"].as_str()), (409, Some("conflict")), "{answer:?}");
    assert_eq!(service.send(&post("/predict", "", &bmp(1))).status, 200);
}
