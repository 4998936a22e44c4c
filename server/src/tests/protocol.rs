//! HTTP's own rules: hosts, expectations, and what is answered before a body is read.

use super::support::*;
use crate::{Access, Config, Keys, Server};

#[test]
fn a_request_names_one_valid_host() {
    let service = Service::start(patient());
    let ask = |version: &str, target: &str, hosts: &[&str]| {
        let mut request = format!("GET {target} HTTP/{version}\r\n");
        hosts.iter().for_each(|host| request += &format!("host: {host}\r\n"));
        service.send((request + "connection: close\r\n\r\n").as_bytes())
    };
    let refused: [&[&str]; 10] = [
        &[],
        &["t", "t"],
        &["t", "u"],
        &["t", ""],
        &[""],
        &["a b"],
        &["user@t"],
        &["t:x"],
        &["http://t"],
        &["[::1"],
    ];
    // A route, none at all, one that needs another method, and a whole address.
    for target in ["/health/live", "/status", "/nowhere", "/predict", "http://t/health/live", "*"] {
        for hosts in refused {
            let answer = ask("1.1", target, hosts);
            assert_eq!((answer.status, answer.code().as_str()), (400, "bad_host"), "{target} {hosts:?}");
            assert_eq!(answer.headers["content-type"], "application/problem+json");
        }
    }
    for hosts in &refused[1..] {
        assert_eq!(ask("1.0", "/health/live", hosts).status, 400, "{hosts:?}");
    }
    for hosts in [&["t"][..], &["localhost:8080"], &["[::1]:80"], &["10.1.2.3"], &["t:"]] {
        assert_eq!(ask("1.1", "/health/live", hosts).status, 200, "{hosts:?}");
        assert_eq!(ask("1.1", "http://t/health/live", hosts).status, 200, "{hosts:?}");
    }
    assert_eq!(ask("1.0", "/health/live", &[]).status, 200);
    assert_eq!(ask("1.0", "/status", &["t"]).status, 200);
    // Of a whole address, its own host is the one that counts.
    assert_eq!(ask("1.1", "http://evil.example/status", &["t"]).code(), "unknown_host");
    assert_eq!(ask("1.1", "http://t/status", &["evil.example"]).status, 200);
    let refusals = service.metrics();
    assert!(refusals.contains("operation=\"none\",code=\"400\""), "{refusals}");
}

/// The answer to a header that promises a body and waits for `100 Continue`, and to nothing else.
fn promise(service: &Service, line: &str, headers: &str) -> Answer {
    let mut client = service.connect();
    let expect = if headers.contains("expect:") { "" } else { "expect: 100-continue\r\n" };
    client.write(format!("POST {line} HTTP/1.1\r\nhost: t\r\n{expect}{headers}\r\n").as_bytes());
    let answer = client.read();
    if answer.status != 100 {
        assert_eq!(answer.headers["connection"], "close", "{line} {headers}: the body may still come");
        client.finish_sending();
        assert!(client.try_read().is_none(), "{line} {headers}: a second answer");
    }
    answer
}

#[test]
fn a_refused_request_is_refused_before_its_body_is_sent() {
    const KEY: &str = "a-key-of-16-letters";
    let keys = Keys::new(Some(KEY), None, None).unwrap();
    let access = Access { keys, ..Access::default() };
    let config = Config { max_body: 4000, body_memory: 5000, queue: 1, images_per_request: 1, ..patient() };
    let service = Service::serve(Server::new(predictor(), config, access).unwrap());
    let length = "content-length: 100\r\n";
    let chunked = "transfer-encoding: chunked\r\n";
    let own = format!("authorization: Bearer {KEY}\r\n{length}");
    let own_chunked = format!("authorization: Bearer {KEY}\r\n{chunked}");
    for (line, headers, status) in [
        ("/nowhere", length, 404),
        ("/nowhere", chunked, 404),
        ("/status", length, 405),
        ("/predict", length, 401),
        ("/predict", chunked, 401),
        ("/retrain", own.as_str(), 403),
        ("/predict?top_k=0", &own, 400),
        ("/predict?top_k=0", &own_chunked, 400),
        ("/predict?nonsense=1", &own, 400),
        ("/predict?version=nonsense", &own, 409),
        ("/predict", &format!("content-type: multipart/form-data\r\n{own}"), 400),
        ("/predict", &format!("content-encoding: gzip\r\n{own}"), 415),
        ("/predict", &own.replace("100", "4001"), 413),
        ("/v2/models/nobody/infer", &own, 404),
        ("/v2/models/nobody/infer", &own_chunked, 404),
        ("/predict", &format!("host: t\r\n{own}"), 400),
        ("/predict", &format!("expect: 200-ok\r\n{own}"), 417),
        ("/predict", &format!("expect: 100-continue, 200-ok\r\n{own}"), 417),
        ("/predict", &format!("expect: 100-continue\r\nexpect: x\r\n{own}"), 417),
        ("/predict", &format!("expect: \r\n{own}"), 417),
        ("/nowhere", &format!("expect: 200-ok\r\n{own}"), 417),
        ("/predict", &own, 100),
        ("/predict", &own_chunked, 100),
        ("/predict", &format!("expect: 100-Continue\r\n{own}"), 100),
    ] {
        let answer = promise(&service, line, headers);
        assert_eq!(answer.status, status, "{line} {headers}: {answer:?}");
        if status == 417 {
            assert_eq!(answer.code(), "unknown_expectation");
        }
    }
    // Memory that others hold.
    let held = service.server.backend.body_memory.clone().try_acquire_many_owned(4950).unwrap();
    let answer = promise(&service, "/predict", &own);
    assert_eq!((answer.status, answer.headers["retry-after"].as_str()), (429, "1"), "{answer:?}");
    drop(held);
    assert_eq!(promise(&service, "/predict", &own).status, 100);
}

#[test]
fn a_body_sent_too_early_is_not_read_as_a_second_request() {
    let service = Service::start(patient());
    // Whoever does not wait for the answer sends its body at once; a request in it must not be taken for one.
    let inner = get("/health/live");
    let head = format!(
        "POST /nowhere HTTP/1.1\r\nhost: t\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        inner.len()
    );
    let mut client = service.connect();
    client.write(&[head.as_bytes(), &inner].concat());
    assert_eq!(client.read().status, 404);
    assert!(client.is_closed_by_service());
    // In HTTP/1.0 there are no expectations: they are not looked at, and no interim answer is sent.
    let image = bmp(1);
    for expectation in ["100-continue", "something else"] {
        let head = format!(
            "POST /predict HTTP/1.0\r\nexpect: {expectation}\r\ncontent-length: {}\r\n\r\n",
            image.len()
        );
        assert_eq!(service.send(&[head.as_bytes(), &image].concat()).status, 200, "{expectation}");
    }
    // A body of no length was not held back: the connection goes on.
    let mut client = service.connect();
    for _ in 0..2 {
        client
            .write(b"POST /nowhere HTTP/1.1\r\nhost: t\r\nexpect: 100-continue\r\ncontent-length: 0\r\n\r\n");
        assert_eq!(client.read().status, 404);
    }
}
