use super::support::*;
use crate::Config;

#[test]
fn every_encoding_of_an_image_gets_the_models_answer() {
    let service = Service::start(patient());
    let mut model = predictor();
    let image = bmp(1);
    let expected = offline(&mut model, &image, 5);
    let json = |text: String| post("/predict", "application/json", text.as_bytes());
    let requests = [
        post("/predict", "image/bmp", &image),
        post("/predict", "image/whatever", &image),
        post("/predict", "application/octet-stream", &image),
        // What curl --data-binary says when it is not told.
        post("/predict", "application/x-www-form-urlencoded", &image),
        post("/predict", "", &image),
        post("/predict", FORM, &form("file", std::slice::from_ref(&image))),
        json(format!("{{\"image\": \"{}\"}}", base64(&image))),
        json(format!("{{\"image\": \"data:image/bmp;base64,{}\"}}", base64(&image))),
        json(format!("{{\"image\": \"{}\"}}", base64(&image).trim_end_matches('='))),
        json(format!("{{\"images\": [\"{}\"]}}", base64(&image))),
    ];
    for request in requests {
        let answer = service.send(&request);
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.headers["content-type"], "application/json");
        let json = answer.json();
        assert_same(&json["predictions"][0], &expected);
        assert_eq!(json["label"], expected.label.as_str());
        assert_eq!(json["index"], expected.index);
        assert_eq!(json["probability"].as_f64().unwrap() as f32, expected.probability);
        assert_eq!(json["model"]["name"], model.meta().name.as_str());
        assert_eq!(json["model"]["version"], model.version());
        for part in ["decode", "queue", "compute"] {
            assert!(json["timing_ms"][part].as_f64() <= json["timing_ms"]["total"].as_f64(), "{json}");
            assert!(answer.headers["server-timing"].contains(&format!("{part};dur=")));
        }
        assert_eq!(json["request_id"], answer.headers["x-request-id"].as_str());
    }
}

#[test]
fn base64_of_every_length_is_read() {
    for length in 0..40 {
        let mut rng = Rng(length);
        let bytes: Vec<u8> = (0..length).map(|_| rng.next_u64() as u8).collect();
        let text = base64(&bytes);
        for text in [text.as_str(), text.trim_end_matches('=')] {
            let images =
                crate::http::payload::json(format!("{{\"images\":[\"{text}\"]}}").as_bytes(), 1, 2).unwrap();
            assert_eq!(images, std::slice::from_ref(&bytes));
        }
    }
}

#[test]
fn several_images_are_answered_in_their_order() {
    // A batch smaller than the request: one request spans several forward passes.
    let service = Service::start(Config { max_batch: 3, ..patient() });
    let mut model = predictor();
    let images: Vec<_> = (0..20).map(bmp).collect();
    let texts: Vec<_> = images.iter().map(|image| base64(image)).collect();
    let json = serde_json::json!({ "images": texts }).to_string();
    for request in [
        post("/predict?top_k=2", FORM, &form("file", &images)),
        post("/predict?top_k=2", "application/json; charset=utf-8", json.as_bytes()),
    ] {
        let answer = service.send(&request);
        assert_eq!(answer.status, 200, "{answer:?}");
        let json = answer.json();
        assert!(json.get("label").is_none(), "no single answer to several images");
        let predictions = json["predictions"].as_array().unwrap();
        assert_eq!(predictions.len(), images.len());
        for (found, image) in predictions.iter().zip(&images) {
            assert_same(found, &offline(&mut model, image, 2));
        }
    }
}

#[test]
fn top_k_is_limited_to_the_number_of_classes() {
    let service = Service::start(patient());
    let mut model = predictor();
    let classes = model.meta().classes.len();
    for k in 1..=classes + 3 {
        let answer = service.send(&post(&format!("/predict?top_k={k}"), "image/bmp", &bmp(9)));
        assert_same(&answer.json()["predictions"][0], &offline(&mut model, &bmp(9), k.min(classes)));
    }
}

#[test]
fn a_request_id_comes_back_if_it_is_harmless() {
    let service = Service::start(patient());
    let ask = |id: &str| {
        let request = format!("GET /status HTTP/1.1\r\nhost: t\r\nx-request-id: {id}\r\n\r\n");
        service.send(request.as_bytes()).headers["x-request-id"].clone()
    };
    assert_eq!(ask("trace-1.a_B"), "trace-1.a_B");
    let mut seen = std::collections::HashSet::new();
    for bad in ["", "a b", "<script>", "\u{e9}", &"x".repeat(65)] {
        let own = ask(bad);
        assert!(own.len() == 16 && own.bytes().all(|b| b.is_ascii_hexdigit()), "{own}");
        assert!(seen.insert(own), "ids are unique");
    }
}

#[test]
fn status_and_health_say_what_runs() {
    let service = Service::start(patient());
    let model = predictor();
    service.send(&post("/predict", "", &bmp(1)));
    service.send(&post("/predict", "", b"text"));
    let status = service.send(&get("/status"));
    assert_eq!(status.status, 200);
    let json = status.json();
    assert_eq!(json["status"], "ready");
    assert_eq!(json["model"]["classes"], serde_json::json!(model.meta().classes));
    assert_eq!(json["model"]["version"], model.version());
    assert_eq!(json["model"]["input"]["width"], model.meta().preprocessing.width);
    let requests = serde_json::json!({ "total": 3, "ok": 1, "error": 1, "in_flight": 1 });
    assert_eq!(json["requests"], requests, "this one is in flight");
    assert_eq!(json["queue"], serde_json::json!({ "length": 0, "capacity": 256 }));
    assert!(json["connections"].as_u64().unwrap() >= 1);
    assert_eq!(service.send(&get("/health/live")).json(), serde_json::json!({ "live": true }));
    assert_eq!(
        service.send(&get("/health/ready?x=1")).json(),
        serde_json::json!({ "ready": true, "stand_in": null })
    );

    // HEAD: the headers of GET and nothing after them, so that the next answer follows at once.
    let mut client = service.connect();
    client.write(b"HEAD /status HTTP/1.1\r\nhost: t\r\n\r\nGET /nowhere HTTP/1.1\r\nhost: t\r\n\r\n");
    let text = client.read_until_closed_or("\"no_route\"");
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    assert_eq!(text.matches("\r\n\r\n").count(), 2, "{text}");
    assert!(!text.contains("uptime_s"), "{text}");
}

#[test]
fn settings_out_of_range_are_refused_by_name() {
    let cases: [(&str, Config); 5] = [
        ("max_batch", Config { max_batch: 0, ..Config::default() }),
        ("queue", Config { queue: 0, ..Config::default() }),
        ("images_per_request", Config { images_per_request: 300, ..Config::default() }),
        ("default_top_k", Config { max_top_k: 3, ..Config::default() }),
        ("body_memory", Config { body_memory: 1000, ..Config::default() }),
    ];
    for (setting, config) in cases {
        let error = crate::Server::new(predictor(), config, crate::Access::default())
            .err()
            .expect("a refusal")
            .to_string();
        assert!(error.contains(setting) && !error.contains('\n'), "{error}");
    }
}
