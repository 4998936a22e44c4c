//! Replicas of a shared store: killed, started anew, with a store that is damaged or away, behind nginx under load.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Service, add_renamed, attempt, is_long, model, of_form, photos, serve, text, until};
use crate::shapes::CLASSES;
use crate::support::{Sandbox, signal};

/// The store is looked at far more often than by default, so that a test waits less.
const QUICK: &str = "poll_interval = 0.2\n";

/// What all replicas must have after a promotion, with the default interval.
const TOGETHER: Duration = Duration::from_secs(10);

/// A sandbox with a store and settings.
fn sandbox(settings: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path().join("store")).unwrap();
    sandbox.write("settings.toml", settings);
    sandbox
}

fn writer(sandbox: &Sandbox) -> Service {
    Service::start(
        sandbox,
        &format!("{} --data-dir writer --publish-to store --config settings.toml", model()),
    )
}

/// A replica, which may not have a model yet.
fn replica(sandbox: &Sandbox, number: usize) -> Service {
    replica_at(sandbox, number, "127.0.0.1:0")
}

fn replica_at(sandbox: &Sandbox, number: usize, addr: &str) -> Service {
    let args = format!("--data-dir cache-{number} --replica-of store --config settings.toml --addr {addr}");
    let command = sandbox.command(&format!("serve {args}"));
    Service::launch(sandbox, command).unwrap_or_else(|run| panic!("{run:#?}"))
}

fn wait_ready(service: &Service) {
    until("a replica with a model", || (service.get("/health/ready").status == 200).then_some(()));
}

/// What a service says of the one model in the store.
fn shared(service: &Service) -> (Value, Value) {
    let store = service.json("/status")["shared_store"].clone();
    let models = store["models"].as_object().unwrap();
    let model = models.values().next().cloned().unwrap_or_default();
    (store, model)
}

/// The newest pointer and its number.
fn newest(sandbox: &Sandbox) -> (PathBuf, u64) {
    published(sandbox).expect("a pointer is published")
}

/// The same, where there is one already.
fn published(sandbox: &Sandbox) -> Option<(PathBuf, u64)> {
    let models = fs::read_dir(sandbox.path().join("store/models")).ok()?.next()?.unwrap().path();
    let pointers = fs::read_dir(models.join("pointers")).ok()?.map(|entry| entry.unwrap().path());
    let newest = pointers.filter(|path| path.extension().is_some_and(|e| e == "json")).max()?;
    let number = newest.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    Some((newest, number))
}

/// Writes an object as number `number`, as nobody would who publishes.
fn write_pointer(sandbox: &Sandbox, number: u64, bytes: &[u8]) {
    let (path, _) = newest(sandbox);
    fs::write(path.with_file_name(format!("{number:011}.json")), bytes).unwrap();
}

fn promote(writer: &Service, version: &str) {
    let answer = writer.post(&format!("/v1/models/{version}/promote"), "", b"");
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[test]
fn a_replica_waits_for_its_first_model_alive_and_not_ready() {
    let sandbox = sandbox(QUICK);
    let image = &photos(1, 1, &["circle"])[0].1;
    let waiting = replica(&sandbox, 1);
    for _ in 0..2 {
        assert_eq!(waiting.get("/health/live").status, 200);
        for path in ["/health/ready", "/status", "/nowhere"] {
            let answer = waiting.get(path);
            assert_eq!((answer.status, &answer.json()["code"]), (503, &"starting".into()), "{path}");
        }
        assert_eq!(waiting.post("/predict", "image/png", image).status, 503);
    }
    assert_eq!(waiting.stop("TERM"), Some(0));

    let waiting = replica(&sandbox, 1);
    let writer = writer(&sandbox);
    wait_ready(&waiting);
    assert_eq!(waiting.predict(image)["predictions"], writer.predict(image)["predictions"]);
    assert_eq!(waiting.version(), writer.version());
    // What it is, it is by the store alone.
    for path in ["/retrain", "/upload-data", &format!("/v1/models/{}/promote", writer.version())] {
        let answer = waiting.post(path, "application/json", b"{}");
        assert_eq!((answer.status, &answer.json()["code"]), (403, &"read_only".into()), "{path}");
    }
    let (store, model) = shared(&waiting);
    assert_eq!(
        (&store["role"], &store["error"], &model["pointer"]),
        (&"replica".into(), &Value::Null, &1.into())
    );
    let (store, model) = shared(&writer);
    assert_eq!(
        (&store["role"], &store["error"], &model["pointer"]),
        (&"writer".into(), &Value::Null, &1.into())
    );
    let metrics = String::from_utf8(waiting.get("/metrics").body).unwrap();
    for line in
        ["ocelli_shared_store_up 1", "ocelli_shared_store_pointer{model=", "ocelli_shared_store_problems 0"]
    {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    assert_eq!((waiting.stop("TERM"), writer.stop("TERM")), (Some(0), Some(0)));
}

#[test]
fn a_replica_lives_on_its_cache_while_the_store_is_away_and_without_a_cache_on_the_store() {
    let sandbox = sandbox(QUICK);
    let image = &photos(1, 1, &["circle"])[0].1;
    let other = add_renamed(&sandbox, "writer", "other-");
    let writer = writer(&sandbox);
    let own = writer.version();
    let first = replica(&sandbox, 1);
    wait_ready(&first);
    let (store, away) = (sandbox.path().join("store"), sandbox.path().join("away"));
    fs::rename(&store, &away).unwrap();
    first.signal("KILL");
    first.wait();
    let first = replica(&sandbox, 1);
    wait_ready(&first);
    assert_eq!(text(&first.predict(image)["model"]["version"]), own);
    let (said, model) =
        until("the trouble", || Some(shared(&first)).filter(|(store, _)| !store["error"].is_null()));
    assert!(said["error"]["since"].as_u64() > Some(0) && model["pointer"] == 1, "{said}");
    promote(&writer, &other);
    fs::rename(&away, &store).unwrap();
    until("the new version", || (first.version() == other).then_some(()));
    until("no trouble", || shared(&first).0["error"].is_null().then_some(()));

    assert_eq!(first.stop("TERM"), Some(0));
    fs::remove_dir_all(sandbox.path().join("cache-1")).unwrap();
    let first = replica(&sandbox, 1);
    wait_ready(&first);
    assert_eq!(first.version(), other);
    // A damaged copy is mended from the store.
    assert_eq!(first.stop("TERM"), Some(0));
    let name = fs::read_dir(sandbox.path().join("cache-1/models")).unwrap().next().unwrap().unwrap().path();
    let file = name.join(format!("{other}.ocelli"));
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    let first = replica(&sandbox, 1);
    until("a whole copy", || (fs::read(&file).ok().as_ref() == Some(&bytes)).then_some(()));
    wait_ready(&first);
    until("the version of the store", || (first.version() == other).then_some(()));
}

#[test]
fn a_writer_that_is_killed_leaves_the_old_state_or_the_new_one() {
    let sandbox = sandbox("poll_interval = 0.02\n");
    let other = add_renamed(&sandbox, "writer", "other-");
    let mut own = String::new();
    for round in 0..of_form(3, 30) {
        let service = writer(&sandbox);
        if round == 0 {
            own = service.version();
        }
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                for i in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let next = [&other, &own][i % 2];
                    let line = format!("POST /v1/models/{next}/promote");
                    // It may be dead by now.
                    let _ = attempt(&service.addr, &line, "", b"");
                }
            });
            thread::sleep(Duration::from_millis(40 + 37 * (round as u64 % 11)));
            service.signal("KILL");
            stop.store(true, Ordering::Relaxed);
        });
        service.wait();
        // Killed before it published anything.
        if published(&sandbox).is_none() {
            continue;
        }
        let fresh = replica(&sandbox, 100 + round);
        wait_ready(&fresh);
        let version = fresh.version();
        assert!(version == own || version == other, "{version}");
        let (store, model) = shared(&fresh);
        assert!(model["problem"].is_null() && store["error"].is_null() && store["refused"] == 0, "{store}");
        assert_eq!(model["pointer"], newest(&sandbox).1);
    }
}

#[test]
fn addresses_and_arguments_that_will_not_do_are_told() {
    let sandbox = sandbox(QUICK);
    for (args, words) in [
        ("--replica-of s3://bucket/models", "--features cloud"),
        ("--publish-to gs://bucket/models", "--features cloud"),
        ("--replica-of ftp://host/models", "s3://BUCKET"),
        ("--replica-of s3://name:secret@bucket/models", "environment"),
        ("fashion-mnist --replica-of store", "cannot be used with"),
        ("--publish-to store --replica-of store", "cannot be used with"),
    ] {
        if cfg!(feature = "cloud") && words == "--features cloud" {
            continue;
        }
        let run = Service::launch(&sandbox, serve(&sandbox, args)).err().expect(args);
        assert_ne!(run.code, Some(0), "{args}: {run:#?}");
        assert!(run.stderr.contains(words) && !run.stderr.contains("secret"), "{args}: {run:#?}");
        fs::remove_file(sandbox.path().join("service.log")).unwrap();
    }
}

/// nginx with the configuration of deploy/, in front of three replicas.
struct Nginx {
    child: Child,
    addr: String,
}

impl Nginx {
    /// None where there is no nginx.
    fn start(sandbox: &Sandbox, replicas: &[Service]) -> Option<Nginx> {
        let program = nginx()?;
        // Free a moment ago.
        let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let mut config = include_str!("../../deploy/nginx.conf").to_owned();
        for (port, replica) in ["127.0.0.1:8081", "127.0.0.1:8082", "127.0.0.1:8083"].iter().zip(replicas) {
            assert!(config.contains(port));
            config = config.replace(port, &replica.addr);
        }
        assert!(config.contains("listen 127.0.0.1:8080;"));
        config = config.replace("listen 127.0.0.1:8080;", &format!("listen {addr};"));
        let folders: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("    {kind}_temp_path nginx-{kind};\n"))
            .concat();
        config = config.replacen("http {\n", &format!("http {{\n{folders}"), 1);
        // Workers of root become nobody, who may not write into the folder of a test.
        let user =
            if fs::metadata("/proc/self").is_ok_and(|meta| is_root(&meta)) { "user root; " } else { "" };
        let config = sandbox.write("nginx.conf", config);
        let globals = format!("{user}daemon off; pid nginx.pid; error_log nginx.log;");
        let child = Command::new(program)
            .args(["-e", "nginx.log", "-p"])
            .arg(sandbox.path())
            .arg("-c")
            .arg(config)
            .args(["-g", &globals])
            .current_dir(sandbox.path())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let nginx = Nginx { child, addr };
        until("nginx", || attempt(&nginx.addr, "GET /health/live", "", b"").ok().filter(|a| a.status == 200));
        Some(nginx)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        signal(self.child.id(), "TERM");
        let _ = self.child.wait();
    }
}

fn is_root(meta: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    meta.uid() == 0
}

/// Where nginx is; folders of administrators are not in everybody's path.
pub(crate) fn nginx() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    let found =
        std::env::split_paths(&path).chain(more).map(|folder| folder.join("nginx")).find(|p| p.is_file());
    if found.is_none() {
        println!("SKIPPED: there is no nginx");
    }
    found
}

/// Requests that go on while a test does harm.
#[derive(Default)]
struct Load {
    stop: AtomicBool,
    answered: AtomicUsize,
    failed: AtomicUsize,
}

impl Load {
    /// Asks until it is stopped.
    fn ask(&self, addr: &str, images: &[Vec<u8>]) {
        for image in images.iter().cycle() {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            match attempt(addr, "POST /predict", "image/png", image) {
                Ok(answer) if answer.status == 200 => self.answered.fetch_add(1, Ordering::Relaxed),
                failed => {
                    println!("failed: {failed:?}");
                    self.failed.fetch_add(1, Ordering::Relaxed)
                }
            };
            // Clients of a service that is not full.
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Waits until all replicas answer with a version, and says how long that took.
fn together(replicas: &[Service], version: &str) -> Duration {
    let started = Instant::now();
    while !replicas.iter().all(|replica| replica.version() == version) {
        assert!(started.elapsed() < TOGETHER, "not all replicas have {version} within {TOGETHER:?}");
        thread::sleep(Duration::from_millis(20));
    }
    started.elapsed()
}

fn pause(seconds: u64) {
    thread::sleep(Duration::from_secs(seconds));
}

#[test]
fn three_replicas_behind_nginx_answer_whatever_becomes_of_one_of_them_the_newest_object_and_the_store() {
    // The interval of the default: the ten seconds are promised with it.
    let sandbox = sandbox("");
    let images: Vec<Vec<u8>> = photos(1, 2, &CLASSES).into_iter().map(|(_, bytes)| bytes).collect();
    let others = [add_renamed(&sandbox, "writer", "other-"), add_renamed(&sandbox, "writer", "third-")];
    let writer = writer(&sandbox);
    let mut replicas: Vec<Service> = (1..=3).map(|number| replica(&sandbox, number)).collect();
    replicas.iter().for_each(wait_ready);
    let Some(nginx) = Nginx::start(&sandbox, &replicas) else { return };
    let load = Load::default();
    thread::scope(|scope| {
        let _stop = Stop(&load.stop);
        for _ in 0..3 {
            scope.spawn(|| load.ask(&nginx.addr, &images));
        }
        // One is killed, and started anew at its address.
        pause(1);
        replicas[0].signal("KILL");
        let addr = replicas[0].addr.clone();
        replicas.remove(0).wait();
        pause(of_form(1, 5));
        replicas.push(replica_at(&sandbox, 1, &addr));
        wait_ready(&replicas[2]);

        // A promotion, and back.
        promote(&writer, &others[0]);
        let there = together(&replicas, &others[0]);
        promote(&writer, &others[1]);
        let back = together(&replicas, &others[1]);
        println!("all replicas have the new version after {there:?} and {back:?}");

        // The newest object is half of one, and nobody is there to mend it.
        writer.signal("KILL");
        let (path, number) = newest(&sandbox);
        let whole = fs::read(path).unwrap();
        write_pointer(&sandbox, number + 1, &whole[..whole.len() / 2]);
        for replica in &replicas {
            until("the refusal", || {
                let problem = shared(replica).1["problem"]["reason"].clone();
                problem
                    .as_str()
                    .filter(|reason| reason.contains(&format!("pointer {} is refused", number + 1)))
                    .map(drop)
            });
            assert_eq!(replica.version(), others[1]);
        }

        // The store is away, and comes back.
        let (store, away) = (sandbox.path().join("store"), sandbox.path().join("away"));
        fs::rename(&store, &away).unwrap();
        for replica in &replicas {
            until("the trouble", || (!shared(replica).0["error"].is_null()).then_some(()));
        }
        pause(of_form(1, 20));
        fs::rename(&away, &store).unwrap();
        for replica in &replicas {
            until("no trouble", || shared(replica).0["error"].is_null().then_some(()));
            assert_eq!(replica.version(), others[1]);
        }
    });
    let (answered, failed) = (load.answered.into_inner(), load.failed.into_inner());
    println!("{answered} requests answered, {failed} failed");
    assert!(failed == 0 && answered > 100, "{answered} requests answered, {failed} failed");
    if is_long() {
        let counts = replicas.iter().map(|replica| replica.json("/status")["requests"].clone());
        println!("{}", json!(counts.collect::<Vec<_>>()));
    }
}

/// Ends the load also where a test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn two_writers_do_not_take_turns() {
    let sandbox = sandbox(QUICK);
    let other = add_renamed(&sandbox, "second", "other-");
    let first = writer(&sandbox);
    until("the first pointer", || (shared(&first).1["pointer"] == 1).then_some(()));
    let args = format!("{} --data-dir second --publish-to store --config settings.toml", model());
    let second = Service::start(&sandbox, &args);
    promote(&second, &other);
    until("the second one's pointer", || (shared(&second).1["pointer"] == 2).then_some(()));
    let problem = until("the first one's notice", || {
        Some(shared(&first).1["problem"].clone()).filter(|problem| !problem.is_null())
    });
    assert!(text(&problem["reason"]).contains("another writer"), "{problem}");
    let replica = replica(&sandbox, 1);
    wait_ready(&replica);
    assert_eq!((replica.version(), newest(&sandbox).1), (other, 2));
}
