//! `ocelli flood` against `ocelli serve`, and against services that misbehave as no real one does on request.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use ocelli_testing::xml::elements;
use serde_json::Value;

use crate::http_client::request;
use crate::shapes::{self, Rng, photo};
use crate::support::{Sandbox, Server, signal, wait};

/// A short run that is counted by requests.
const SHORT: &str = "--warmup 50ms -n 60";

/// The levels and the summary of `--json`.
#[track_caller]
fn split(mut lines: Vec<Value>) -> (Vec<Value>, Value) {
    let summary = lines.pop().unwrap();
    assert_eq!((&summary["type"], &summary["schema"]), (&"flood".into(), &1.into()), "{summary}");
    assert_eq!(summary["levels"], lines.len(), "{summary}");
    (lines, summary)
}

/// A level's numbers fit together.
#[track_caller]
fn adds_up(level: &Value, images: u64) {
    let n = |name: &str| level[name].as_u64().unwrap_or_else(|| panic!("{name}: {level}"));
    let f = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{level}"));
    assert_eq!((level["type"].as_str(), n("schema")), (Some("level"), 1));
    assert_eq!(n("requests"), n("ok") + n("errors"), "{level}");
    assert_eq!(n("images"), images * n("ok"), "{level}");
    let faults: u64 =
        level["faults"].as_object().unwrap().values().map(|f| f["count"].as_u64().unwrap()).sum();
    assert_eq!(n("errors"), faults, "{level}");
    assert!((f(&level["ok_per_second"]) * f(&level["seconds"]) - n("ok") as f64).abs() < 1e-3, "{level}");
    assert_eq!(level["latency_ms"].is_null(), n("ok") == 0, "{level}");
    if n("ok") > 0 {
        let latency = ["p50", "p90", "p95", "p99", "p99_9", "max"].map(|name| f(&level["latency_ms"][name]));
        assert!(latency[0] > 0.0 && latency.is_sorted(), "{level}");
        assert!((latency[0] * 0.01..=latency[5]).contains(&f(&level["latency_ms"]["mean"])), "{level}");
    }
}

#[test]
fn closed_loops_count_every_request_of_every_level() {
    let sandbox = Sandbox::new();
    let server = Server::start(&sandbox, "");
    for (body, batch, threads) in
        [("multipart", 1, 1), ("multipart", 3, 2), ("raw", 1, 2), ("json", 1, 1), ("json", 2, 1)]
    {
        let line = format!(
            "flood http://{} -c 1,3 {SHORT} --body {body} -b {batch} -t {threads} --check --json",
            server.addr
        );
        let (levels, summary) = split(sandbox.run(&line).json_lines());
        assert_eq!(levels.len(), 2);
        for (level, concurrency) in levels.iter().zip([1, 3]) {
            adds_up(level, batch);
            assert_eq!((&level["mode"], &level["concurrency"]), (&"closed".into(), &concurrency.into()));
            assert_eq!((&level["requests"], &level["statuses"]["200"]), (&60.into(), &60.into()), "{level}");
            assert_eq!(level["connections_opened"], concurrency);
            for step in ["decode", "queue", "compute", "total"] {
                let [p50, p99] = ["p50", "p99"].map(|p| level["service_ms"][step][p].as_f64().unwrap());
                assert!(0.0 <= p50 && p50 <= p99, "{level}");
            }
        }
        assert_eq!(
            (&summary["requests"], &summary["errors"], &summary["body"]),
            (&120.into(), &0.into(), &body.into())
        );
        // What the service says about itself decides about the images.
        assert_eq!(summary["images"], "made up, 28x28x1 png");
        assert!(summary["service"]["model"]["version"].is_string(), "{summary}");
    }
    // All that was sent arrived, and the service agrees that it was fine.
    let status = request(&server.addr, "GET /status", "", b"").json();
    assert_eq!(status["requests"]["error"], 0, "{status}");
    assert_eq!(server.stop("TERM"), Some(0));
}

#[test]
fn open_loops_send_at_their_rate() {
    let sandbox = Sandbox::new();
    let server = Server::start(&sandbox, "");
    let line = format!("flood {} --rate 50,200 --arrivals fixed -d 500ms --warmup 50ms --json", server.addr);
    let (levels, _) = split(sandbox.run(&line).json_lines());
    for (level, rate) in levels.iter().zip([50.0, 200.0]) {
        adds_up(level, 1);
        assert_eq!(
            (&level["mode"], &level["rate"], &level["arrivals"]),
            (&"open".into(), &rate.into(), &"fixed".into())
        );
        // Times are fixed beforehand, so their number is: half a second of them, to the one at the seam.
        let requests = level["requests"].as_f64().unwrap();
        assert!((requests - rate / 2.0).abs() <= 1.0, "{level}");
    }
    let line =
        format!("flood {} --rate 1000 -n 40 --warmup 0s --format jpeg --size 40x30 --json -t 2", server.addr);
    let (levels, summary) = split(sandbox.run(&line).json_lines());
    adds_up(&levels[0], 1);
    assert_eq!((&levels[0]["requests"], &levels[0]["ok"]), (&40.into(), &40.into()), "{}", levels[0]);
    assert_eq!(summary["images"], "made up, 40x30x1 jpeg");
}

#[test]
fn people_get_a_table_and_a_page() {
    let sandbox = Sandbox::new();
    let server = Server::start(&sandbox, "");
    let line = format!("flood http://{} -c 1,2 {SHORT} --html report.html", server.addr);
    let run = sandbox.run(&line);
    for word in ["service   http://", "requests  POST multipart, 100 images", "report    report.html"] {
        assert!(run.stderr.contains(word), "`{word}`: {run:#?}");
    }
    let text = run.ok();
    for word in ["connections", "p99.9", "decode p50/p99", "answers   120 x 200"] {
        assert!(text.contains(word), "`{word}`: {text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 110), "{text}");
    let page = std::fs::read_to_string(sandbox.path().join("report.html")).unwrap();
    let names = elements(page.strip_prefix("<!doctype html>").unwrap());
    let count = |name: &str| names.iter().filter(|n| *n == name).count();
    assert_eq!((count("svg"), count("desc"), count("table"), count("h1")), (4, 4, 3, 1));
    for load in ["<script", "<link", "<img", "<iframe", "src=", "href=", "url(", "@import", "NaN", "inf\""] {
        assert!(!page.contains(load), "`{load}` in the page");
    }
    assert!(page.contains("prefers-color-scheme:dark") && page.contains("<caption>"));

    // One level draws no curve over levels, and an address is text whatever it holds.
    let line = format!(
        "flood http://{}/predict?top_k=1&x='%3Cb%3E' -c 1 -n 1 --warmup 0s --html one.html",
        server.addr
    );
    assert_eq!(sandbox.run(&line).code, Some(3), "the service refuses an unknown query");
    let page = std::fs::read_to_string(sandbox.path().join("one.html")).unwrap();
    let names = elements(page.strip_prefix("<!doctype html>").unwrap());
    assert_eq!(names.iter().filter(|n| *n == "svg").count(), 2);
}

#[test]
fn refusals_are_counted_by_their_code() {
    let sandbox = Sandbox::new();
    let server = Server::start(&sandbox, "");
    sandbox.write("photos/good.png", shapes::png(&photo("circle", &mut Rng(1))));
    // Told by its first bytes, as in training.
    sandbox.write("photos/sub/broken", b"\xff\xd8\xff but no more of it");
    sandbox.write("photos/f.HEIC", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic");
    sandbox.write("photos/notes.txt", "no image");
    let run = sandbox.run(&format!("flood {} -i photos -c 1 -n 10 --warmup 0s --json", server.addr));
    assert_eq!(run.code, Some(3), "{run:#?}");
    for said in
        ["gate missed: 5 of 10 requests failed", "1 HEIC file is not read: f.HEIC", "ignored: notes.txt"]
    {
        assert!(run.stderr.contains(said), "{run:#?}");
    }
    let (levels, summary) = split(run.json_lines());
    adds_up(&levels[0], 1);
    let fault = &levels[0]["faults"]["422 undecodable_image"];
    assert_eq!((&fault["count"], &levels[0]["statuses"]["422"]), (&5.into(), &5.into()), "{}", levels[0]);
    assert!(fault["example"].as_str().is_some_and(|text| !text.is_empty()), "{fault}");
    assert_eq!((&summary["distinct_images"], &summary["errors"]), (&2.into(), &5.into()));
    // The same as text, and within a limit that was asked for.
    let run = sandbox.run(&format!("flood {} -i photos -c 1 -n 10 --warmup 0s --max-errors 5", server.addr));
    assert!(run.stdout.contains("errors    1 connection: 5 x 422 undecodable_image: "), "{run:#?}");
    run.ok();
    let run = sandbox.run(&format!("flood {}/nowhere -n 3 -c 1 --warmup 0s", server.addr));
    assert!(run.stdout.contains("3 x 404 no_route"), "{run:#?}");
}

#[test]
fn gates_decide_about_the_exit_code() {
    let sandbox = Sandbox::new();
    let server = Server::start(&sandbox, "");
    for (gates, missed) in [
        ("--max-p99 1h --min-rate 0.01", vec![]),
        ("--max-p99 1us", vec!["2 connections: p99 "]),
        ("--min-rate 1e9", vec!["good answers a second at best, at least 1000000000 were asked for"]),
        ("--max-p99 1us --min-rate 1e9", vec!["the limit is 0.001 ms", "were asked for"]),
    ] {
        let run = sandbox.run(&format!("flood {} -c 2 {SHORT} --json {gates}", server.addr));
        assert_eq!(run.code, Some(if missed.is_empty() { 0 } else { 3 }), "{gates}: {run:#?}");
        let (_, summary) = split(run.json_lines());
        assert_eq!(summary["missed"].as_array().unwrap().len(), missed.len(), "{summary}");
        assert!(missed.iter().all(|text| run.stderr.contains(text)), "{gates}: {run:#?}");
    }
}

#[test]
fn bad_arguments_and_absent_services_are_told_apart() {
    let sandbox = Sandbox::new();
    // A port that was free a moment ago.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    std::fs::create_dir(sandbox.path().join("empty")).unwrap();
    let absent = format!("no answer from {free}");
    for (line, code, text) in [
        (format!("http://{free} --json"), 1, absent.as_str()),
        ("https://127.0.0.1".to_owned(), 2, "https is not spoken here"),
        ("ftp://127.0.0.1".to_owned(), 2, "only http is spoken here"),
        ("http://me:secret@127.0.0.1".to_owned(), 2, "user name"),
        ("http:///predict".to_owned(), 2, "not an address"),
        (format!("{free} -c 0"), 2, "--concurrency 0 is not in 1..=10000"),
        (format!("{free} --rate 0"), 2, "--rate 0 is not in"),
        (format!("{free} --rate nan"), 2, "--rate NaN is not in"),
        (format!("{free} --rate 5 -c 5"), 2, "cannot be used with"),
        (format!("{free} -n 0"), 2, "at least one request"),
        (format!("{free} --duration 10x"), 2, "write a time"),
        (format!("{free} --timeout 0"), 2, "--timeout 0"),
        (format!("{free} --body raw --batch 2"), 2, "a raw body is one image"),
        (format!("{free} --size 0"), 2, "write pixels"),
        (format!("{free} --html nowhere/report.html"), 2, "not a file in a folder that exists"),
        (format!("{free} --html empty"), 2, "not a file in a folder that exists"),
    ] {
        let run = sandbox.run(&format!("flood {line}"));
        assert_eq!((run.code, run.stdout.as_str()), (Some(code), ""), "{line}: {run:#?}");
        assert!(run.stderr.contains(text) && run.stderr.contains("hint:"), "{line}: {run:#?}");
        assert!(!run.stderr.contains("secret"), "{run:#?}");
    }
    let server = Server::start(&sandbox, "");
    for (images, text) in
        [("nothing.png", "nothing.png: No such file"), ("empty", "empty: there are no images")]
    {
        let run = sandbox.run(&format!("flood {} -i {images} -n 1", server.addr));
        assert_eq!(run.code, Some(1), "{run:#?}");
        assert!(run.stderr.contains(text), "{run:#?}");
    }
}

#[test]
fn a_signal_ends_with_the_report() {
    let sandbox = Sandbox::new();
    let server = Server::start(&sandbox, "");
    let line = format!("flood {} -c 2,4 -d 1h --warmup 0s --json --html early.html", server.addr);
    let child = sandbox.command(&line).spawn().unwrap();
    // Our own questions are counted by the service too.
    let answered =
        || request(&server.addr, "GET /status", "", b"").json()["requests"]["ok"].as_u64().unwrap();
    for asked in 1.. {
        if answered() > asked + 20 {
            break;
        }
        thread::sleep(Duration::from_millis(5));
    }
    signal(child.id(), "INT");
    let run = wait(child);
    assert_eq!(run.code, Some(130), "{run:#?}");
    assert!(run.stderr.contains("interrupted: stopped in level 1 after "), "{run:#?}");
    let (levels, summary) = split(run.json_lines());
    adds_up(&levels[0], 1);
    assert!(levels.len() == 1 && levels[0]["ok"].as_u64().unwrap() > 0, "{summary}");
    assert_eq!((&summary["interrupted"], &summary["errors"]), (&true.into(), &0.into()), "{summary}");
    let page = std::fs::read_to_string(sandbox.path().join("early.html")).unwrap();
    assert!(page.contains("Stopped early"), "{page}");
}

/// The number of a request that only asks.
const GET: usize = usize::MAX;

/// A service that answers request `n` with what `answer` makes of its number and head, and closes the connection
/// where that is nothing.
fn fake(answer: impl Fn(usize, &str) -> Option<String> + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let shared = Arc::new((AtomicUsize::new(0), answer));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let shared = Arc::clone(&shared);
            thread::spawn(move || drop(converse(stream.unwrap(), &shared.0, &shared.1)));
        }
    });
    addr
}

fn converse(
    mut stream: TcpStream,
    count: &AtomicUsize,
    answer: &dyn Fn(usize, &str) -> Option<String>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        head.make_ascii_lowercase();
        let length = head
            .split("content-length: ")
            .nth(1)
            .map_or(0, |rest| rest.lines().next().unwrap().parse::<usize>().unwrap());
        reader.read_exact(&mut vec![0; length])?;
        let n = if head.starts_with("get ") { GET } else { count.fetch_add(1, Ordering::Relaxed) };
        match answer(n, &head) {
            Some(text) => stream.write_all(text.as_bytes())?,
            None => return Ok(()),
        }
    }
}

fn http(status: &str, body: &str) -> Option<String> {
    Some(format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len()))
}

#[test]
fn an_answer_counts_from_the_time_its_request_was_due() {
    let sandbox = Sandbox::new();
    let addr = fake(|n, _| {
        if n == 0 {
            thread::sleep(Duration::from_millis(400));
        }
        http("200 OK", "{}")
    });
    // One connection, one stall: what became due meanwhile waits, and says so. A closed loop meets the stall once.
    let line = format!("flood {addr} --rate 50 --arrivals fixed --connections 1 -n 30 --warmup 0s --json");
    let (levels, summary) = split(sandbox.run(&line).json_lines());
    adds_up(&levels[0], 1);
    let ms = |name: &str| levels[0]["latency_ms"][name].as_f64().unwrap();
    assert!(ms("max") >= 400.0 && ms("p50") >= 50.0, "{}", levels[0]);
    // A service without a status gets photos of the usual size.
    assert_eq!((&summary["service"], &summary["images"]), (&Value::Null, &"made up, 224x224x3 png".into()));
}

#[test]
fn what_cannot_be_sent_in_time_has_failed() {
    let sandbox = Sandbox::new();
    let addr = fake(|n, _| {
        if n != GET {
            thread::sleep(Duration::from_millis(200));
        }
        http("200 OK", "{}")
    });
    let open =
        format!("flood {addr} --rate 100 --arrivals fixed --connections 1 --warmup 0s --size 8 --json");
    let (levels, _) = split(sandbox.run(&format!("{open} -d 500ms")).json_lines());
    adds_up(&levels[0], 1);
    assert!(levels[0]["faults"]["unsent"]["count"].as_u64().unwrap() > 20, "{}", levels[0]);
    let (levels, _) = split(sandbox.run(&format!("{open} -n 20 --timeout 100ms")).json_lines());
    adds_up(&levels[0], 1);
    assert_eq!(levels[0]["faults"]["timeout"]["count"], 20, "{}", levels[0]);
}

#[test]
fn misbehaving_services_are_described() {
    let sandbox = Sandbox::new();
    let run = |addr: &str, more: &str| {
        let line = format!("flood {addr} -c 1 -n 6 --warmup 0s --size 8x8x1 --timeout 5s --json {more}");
        let run = sandbox.run(&line);
        let (levels, _) = split(run.json_lines());
        adds_up(&levels[0], 1);
        (run.code, levels[0]["faults"].clone(), levels[0]["ok"].as_u64().unwrap())
    };
    let (code, faults, ok) =
        run(&fake(|n, _| if n % 2 == 0 || n == GET { http("200 OK", "{}") } else { None }), "");
    assert_eq!((code, ok), (Some(3), 3), "{faults}");
    let (_, faults, _) = run(
        &fake(|n, _| if n == GET { http("200 OK", "") } else { Some("nonsense\r\n\r\n".to_owned()) }),
        "",
    );
    assert_eq!(faults["bad answer"]["count"], 6, "{faults}");
    let busy = || http("503 Service Unavailable", "<html>later</html>");
    let (_, faults, _) = run(&fake(move |_, _| busy()), "");
    assert_eq!(faults["503"]["count"], 6, "{faults}");
    // A label that flips is an error under --check alone.
    let flipping = |n: usize, _: &str| {
        let label = ["cat", "dog"][n / 2 % 2];
        let body = format!(r#"{{"predictions":[{{"label":"{label}"}}],"model":{{"version":"1"}}}}"#);
        http("200 OK", &body)
    };
    sandbox.write("one.png", shapes::png(&photo("circle", &mut Rng(1))));
    let image = "-i one.png";
    let line = |addr: String, more: &str| {
        sandbox.run(&format!("flood {addr} -c 1 -n 6 --warmup 0s --json {image} {more}"))
    };
    assert_eq!(line(fake(flipping), "").code, Some(0));
    let flipped = line(fake(flipping), "--check");
    let (levels, _) = split(flipped.json_lines());
    // Wherever in the row of labels the first of the six requests falls, two or three differ from it.
    let changed = levels[0]["faults"]["label changed"]["count"].as_u64();
    assert!(matches!(changed, Some(2 | 3)), "{}", levels[0]);
    // The token travels with every request, from the argument or the environment.
    let guarded = || {
        fake(|_, head| {
            let known = head.contains("authorization: bearer secret");
            http(if known { "200 OK" } else { "401 Unauthorized" }, r#"{"code":"token"}"#)
        })
    };
    assert_eq!(run(&guarded(), "").1["401 token"]["count"], 6);
    assert_eq!(run(&guarded(), "--token secret").0, Some(0));
    let mut command = sandbox.command(&format!("flood {} -n 3 -c 1 --warmup 0s --size 8", guarded()));
    command.env("OCELLI_TOKEN", "secret");
    crate::support::finish(command, &[]).ok();
}
