//! Running the program in a folder of its own.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

/// Far above what any call takes: a call that hangs fails its test and not the whole suite.
const TIMEOUT: Duration = Duration::from_secs(120);

/// A folder for one test, gone after it, in which the program is run.
pub(crate) struct Sandbox(TempDir);

/// What one call of the program left.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        Sandbox(TempDir::new().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a file and the folders above it.
    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// The program with its arguments, split at spaces.
    pub(crate) fn command(&self, line: &str) -> Command {
        command(self.path(), line)
    }

    /// Runs it to its end.
    pub(crate) fn run(&self, line: &str) -> Run {
        finish(self.command(line), &[])
    }

    /// Runs it to a good end and gives its standard output.
    pub(crate) fn ok(&self, line: &str) -> String {
        self.run(line).ok()
    }
}

impl Run {
    /// The standard output of a call that went well.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self.stdout
    }

    /// The JSON objects of the standard output, one a line.
    #[track_caller]
    pub(crate) fn json_lines(&self) -> Vec<Value> {
        json_lines(&self.stdout)
    }
}

/// `ocelli serve` on a free port, ended with the test.
pub(crate) struct Server {
    child: Option<Child>,
    pub(crate) addr: String,
}

impl Server {
    /// Serves with these arguments; the built-in model where they name none.
    pub(crate) fn start(sandbox: &Sandbox, args: &str) -> Self {
        Server::launch(sandbox.command(&format!("serve {args} --addr 127.0.0.1:0 --drain-delay 0")))
            .unwrap_or_else(|run| panic!("{run:#?}"))
    }

    /// Starts a service; what it left where it did not come to listen.
    pub(crate) fn launch(mut command: Command) -> Result<Self, Run> {
        let mut child = command.spawn().unwrap();
        let mut first = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut first).unwrap();
        let addr = first.trim().strip_prefix("listening on ").and_then(|url| url.split_once("://"));
        match addr {
            Some((_, addr)) => Ok(Server { addr: addr.to_owned(), child: Some(child) }),
            None => Err(wait(child)),
        }
    }

    /// The process.
    pub(crate) fn id(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Sends a signal and gives the exit code.
    pub(crate) fn stop(mut self, name: &str) -> Option<i32> {
        signal(self.id(), name);
        self.wait()
    }

    /// Waits for its end and gives the exit code.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        wait(self.child.take().unwrap()).code
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[track_caller]
pub(crate) fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

/// The number in the last line of the form `test accuracy 0.9213`.
#[track_caller]
pub(crate) fn accuracy(stdout: &str) -> f32 {
    let line = stdout.lines().rev().find_map(|line| line.strip_prefix("test accuracy "));
    line.unwrap_or_else(|| panic!("no line `test accuracy`: {stdout}")).parse().unwrap()
}

pub(crate) fn command(folder: &Path, line: &str) -> Command {
    // Another build of the same sources, say the one that ships, where it is named.
    let program = std::env::var_os("OCELLI_TEST_PROGRAM").unwrap_or(env!("CARGO_BIN_EXE_ocelli").into());
    let mut command = Command::new(program);
    command.args(line.split_whitespace()).current_dir(folder);
    for name in ["NO_COLOR", "CLICOLOR_FORCE", "TERM"] {
        command.env_remove(name);
    }
    // f32 where nothing else is asked for, on every machine: see `precision.rs`.
    command.env("OCELLI_TILES", "off").env_remove("OCELLI_PRECISION");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs a command to its end with `input` on its standard input.
pub(crate) fn finish(mut command: Command, input: &[u8]) -> Run {
    if !input.is_empty() {
        command.stdin(Stdio::piped());
    }
    let mut child = command.spawn().unwrap();
    if let Some(mut stdin) = child.stdin.take() {
        // A program that refuses its arguments never reads.
        let _ = std::io::Write::write_all(&mut stdin, input);
    }
    wait(child)
}

/// Waits for the end of a child and collects what it says.
pub(crate) fn wait(mut child: Child) -> Run {
    let stdout = child.stdout.take().map(collect);
    let stderr = child.stderr.take().map(collect);
    let id = child.id();
    let (sender, ended) = channel();
    let waiter = thread::spawn(move || {
        let status = child.wait().unwrap();
        let _ = sender.send(());
        status
    });
    if ended.recv_timeout(TIMEOUT).is_err() {
        signal(id, "KILL");
        panic!("a call took longer than {TIMEOUT:?}");
    }
    let text = |reader: Option<thread::JoinHandle<Vec<u8>>>| {
        reader.map_or(String::new(), |r| String::from_utf8(r.join().unwrap()).unwrap())
    };
    let run = Run { code: waiter.join().unwrap().code(), stdout: text(stdout), stderr: text(stderr) };
    assert!(!run.stderr.contains("panicked"), "{run:#?}");
    run
}

fn collect(mut stream: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        bytes
    })
}

/// Sends a signal by name to a process that a test has started.
pub(crate) fn signal(id: u32, name: &str) {
    let status = Command::new("kill").args([format!("-{name}"), id.to_string()]).status().unwrap();
    assert!(status.success(), "kill -{name} {id}");
}
