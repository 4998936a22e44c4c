use ocelli_pipeline::{Compute, MultiLabel, Predictor};

use super::support::*;
use crate::{Access, Server};

/// The model of the tests as one of images with any number of labels.
fn several() -> Predictor {
    let mut file = model_file();
    (file.meta.metrics, file.meta.temperature, file.meta.rejection) = (None, None, None);
    file.meta.multi_label = Some(MultiLabel { thresholds: vec![0.0, 0.5, 1.0], quality: None });
    Predictor::from_model_file(file, Compute::on(1)).expect("a predictor")
}

#[test]
fn all_labels_are_answered_with_probability_and_threshold() {
    let service = Service::serve(Server::new(several(), patient(), Access::default()).expect("a server"));
    let image = bmp(1);
    let expected = offline(&mut several(), &image, 5);
    let json = service.send(&post("/predict", "image/bmp", &image)).json();
    assert_same(&json["predictions"][0], &expected);
    // What older clients read says the most likely label.
    assert_eq!(json["label"], expected.label.as_str());
    for labels in [&json["labels"], &json["predictions"][0]["labels"]] {
        let labels = labels.as_array().unwrap();
        assert_eq!(labels.len(), 3);
        for (found, expected) in labels.iter().zip(expected.labels.as_ref().unwrap()) {
            assert_eq!(
                (&found["label"], &found["index"]),
                (&expected.label.as_str().into(), &expected.index.into())
            );
            assert_eq!(found["probability"].as_f64().unwrap() as f32, expected.probability);
            assert_eq!(found["threshold"].as_f64().unwrap() as f32, expected.threshold);
            assert_eq!(found["applies"], expected.probability >= expected.threshold);
        }
        assert_eq!((&labels[0]["applies"], &labels[2]["applies"]), (&true.into(), &false.into()));
    }
    // Each by itself: they do not add up to one.
    let sum: f32 = expected.labels.unwrap().iter().map(|label| label.probability).sum();
    assert!((sum - 1.0).abs() > 1e-3, "{sum}");
    let status = service.send(&get("/status")).json();
    assert_eq!(status["model"]["thresholds"], serde_json::json!([0.0, 0.5, 1.0]));
}

#[test]
fn what_files_images_under_one_class_is_refused() {
    let service = Service::serve(Server::new(several(), patient(), Access::default()).expect("a server"));
    for path in ["/retrain", "/upload-data", "/v1/feedback?label=x"] {
        let answer = service.send(&post(path, "application/json", b"{}"));
        assert_eq!(answer.status, 409, "{path} {answer:?}");
        assert!(answer.json().to_string().contains("any number of labels"), "{answer:?}");
    }
}

#[test]
fn a_model_of_one_class_an_image_answers_without_labels() {
    let service = Service::start(patient());
    let json = service.send(&post("/predict", "image/bmp", &bmp(1))).json();
    assert!(json.get("labels").is_none() && json["predictions"][0].get("labels").is_none(), "{json}");
    assert!(service.send(&get("/status")).json()["model"].get("thresholds").is_none());
}
