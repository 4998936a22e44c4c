//! Clients that send their request byte by byte or do not read their answer: they are closed, and all others are served.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{Service, descriptors, is_long, model, of_form, photos, until};
use crate::http_client::head;
use crate::support::Sandbox;

/// In the short form the limits are short, so that the test is.
const LIMITS: &str = "\
header_timeout = 1
body_timeout = 1
write_timeout = 1
keep_alive = 1
";

/// The largest file of the service: many of them in a row are more than the buffers of a connection hold.
const LARGE: &str = "GET /docs/swagger-ui-bundle.js";

/// How a client is slow, and what it does in the meantime.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// A header without end.
    Header,
    /// A body without end.
    Body,
    /// Answers that nobody reads.
    Reader,
}

fn connect(addr: &str, kind: Kind) -> TcpStream {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_nodelay(true).unwrap();
    let text = match kind {
        Kind::Header => "POST /predict HTTP/1.1\r\nx-".to_owned(),
        Kind::Body => head(addr, "POST /predict", &[("content-type", "image/png")], 1 << 20),
        Kind::Reader => head(addr, LARGE, &[], 0).repeat(40),
    };
    stream.write_all(text.as_bytes()).unwrap();
    stream
}

/// Whether the service has closed a connection. One whose answers nobody reads cannot tell before they are read.
fn is_closed(stream: &mut TcpStream) -> bool {
    // The first write to a closed connection fails only if its reset has arrived.
    stream.write_all(b"x").is_err()
}

/// Latencies of one client that is like any other.
fn normal(service: &Service, image: &[u8], stop: &AtomicBool) -> Vec<Duration> {
    let mut took = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let started = Instant::now();
        service.predict(image);
        took.push(started.elapsed());
        thread::sleep(Duration::from_millis(2));
    }
    took.sort();
    took
}

fn p99(sorted: &[Duration]) -> Duration {
    sorted[sorted.len() * 99 / 100]
}

#[test]
fn slow_clients_are_closed_and_do_not_slow_others() {
    let sandbox = Sandbox::new();
    sandbox.write("limits.toml", of_form(LIMITS, ""));
    let service = Service::start(&sandbox, &format!("{} --config limits.toml", model()));
    let image = &photos(1, 1, &["square"])[0].1;
    service.predict(image);
    let stop = AtomicBool::new(false);
    let idle = thread::scope(|scope| {
        let client = scope.spawn(|| normal(&service, image, &stop));
        thread::sleep(Duration::from_millis(of_form(50, 5000)));
        stop.store(true, Ordering::Relaxed);
        client.join().unwrap()
    });
    let base = until("quiet", || Some(descriptors(&service)).filter(|_| connections(&service) == 1));

    stop.store(false, Ordering::Relaxed);
    let beside = thread::scope(|scope| {
        let client = scope.spawn(|| normal(&service, image, &stop));
        let counts = [
            (Kind::Header, of_form(50, 500)),
            (Kind::Body, of_form(20, 200)),
            (Kind::Reader, of_form(20, 100)),
        ];
        let all = counts.into_iter().flat_map(|(kind, count)| (0..count).map(move |_| kind));
        let mut open: Vec<(Kind, TcpStream)> = all.map(|kind| (kind, connect(&service.addr, kind))).collect();
        let count = open.len();
        assert!(connections(&service) > count * 9 / 10, "they are open, all at once");
        // The service decides when they end, whatever they still send.
        until("the end of the slow ones", || {
            open.retain_mut(|(kind, stream)| *kind == Kind::Reader || !is_closed(stream));
            thread::sleep(Duration::from_millis(100));
            (connections(&service) <= 2).then_some(())
        });
        // The answers that nobody read end in the middle.
        for (_, stream) in open.iter_mut().filter(|(kind, _)| *kind == Kind::Reader) {
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let mut taken = Vec::new();
            let ended = stream.read_to_end(&mut taken);
            assert!(
                ended.as_ref().map_err(|error| error.kind()) != Err(std::io::ErrorKind::WouldBlock),
                "{ended:?}"
            );
        }
        stop.store(true, Ordering::Relaxed);
        client.join().unwrap()
    });
    if is_long() {
        println!("p99 of a normal client: {:?} alone, {:?} beside slow ones", p99(&idle), p99(&beside));
    }
    until("its descriptors", || (descriptors(&service) <= base).then_some(()));
    assert_eq!(service.stop("TERM"), Some(0));
}

/// Connections that are open, this one included.
fn connections(service: &Service) -> usize {
    service.json("/status")["connections"].as_u64().unwrap() as usize
}

#[test]
fn each_kind_of_slow_client_is_closed_at_its_own_limit() {
    let sandbox = Sandbox::new();
    sandbox.write("limits.toml", LIMITS);
    let service = Service::start(&sandbox, &format!("{} --config limits.toml", model()));
    let rest = |mut stream: TcpStream| {
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).map(|_| String::from_utf8_lossy(&bytes).into_owned())
    };
    // A header that never ends gets no answer, a body gets one.
    assert_eq!(rest(connect(&service.addr, Kind::Header)).unwrap(), "");
    let answer = rest(connect(&service.addr, Kind::Body)).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("\"body_timeout\""), "{answer}");
    // A connection that says nothing, at its start or between two requests.
    assert_eq!(rest(TcpStream::connect(&service.addr).unwrap()).unwrap(), "");
    let mut stream = TcpStream::connect(&service.addr).unwrap();
    stream.write_all(head(&service.addr, "GET /health/live", &[], 0).as_bytes()).unwrap();
    let answer = rest(stream).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("{\"live\":true}"), "{answer}");
}
