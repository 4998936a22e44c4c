//! Clients that drip, that do not read, or that say nothing: all beside each other, as each of them waits for its end.
//! Somebody else asks for answers all the while.

use std::borrow::Cow;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::run::{Found, Run, others};
use super::wire::{Until, Wire};
use crate::error::FloodError;
use crate::event::Event;
use crate::statistics::checks::{Check, Outcome};

const THEME: &str = "slow";

/// Time between two bytes of a client that drips.
const DRIP: Duration = Duration::from_millis(500);
/// Time between two questions of somebody else.
const PAUSE: Duration = Duration::from_millis(200);
/// Connections that say nothing, from this machine to itself.
const IDLE: usize = 200;
/// The same from elsewhere: the service takes 128 connections of one address, unless it is told otherwise.
const IDLE_FROM_AFAR: usize = 100;
/// Bytes of answers that nobody reads: more than the buffers between two machines hold.
const UNREAD: usize = 64 << 20;
/// Most requests for those.
const MOST_UNREAD: usize = 2_000;

/// A client that waits for its end.
struct Client {
    name: Cow<'static, str>,
    play: Play,
}

enum Play {
    /// Sends the bytes, then one byte again and again.
    Drip(Vec<u8>, &'static [u8]),
    /// Sends the bytes and waits. Without `whole`, they are no request that could be answered well.
    Quiet { bytes: Vec<u8>, whole: bool },
    /// Sends the bytes and reads nothing.
    Unread(Vec<u8>),
    /// Opens so many connections and says nothing.
    Idle(usize),
}

/// How one client is played.
#[derive(Clone, Copy)]
struct Stage<'a> {
    wire: &'a Wire,
    /// When it should have been ended.
    deadline: Instant,
    stop: &'a AtomicBool,
}

/// What somebody else saw meanwhile.
#[derive(Default)]
struct Watched {
    asked: usize,
    slowest: Duration,
    failure: Option<String>,
}

pub(super) fn play(run: &mut Run, quick: bool) -> Result<(), FloodError> {
    if quick {
        return run.skip(THEME, "slow clients", "left out, as asked");
    }
    if run.stopped() {
        return Ok(());
    }
    if let Some(why) = run.hopeless() {
        return run.skip(THEME, "slow clients", why);
    }
    let clients = clients(run)?;
    let within = format!("ended by the service within {} s", run.patience.as_secs_f64());
    run.tell(Event::Note(&format!("slow clients now, {} at once, each {within}", clients.len())))?;
    let (image, over) = (run.image.as_deref(), AtomicBool::new(false));
    let deadline = Instant::now() + run.patience;
    let stage = Stage { wire: &run.wire, deadline, stop: run.stop };
    let (played, watched) = thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(stage.wire, image, &over));
        let start = |client: Client| {
            let played = scope.spawn(move || {
                let started = Instant::now();
                (client.play.run(stage), started.elapsed())
            });
            (client.name, played)
        };
        let all: Vec<_> = clients.into_iter().map(start).collect();
        let played: Vec<_> =
            all.into_iter().map(|(name, one)| (name, one.join().expect("a client does not panic"))).collect();
        over.store(true, Ordering::Relaxed);
        (played, watcher.join().expect("the watcher does not panic"))
    });
    if run.stopped() {
        return Ok(());
    }
    for (name, (found, took)) in played {
        let (outcome, observed) = match found {
            Ok(seen) => (Outcome::Held, seen),
            Err(seen) => (Outcome::Failed, seen),
        };
        let expected = within.clone().into();
        run.add(Check { theme: THEME, name, expected, outcome, observed, seconds: took.as_secs_f64() })?;
    }
    run.check(THEME, "normal requests beside all of these", "all are answered", |_| {
        let Watched { asked, slowest, failure } = watched;
        let seen = format!("{asked} times, at most {:.0} ms", 1e3 * slowest.as_secs_f64());
        failure.map_or(Ok(seen), Err)
    })
}

/// The clients that the service can be asked about.
fn clients(run: &mut Run) -> Result<Vec<Client>, FloodError> {
    let wire = run.wire.clone();
    let body =
        |headers: &str| wire.request("POST /predict", &format!("content-type: image/png\r\n{headers}"), b"");
    let quiet = |bytes| Play::Quiet { bytes, whole: false };
    let count = if wire.addr.ip().to_canonical().is_loopback() { IDLE } else { IDLE_FROM_AFAR };
    let client = |name: &'static str, play| Client { name: name.into(), play };
    let mut clients = vec![
        client("header that drips", Play::Drip(b"POST /predict HTTP/1.1\r\nx-".to_vec(), b"x")),
        client("header fields that drip", Play::Drip(b"GET / HTTP/1.1\r\n".to_vec(), b"a: b\r\n")),
        client("empty lines that drip", Play::Drip(Vec::new(), b"\r\n")),
        client("header that stops", quiet(b"POST /predict HTTP/1.1\r\nx-".to_vec())),
        client("body that drips", Play::Drip(body("content-length: 1048576\r\n"), b"x")),
        client("chunks that drip", Play::Drip(body("transfer-encoding: chunked\r\n"), b"1\r\nx\r\n")),
        client("body that does not come", quiet(body("content-length: 1000\r\n"))),
        client(
            "chunk that does not end",
            quiet([body("transfer-encoding: chunked\r\n"), b"5\r\nhe".to_vec()].concat()),
        ),
        client(
            "100-continue, and then nothing",
            quiet(body("expect: 100-continue\r\ncontent-length: 1000\r\n")),
        ),
        client(
            "connection kept after an answer",
            Play::Quiet { bytes: wire.request("GET /health/live", "", b""), whole: true },
        ),
        Client { name: format!("{count} connections that say nothing").into(), play: Play::Idle(count) },
    ];
    let name = "answers that nobody reads";
    let large = ["/docs/swagger-ui-bundle.js", "/openapi.json"].map(|path| {
        let request = wire.request(&format!("GET {path}"), "", b"");
        let reply = wire.send(&request, Until::Answers(1)).ok().filter(|reply| reply.statuses == [200]);
        (reply.map_or(0, |reply| reply.body.len()), request)
    });
    match large.into_iter().find(|(length, _)| length * MOST_UNREAD >= UNREAD) {
        Some((length, request)) => {
            clients.push(client(name, Play::Unread(request.repeat(UNREAD.div_ceil(length)))));
        }
        None => run.skip(THEME, name, "no answer is large enough to fill the buffers on its way")?,
    }
    Ok(clients)
}

/// Asks as anybody might until all others have had their end.
fn watch(wire: &Wire, image: Option<&[u8]>, over: &AtomicBool) -> Watched {
    let mut watched = Watched::default();
    while !over.load(Ordering::Relaxed) {
        let started = Instant::now();
        if let Err(why) = others(wire, image) {
            watched.failure.get_or_insert(why);
        }
        watched.asked += 1;
        watched.slowest = watched.slowest.max(started.elapsed());
        thread::sleep(PAUSE);
    }
    watched
}

/// What a look at a connection shows.
enum Look {
    Alive,
    Ended,
}

impl Play {
    /// Plays a client to its end.
    fn run(self, stage: Stage) -> Found {
        let started = Instant::now();
        let connect = |_| stage.wire.connect().map_err(|error| format!("no connection: {error}"));
        let (mut count, mut whole) = (1, false);
        let (bytes, piece): (Vec<u8>, Option<&[u8]>) = match self {
            Play::Drip(bytes, piece) => (bytes, Some(piece)),
            Play::Quiet { bytes, whole: well } => {
                whole = well;
                (bytes, None)
            }
            Play::Unread(bytes) => return unread(stage, &bytes),
            Play::Idle(idle) => {
                count = idle;
                (Vec::new(), None)
            }
        };
        let mut open: Vec<(TcpStream, Vec<u8>)> =
            (0..count).map(|i| Ok((connect(i)?, Vec::new()))).collect::<Result<_, String>>()?;
        let mut answers = Vec::new();
        for (stream, _) in &mut open {
            // The service may have had enough already, which shows below.
            let _ = stream.set_nonblocking(true).and_then(|()| stream.write_all(&bytes));
        }
        while !open.is_empty() {
            if Instant::now() >= stage.deadline || stage.stop.load(Ordering::Acquire) {
                let of = if count > 1 { format!("{} of {count} ", open.len()) } else { String::new() };
                return Err(format!("{of}still open after {:.0} s", started.elapsed().as_secs_f64()));
            }
            open.retain_mut(|(stream, read)| match look(stream, read, piece) {
                Look::Alive => true,
                Look::Ended => {
                    answers.extend(status(read));
                    false
                }
            });
            thread::sleep(DRIP);
        }
        answers.dedup();
        let seen = answers.iter().map(u16::to_string).collect::<Vec<_>>().join(" and ");
        let seen = if seen.is_empty() { "no answer".to_owned() } else { seen };
        let seen = format!("{seen}, ended after {:.1} s", started.elapsed().as_secs_f64());
        let held =
            answers.iter().all(|status| if whole { *status == 200 } else { (400..500).contains(status) });
        if held { Ok(seen) } else { Err(seen) }
    }
}

/// Reads what has come, and sends one more piece where there is one.
fn look(stream: &mut TcpStream, read: &mut Vec<u8>, piece: Option<&[u8]>) -> Look {
    let mut some = [0; 4096];
    loop {
        match stream.read(&mut some) {
            Ok(0) => return Look::Ended,
            // The first line is all that is looked at.
            Ok(n) if read.len() < some.len() => read.extend_from_slice(&some[..n]),
            Ok(_) => {}
            Err(error) if would_wait(&error) => break,
            Err(_) => return Look::Ended,
        }
    }
    match piece.map(|piece| stream.write_all(piece)) {
        Some(Err(error)) if !would_wait(&error) => Look::Ended,
        _ => Look::Alive,
    }
}

/// The status of the last answer that is no interim one.
fn status(read: &[u8]) -> Option<u16> {
    let text = String::from_utf8_lossy(read);
    let mut statuses = text.lines().filter_map(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok());
    statuses.rfind(|status| *status >= 200)
}

/// Asks and takes nothing. The end of such a connection shows only in that writing to it fails.
fn unread(stage: Stage, bytes: &[u8]) -> Found {
    let started = Instant::now();
    let failed = |error: io::Error| format!("no connection: {error}");
    let mut stream = stage.wire.connect().map_err(failed)?;
    stream.set_nonblocking(true).map_err(failed)?;
    let mut sent = 0;
    loop {
        let seconds = started.elapsed().as_secs_f64();
        let left = bytes.get(sent..).filter(|left| !left.is_empty()).unwrap_or(b"x");
        match stream.write(left) {
            Ok(n) => sent += n,
            Err(error) if would_wait(&error) => {}
            Err(_) => return Ok(format!("ended after {seconds:.1} s")),
        }
        if Instant::now() >= stage.deadline || stage.stop.load(Ordering::Acquire) {
            return Err(format!("still open after {seconds:.0} s"));
        }
        if sent >= bytes.len() {
            thread::sleep(DRIP);
        } else {
            thread::sleep(DRIP / 10);
        }
    }
}

fn would_wait(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_answer_counts() {
        let text = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(
            (status(text), status(b"HTTP/1.1 100 Continue\r\n\r\n"), status(b"")),
            (Some(408), None, None)
        );
    }
}
