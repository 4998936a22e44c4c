//! With the real `mpirun`, on this machine.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::shapes;
use crate::support::{Run, Sandbox, accuracy, finish, json_lines, signal, wait};

/// Two networks: one whose images no layer joins, one with batch normalisations.
const MODELS: [&str; 2] = ["--model keras-cnn --lr 0.001", "--model resnet9 --lr 0.00002"];
// A rate at which losses fall steadily: where they leap, a difference in the last bit grows tenfold in a few steps.
const RECIPE: &str = "--size 24 --epochs 3 --batch 16 --seed 3 --augment light --threads 1 --optimizer sgd --momentum 0.5 --log-steps --json";

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    shapes::write_data_set(&sandbox.path().join("shapes"), 40);
    sandbox
}

/// The program by `mpirun` on so many processes, more than there are cores if need be.
fn mpirun(sandbox: &Sandbox, ranks: usize, line: &str) -> Command {
    let alone = sandbox.command(line);
    let mut command = Command::new("mpirun");
    command.arg("-n").arg(ranks.to_string()).arg(alone.get_program()).args(alone.get_args());
    command.current_dir(sandbox.path());
    for (name, value) in alone.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    // What Open MPI asks for where tests run as root, or on fewer cores than processes; MPICH knows none of it.
    command.envs([("OMPI_ALLOW_RUN_AS_ROOT", "1"), ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")]);
    command
        .envs([("OMPI_MCA_rmaps_base_oversubscribe", "1"), ("OMPI_MCA_hwloc_base_binding_policy", "none")]);
    command.stdin(std::process::Stdio::null());
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    command
}

fn losses(events: &[Value]) -> Vec<f64> {
    let steps = events.iter().filter(|event| event["type"] == "step_loss");
    steps.map(|event| event["loss"].as_f64().unwrap()).collect()
}

fn done(events: &[Value]) -> f64 {
    let done = events.iter().find(|event| event["type"] == "done").unwrap();
    done["accuracy"].as_f64().unwrap()
}

fn run_folders(sandbox: &Sandbox) -> usize {
    std::fs::read_dir(sandbox.path().join("runs")).unwrap().count()
}

/// The processes that train in a sandbox.
fn processes(sandbox: &Sandbox) -> Vec<u32> {
    let is_own = |entry: &Path| {
        let name = std::fs::read_link(entry.join("exe")).ok()?;
        let place = std::fs::read_link(entry.join("cwd")).ok()?;
        (name.ends_with("ocelli") && place == sandbox.path().canonicalize().ok()?).then_some(())
    };
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter(|entry| is_own(&entry.path()).is_some())
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// The process of a rank.
fn process_of(sandbox: &Sandbox, rank: usize) -> u32 {
    let is_rank = |id: &u32| {
        let variables = std::fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
        let wanted = [format!("OMPI_COMM_WORLD_RANK={rank}"), format!("PMI_RANK={rank}")];
        variables.split(|&byte| byte == 0).any(|own| wanted.iter().any(|name| own == name.as_bytes()))
    };
    processes(sandbox).into_iter().find(is_rank).expect("the rank runs")
}

/// Starts a job, waits for a step of the second epoch and gives a signal to a rank; how the job ended and after how long.
fn disturbed(sandbox: &Sandbox, line: &str, (rank, name): (usize, &str)) -> (Run, Duration) {
    let mut child: Child = mpirun(sandbox, 3, line).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let is_second = |line: &str| {
        let event: Value = serde_json::from_str(line).unwrap();
        event["type"] == "step_loss" && event["epoch"] == 2
    };
    assert!(lines.by_ref().map_while(Result::ok).any(|line| is_second(&line)));
    signal(process_of(sandbox, rank), name);
    let start = Instant::now();
    std::thread::spawn(move || lines.count());
    let run = wait(child);
    (run, start.elapsed())
}

#[test]
fn losses_and_accuracy_are_those_of_one_process() {
    let sandbox = sandbox();
    for model in MODELS {
        let line = format!("train shapes {model} {RECIPE}");
        let alone = json_lines(&sandbox.ok(&line));
        for ranks in [1, 2, 4] {
            let before = run_folders(&sandbox);
            let run = finish(mpirun(&sandbox, ranks, &line), &[]);
            assert_eq!(run.code, Some(0), "{run:#?}");
            let events = run.json_lines();
            assert_eq!(run_folders(&sandbox), before + 1, "one folder");
            let (a, b) = (losses(&alone), losses(&events));
            assert!(a.len() == b.len() && !a.is_empty());
            for (step, (a, b)) in a.iter().zip(&b).enumerate() {
                assert!((a - b).abs() < 3e-5 * a.max(1.0), "{model} step {step} on {ranks}: {a} {b}");
            }
            assert!((done(&alone) - done(&events)).abs() < 0.04);
            let told = events.iter().filter(|event| event["type"] == "communication").count();
            assert_eq!(told, if ranks > 1 { 3 } else { 0 });
            let again = finish(mpirun(&sandbox, ranks, &line), &[]);
            assert_eq!(losses(&again.json_lines()), b, "the same bits on as many ranks");
        }
    }
}

#[test]
fn a_killed_rank_ends_the_job_and_it_is_resumed_on_another_number() {
    let sandbox = sandbox();
    let line = format!("train shapes {} {RECIPE}", MODELS[1]);
    let whole = losses(&json_lines(&sandbox.ok(&line)));
    for rank in [0, 2] {
        let (run, took) = disturbed(&sandbox, &format!("{line} --name killed{rank}"), (rank, "KILL"));
        assert_ne!(run.code, Some(0), "{run:#?}");
        assert!(took < Duration::from_secs(30), "{took:?}");
        assert!(processes(&sandbox).is_empty());
        let resume = format!("train --resume runs/killed{rank}-001 --log-steps --json");
        let resumed = finish(mpirun(&sandbox, 2, &resume), &[]);
        assert_eq!(resumed.code, Some(0), "{resumed:#?}");
        let rest = losses(&resumed.json_lines());
        let from = whole.len() - rest.len();
        assert_eq!(from, whole.len() / 3, "the first epoch was saved");
        for (a, b) in whole[from..].iter().zip(&rest) {
            assert!((a - b).abs() < 3e-5 * a.max(1.0), "{a} {b}");
        }
    }
}

#[test]
fn a_stopped_rank_is_named_after_the_timeout() {
    let sandbox = sandbox();
    for rank in [0, 1] {
        let line =
            format!("train shapes {} {RECIPE} --epochs 300 --rank-timeout 3s --name s{rank}", MODELS[0]);
        let line = line.replace("--epochs 3 ", "");
        let (run, took) = disturbed(&sandbox, &line, (rank, "STOP"));
        assert_ne!(run.code, Some(0), "{run:#?}");
        assert!(took < Duration::from_secs(30), "{took:?}");
        assert!(run.stderr.contains(&format!("rank {rank} on host ")), "{run:#?}");
        assert!(run.stderr.contains("has said nothing for"), "{run:#?}");
        assert!(processes(&sandbox).is_empty());
    }
}

#[test]
fn people_see_one_program() {
    let sandbox = sandbox();
    let line = "train shapes --size 24 --epochs 2 --batch 16 --seed 3 --threads 1";
    let run = finish(mpirun(&sandbox, 2, line), &[]);
    assert_eq!(run.code, Some(0), "{run:#?}");
    assert!(accuracy(&run.stdout) > 0.3);
    assert_eq!(run.stdout.matches("test accuracy").count(), 1);
    let missing = finish(mpirun(&sandbox, 2, "train nowhere --threads 1"), &[]);
    assert_ne!(missing.code, Some(0));
    assert!(missing.stderr.contains("nowhere"), "{missing:#?}");
}
