//! `ocelli serve` over TCP: the answers of `ocelli predict`, and a clean end.

use crate::http_client::{form, request};
use crate::shapes::{self, CLASSES, Rng, TRAINED, photo};
use crate::support::{Sandbox, Server};

#[test]
fn http_and_command_line_give_the_same_answer() {
    let sandbox = Sandbox::new();
    let mut rng = Rng(21);
    let images: Vec<Vec<u8>> = CLASSES.iter().map(|class| shapes::png(&photo(class, &mut rng))).collect();
    let server = Server::start(&sandbox, &TRAINED.run_dir.display().to_string());
    let mut offline = Vec::new();
    for (i, image) in images.iter().enumerate() {
        sandbox.write(&format!("{i}.png"), image);
        let line = format!("predict {} {i}.png --json -k 3", TRAINED.run_dir.display());
        offline.push(sandbox.run(&line).json_lines().remove(0));
    }
    for (image, expected) in images.iter().zip(&offline) {
        let (kind, body) = form(&[image]);
        let by_form = request(&server.addr, "POST /predict?top_k=3", &kind, &body);
        let raw = request(&server.addr, "POST /predict?top_k=3", "image/png", image);
        for answer in [by_form, raw] {
            assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
            let json = answer.json();
            for key in ["label", "index", "probability"] {
                assert_eq!(json[key], expected[key], "{json}");
            }
            assert_eq!(json["predictions"][0]["top"], expected["top"]);
        }
    }
    let all: Vec<&[u8]> = images.iter().map(Vec::as_slice).collect();
    let (kind, body) = form(&all);
    let json = request(&server.addr, "POST /predict", &kind, &body).json();
    let labels: Vec<_> = json["predictions"].as_array().unwrap().iter().map(|p| p["label"].clone()).collect();
    let expected: Vec<_> = offline.iter().map(|answer| answer["label"].clone()).collect();
    assert_eq!(labels, expected);

    let status = request(&server.addr, "GET /status", "", b"");
    assert_eq!((status.status, &status.json()["model"]["classes"]), (200, &serde_json::json!(CLASSES)));
    assert_eq!(status.json()["model"]["exact"], false);
    assert_eq!(server.stop("TERM"), Some(0));
}

#[test]
fn bad_requests_are_told_what_is_wrong() {
    let sandbox = Sandbox::new();
    let server = Server::start(&sandbox, &TRAINED.run_dir.display().to_string());
    let huge = vec![0; 11 << 20];
    let table: [(&str, &str, &[u8], u16); 6] = [
        ("POST /predict", "image/jpeg", b"just text", 422),
        ("POST /predict", "image/jpeg", b"", 400),
        ("POST /predict", "image/png", &huge, 413),
        ("POST /predict", "application/json", b"{\"image\":", 400),
        ("GET /predict", "", b"", 405),
        ("GET /nowhere", "", b"", 404),
    ];
    for (line, kind, body, status) in table {
        let answer = request(&server.addr, line, kind, body);
        assert_eq!(answer.status, status, "{line}: {}", String::from_utf8_lossy(&answer.body));
        assert!(answer.head.contains("application/problem+json"), "{}", answer.head);
        assert!(answer.json()["detail"].as_str().is_some_and(|text| !text.is_empty()), "{line}");
    }
    assert_eq!(server.stop("INT"), Some(0));
}
