//! Several times more requests than can be answered: the service answers what it can and refuses the rest.

use serde_json::Value;

use super::{Service, model, of_form, photos, until};
use crate::shapes::{Rng, encode};
use crate::support::Sandbox;

/// Times the measured capacity that arrive.
const TIMES: f64 = 5.0;

/// A photo that takes long to decode.
fn large() -> Vec<u8> {
    let mut rng = Rng(1);
    let noise = image::RgbImage::from_fn(1600, 1200, |x, y| {
        let value = ((x / 8) ^ (y / 8)) as u8;
        image::Rgb([value, value.wrapping_add((rng.next_u64() % 8) as u8), 90])
    });
    encode(&noise.into(), image::ImageFormat::Jpeg)
}

#[test]
fn an_overloaded_service_refuses_and_recovers() {
    let sandbox = Sandbox::new();
    // A short queue: what waits longer than a client would is better refused.
    sandbox.write("limits.toml", "queue = 8\nimages_per_request = 4\n");
    let service = Service::start(&sandbox, &format!("{} --config limits.toml", model()));
    sandbox.write("large/1.jpg", large());
    let flood = |load: &str| {
        let line = format!("flood {} -i large --body raw --warmup 0s --json {load}", service.addr);
        sandbox.run(&line).json_lines().remove(0)
    };
    let peak = flood(&format!("-c 4 -d {}", of_form("500ms", "10s")));
    assert_eq!(peak["errors"], 0, "{peak}");
    let capacity = peak["ok_per_second"].as_f64().unwrap();

    let seconds = of_form(3, 30);
    let rate = TIMES * capacity;
    let level = flood(&format!("--rate {rate:.1} --connections 256 -d {seconds}s"));
    let statuses = level["statuses"].as_object().unwrap();
    assert!(statuses.keys().all(|status| ["200", "429", "503"].contains(&status.as_str())), "{level}");
    let faults = level["faults"].as_object().unwrap();
    assert!(faults.keys().all(|fault| fault.starts_with("429 ") || fault.starts_with("503 ")), "{level}");
    let [ok, refused] =
        ["200", "429"].map(|status| statuses.get(status).and_then(Value::as_u64).unwrap_or(0));
    assert!(ok > 0 && refused > 0, "{level}");
    println!(
        "{capacity:.0} a second at peak, {:.0} of {rate:.0} a second beyond it; p99 {} ms",
        level["ok_per_second"].as_f64().unwrap(),
        level["latency_ms"]["p99"],
    );

    // Nothing of it is left.
    until("an empty queue", || (service.json("/status")["queue"]["length"] == 0).then_some(()));
    let image = &photos(1, 1, &["circle"])[0].1;
    for _ in 0..20 {
        service.predict(image);
    }
    let after = flood("-c 2 -n 10");
    assert_eq!(after["errors"], 0, "{after}");
    assert_eq!(service.stop("TERM"), Some(0));
}

#[test]
fn refusals_say_when_to_retry() {
    let sandbox = Sandbox::new();
    sandbox.write("limits.toml", "queue = 2\nimages_per_request = 2\n");
    let service = Service::start(&sandbox, &format!("{} --config limits.toml", model()));
    let large = large();
    let answers: Vec<_> = std::thread::scope(|scope| {
        let ask = || scope.spawn(|| service.post("/predict", "image/jpeg", &large));
        let all: Vec<_> = (0..24).map(|_| ask()).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let refused: Vec<_> = answers.iter().filter(|answer| answer.status != 200).collect();
    assert!(!refused.is_empty() && refused.len() < answers.len(), "{} of {}", refused.len(), answers.len());
    for answer in refused {
        assert_eq!((answer.status, answer.header("retry-after")), (429, Some("1")), "{answer:?}");
        assert_eq!(answer.json()["code"], "busy");
    }
    // Health does not depend on load.
    assert_eq!((service.get("/health/live").status, service.get("/health/ready").status), (200, 200));
}
