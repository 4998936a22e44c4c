//! A run that is killed, interrupted or extended goes on as if nothing had happened.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Child;

use ocelli_engine::model_file::ModelFile;
use serde_json::Value;

use crate::shapes;
use crate::support::{Run, Sandbox, accuracy, signal, wait};

const RECIPE: &str = "--size 24 --epochs 4 --batch 8 --seed 3 --augment light";

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    shapes::write_data_set(&sandbox.path().join("shapes"), 40);
    sandbox
}

/// Everything in a model file that decides what it computes and how its training goes on.
#[derive(PartialEq)]
struct Bits {
    parameters: Vec<u32>,
    steps: Option<u64>,
    moments: Vec<Vec<u32>>,
}

impl Bits {
    fn of(path: &Path) -> Self {
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        let file = ModelFile::load(path).unwrap();
        let moments = file.training.iter().flat_map(|t| &t.moments).map(|m| bits(m)).collect();
        Bits { parameters: bits(file.model.params()), steps: file.training.map(|t| t.step), moments }
    }
}

#[track_caller]
fn assert_same_run(a: &Path, b: &Path) {
    for name in ["weights/best.ocelli", "weights/last.ocelli"] {
        assert!(Bits::of(&a.join(name)) == Bits::of(&b.join(name)), "{name} differs");
    }
    // All columns but the time.
    let rows = |run: &Path| -> Vec<String> {
        let text = fs::read_to_string(run.join("results.csv")).unwrap();
        let without_time = |line: &str| {
            line.split(',').enumerate().filter(|(i, _)| *i != 1).map(|(_, v)| v).collect::<Vec<_>>().join(",")
        };
        text.lines().map(without_time).collect()
    };
    assert_eq!(rows(a), rows(b));
}

/// Starts a run and reads its events until one of them is `done`.
fn start_until(sandbox: &Sandbox, line: &str, done: impl Fn(&Value) -> bool) -> Child {
    let mut child = sandbox.command(line).spawn().unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let mut lines = stdout.lines();
    let seen = lines.by_ref().map_while(Result::ok).any(|line| done(&serde_json::from_str(&line).unwrap()));
    if !seen {
        panic!("the run ended early: {:#?}", wait(child));
    }
    // Keeps the pipe open and empty while the child lives.
    std::thread::spawn(move || lines.for_each(drop));
    child
}

fn epoch_done(event: &Value, epoch: u64) -> bool {
    event["type"] == "epoch" && event["epoch"] == epoch
}

#[test]
fn killed_runs_resume_to_the_same_bits_on_any_number_of_threads() {
    let sandbox = sandbox();
    let whole = sandbox.ok(&format!("train shapes {RECIPE} --name whole --threads 2"));

    let line = format!("train shapes {RECIPE} --name killed --threads 1 --json");
    // Once in the first epoch, once in a later one.
    let mut child = start_until(&sandbox, &line, |event| event["type"] == "step");
    child.kill().unwrap();
    child.wait().unwrap();
    let line = "train --resume runs/killed-001 --json";
    let mut child = start_until(&sandbox, line, |event| epoch_done(event, 2));
    child.kill().unwrap();
    child.wait().unwrap();
    let resumed = sandbox.ok("train --resume runs/killed-001");

    assert_eq!(accuracy(&whole), accuracy(&resumed));
    assert_same_run(&sandbox.path().join("runs/whole-001"), &sandbox.path().join("runs/killed-001"));
}

/// Interrupts a run after its first epoch.
fn interrupted(sandbox: &Sandbox, name: &str) -> Run {
    let line = format!("train shapes {RECIPE} --name {name} --json");
    let child = start_until(sandbox, &line, |event| epoch_done(event, 1));
    signal(child.id(), "INT");
    wait(child)
}

#[test]
fn a_run_is_ended_early_by_finish() {
    let sandbox = sandbox();
    let run = interrupted(&sandbox, "cut");
    assert!(run.stderr.contains("with --finish added"), "{run:#?}");
    let text = sandbox.ok("train --resume runs/cut-001 --finish");
    assert!(text.contains("test accuracy "), "{text}");
    assert!(sandbox.path().join("runs/cut-001/report.html").is_file());
    for line in ["train shapes --finish", "train --resume runs/cut-001 --finish --epochs 9"] {
        assert_eq!(sandbox.run(line).code, Some(2), "{line}");
    }
}

#[test]
fn ctrl_c_saves_and_prints_the_command_that_goes_on() {
    let sandbox = sandbox();
    let run = interrupted(&sandbox, "cut");
    assert_eq!(run.code, Some(130), "{run:#?}");
    assert!(run.stderr.contains("a second Ctrl-C stops at once"), "{run:#?}");
    let command = run.stderr.lines().find_map(|line| line.split_once("go on with: ocelli ")).unwrap().1;
    assert_eq!(command, "train --resume runs/cut-001");
    sandbox.ok(command);
    sandbox.ok(&format!("train shapes {RECIPE} --name whole --quiet"));
    assert_same_run(&sandbox.path().join("runs/whole-001"), &sandbox.path().join("runs/cut-001"));

    // A finished run says so, and how to extend it.
    let run = sandbox.run(command);
    assert_eq!(run.code, Some(1), "{run:#?}");
    assert!(run.stderr.contains("has finished") && run.stderr.contains("--epochs 8"), "{run:#?}");
    sandbox.ok(&format!("{command} --epochs 5 -q"));
    let results = fs::read_to_string(sandbox.path().join("runs/cut-001/results.csv")).unwrap();
    assert_eq!(results.lines().count(), 1 + 5);
}

#[test]
fn only_a_run_folder_can_be_resumed() {
    let sandbox = Sandbox::new();
    sandbox.write("runs/empty/note.txt", "");
    for path in ["runs/empty", "runs/nowhere"] {
        let run = sandbox.run(&format!("train --resume {path}"));
        assert_eq!(run.code, Some(1), "{run:#?}");
        assert!(
            run.stderr.starts_with(&format!("error: {path}")) && run.stderr.contains("\nhint: "),
            "{run:#?}"
        );
    }
    let run = sandbox.run("train photos --resume runs/empty --lr 1");
    assert_eq!(run.code, Some(2), "{run:#?}");
}
