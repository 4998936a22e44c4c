//! Requests whose beginning, end or address can be read in two ways, or not at all (RFC 9112, sections 2 to 7).

use super::run::{Found, Must, Run};
use super::wire::{Until, Wire};
use crate::error::FloodError;

const THEME: &str = "framing";

/// Requests in one write.
const PIPELINED: usize = 100;
/// Chunks of one byte each.
const ONE_BYTE_CHUNKS: usize = 100_000;

/// What every request here is followed by: an answer to it means that the service lost count of bytes.
fn behind(wire: &Wire) -> Vec<u8> {
    wire.request("GET /health/live", "", b"")
}

pub(super) fn play(run: &mut Run) -> Result<(), FloodError> {
    lengths(run)?;
    chunks(run)?;
    headers(run)?;
    lines(run)?;
    hosts(run)?;
    addresses(run)?;
    expectations(run)?;
    order(run)
}

/// Bodies whose length is said twice, wrongly or in no number.
fn lengths(run: &mut Run) -> Result<(), FloodError> {
    let wire = run.wire.clone();
    let mut play = |name: &'static str, headers: &str, body: &[u8]| {
        let request = wire.request("POST /predict", &format!("{headers}\r\n"), body);
        run.bytes(THEME, name, Must::End, &[request, behind(&wire)].concat())
    };
    const EMPTY: &[u8] = b"0\r\n\r\n";
    play("Content-Length and Transfer-Encoding", "content-length: 5\r\ntransfer-encoding: chunked", EMPTY)?;
    play("Transfer-Encoding and Content-Length", "transfer-encoding: chunked\r\ncontent-length: 5", EMPTY)?;
    play("Content-Length twice, different", "content-length: 5\r\ncontent-length: 6", b"hello")?;
    play("Content-Length as a list of two", "content-length: 5, 6", b"hello")?;
    play("Content-Length +5", "content-length: +5", b"hello")?;
    play("Content-Length -1", "content-length: -1", b"hello")?;
    play("Content-Length five", "content-length: five", b"hello")?;
    play("Content-Length 0x5", "content-length: 0x5", b"hello")?;
    play("Content-Length 5.0", "content-length: 5.0", b"hello")?;
    play("Content-Length 5 5", "content-length: 5 5", b"hello")?;
    play("Content-Length of nothing", "content-length:", b"hello")?;
    play("Content-Length 2^63", "content-length: 9223372036854775808", b"hello")?;
    play("Content-Length 2^64", "content-length: 18446744073709551616", b"hello")?;
    play("Content-Length of 40 digits", &format!("content-length: {}", "9".repeat(40)), b"hello")?;
    play("Transfer-Encoding gzip", "transfer-encoding: gzip", b"hello")?;
    play("Transfer-Encoding chunked, gzip", "transfer-encoding: chunked, gzip", EMPTY)?;
    play("Transfer-Encoding xchunked", "transfer-encoding: xchunked", EMPTY)?;
    play(
        "Transfer-Encoding twice, gzip last",
        "transfer-encoding: chunked\r\ntransfer-encoding: gzip",
        EMPTY,
    )?;
    let old = format!("POST /predict HTTP/1.0\r\n{}transfer-encoding: chunked\r\n\r\n0\r\n\r\n", wire.key);
    run.bytes(THEME, "Transfer-Encoding under HTTP/1.0", Must::End, &[old.into(), behind(&wire)].concat())
}

/// Chunks that are none.
fn chunks(run: &mut Run) -> Result<(), FloodError> {
    let wire = run.wire.clone();
    let head = "transfer-encoding: chunked\r\ncontent-type: image/png\r\n";
    let request = |body: &[u8]| wire.request("POST /predict", head, body);
    let end = "\r\nhello\r\n0\r\n\r\n";
    for (name, body) in [
        ("chunk size 0x5", format!("0x5{end}")),
        ("chunk size -5", format!("-5{end}")),
        ("chunk size +5", format!("+5{end}")),
        ("chunk size g", format!("g{end}")),
        ("chunk size of nothing", end.to_owned()),
        ("chunk size 2^64", format!("10000000000000000{end}")),
        ("chunk lines that end with a line feed alone", "5\nhello\n0\n\n".to_owned()),
        ("chunk longer than its size", "5\r\nhello, world\r\n0\r\n\r\n".to_owned()),
        ("chunk shorter than its size", "9\r\nhello\r\n0\r\n\r\n".to_owned()),
        ("chunk extension of 1 MiB", format!("5;{}{end}", "x".repeat(1 << 20))),
        (
            "chunk extensions of 1 MiB in all",
            format!("{}0\r\n\r\n", format!("1;{}\r\nx\r\n", "y".repeat(1000)).repeat(1000)),
        ),
        (
            "trailers of 1 MiB",
            format!("5\r\nhello\r\n0\r\n{}\r\n", format!("x: {}\r\n", "y".repeat(1000)).repeat(1000)),
        ),
    ] {
        run.bytes(THEME, name, Must::End, &[request(body.as_bytes()), behind(&wire)].concat())?;
    }
    for (name, body) in [
        ("chunks without the last one, then the end", "5\r\nhello\r\n"),
        ("half of a chunk, then the end", "5\r\nhel"),
        ("half of a chunk size, then the end", "5"),
        ("chunk size 2^64 - 1, then the end", "ffffffffffffffff\r\nhello"),
    ] {
        let bytes = request(body.as_bytes());
        run.check(THEME, name, Must::End.text(), |wire| Must::End.judge(wire.send_half(&bytes)))?;
    }
    let many = "1\r\nx\r\n".repeat(ONE_BYTE_CHUNKS) + "0\r\n\r\n";
    run.bytes(THEME, "100,000 chunks of one byte", Must::Refused, &request(many.as_bytes()))
}

/// Header fields that no grammar allows, and too many of them.
fn headers(run: &mut Run) -> Result<(), FloodError> {
    let wire = run.wire.clone();
    let mut play = |name: &'static str, must: Must, fields: &[u8]| {
        let request = wire.request("GET /health/live", "", b"");
        let end = request.len() - 2;
        let request = [&request[..end], fields, b"\r\n\r\n"].concat();
        run.bytes(THEME, name, must, &[request, behind(&wire)].concat())
    };
    play("field folded over two lines", Must::End, b"x: a\r\n b")?;
    play("space before the colon", Must::End, b"content-length : 0")?;
    play("NUL in a value", Must::End, b"x: a\0b")?;
    play("NUL in a name", Must::End, b"x\0: a")?;
    play("carriage return in a value", Must::End, b"x: a\rb")?;
    play("field without a colon", Must::End, b"no colon at all")?;
    play("field without a name", Must::End, b": x")?;
    play("field whose name has brackets", Must::End, b"x(y): z")?;
    play("line that begins with a space", Must::End, b" x: y")?;
    let many: String = (0..101).map(|i| format!("h{i}: x\r\n")).collect();
    play("101 header fields and more", Must::End, many.trim_end().as_bytes())?;
    let long = "y".repeat(70 << 10);
    play("header field of 70 KiB", Must::End, format!("x: {long}").as_bytes())?;
    let lines = format!("x: {}\r\n", "y".repeat(1000)).repeat(90);
    play("header of 90 fields of 1 KB", Must::End, lines.trim_end().as_bytes())?;
    play("field name of 70 KiB", Must::End, format!("{long}: x").as_bytes())
}

/// First lines that are none of HTTP/1.1, and protocols that are not spoken.
fn lines(run: &mut Run) -> Result<(), FloodError> {
    let wire = run.wire.clone();
    let rest = format!("\r\nhost: {}\r\n\r\n", wire.host);
    for (name, line) in [
        ("request line of HTTP/0.9", "GET /health/live".to_owned()),
        ("version HTTP/1.2.3", "GET /health/live HTTP/1.2.3".to_owned()),
        ("version HTTP/9.9", "GET /health/live HTTP/9.9".to_owned()),
        ("version in small letters", "GET /health/live http/1.1".to_owned()),
        ("words behind the version", "GET /health/live HTTP/1.1 GET".to_owned()),
        ("method with brackets", "G(E)T /health/live HTTP/1.1".to_owned()),
        ("address with a space", "GET /health live HTTP/1.1".to_owned()),
        ("address with NUL", "GET /health/\0live HTTP/1.1".to_owned()),
        ("address of 1 MiB", format!("GET /{} HTTP/1.1", "a".repeat(1 << 20))),
        ("method of 1 MiB", format!("{} / HTTP/1.1", "A".repeat(1 << 20))),
    ] {
        run.bytes(THEME, name, Must::End, &[(line + &rest).into_bytes(), behind(&wire)].concat())?;
    }
    run.bytes(
        THEME,
        "preface of HTTP/2",
        Must::End,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
    )?;
    run.bytes(
        THEME,
        "greeting of TLS",
        Must::End,
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03, then what follows",
    )?;
    run.bytes(THEME, "4 KiB of zeros", Must::End, &[0; 4096])?;
    // A line may end with a line feed alone (section 2.2): one reading or none.
    let bare = format!("GET /health/live HTTP/1.1\nhost: {}\n\n", wire.host);
    run.bytes(THEME, "lines that end with a line feed alone", Must::Unharmed, bare.as_bytes())?;
    for (name, line) in [
        ("TRACE", "TRACE /health/live"),
        ("CONNECT", "CONNECT evil.example:443"),
        ("CONNECT with a path", "CONNECT /health/live"),
        ("a method that nobody knows", "BREW /predict"),
    ] {
        run.bytes(THEME, name, Must::Refused, &wire.request(line, "", b""))?;
    }
    run.bytes(THEME, "OPTIONS *", Must::Answered, &wire.request("OPTIONS *", "", b""))?;
    run.bytes(THEME, "GET *", Must::Refused, &wire.request("GET *", "", b""))
}

/// Requests for no host, two hosts, or a host that can be none (RFC 9112, section 3.2: 400).
fn hosts(run: &mut Run) -> Result<(), FloodError> {
    let host = run.wire.host.clone();
    let mut play = |name: String, fields: &str| {
        let request = format!("GET /health/live HTTP/1.1\r\n{fields}\r\n");
        run.bytes(THEME, name, Must::Status(400), request.as_bytes())
    };
    play("no Host".to_owned(), "")?;
    play("Host twice, equal".to_owned(), &format!("host: {host}\r\nhost: {host}\r\n"))?;
    play("Host twice, different".to_owned(), &format!("host: {host}\r\nhost: evil.example\r\n"))?;
    for broken in ["a b", "a/b", "a,b", "me@a", "a:port", "a:1:2", "[::1", "%zz", "a\tb"] {
        play(format!("Host {broken:?}"), &format!("host: {broken}\r\n"))?;
    }
    Ok(())
}

/// Paths and queries that lead nowhere.
fn addresses(run: &mut Run) -> Result<(), FloodError> {
    let wire = run.wire.clone();
    for path in [
        "/%zz",
        "/%",
        "/%ff%fe",
        "/health/live%00",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/docs/..%2f..%2fetc%2fpasswd",
        "/docs/%2e%2e",
        "/v1/datasets/..%2f..",
        "/v1/datasets/%2Fetc/images",
        "/v1/models/..%5c..%5cx/file",
        "/v1/jobs/-1",
        "/v1/jobs/99999999999999999999999",
        "//health/live",
        "/health/live/",
        "/predict?top_k=%zz",
        "/predict?top_k=99999999999999999999",
    ] {
        let line = if path.starts_with("/predict") { format!("POST {path}") } else { format!("GET {path}") };
        let bytes = wire.request(&line, "content-length: 0\r\n", b"");
        run.bytes(THEME, line, Must::Refused, &bytes)?;
    }
    let many = format!("POST /predict?{}", "a=b&".repeat(10_000));
    let bytes = wire.request(&many, "content-length: 0\r\n", b"");
    run.bytes(THEME, "10,000 query parameters", Must::Refused, &bytes)?;
    let deep = wire.request(&format!("GET /{}", "a/".repeat(10_000)), "", b"");
    run.bytes(THEME, "path of 10,000 parts", Must::Refused, &deep)
}

/// Clients that ask before they send (RFC 9110, section 10.1.1): whoever is refused is not asked to send first.
fn expectations(run: &mut Run) -> Result<(), FloodError> {
    let refused = "4xx without a 100 before it";
    let judge = |wire: &Wire, bytes: &[u8]| -> Found {
        let reply = wire.send(bytes, Until::Answers(1)).map_err(|error| error.to_string())?;
        let held = matches!(reply.statuses.as_slice(), [400..=499]);
        if held { Ok(reply.text()) } else { Err(reply.text()) }
    };
    for (name, line, length) in [
        ("100-continue for a body of 1 TiB", "POST /predict", 1_u64 << 40),
        ("100-continue for a route that is not there", "POST /nowhere", 5),
        ("100-continue for a method that is not there", "POST /health/live", 5),
        ("100-continue with a query that is refused", "POST /predict?top_k=0", 5),
    ] {
        run.check(THEME, name, refused, |wire| {
            let headers = format!("expect: 100-continue\r\ncontent-length: {length}\r\n");
            judge(wire, &wire.request(line, &headers, b""))
        })?;
    }
    let wire = run.wire.clone();
    let unknown = wire.request("GET /health/live", "expect: a-miracle\r\n", b"");
    run.bytes(THEME, "an expectation that nobody knows", Must::Answered, &unknown)
}

/// Many requests in one write, and clients that stop sending.
fn order(run: &mut Run) -> Result<(), FloodError> {
    run.check(THEME, "100 requests in one write", "100 answers in their order", |wire| {
        let paths = (0..PIPELINED).map(|i| if i % 2 == 0 { "GET /health/live" } else { "GET /nowhere" });
        let bytes: Vec<u8> = paths.flat_map(|line| wire.request(line, "", b"")).collect();
        let reply = wire.send(&bytes, Until::Answers(PIPELINED)).map_err(|error| error.to_string())?;
        let held = (0..PIPELINED).map(|i| if i % 2 == 0 { 200 } else { 404 }).eq(reply.answers());
        if held { Ok(reply.text()) } else { Err(reply.text()) }
    })?;
    let wire = run.wire.clone();
    for (name, bytes) in [
        ("half a header, then the end", b"POST /predict HTTP/1.1\r\nx".to_vec()),
        ("nothing, then the end", Vec::new()),
        (
            "half a body, then the end",
            wire.request("POST /predict", "content-length: 100\r\n", b"half of it"),
        ),
    ] {
        run.check(THEME, name, Must::End.text(), |wire| Must::End.judge(wire.send_half(&bytes)))?;
    }
    let whole = behind(&wire);
    run.check(THEME, "a whole request, then the end", Must::Unharmed.text(), |wire| {
        Must::Unharmed.judge(wire.send_half(&whole))
    })
}
