use std::time::{Duration, Instant};

use super::support::*;
use crate::Config;

/// The limit that a test waits for.
const LIMIT: Duration = Duration::from_secs(1);

#[test]
fn a_connection_serves_one_request_after_another() {
    let service = Service::start(patient());
    let mut model = predictor();
    let mut client = service.connect();
    for seed in 0..50 {
        client.write(&post("/predict", "image/bmp", &bmp(seed)));
        let answer = client.read();
        assert_same(&answer.json()["predictions"][0], &offline(&mut model, &bmp(seed), 5));
        // A refusal of a body that was read does not cost the connection.
        client.write(&post("/predict", "image/bmp", b"text"));
        assert_eq!(client.read().status, 422);
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let service = Service::start(patient());
    let mut model = predictor();
    let mut client = service.connect();
    let requests: Vec<u8> = (0..100).flat_map(|seed| post("/predict", "image/bmp", &bmp(seed))).collect();
    // In pieces that have nothing to do with the requests.
    for piece in requests.chunks(777) {
        client.write(piece);
    }
    for seed in 0..100 {
        assert_same(&client.read().json()["predictions"][0], &offline(&mut model, &bmp(seed), 5));
    }
}

#[test]
fn a_slow_header_is_cut_off_even_while_bytes_arrive() {
    let service = Service::start(Config { header_timeout: LIMIT, ..patient() });
    let mut silent = service.connect();
    assert!(silent.is_closed_by_service());

    // On a fresh connection and after a request, byte by byte.
    for requests_before in 0..2 {
        let mut dripping = service.connect();
        for _ in 0..requests_before {
            dripping.write(&get("/health/live"));
            dripping.try_read();
        }
        wait_until("the end of a dripping client", || {
            std::thread::sleep(Duration::from_millis(20));
            dripping.try_write(b"G").is_err()
        });
    }
    assert_eq!(service.send(&get("/health/live")).status, 200);
}

#[test]
fn an_idle_connection_is_closed_and_a_used_one_is_not() {
    let service = Service::start(Config { keep_alive: LIMIT, ..patient() });
    let mut client = service.connect();
    let mut used = Instant::now();
    for _ in 0..15 {
        std::thread::sleep(LIMIT / 10);
        if client.try_write(&get("/health/live")).is_err() || client.try_read().is_none() {
            assert!(used.elapsed() >= LIMIT, "closed although it was used");
            return;
        }
        used = Instant::now();
    }
    assert!(client.is_closed_by_service());
    wait_until("the end of the connection", || service.server.backend.connections.open() == 0);
}

#[test]
fn a_slow_body_gets_408() {
    let service = Service::start(Config { body_timeout: LIMIT, ..patient() });
    let request = post("/predict", "image/bmp", &bmp(1));
    let mut client = service.connect();
    client.write(&request[..request.len() - 1]);
    let answer = client.read();
    assert_eq!((answer.status, answer.code().as_str()), (408, "body_timeout"));
    assert_eq!(answer.headers["connection"], "close");
}

#[test]
fn a_client_that_does_not_read_is_cut_off() {
    let service = Service::start(Config { write_timeout: LIMIT, ..patient() });
    let mut client = service.connect();
    let requests: Vec<u8> = (0..1000).flat_map(|_| get("/status")).collect();
    // Until the answers fill every buffer on the way, and the service gives up.
    wait_until("the end of a client that does not read", || client.try_write(&requests).is_err());
    wait_until("the end of the connection", || service.server.backend.connections.open() == 0);
}

#[test]
fn an_early_refusal_reaches_a_client_that_is_still_sending() {
    let service = Service::start(patient());
    let mut client = service.connect();
    client.write(b"POST /predict HTTP/1.1\r\nhost: t\r\ncontent-length: 20000000\r\n\r\n");
    for _ in 0..20 {
        // The service may have stopped listening at some point, which is its right; the answer must reach us.
        let _ = client.try_write(&vec![0; 1_000_000]);
    }
    let answer = client.read();
    assert_eq!((answer.status, answer.code().as_str()), (413, "body_too_large"));
    assert_eq!(answer.headers["connection"], "close");
}

#[test]
fn expect_continue_is_honoured() {
    let service = Service::start(patient());
    let image = bmp(1);
    let head = |length: usize| {
        format!(
            "POST /predict HTTP/1.1\r\nhost: t\r\nexpect: 100-continue\r\ncontent-length: {length}\r\n\r\n"
        )
    };
    let mut client = service.connect();
    client.write(head(image.len()).as_bytes());
    assert_eq!(client.read().status, 100);
    client.write(&image);
    assert_eq!(client.read().status, 200);

    let mut client = service.connect();
    client.write(head(11 << 20).as_bytes());
    assert_eq!(client.read().status, 413, "refused before the body is sent");
}

#[test]
fn a_connection_over_the_limit_is_refused_with_a_reason_and_counted() {
    let service = Service::start(Config { max_connections: 2, ..patient() });
    let mut open: Vec<Client> = (0..2).map(|_| service.connect()).collect();
    for client in &mut open {
        client.write(&get("/health/live"));
        assert_eq!(client.read().status, 200);
    }
    // Whatever it asks, with a body or without, and also when it says nothing for a while.
    let requests = [get("/status"), get("/nowhere"), post("/predict", "image/bmp", &vec![7; 100_000])];
    for request in &requests {
        let mut third = service.connect();
        let _ = third.try_write(request);
        let answer = third.read();
        assert_eq!((answer.status, answer.code().as_str()), (503, "too_many_connections"));
        assert_eq!(answer.headers["connection"], "close");
        assert_eq!(answer.headers["retry-after"], "1");
        assert_eq!(answer.headers["content-type"], "application/problem+json");
        assert_eq!(answer.json()["status"], 503);
        assert!(third.is_closed_by_service());
    }
    assert!(service.connect().is_closed_by_service());
    // Many at once: each is answered or closed, none waits, and all are counted.
    let flood: Vec<Client> = (0..200).map(|_| service.connect()).collect();
    for mut client in flood {
        let _ = client.try_write(&get("/status"));
        assert!(client.try_read().is_none_or(|answer| answer.status == 503));
    }
    let counted = |reason: &str| {
        let text = service.metrics();
        let name = format!("ocelli_connections_refused_total{{reason=\"{reason}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&name)?.parse::<usize>().ok()).expect("a counter")
    };
    assert_eq!(counted("max_connections"), requests.len() + 1 + 200);
    assert_eq!(counted("max_connections_per_address"), 0);
    // Those who were there go on, and one that leaves makes room.
    open.pop();
    wait_until("room", || service.server.backend.connections.open() == 1);
    let status = service.send(&get("/status"));
    assert_eq!(status.json()["connections"], 2);
    open[0].write(&get("/health/live"));
    assert_eq!(open[0].read().status, 200);
}
