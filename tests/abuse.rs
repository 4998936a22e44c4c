//! `ocelli flood --abuse` against `ocelli serve`, where all must hold, and against a service that is glad of everything.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::http_client::request;
use crate::support::{Run, Sandbox, Server, finish, signal, wait};

/// Checks that `ocelli serve` does not pass yet.
const NOT_YET: &[&str] = &[];

/// Short limits, so that slow clients have their end soon.
const LIMITS: &str = "header_timeout = 1\nbody_timeout = 1\nwrite_timeout = 1\nkeep_alive = 2\n";

const ADMIN: &str = "admin-key-0123456789ab";

/// The summary of `--json`, whose numbers fit together.
#[track_caller]
fn summary(run: &Run) -> Value {
    let mut lines = run.json_lines();
    assert_eq!(lines.len(), 1, "{run:#?}");
    let summary = lines.remove(0);
    assert_eq!((&summary["type"], &summary["schema"]), (&"abuse".into(), &1.into()), "{summary}");
    for (outcome, field) in [("held", "held"), ("failed", "failed"), ("not_tried", "not_tried")] {
        assert_eq!(summary[field], of(&summary, outcome).len(), "{field}: {summary}");
    }
    let code = if summary["failed"] == 0 { 0 } else { 3 };
    assert_eq!(run.code, Some(code), "{run:#?}");
    summary
}

/// The names of the checks with an outcome.
fn of(summary: &Value, outcome: &str) -> BTreeSet<String> {
    let checks = summary["checks"].as_array().unwrap().iter();
    let named = checks.filter(|check| check["outcome"] == outcome);
    let name =
        |check: &Value| format!("{} {}", check["theme"].as_str().unwrap(), check["name"].as_str().unwrap());
    named.map(name).collect()
}

fn not_yet() -> BTreeSet<String> {
    NOT_YET.iter().map(|name| (*name).to_owned()).collect()
}

/// How many checks of a theme were tried.
fn tried(summary: &Value, theme: &str) -> usize {
    let checks = summary["checks"].as_array().unwrap().iter();
    checks.filter(|check| check["theme"] == theme && check["outcome"] != "not_tried").count()
}

#[test]
fn the_service_withstands_all_of_it() {
    let sandbox = Sandbox::new();
    sandbox.write("limits.toml", LIMITS);
    let server = Server::start(&sandbox, "--config limits.toml");
    let run = sandbox.run(&format!("flood --abuse http://{} --patience 60s --json", server.addr));
    let summary = summary(&run);
    assert_eq!(of(&summary, "failed"), not_yet(), "{summary:#}");
    // Without keys there is no route that needs one.
    let untried = BTreeSet::from(["access routes without a key".to_owned()]);
    assert_eq!(of(&summary, "not_tried"), untried, "{summary:#}");
    for (theme, least) in
        [("framing", 90), ("bodies", 35), ("images", 35), ("zips", 60), ("access", 6), ("slow", 12)]
    {
        assert!(tried(&summary, theme) >= least, "{theme}: {summary:#}");
    }
    assert_eq!((&summary["kept"], &summary["interrupted"]), (&false.into(), &false.into()));
    assert_eq!(server.stop("TERM"), Some(0));
}

#[test]
fn keys_are_tried_on_every_route() {
    let sandbox = Sandbox::new();
    let serve = |key: &str| {
        let mut command = sandbox.command("serve --addr 127.0.0.1:0 --drain-delay 0");
        command.env("OCELLI_KEY_ADMIN", key);
        Server::launch(command).unwrap_or_else(|run| panic!("{run:#?}"))
    };
    let server = serve(ADMIN);
    let line = format!("flood --abuse --quick --json {}", server.addr);
    let mut command = sandbox.command(&line);
    command.env("OCELLI_TOKEN", ADMIN);
    let run = finish(command, &[]);
    let with_key = summary(&run);
    assert_eq!(of(&with_key, "failed"), not_yet(), "{with_key:#}");
    assert!(tried(&with_key, "access") > 50 && tried(&with_key, "zips") > 60, "{with_key:#}");
    assert!(!run.stdout.contains(ADMIN) && !run.stderr.contains(ADMIN), "{run:#?}");
    // Without the key, what needs one is left out and said to be.
    let without = summary(&sandbox.run(&line));
    assert_eq!(of(&without, "failed"), not_yet(), "{without:#}");
    assert_eq!((tried(&without, "zips"), tried(&without, "images")), (0, 0), "{without:#}");
    assert_eq!(without["kept"], Value::Null);
    assert_eq!(of(&without, "not_tried").len(), 3, "{without:#}");
}

#[test]
fn a_service_that_is_glad_of_everything_fails() {
    let sandbox = Sandbox::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || {
                let (mut stream, mut some) = (stream.unwrap(), [0; 1 << 16]);
                while stream.read(&mut some).is_ok_and(|n| n > 0) {
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\n{\"datasets\":[]}";
                    if stream.write_all(answer).is_err() {
                        break;
                    }
                }
            });
        }
    });
    let run = sandbox.run(&format!("flood --abuse --quick {addr} --timeout 5s"));
    assert_eq!(run.code, Some(3), "{run:#?}");
    assert!(run.stderr.contains("gate missed: ") && run.stderr.contains(" checks did not hold"), "{run:#?}");
    for line in [
        "FAILED    framing Content-Length +5 ",
        "FAILED    framing no Host ",
        "FAILED    bodies  1 TiB declared to /predict ",
        "FAILED    images  PNG of 50,000 x 50,000 in few bytes ",
        "FAILED    zips    name \"../evil.png\" ",
        "FAILED    access  page of another site ",
        "not tried slow    slow clients ",
        "held      images  PNG of 1 x 1 ",
    ] {
        assert!(run.stdout.lines().any(|found| found.starts_with(line)), "`{line}`: {run:#?}");
    }
    let failed = run.stdout.lines().filter(|line| line.starts_with("FAILED")).count();
    // Each once when it fails and once in the sum.
    assert!(failed > 2 * 200, "{failed}: {run:#?}");
}

#[test]
fn a_service_that_dies_ends_the_run() {
    let sandbox = Sandbox::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        // Enough for what is asked before the first check; then nobody listens any more.
        for stream in listener.incoming().take(4) {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        }
    });
    let summary = summary(&sandbox.run(&format!("flood --abuse --json {addr}")));
    let failed = of(&summary, "failed").len();
    assert!((2..=4).contains(&failed) && of(&summary, "not_tried").len() > 100, "{summary:#}");
    let text = summary.to_string();
    assert!(text.contains("nobody was answered after 3 checks in a row"), "{text}");
}

#[test]
fn a_signal_ends_with_what_was_tried() {
    let sandbox = Sandbox::new();
    let server = Server::start(&sandbox, "");
    let child = sandbox.command(&format!("flood --abuse --json {}", server.addr)).spawn().unwrap();
    let answered =
        || request(&server.addr, "GET /status", "", b"").json()["requests"]["total"].as_u64().unwrap();
    while answered() < 60 {
        thread::sleep(Duration::from_millis(5));
    }
    signal(child.id(), "INT");
    let run = wait(child);
    assert_eq!(run.code, Some(130), "{run:#?}");
    assert!(run.stderr.contains("interrupted: stopped after "), "{run:#?}");
    let summary = run.json_lines().remove(0);
    assert_eq!((&summary["interrupted"], &summary["kept"]), (&true.into(), &Value::Null), "{summary}");
    assert!(summary["held"].as_u64() > Some(10), "{summary}");
}

#[test]
fn it_is_for_ones_own_service_alone() {
    let sandbox = Sandbox::new();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (line, code, text) in [
        // Addresses that are kept for documents (RFC 5737): nobody is asked.
        ("--abuse http://192.0.2.1:8080".to_owned(), 2, "--yes-it-is-mine"),
        ("--abuse http://[2001:db8::1]:8080".to_owned(), 2, "--yes-it-is-mine"),
        ("--abuse http://0.0.0.0:8080".to_owned(), 2, "--yes-it-is-mine"),
        (format!("--abuse https://{free}"), 2, "https is not spoken here"),
        (format!("--abuse http://{free}/v1/datasets"), 2, "leave the path out"),
        (format!("--abuse {free} -c 5"), 2, "cannot be used with"),
        (format!("--abuse {free} --patience 0"), 2, "must leave time"),
        (format!("--quick {free}"), 2, "--abuse"),
        (format!("--yes-it-is-mine {free}"), 2, "--abuse"),
        (format!("--abuse {free}"), 1, "no answer from"),
    ] {
        let run = sandbox.run(&format!("flood {line}"));
        assert_eq!((run.code, run.stdout.as_str()), (Some(code), ""), "{line}: {run:#?}");
        assert!(run.stderr.contains(text), "{line}: {run:#?}");
    }
}
