//! Connections over a limit: refused with a reason, counted, and logged without filling the log.

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::time::Duration;

use super::{Service, model, until};
use crate::http_client::{head, read_answer, try_request};
use crate::support::Sandbox;

/// An address of this machine that is not loopback; none where it has no network. Nothing is sent: a socket is only
/// asked which address it would use.
fn own_address() -> Option<String> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_loopback() && !ip.is_unspecified()).then(|| ip.to_string())
}

/// A connection that has had an answer and stays open.
fn open(addr: &str) -> TcpStream {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(head(addr, "GET /health/live", &[], 0).as_bytes()).unwrap();
    let mut start = [0; 13];
    stream.read_exact(&mut start).unwrap();
    assert_eq!(&start, b"HTTP/1.1 200 ");
    stream
}

/// The counter of refused connections.
fn refused(service: &Service, addr: &str, reason: &str) -> usize {
    let metrics = try_request(addr, "GET /metrics", &[], b"").unwrap();
    let text = String::from_utf8(metrics.body).unwrap();
    let name = format!("ocelli_connections_refused_total{{reason=\"{reason}\"}} ");
    let found = text.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok());
    found.unwrap_or_else(|| panic!("{}: {text}", service.addr))
}

/// What the lines of the log say in all, and how many lines there are.
fn told(service: &Service, name: &str) -> (usize, usize) {
    let log = service.log();
    let lines: Vec<&str> =
        log.lines().filter(|line| line.contains("connections over a limit were refused")).collect();
    let count = |line: &&str| -> usize {
        let (_, rest) = line.split_once(&format!(" {name}=")).unwrap();
        rest.split_whitespace().next().unwrap().parse().unwrap()
    };
    (lines.iter().map(count).sum(), lines.len())
}

#[test]
fn connections_over_the_limit_are_answered_counted_and_logged() {
    const OVER: usize = 30;
    let sandbox = Sandbox::new();
    sandbox.write("limits.toml", "max_connections = 2\n");
    let service = Service::start(&sandbox, &format!("{} --config limits.toml", model()));
    let held = [open(&service.addr), open(&service.addr)];
    for _ in 0..OVER {
        let mut stream = TcpStream::connect(&service.addr).unwrap();
        stream.write_all(head(&service.addr, "GET /status", &[], 0).as_bytes()).unwrap();
        let answer = read_answer(&mut stream).unwrap();
        assert_eq!((answer.status, answer.header("connection")), (503, Some("close")), "{answer:?}");
        assert_eq!(
            (answer.header("retry-after"), &answer.json()["code"]),
            (Some("1"), &"too_many_connections".into())
        );
    }
    until("the lines of the log", || (told(&service, "max_connections").0 == OVER).then_some(()));
    assert!(told(&service, "max_connections").1 <= OVER, "{}", service.log());
    drop(held);
    // The two that are gone may not have been noticed yet.
    until("room", || {
        try_request(&service.addr, "GET /status", &[], b"").ok().filter(|answer| answer.status == 200)
    });
    assert!(refused(&service, &service.addr, "max_connections") >= OVER);
    assert_eq!(refused(&service, &service.addr, "max_connections_per_address"), 0);
}

#[test]
fn one_address_cannot_take_all_connections() {
    let Some(own) = own_address() else {
        println!("SKIPPED: this machine has no address but loopback");
        return;
    };
    let sandbox = Sandbox::new();
    sandbox.write("limits.toml", "max_connections_per_address = 2\n");
    let line = format!("serve {} --data-dir data --config limits.toml --addr 0.0.0.0:0 --insecure", model());
    let service = Service::launch(&sandbox, sandbox.command(&line)).unwrap();
    let port = service.addr.rsplit_once(':').unwrap().1;
    let (own, loopback) = (format!("{own}:{port}"), format!("127.0.0.1:{port}"));
    let held = [open(&own), open(&own)];
    for _ in 0..5 {
        let answer = try_request(&own, "GET /status", &[], b"").unwrap();
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")), "{answer:?}");
    }
    // Other addresses are not affected.
    let many: Vec<TcpStream> = (0..5).map(|_| open(&loopback)).collect();
    assert_eq!(refused(&service, &loopback, "max_connections_per_address"), 5);
    assert_eq!(refused(&service, &loopback, "max_connections"), 0);
    until("the lines of the log", || (told(&service, "max_connections_per_address").0 == 5).then_some(()));
    drop((held, many));
    until("room", || try_request(&own, "GET /status", &[], b"").ok().filter(|answer| answer.status == 200));
}
