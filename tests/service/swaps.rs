//! One version after another takes over while clients ask: every answer is one version's own, and none is lost.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use serde_json::{Value, json};

use super::{Service, add_renamed, is_long, memory, model, of_form, offline, photos, text};
use crate::http_client::request;
use crate::shapes::CLASSES;
use crate::support::Sandbox;

#[test]
fn promotions_under_load_lose_no_request_and_mix_no_answers() {
    let sandbox = Sandbox::new();
    let images: Vec<Vec<u8>> = photos(1, 4, &CLASSES).into_iter().map(|(_, bytes)| bytes).collect();
    let expected = offline(&sandbox, &images);
    let other = add_renamed(&sandbox, "data", "other-");
    let service = Service::start(&sandbox, &model());
    let own = service.version();
    let (stop, answers) = (AtomicBool::new(false), [AtomicUsize::new(0), AtomicUsize::new(0)]);
    let ask = |client: usize| {
        for i in client.. {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let at = i % images.len();
            // Some ask for a version by name, whichever serves.
            let named = [None, None, None, Some(&own), Some(&other)][i % 5];
            let line = named
                .map_or("POST /predict".to_owned(), |version| format!("POST /predict?version={version}"));
            let answer = request(&service.addr, &line, "image/png", &images[at]);
            assert_eq!(answer.status, 200, "{answer:?}");
            let answer = answer.json();
            let version = text(&answer["model"]["version"]);
            assert!(named.is_none_or(|named| *named == version), "{answer}");
            assert!(version == own || version == other, "{answer}");
            let mut right = expected[at]["top"].clone();
            if version == other {
                for class in right.as_array_mut().unwrap() {
                    class["label"] = format!("other-{}", text(&class["label"])).into();
                }
            }
            assert_eq!(answer["predictions"][0]["top"], right, "version {version}, image {at}");
            answers[usize::from(version == other)].fetch_add(1, Ordering::Relaxed);
        }
    };
    let mut used = Vec::new();
    thread::scope(|scope| {
        let clients: Vec<_> = (0..4).map(|client| scope.spawn(move || ask(client))).collect();
        for i in 0..of_form(30, 500) {
            let [next, before] = if i % 2 == 0 { [&other, &own] } else { [&own, &other] };
            let changed = service.post(&format!("/v1/models/{next}/promote"), "", b"");
            assert_eq!(changed.json(), json!({ "serving": next, "before": before }), "promotion {i}");
            used.extend(memory(&service, "VmRSS"));
            if clients.iter().any(|client| client.is_finished()) {
                break;
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    let [of_own, of_other] = answers.map(AtomicUsize::into_inner);
    assert!(of_own > 0 && of_other > 0, "{of_own} and {of_other} answers");
    println!("{of_own} answers of one version, {of_other} of the other");
    assert_eq!(service.json("/status")["requests"]["error"], Value::from(0));
    if is_long() && used.len() > 50 {
        let (early, late) = (used[50], used[used.len() - 1]);
        println!("{early} KiB after 50 promotions, {late} KiB after {}", used.len());
        assert!(
            late * 10 < early * 11,
            "memory grows: {:?}",
            used.chunks(50).map(|few| few[0]).collect::<Vec<_>>()
        );
    }
}
