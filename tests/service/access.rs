//! Who may do what: keys of three scopes, pages of other sites, addresses of other machines, TLS.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

use super::{Service, model, serve, text, until};
use crate::http_client::{Answer, try_request};
use crate::support::{Run, Sandbox, finish};

/// Keys of the three scopes, lowest first.
const KEYS: [(&str, &str); 3] = [
    ("predict", "predict-key-0123456789"),
    ("data", "data-key-0123456789abc"),
    ("admin", "admin-key-0123456789ab"),
];

/// Every operation: the scope that it needs, and its status for somebody who may, without a body and for things that
/// do not exist. A route that is not in here fails the test: decide who may use it.
const OPERATIONS: [(&str, &str, u16); 70] = [
    ("predict", "predict", 400),
    ("embed", "predict", 400),
    ("explain", "predict", 400),
    ("uploadData", "data", 400),
    ("inspectArchive", "data", 400),
    ("retrain", "admin", 404),
    ("status", "predict", 200),
    ("healthLive", "public", 200),
    ("healthReady", "public", 200),
    ("metrics", "predict", 200),
    ("openapi", "public", 200),
    ("docs", "public", 200),
    ("docsFile", "public", 404),
    ("listDatasets", "data", 200),
    ("inspectDataset", "data", 404),
    ("deleteDataset", "admin", 404),
    ("listImages", "data", 404),
    ("getImage", "data", 404),
    ("deleteImage", "data", 404),
    ("getThumbnail", "data", 404),
    ("listChanges", "data", 404),
    ("changeImages", "data", 400),
    ("undoChange", "data", 404),
    ("getSample", "public", 200),
    ("listJobs", "predict", 200),
    ("showJob", "predict", 404),
    ("cancelJob", "admin", 404),
    ("finishJob", "admin", 404),
    ("jobEvents", "predict", 404),
    ("listModels", "predict", 200),
    ("rollback", "admin", 409),
    ("showModel", "predict", 404),
    ("deleteModel", "admin", 404),
    ("getEvaluation", "predict", 404),
    ("downloadModel", "data", 404),
    ("promote", "admin", 404),
    ("pushModel", "admin", 400),
    ("listLabels", "predict", 200),
    ("setLabel", "admin", 400),
    ("clearLabel", "admin", 404),
    ("index", "public", 200),
    ("pageFile", "public", 404),
    ("listPredictions", "data", 404),
    ("getReport", "data", 404),
    ("showCaller", "public", 200),
    ("showHistory", "predict", 200),
    ("listAudit", "admin", 200),
    ("listFeedback", "data", 200),
    ("addFeedback", "predict", 400),
    ("getFeedbackImage", "data", 404),
    ("approveFeedback", "data", 404),
    ("rejectFeedback", "data", 404),
    ("v2Server", "predict", 200),
    ("v2ServerSlash", "predict", 200),
    ("v2Live", "public", 200),
    ("v2Ready", "public", 200),
    ("v2AllStatistics", "predict", 200),
    ("v2Model", "predict", 404),
    ("v2Version", "predict", 404),
    ("v2ModelReady", "predict", 404),
    ("v2VersionReady", "predict", 404),
    ("v2Config", "predict", 404),
    ("v2VersionConfig", "predict", 404),
    ("v2Statistics", "predict", 404),
    ("v2VersionStatistics", "predict", 404),
    ("v2Infer", "predict", 404),
    ("v2VersionInfer", "predict", 404),
    ("v2Index", "predict", 200),
    ("v2Load", "admin", 404),
    ("v2Unload", "admin", 404),
];

fn with_key(service: &Service, line: &str, key: &str) -> Answer {
    try_request(&service.addr, line, &[("authorization", &format!("Bearer {key}"))], b"").unwrap()
}

/// A service with the three keys in a file.
fn keyed(sandbox: &Sandbox) -> Service {
    let lines = KEYS.map(|(scope, key)| format!("{scope} = \"{key}\"\n"));
    sandbox.write("keys.toml", lines.concat());
    Service::start(sandbox, &format!("{} --keys keys.toml", model()))
}

#[test]
fn every_operation_needs_its_scope_or_a_higher_one() {
    let sandbox = Sandbox::new();
    let service = keyed(&sandbox);
    let document = service.json("/openapi.json");
    let mut seen = BTreeSet::new();
    for (path, verbs) in document["paths"].as_object().unwrap() {
        for (verb, operation) in verbs.as_object().unwrap() {
            let id = text(&operation["operationId"]);
            let known = OPERATIONS.iter().find(|(known, ..)| *known == id);
            let &(_, scope, allowed) =
                known.unwrap_or_else(|| panic!("{verb} {path} ({id}): who may use it?"));
            let filled: String = path
                .split_inclusive('}')
                .map(|part| match part.split_once('{') {
                    Some((before, _)) => format!("{before}1"),
                    None => part.to_owned(),
                })
                .collect();
            let line = format!("{} {filled}", verb.to_uppercase());
            let none = try_request(&service.addr, &line, &[], b"").unwrap();
            let wrong = with_key(&service, &line, "nobody-has-this-key-at-all");
            if scope == "public" {
                assert_eq!((none.status, wrong.status), (allowed, allowed), "{line}");
                assert!(operation["security"].is_null(), "{line}");
            } else {
                assert_eq!((none.status, wrong.status), (401, 401), "{line}");
                assert!(
                    none.header("www-authenticate").is_some_and(|way| way.starts_with("bearer")),
                    "{none:?}"
                );
                assert!(text(&operation["description"]).contains(&format!("`{scope}`")), "{line}");
            }
            let mut open = scope == "public";
            for (own, key) in KEYS {
                open |= own == scope;
                let status = with_key(&service, &line, key).status;
                assert_eq!(status, if open { allowed } else { 403 }, "{line} with the key for {own}");
            }
            assert!(seen.insert(id));
        }
    }
    let known: BTreeSet<String> = OPERATIONS.iter().map(|(id, ..)| (*id).to_owned()).collect();
    assert_eq!(seen, known);
    assert!(!KEYS.iter().any(|(_, key)| service.log().contains(key)), "{}", service.log());
}

#[test]
fn keys_come_from_files_and_the_environment_and_can_be_changed() {
    let sandbox = Sandbox::new();
    let [_, _, (_, admin)] = KEYS;
    sandbox.write("keys.toml", format!("admin = \"{admin}\"\n"));
    let mut command = serve(&sandbox, &format!("{} --keys keys.toml", model()));
    command.env("OCELLI_KEY_PREDICT", "from-the-environment-1");
    let service = Service::launch(&sandbox, command).unwrap();
    let status = |key: &str| with_key(&service, "GET /status", key).status;
    assert_eq!(
        [status("from-the-environment-1"), status(admin), status("neither-of-the-two-1")],
        [200, 200, 401]
    );

    let next = "the-next-admin-key-0123";
    sandbox.write("keys.toml", format!("admin = \"{next}\"\n"));
    assert_eq!(status(next), 401);
    service.signal("HUP");
    until("the new key", || (status(next) == 200).then_some(()));
    assert_eq!([status("from-the-environment-1"), status(admin)], [200, 401]);
    // An invalid file leaves the keys as they are: a typo must not open the service.
    for bad in ["admin = \"short\"\n", "admins = \"\"\n", "admin = "] {
        sandbox.write("keys.toml", bad);
        let complaints = service.log().matches("keys and certificate stay as they were").count();
        service.signal("HUP");
        until("the complaint", || {
            (service.log().matches("keys and certificate stay as they were").count() > complaints)
                .then_some(())
        });
        assert_eq!([status(next), status("from-the-environment-1"), status("")], [200, 200, 401], "{bad}");
    }
}

#[test]
fn without_keys_other_sites_and_other_machines_are_refused() {
    let sandbox = Sandbox::new();
    let service = Service::start(&sandbox, &model());
    let port = service.addr.rsplit_once(':').unwrap().1;
    let own = format!("http://{}", service.addr);
    let evil = format!("rebound.example:{port}");
    for (headers, status) in [
        (vec![("origin", "http://evil.example")], 403),
        (vec![("origin", "null")], 403),
        (vec![("origin", "http://localhost:1")], 403),
        (vec![("sec-fetch-site", "cross-site")], 403),
        (vec![("host", "rebound.example")], 403),
        (vec![("host", evil.as_str())], 403),
        (vec![("host", evil.as_str()), ("origin", "http://rebound.example")], 403),
        (vec![("origin", own.as_str())], 200),
        (vec![("host", "localhost")], 200),
        (vec![], 200),
    ] {
        let answer = try_request(&service.addr, "GET /status", &headers, b"").unwrap();
        assert_eq!(answer.status, status, "{headers:?}: {answer:?}");
        // No answer allows another origin (CORS).
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }

    let refused = |command: Command| -> Run {
        let run = finish(command, &[]);
        assert_eq!(run.code, Some(2), "{run:#?}");
        run
    };
    let run = refused(sandbox.command(&format!("serve {} --data-dir open --addr 0.0.0.0:0", model())));
    for word in ["0.0.0.0:0", "no keys", "OCELLI_KEY_ADMIN", "--insecure"] {
        assert!(run.stderr.contains(word), "`{word}`: {run:#?}");
    }
    assert!(!sandbox.path().join("open").exists(), "refused before anything is made");
    let mut short = sandbox.command(&format!("serve {} --addr 0.0.0.0:0", model()));
    short.env("OCELLI_KEY_ADMIN", "too-short");
    let run = finish(short, &[]);
    assert!(
        run.code != Some(0) && run.stderr.contains("16 to 512") && !run.stderr.contains("too-short"),
        "{run:#?}"
    );
    for (arguments, key) in [("--insecure", ""), ("", KEYS[2].1)] {
        let mut command =
            sandbox.command(&format!("serve {} --data-dir open --addr 0.0.0.0:0 {arguments}", model()));
        command.env("OCELLI_KEY_ADMIN", key);
        let open = Service::launch(&sandbox, command).unwrap();
        let addr = open.addr.replace("0.0.0.0", "127.0.0.1");
        let answer = try_request(&addr, "GET /status", &[], b"").unwrap();
        assert_eq!(answer.status, if key.is_empty() { 200 } else { 401 });
    }
}

/// What `openssl` answers; none where it is not there.
fn openssl(sandbox: &Sandbox, line: &str, input: &[u8]) -> Option<Vec<u8>> {
    let mut command = Command::new("openssl");
    command.args(line.split_whitespace()).current_dir(sandbox.path());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    child.stdin.take().unwrap().write_all(input).unwrap();
    Some(child.wait_with_output().unwrap().stdout)
}

#[test]
fn the_certificate_of_https_can_be_replaced() {
    let sandbox = Sandbox::new();
    let certify = |name: &str, as_name: &str| {
        let files = format!("-keyout {as_name}.key -out {as_name}.pem");
        let line = format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN={name} {files}"
        );
        openssl(&sandbox, &line, b"")
    };
    if certify("first", "tls").is_none() {
        println!("SKIPPED: there is no openssl to make a certificate and to ask with it");
        return;
    }
    let service = Service::start(&sandbox, &format!("{} --tls-cert tls.pem --tls-key tls.key", model()));
    let ask = |options: &str| {
        let line = format!("s_client -quiet -ign_eof -connect {} {options}", service.addr);
        let request = format!("GET /status HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", service.addr);
        String::from_utf8(openssl(&sandbox, &line, request.as_bytes()).unwrap()).unwrap()
    };
    for version in ["-tls1_2", "-tls1_3"] {
        let answer = ask(&format!("{version} -CAfile tls.pem -verify_return_error"));
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with('}'), "{version}: {answer}");
    }
    assert_eq!(ask("-tls1_1"), "");
    // A client without TLS gets no answer and holds no resources.
    assert!(try_request(&service.addr, "GET /status", &[], b"").is_err());

    certify("second", "tls").unwrap();
    let trusts = || ask("-CAfile tls.pem -verify_return_error").starts_with("HTTP/1.1 200 ");
    assert!(!trusts(), "the old one is still in use");
    service.signal("HUP");
    until("the new certificate", || trusts().then_some(()));
    // Half of a pair is refused, and so is a file without one; the old pair goes on.
    certify("third", "other").unwrap();
    let file = |name: &str| sandbox.path().join(name);
    let good = ["tls.pem", "tls.key"].map(|name| (name, std::fs::read(file(name)).unwrap()));
    let complaints = || service.log().matches("stay as they were").count();
    let third = std::fs::read(file("other.key")).unwrap();
    for (name, bytes) in [
        ("tls.key", Some(&third[..])),
        ("tls.key", Some(b"")),
        ("tls.key", Some(b"# nothing")),
        ("tls.key", Some(&third[..third.len() / 2])),
        ("tls.key", None),
        ("tls.pem", Some(b"")),
        ("tls.pem", Some(b"\n")),
        ("tls.pem", Some(&third)),
        ("tls.pem", None),
    ] {
        let _ = std::fs::remove_file(file(name));
        if let Some(bytes) = bytes {
            std::fs::write(file(name), bytes).unwrap();
        }
        let before = complaints();
        service.signal("HUP");
        until("the refusal", || (complaints() > before).then_some(()));
        let log = service.log();
        assert!(
            log.lines().rfind(|line| line.contains("stay as they were")).unwrap().contains(name),
            "{log}"
        );
        good.iter().for_each(|(name, bytes)| std::fs::write(file(name), bytes).unwrap());
        assert!(trusts(), "{name}");
    }
    std::fs::write(file("tls.key"), &third).unwrap();
    let run =
        sandbox.run(&format!("serve {} --tls-cert tls.pem --tls-key tls.key --addr 127.0.0.1:0", model()));
    assert!(run.code != Some(0) && run.stderr.contains("does not belong to the certificate"), "{run:#?}");
    assert_eq!(service.stop("TERM"), Some(0));
}
