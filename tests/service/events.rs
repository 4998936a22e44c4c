//! Server-sent events (HTML standard, section 9.2.6), as far as the service writes them.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

/// One thing that a job tells.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Told {
    /// None for what is told once and never again.
    pub(super) id: Option<usize>,
    pub(super) event: String,
    pub(super) data: Value,
}

/// Follows a job until the service or the caller has enough.
pub(super) fn follow(addr: &str, job: u64, last: Option<usize>) -> impl Iterator<Item = Told> {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let last = last.map_or(String::new(), |id| format!("last-event-id: {id}\r\n"));
    // The answer to HTTP/1.0 comes as it is, without chunks around it.
    write!(stream, "GET /v1/jobs/{job}/events HTTP/1.0\r\nhost: {addr}\r\n{last}\r\n").unwrap();
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let head: Vec<String> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
    // Nothing is left to tell.
    let is_over = head[0].contains(" 204 ");
    let is_stream = head[0].contains(" 200 ") && head.iter().any(|line| line.ends_with("text/event-stream"));
    assert!(is_over || is_stream, "{head:?}");
    std::iter::from_fn(move || {
        let (mut id, mut event, mut data) = (None, None, None);
        for line in lines.by_ref() {
            match line.split_once(": ") {
                Some(("id", text)) => id = Some(text.parse().unwrap()),
                Some(("event", text)) => event = Some(text.to_owned()),
                Some(("data", text)) => data = Some(serde_json::from_str(text).unwrap()),
                // A comment, so that nobody thinks that the connection is dead.
                Some(("", _)) => {}
                None if line.is_empty() && data.is_some() => break,
                None if line.is_empty() => {}
                _ => panic!("{line}"),
            }
        }
        Some(Told { id, event: event?, data: data? })
    })
}
