//! Bytes on a socket, and what came back: a client of HTTP would repair or refuse most of what is sent here.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes that are written before anything is read: every socket takes them at once.
const AT_ONCE: usize = 16 << 10;
/// Most bytes of answers that are kept; a service that sends more is told so by its check.
const MAX_KEPT: usize = 32 << 20;
/// How long a connection may stay open behind an answer that ends it; the service's own closing takes up to two seconds.
const CLOSING: Duration = Duration::from_secs(5);

/// The way to the service.
#[derive(Clone)]
pub(super) struct Wire {
    pub(super) addr: SocketAddr,
    /// What stands in `Host`.
    pub(super) host: String,
    /// The line of `Authorization`, with its end; empty without a token.
    pub(super) key: String,
    /// How long an answer may take.
    pub(super) timeout: Duration,
}

/// Until when answers are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    /// So many answers, interim ones not counted.
    Answers(usize),
    /// The end of the connection, or an answer that says that all went well.
    End,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Closed,
    Reset,
    /// It was left open by the service.
    Open,
    /// Enough was read before its end.
    Unseen,
}

/// What came back on one connection.
#[derive(Debug)]
pub(super) struct Reply {
    /// Statuses of whole answers, interim ones included, and the last body.
    pub(super) statuses: Vec<u16>,
    pub(super) body: Vec<u8>,
    pub(super) end: End,
    pub(super) took: Duration,
    /// What was sent back and is no answer of HTTP.
    pub(super) nonsense: bool,
}

impl Wire {
    /// The bytes of a request with the usual headers; `headers` are whole lines.
    pub(super) fn request(&self, line: &str, headers: &str, body: &[u8]) -> Vec<u8> {
        let Wire { host, key, .. } = self;
        [format!("{line} HTTP/1.1\r\nhost: {host}\r\n{key}{headers}\r\n").as_bytes(), body].concat()
    }

    /// The same with the length of its body.
    pub(super) fn post(&self, path: &str, media_type: &str, body: &[u8]) -> Vec<u8> {
        let headers = format!("content-type: {media_type}\r\ncontent-length: {}\r\n", body.len());
        self.request(&format!("POST {path}"), &headers, body)
    }

    pub(super) fn connect(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect_timeout(&self.addr, self.timeout)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(self.timeout))?;
        Ok(stream)
    }

    /// Sends bytes on a connection of their own and reads what comes back; an error where there is no connection.
    pub(super) fn send(&self, bytes: &[u8], until: Until) -> io::Result<Reply> {
        self.play(until, bytes.len() > AT_ONCE, |stream| stream.write_all(bytes))
    }

    /// Sends bytes, says that there are no more, and reads what comes back.
    pub(super) fn send_half(&self, bytes: &[u8]) -> io::Result<Reply> {
        self.play(Until::End, false, |stream| {
            stream.write_all(bytes)?;
            stream.shutdown(Shutdown::Write)
        })
    }

    /// Reads what comes back while `write` sends. A service may refuse early and close, so that failing to send is no
    /// failure of its own.
    pub(super) fn play(
        &self,
        until: Until,
        beside: bool,
        write: impl FnOnce(&mut TcpStream) -> io::Result<()> + Send,
    ) -> io::Result<Reply> {
        let mut stream = self.connect()?;
        let mut writer = stream.try_clone()?;
        if !beside {
            let _ = write(&mut writer);
            return Ok(read(&mut stream, until, self.timeout));
        }
        Ok(thread::scope(|scope| {
            let sending = scope.spawn(move || drop(write(&mut writer)));
            let reply = read(&mut stream, until, self.timeout);
            // Whoever still waits to send has the answer already.
            let _ = stream.shutdown(Shutdown::Both);
            let _ = sending.join();
            reply
        }))
    }
}

impl Reply {
    /// The answers that are no interim ones.
    pub(super) fn answers(&self) -> impl Iterator<Item = u16> {
        self.statuses.iter().copied().filter(|status| *status >= 200)
    }

    /// In words: `400, closed`.
    pub(super) fn text(&self) -> String {
        let end = match self.end {
            End::Closed => ", closed",
            End::Reset => ", reset",
            End::Open => ", left open",
            End::Unseen => "",
        };
        let mut answers = match self.statuses.as_slice() {
            [] if self.nonsense => "no HTTP".to_owned(),
            [] => "no answer".to_owned(),
            [first @ .., last] if first.len() > 3 => format!("{} answers, last {last}", first.len() + 1),
            statuses => statuses.iter().map(u16::to_string).collect::<Vec<_>>().join(" and "),
        };
        if self.nonsense && !self.statuses.is_empty() {
            answers += ", then no HTTP";
        }
        let seconds = self.took.as_secs_f64();
        let late = if seconds >= 1.0 { format!(" after {seconds:.1} s") } else { String::new() };
        format!("{answers}{end}{late}")
    }
}

/// Reads answers from a connection until enough came, it ends or the time is over.
pub(super) fn read(stream: &mut TcpStream, until: Until, timeout: Duration) -> Reply {
    let started = Instant::now();
    let mut deadline = started + timeout;
    let mut reply =
        Reply { statuses: Vec::new(), body: Vec::new(), end: End::Open, took: timeout, nonsense: false };
    let (mut bytes, mut kept) = (Vec::new(), 0);
    let mut piece = vec![0; 64 << 10];
    loop {
        while let Some(answer) = reply.take(&mut bytes, false) {
            let enough = match until {
                Until::Answers(n) => reply.answers().count() >= n,
                Until::End => (200..400).contains(&answer),
            };
            if enough || reply.nonsense {
                reply.end = End::Unseen;
                reply.took = started.elapsed();
                return reply;
            }
            if until == Until::End && answer >= 400 {
                deadline = deadline.min(Instant::now() + CLOSING);
            }
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || kept > MAX_KEPT || stream.set_read_timeout(Some(left)).is_err() {
            break;
        }
        match stream.read(&mut piece) {
            Ok(0) => reply.end = End::Closed,
            Ok(n) => {
                kept += n;
                bytes.extend_from_slice(&piece[..n]);
                continue;
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => {}
                ErrorKind::Interrupted => continue,
                _ => reply.end = End::Reset,
            },
        }
        if reply.end != End::Open {
            reply.take(&mut bytes, true);
        }
        break;
    }
    reply.took = started.elapsed();
    reply
}

impl Reply {
    /// Takes one whole answer off the front of `bytes`; its status. `ended`: nothing more will come.
    fn take(&mut self, bytes: &mut Vec<u8>, ended: bool) -> Option<u16> {
        let Some((status, body, length)) = answer(bytes, ended) else {
            self.nonsense = !bytes.is_empty() && !b"HTTP/1.".starts_with(&bytes[..bytes.len().min(7)]);
            if self.nonsense {
                bytes.clear();
                return Some(0);
            }
            return None;
        };
        self.statuses.push(status);
        self.body = body;
        bytes.drain(..length);
        Some(status)
    }
}

/// The first answer: its status, its body and how many bytes it takes; none where it is not whole.
fn answer(bytes: &[u8], ended: bool) -> Option<(u16, Vec<u8>, usize)> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    let status: u16 = head.strip_prefix("http/1.")?.get(2..5)?.parse().ok()?;
    let field =
        |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    let rest = &bytes[end..];
    if status < 200 || status == 204 || status == 304 {
        return Some((status, Vec::new(), end));
    }
    if field("transfer-encoding").is_some_and(|coding| coding.ends_with("chunked")) {
        let (body, length) = chunks(rest)?;
        return Some((status, body, end + length));
    }
    match field("content-length").map(str::parse::<usize>) {
        Some(length) => {
            let length = length.ok()?;
            Some((status, rest.get(..length)?.to_vec(), end + length))
        }
        None => ended.then(|| (status, rest.to_vec(), bytes.len())),
    }
}

/// The content of a chunked body and how many bytes it takes; trailers are not expected.
fn chunks(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let line = bytes[at..].windows(2).position(|two| two == b"\r\n")?;
        let size = std::str::from_utf8(&bytes[at..at + line]).ok()?;
        let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
        at += line + 2;
        let end = at.checked_add(size)?.checked_add(2)?;
        body.extend_from_slice(bytes.get(at..end)?.get(..size)?);
        at = end;
        if size == 0 {
            return Some((body, at));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_taken_apart() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
        assert_eq!(answer(whole, false), Some((200, b"hi".to_vec(), whole.len())));
        for cut in 0..whole.len() {
            assert_eq!(answer(&whole[..cut], false), None, "{cut}");
        }
        let chunked = b"HTTP/1.1 400 x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
        assert_eq!(answer(chunked, false), Some((400, b"abc".to_vec(), chunked.len())));
        let open = b"HTTP/1.0 404 x\r\n\r\nall of it";
        assert_eq!((answer(open, false), answer(open, true).map(|(status, ..)| status)), (None, Some(404)));
        assert_eq!(answer(b"HTTP/1.1 100 Continue\r\n\r\nHTTP", false).map(|(_, _, n)| n), Some(25));
        for nonsense in [
            "HTTP/1.1 20\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffff\r\n",
            "HTTP/1.1 2é0 OK\r\n\r\n",
        ] {
            assert_eq!(answer(nonsense.as_bytes(), true), None, "{nonsense}");
        }
    }

    #[test]
    fn what_is_no_http_is_told_apart_from_half_an_answer() {
        let reply = || Reply {
            statuses: Vec::new(),
            body: Vec::new(),
            end: End::Open,
            took: Duration::ZERO,
            nonsense: false,
        };
        for (bytes, nonsense) in [("", false), ("HTT", false), ("HTTP/1.1 200", false), ("220 mail", true)] {
            let mut reply = reply();
            reply.take(&mut bytes.as_bytes().to_vec(), false);
            assert_eq!(reply.nonsense, nonsense, "{bytes}");
        }
    }
}
