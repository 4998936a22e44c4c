//! The service under faults: the real program on real sockets and a real disk, with kills, damaged files, overload and broken clients.
//!
//! One file for each kind of fault. What a test repeats (kills, swaps, clients), it repeats a few times in `cargo test` and often
//! in the long form, `make faults`, which also prints what it measured. Times are printed, never asserted: other work
//! runs on the machine too.
#![allow(
    clippy::print_stdout,
    reason = "what the long form measured, and what a system does not let it test"
)]

// Following a job.
mod events;
// Upload, train, promote, roll back, restart.
mod full_cycle;
// What asks for training and what it is told.
mod jobs;
// What people look at and change by hand.
mod review;
// Malicious archives and images.
mod hostile;
// Archives under every content type and field name.
mod bodies;
// Archives that are looked over before they are uploaded.
mod inspect;
// kill -9 at any moment.
mod kills;
// Files of the data folder that are damaged or gone.
mod damage;
// Candidates that must not take over.
mod gate;
// A full data folder, and hundreds of jobs.
mod disk;
// Syncs that take long.
mod slow_disk;
// One version after another under load.
mod swaps;
// Several models: within their memory, trained one by one, pushed.
mod models;
// Many clients, each with its own answer.
mod concurrent;
// Clients that send or read too slowly.
mod slow;
// Connections over the limits.
mod limits;
// More requests than can be answered.
mod overload;
// Keys, origins, hosts, TLS.
mod access;
// Keys and certificates reloaded, also from unusable files.
mod reload;
// The process of a training job: its lines, its limits, its end.
mod child;
// All kinds of work for a long time, with flat memory.
mod soak;
// Shutdown, and a disk that is full.
mod drain;
// Many machines over one shared store.
pub(crate) mod replicas;

use std::fs::{self, File};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::http_client::{Answer, request, try_request};
use crate::shapes::{self, Rng, TRAINED, photo};
use crate::support::{Run, Sandbox, Server, signal};
use ocelli_testing::hostile::zips::{Part, zip};

/// Far longer than anything here takes: what hangs fails its own test and not the whole suite.
const PATIENCE: Duration = Duration::from_secs(100);

/// The first number in the short form, the second one in the long form.
fn of_form<T>(short: T, long: T) -> T {
    if is_long() { long } else { short }
}

/// Whether the long form was asked for.
fn is_long() -> bool {
    std::env::var("OCELLI_LONG").is_ok_and(|value| value == "1")
}

/// Waits until there is something.
#[track_caller]
fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "waited for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// `ocelli serve` with the data folder `data` of a sandbox and its log in a file: a pipe that nobody reads would fill up
/// and stop it.
struct Service {
    server: Server,
    log: PathBuf,
}

impl Deref for Service {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl Service {
    /// Serves the model that all tests share, or what the data folder says.
    fn start(sandbox: &Sandbox, args: &str) -> Service {
        Service::launch(sandbox, serve(sandbox, args)).unwrap_or_else(|run| panic!("{run:#?}"))
    }

    /// Starts a service; what it left where it did not come to listen.
    fn launch(sandbox: &Sandbox, mut command: Command) -> Result<Service, Run> {
        let log = sandbox.path().join("service.log");
        command.stderr(File::options().create(true).append(true).open(&log).unwrap());
        match Server::launch(command) {
            Ok(server) => Ok(Service { server, log }),
            Err(run) => Err(Run { stderr: fs::read_to_string(&log).unwrap(), ..run }),
        }
    }

    fn get(&self, path: &str) -> Answer {
        request(&self.addr, &format!("GET {path}"), "", b"")
    }

    /// The JSON at a path.
    #[track_caller]
    fn json(&self, path: &str) -> Value {
        let answer = self.get(path);
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.json()
    }

    fn post(&self, path: &str, content_type: &str, body: &[u8]) -> Answer {
        request(&self.addr, &format!("POST {path}"), content_type, body)
    }

    fn delete(&self, path: &str) -> Answer {
        request(&self.addr, &format!("DELETE {path}"), "", b"")
    }

    /// The answer to one image, which must be one.
    #[track_caller]
    fn predict(&self, image: &[u8]) -> Value {
        let answer = self.post("/predict", "image/png", image);
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        answer.json()
    }

    /// The version that serves.
    #[track_caller]
    fn version(&self) -> String {
        text(&self.json("/status")["model"]["version"])
    }

    /// Adds an archive to a data set.
    #[track_caller]
    fn upload(&self, dataset: &str, archive: &[u8]) -> Value {
        let answer = self.post(&format!("/upload-data?dataset={dataset}"), "application/zip", archive);
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        answer.json()
    }

    /// Asks for training; the number of the job.
    #[track_caller]
    fn retrain(&self, request: &Value) -> u64 {
        let answer = self.post("/retrain", "application/json", request.to_string().as_bytes());
        assert_eq!(answer.status, 202, "{}", String::from_utf8_lossy(&answer.body));
        let job = answer.json();
        assert_eq!(answer.header("location"), Some(format!("/v1/jobs/{}", job["id"]).as_str()));
        job["id"].as_u64().unwrap()
    }

    #[track_caller]
    fn job(&self, number: u64) -> Value {
        self.json(&format!("/v1/jobs/{number}"))
    }

    /// A job once it is over.
    #[track_caller]
    fn ended(&self, number: u64) -> Value {
        until("the end of a job", || Some(self.job(number)).filter(has_ended))
    }

    fn signal(&self, name: &str) {
        signal(self.id(), name);
    }

    /// What it wrote to its log.
    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Sends a signal and gives the exit code.
    fn stop(self, name: &str) -> Option<i32> {
        self.signal(name);
        self.wait()
    }

    /// Waits for its end and gives the exit code.
    fn wait(mut self) -> Option<i32> {
        self.server.wait()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let log = self.log();
        if thread::panicking() {
            println!("the service said:\n{log}");
        } else {
            assert!(!log.contains("panicked"), "{log}");
        }
    }
}

/// The command that serves in a sandbox.
fn serve(sandbox: &Sandbox, args: &str) -> Command {
    let given = if args.contains("--data-dir") { args.to_owned() } else { format!("{args} --data-dir data") };
    // Beside a whole suite, training that takes what others leave would take very long.
    sandbox.command(&format!("serve {given} --addr 127.0.0.1:0 --job-nice 0"))
}

/// Where the model is that all tests share.
fn model() -> String {
    TRAINED.run_dir.display().to_string()
}

fn has_ended(job: &Value) -> bool {
    !["queued", "running", "cancelling"].map(Value::from).contains(&job["state"])
}

#[track_caller]
fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

/// New photos of some classes.
fn photos(seed: u64, per_class: usize, classes: &[&str]) -> Vec<(String, Vec<u8>)> {
    let mut rng = Rng(seed);
    let all = classes.iter().flat_map(|class| (0..per_class).map(move |i| (class, i)));
    all.map(|(class, i)| (format!("{class}/{i}.png"), shapes::png(&photo(class, &mut rng)))).collect()
}

fn archive(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    zip(&files.iter().map(|(name, bytes)| Part::file(name, bytes)).collect::<Vec<_>>())
}

/// A request for a short training that always ends in a promotion.
fn short_training() -> Value {
    json!({ "epochs": 1, "gate": { "mode": "always" } })
}

/// All files below a folder, with their sizes; those that a service removes meanwhile, such as temporary ones, may be
/// missing.
fn listing(folder: &Path) -> Vec<(PathBuf, u64)> {
    assert!(folder.is_dir(), "{} is no folder", folder.display());
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in there(fs::read_dir(&folder)).into_iter().flatten().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else if let Some(metadata) = there(entry.metadata()) {
                found.push((entry.path(), metadata.len()));
            }
        }
    }
    found.sort();
    found
}

/// The result; `None` where a file is no longer there.
#[track_caller]
fn there<T>(result: std::io::Result<T>) -> Option<T> {
    match result {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        result => Some(result.unwrap()),
    }
}

/// Writes the shared model once more into a data folder, as a version whose labels begin with `prefix`: it is another
/// version, and its right answers are known. Gives the version.
fn add_renamed(sandbox: &Sandbox, data: &str, prefix: &str) -> String {
    use ocelli_engine::model_file::{ModelFile, version_id};
    let mut file = ModelFile::load(&TRAINED.run_dir.join("weights/best.ocelli")).unwrap();
    (file.training, file.probes) = (None, None);
    for class in &mut file.meta.classes {
        class.insert_str(0, prefix);
    }
    let version = version_id(&file.content_hash().unwrap());
    let folder = sandbox.path().join(data).join("models").join(&file.meta.name);
    fs::create_dir_all(&folder).unwrap();
    file.save(&folder.join(format!("{version}.ocelli"))).unwrap();
    version
}

/// A number of `/proc/PID/status` in KiB, such as `VmHWM`; none where the system has no such file.
fn memory(service: &Service, name: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", service.id())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Open file descriptors; none where the system does not say.
fn descriptors(service: &Service) -> Option<usize> {
    Some(fs::read_dir(format!("/proc/{}/fd", service.id())).ok()?.count())
}

/// The offline answers of the shared model, by `ocelli predict`, in the order of the images.
fn offline(sandbox: &Sandbox, images: &[Vec<u8>]) -> Vec<Value> {
    for (i, image) in images.iter().enumerate() {
        sandbox.write(&format!("offline/{i:05}.png"), image);
    }
    sandbox.run(&format!("predict -m {} offline --json -k 3", model())).json_lines()
}

/// A request that may meet a dead service.
fn attempt(addr: &str, line: &str, content_type: &str, body: &[u8]) -> std::io::Result<Answer> {
    try_request(addr, line, &[("content-type", content_type)], body)
}
