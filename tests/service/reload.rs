//! SIGHUP with unusable files: the keys in force stay in force, and the log says which file is wrong and why.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use super::{Service, model, until};
use crate::http_client::try_request;
use crate::support::{Sandbox, finish};

const KEY: &str = "the-admin-key-0123456789";
const OTHER: &str = "another-admin-key-0123456";

fn status(service: &Service, key: &str) -> u16 {
    let addr = service.addr.replace("0.0.0.0", "127.0.0.1");
    let key = format!("Bearer {key}");
    try_request(&addr, "GET /v1/datasets", &[("authorization", &key)], b"").unwrap().status
}

/// Sends the signal and waits for the error in the log; its text.
fn complaint(service: &Service) -> String {
    let all = || -> Vec<String> {
        let complains = |line: &&str| line.contains("ERROR") && line.contains("stay as they were");
        service.log().lines().filter(complains).map(str::to_owned).collect()
    };
    let before = all().len();
    service.signal("HUP");
    until("a complaint", || all().get(before).cloned())
}

/// Sends the signal and waits until the reload is logged.
fn reload(service: &Service) {
    let count = || service.log().matches("reloaded").count();
    let before = count();
    service.signal("HUP");
    until("the reload", || (count() > before).then_some(()));
}

/// Something that becomes of a file.
type Damage = Box<dyn Fn(&Path)>;

/// What can become of a file, by name.
fn damages(sound: &str) -> Vec<(&'static str, Damage)> {
    let write = |bytes: Vec<u8>| -> Damage { Box::new(move |path: &Path| fs::write(path, &bytes).unwrap()) };
    let half = sound.as_bytes()[..sound.len() / 2].to_vec();
    vec![
        ("missing", Box::new(|_: &Path| {})),
        ("a folder", Box::new(|path: &Path| fs::create_dir(path).unwrap())),
        ("empty", write(Vec::new())),
        ("a line break", write(b"\n".to_vec())),
        ("white space", write(b" \t\r\n \n".to_vec())),
        ("a comment", write(b"# admin = \"the-admin-key-0123456789\"\n".to_vec())),
        ("cut at half", write(half)),
        ("zeros", write(vec![0; 200])),
        ("noise", write((0..200_u32).map(|i| (i * 37 % 251) as u8 | 0x80).collect())),
        ("something else", write(b"{\"admin\": \"the-admin-key-0123456789\"}".to_vec())),
        ("far too large", write([b"#".repeat(2 << 20), sound.as_bytes().to_vec()].concat())),
    ]
}

fn damage(path: &Path, how: &dyn Fn(&Path)) {
    if path.is_dir() {
        fs::remove_dir(path).unwrap();
    } else if path.exists() {
        fs::remove_file(path).unwrap();
    }
    how(path);
}

#[test]
fn keys_stay_in_force_when_their_file_is_unusable() {
    for (addr, insecure) in [("127.0.0.1:0", ""), ("0.0.0.0:0", ""), ("0.0.0.0:0", "--insecure")] {
        let sandbox = Sandbox::new();
        let sound = format!("admin = \"{KEY}\"\n");
        sandbox.write("keys.toml", &sound);
        let line = format!("serve {} --data-dir data --keys keys.toml --addr {addr} {insecure}", model());
        let service = Service::launch(&sandbox, sandbox.command(&line)).unwrap();
        let path = sandbox.path().join("keys.toml");
        let keyless = ("no key", Box::new(|path: &Path| fs::write(path, "[keys]\n").unwrap()) as Damage);
        let weak =
            ("a weak key", Box::new(|path: &Path| fs::write(path, "admin = \"short\"\n").unwrap()) as Damage);
        for (name, how) in damages(&sound).into_iter().chain([keyless, weak]) {
            damage(&path, &*how);
            let said = complaint(&service);
            assert!(said.contains("keys.toml") && !said.contains(KEY), "{name}: {said}");
            assert_eq!(
                [status(&service, KEY), status(&service, ""), status(&service, OTHER)],
                [200, 401, 401],
                "{name}"
            );
        }
        damage(&path, &|path| fs::write(path, format!("admin = \"{OTHER}\"\n")).unwrap());
        reload(&service);
        assert_eq!([status(&service, OTHER), status(&service, KEY), status(&service, "")], [200, 401, 401]);
    }
}

#[test]
fn a_file_without_a_key_stops_the_start() {
    let sandbox = Sandbox::new();
    for (name, how) in damages(&format!("admin = \"{KEY}\"\n")) {
        damage(&sandbox.path().join("keys.toml"), &*how);
        // Also where the environment has a key: somebody meant the file to have one.
        for key in ["", KEY] {
            let line = format!("serve {} --data-dir none --keys keys.toml --addr 127.0.0.1:0", model());
            let mut command = sandbox.command(&line);
            command.env("OCELLI_KEY_ADMIN", key);
            let run = finish(command, &[]);
            assert!(matches!(run.code, Some(1 | 2)) && run.stderr.contains("keys.toml"), "{name}: {run:#?}");
            assert!(!run.stderr.contains(KEY), "{name}: {run:#?}");
            if ["empty", "white space", "a comment"].contains(&name) {
                assert!(run.code == Some(2) && run.stderr.contains("holds no key"), "{name}: {run:#?}");
            }
        }
    }
    assert!(!sandbox.path().join("none").exists());
}

#[test]
fn keys_of_the_environment_stay_when_the_file_is_gone() {
    let sandbox = Sandbox::new();
    sandbox.write("keys.toml", format!("data = \"{OTHER}\"\n"));
    let line = format!("serve {} --data-dir data --keys keys.toml --addr 0.0.0.0:0", model());
    let mut command = sandbox.command(&line);
    command.env("OCELLI_KEY_ADMIN", KEY);
    let service = Service::launch(&sandbox, command).unwrap();
    assert_eq!([status(&service, KEY), status(&service, OTHER)], [200, 200]);
    sandbox.write("keys.toml", "");
    complaint(&service);
    assert_eq!([status(&service, KEY), status(&service, OTHER), status(&service, "")], [200, 200, 401]);
    // Without a file, there is nothing to lose.
    let line = format!("serve {} --data-dir other --addr 0.0.0.0:0", model());
    let mut command = sandbox.command(&line);
    command.env("OCELLI_KEY_ADMIN", KEY);
    let service = Service::launch(&sandbox, command).unwrap();
    reload(&service);
    assert_eq!([status(&service, KEY), status(&service, "")], [200, 401]);
}

#[test]
fn every_person_can_have_a_key() {
    let sandbox = Sandbox::new();
    let file = |keys: &[(&str, &str, &str)]| -> String {
        keys.iter()
            .map(|(name, scope, key)| format!("[keys.{name}]\nscope = \"{scope}\"\nkey = \"{key}\"\n"))
            .collect()
    };
    let (ann, bob) = ("the-key-of-ann-0123456789", "the-key-of-bob-0123456789");
    sandbox.write(
        "keys.toml",
        format!("admin = \"{KEY}\"\n") + &file(&[("ann", "data", ann), ("bob", "predict", bob)]),
    );
    let service = Service::start(&sandbox, &format!("{} --keys keys.toml --log-level debug", model()));
    assert_eq!([KEY, ann, bob, ""].map(|key| status(&service, key)), [200, 200, 403, 401]);
    let asked = |name: &str| service.log().contains(&format!("caller=\"{name}\""));
    until("the names of those who asked", || {
        (asked("admin") && asked("ann") && asked("anybody")).then_some(())
    });
    // Bob gets a higher scope, and Ann's key is removed.
    sandbox.write("keys.toml", file(&[("bob", "admin", bob)]));
    reload(&service);
    assert_eq!([KEY, ann, bob, ""].map(|key| status(&service, key)), [401, 401, 200, 401]);
    for (bad, word) in [
        (file(&[("ann", "data", bob), ("bob", "predict", bob)]), "same key"),
        (file(&[("ann", "boss", ann)]), "predict, data or admin"),
        (file(&[("ann", "data", "short")]), "16 to 512"),
        (file(&[("\"a b\"", "data", ann)]), "1 to 64"),
        (file(&[("ann", "data", ann), ("ann", "data", KEY)]), "line"),
        (
            (0..1001)
                .map(|i| file(&[(&format!("n{i}"), "data", &format!("a-key-of-somebody-{i}"))]))
                .collect(),
            "1000",
        ),
    ] {
        sandbox.write("keys.toml", &bad);
        let said = complaint(&service);
        assert!(said.contains(word) && said.contains("keys.toml") && !said.contains(bob), "{said}");
        assert_eq!(status(&service, bob), 200);
    }
    assert!(![ann, bob, KEY].iter().any(|key| service.log().contains(key)));
}

#[test]
fn a_read_only_service_changes_nothing() {
    let sandbox = Sandbox::new();
    let service = Service::start(&sandbox, &format!("{} --read-only", model()));
    let refused = service.post("/v1/models/rollback", "", b"");
    assert_eq!((refused.status, refused.json()["code"].as_str()), (403, Some("read_only")), "{refused:?}");
    assert_eq!(service.post("/upload-data", "application/zip", b"PK").json()["code"], "read_only");
    assert_eq!(service.get("/v1/models").status, 200);
    assert!(service.json("/openapi.json")["paths"]["/retrain"].is_null());
}

#[test]
fn a_key_file_that_never_ends_blocks_nothing() {
    let sandbox = Sandbox::new();
    sandbox.write("keys.toml", format!("admin = \"{KEY}\"\n"));
    let service = Service::start(&sandbox, &format!("{} --keys keys.toml", model()));
    let path = sandbox.path().join("keys.toml");
    fs::remove_file(&path).unwrap();
    if !Command::new("mkfifo").arg(&path).status().is_ok_and(|status| status.success()) {
        println!("SKIPPED: there is no mkfifo");
        return;
    }
    service.signal("HUP");
    // Opens when the service has opened the other end, which then waits for what we write.
    let pipe = File::options().write(true).open(&path).unwrap();
    assert_eq!([status(&service, KEY), status(&service, "")], [200, 401]);
    drop(pipe);
    until("the complaint", || service.log().contains("holds no key").then_some(()));
    assert_eq!([status(&service, KEY), status(&service, "")], [200, 401]);
    assert_eq!(service.stop("TERM"), Some(0));
}
