//! As much HTTP/1.1 as the tests of the server need, written from RFC 9112.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

/// An answer of the server.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// A header by its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .find_map(|line| line.split_once(": ").filter(|(own, _)| *own == name))
            .map(|(_, v)| v)
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }
}

/// One request on a connection of its own.
pub(crate) fn request(addr: &str, method_and_path: &str, content_type: &str, body: &[u8]) -> Answer {
    let kind = ("content-type", content_type);
    let headers = if content_type.is_empty() { &[][..] } else { &[kind] };
    try_request(addr, method_and_path, headers, body).unwrap()
}

/// The bytes of a request; a `host` among the headers stands for the usual one.
pub(crate) fn head(addr: &str, method_and_path: &str, headers: &[(&str, &str)], length: usize) -> String {
    let mut head = format!("{method_and_path} HTTP/1.1\r\ncontent-length: {length}\r\n");
    let host = [("host", addr)];
    let usual = if headers.iter().any(|(name, _)| *name == "host") { &[][..] } else { &host };
    for (name, value) in usual.iter().chain(headers) {
        head += &format!("{name}: {value}\r\n");
    }
    head + "\r\n"
}

/// One request with these headers on a connection of its own; an error where that does not live to the answer.
pub(crate) fn try_request(
    addr: &str,
    method_and_path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let headers = [headers, &[("connection", "close")]].concat();
    stream.write_all(head(addr, method_and_path, &headers, body.len()).as_bytes())?;
    // A server that refuses a body by its announced length closes before it has read it.
    let _ = stream.write_all(body);
    read_answer(&mut stream)
}

/// Reads an answer to the end of the connection.
pub(crate) fn read_answer(stream: &mut impl Read) -> io::Result<Answer> {
    let mut bytes = Vec::new();
    let ended = stream.read_to_end(&mut bytes);
    let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4) else {
        return Err(ended.err().unwrap_or_else(|| ErrorKind::UnexpectedEof.into()));
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_ascii_lowercase();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Ok(Answer { status, head, body: bytes[end..].to_vec() })
}

/// A form with one field `file` for each image, and its content type.
pub(crate) fn form(images: &[&[u8]]) -> (String, Vec<u8>) {
    let boundary = "a-boundary-that-is-in-no-image";
    let mut body = Vec::new();
    for (i, image) in images.iter().enumerate() {
        let head = format!(
            "--{boundary}\r\ncontent-disposition: form-data; name=\"file\"; filename=\"{i}.png\"\r\ncontent-type: image/png\r\n\r\n"
        );
        body.extend(head.as_bytes());
        body.extend(*image);
        body.extend(b"\r\n");
    }
    body.extend(format!("--{boundary}--\r\n").as_bytes());
    (format!("multipart/form-data; boundary={boundary}"), body)
}
