//! The process of a training job: its messages, its limits, how it ends and what it leaves.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use ocelli_engine::model_file::ModelFile;
use ocelli_pipeline::job::{FailureKind, JobMessage, JobOrder, JobSpec, Trained, memory_needed};
use ocelli_pipeline::{Event, Gate, Origins, Recipe, Rules};
use ocelli_server::{Child, Ended, Next, Worker};

use super::*;
use crate::support::wait;

/// Longer than any step takes here, on any machine.
const STUCK: Duration = Duration::from_secs(90);

fn worker() -> Worker {
    let program = std::env::var_os("OCELLI_TEST_PROGRAM").unwrap_or(env!("CARGO_BIN_EXE_ocelli").into());
    Worker { program: program.into() }
}

/// A job on made-up photos in the folder `data` of a sandbox.
fn spec(sandbox: &Sandbox, each: usize) -> JobSpec {
    let data = sandbox.path().join("data/shapes");
    shapes::write_data_set(&data, each);
    let recipe =
        Recipe { size: Some((24, 24)), epochs: 4, batch: 8, seed: 3, threads: 1, ..Recipe::default() };
    JobSpec {
        data,
        recipe,
        origins: Origins::new(),
        runs_dir: sandbox.path().join("data/runs"),
        run: None,
        finish: false,
        name: Some("job".to_owned()),
        data_name: None,
        start: None,
        serving: None,
        gate: Gate::default(),
        rules: Rules::default(),
        questions: Vec::new(),
        memory: Some(2 << 30),
    }
}

fn order(spec: &JobSpec) -> JobOrder {
    JobOrder { parent: std::process::id(), nice: 0, spec: spec.clone() }
}

fn start(spec: &JobSpec) -> Child {
    Child::start(&worker(), &order(spec), STUCK)
}

/// Listens until something is `right`, or to the end; takes up the name of the run.
fn listen(
    child: &mut Child,
    spec: &mut JobSpec,
    mut right: impl FnMut(&JobMessage) -> bool,
) -> Option<Ended> {
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        match child.next(Duration::from_millis(100)) {
            Next::Message(message) => {
                if let JobMessage::Event { event: Event::Model { run_dir, .. } } = &message {
                    assert!(!run_dir.contains('/'), "{run_dir}");
                    spec.run = Some(run_dir.clone());
                }
                if right(&message) {
                    return None;
                }
            }
            Next::Nothing => {}
            Next::Ended(ended) => return Some(ended),
        }
    }
    panic!("the job goes on and on");
}

fn end(child: &mut Child, spec: &mut JobSpec) -> Ended {
    listen(child, spec, |_| false).unwrap()
}

#[track_caller]
fn done(ended: Ended) -> Trained {
    match ended {
        Ended::Done(trained) => *trained,
        other => panic!("{other:?}"),
    }
}

fn is_step(message: &JobMessage) -> bool {
    matches!(message, JobMessage::Event { event: Event::Step { .. } })
}

/// The bits of the best and of the last weights.
fn bits(spec: &JobSpec, trained: &Trained) -> Vec<u32> {
    let run = spec.runs_dir.join(&trained.run);
    let file = |name: &str| ModelFile::load(&run.join("weights").join(name)).unwrap();
    let (best, last) = (file("best.ocelli"), file("last.ocelli"));
    let moments = last.training.iter().flat_map(|training| &training.moments).flatten();
    best.model.params().iter().chain(last.model.params()).chain(moments).map(|w| w.to_bits()).collect()
}

/// No process with this number is left, not even a zombie.
#[track_caller]
fn assert_gone(id: u32) {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    assert!(status.is_empty(), "{status}");
}

#[test]
fn a_job_killed_at_any_step_resumes_to_the_same_bits() {
    let sandbox = Sandbox::new();
    let spec = spec(&sandbox, 40);
    let mut whole = JobSpec { name: Some("whole".to_owned()), ..spec.clone() };
    let trained = done(end(&mut start(&whole.clone()), &mut whole));
    let expected = bits(&whole, &trained);

    let mut rng = Rng(11);
    let mut spec = spec;
    for _ in 0..of_form(4, 20) {
        spec.run = None;
        // Some are killed before they write anything.
        let mut lives = 0;
        let trained = loop {
            let mut child = start(&spec);
            let mut left = if lives < 4 { rng.next_u64() % 30 } else { u64::MAX };
            let ended = listen(&mut child, &mut spec, |_| {
                left = left.saturating_sub(1);
                left == 0
            });
            match ended {
                Some(ended) => break done(ended),
                None => {
                    let id = child.id();
                    child.kill();
                    let ended = end(&mut child, &mut spec);
                    // It may have been done in the same moment.
                    assert!(matches!(ended, Ended::Killed { signal: 9 } | Ended::Done(_)), "{ended:?}");
                    id.into_iter().for_each(assert_gone);
                    lives += 1;
                }
            }
        };
        assert!(bits(&spec, &trained) == expected, "after {lives} kills");
    }
}

#[test]
fn a_job_that_is_stopped_saves_its_state() {
    let sandbox = Sandbox::new();
    let mut spec = spec(&sandbox, 40);
    let mut whole = JobSpec { name: Some("whole".to_owned()), ..spec.clone() };
    let trained = done(end(&mut start(&whole.clone()), &mut whole));
    let expected = bits(&whole, &trained);
    // By its input, by the signal of a system that shuts down, before it has begun.
    for way in ["input", "TERM", "at once"] {
        spec.run = None;
        let mut child = start(&spec);
        if way != "at once" {
            let first = |message: &JobMessage| {
                matches!(message, JobMessage::Event { event: Event::Epoch { epoch: 1, .. } })
            };
            assert!(listen(&mut child, &mut spec, first).is_none(), "{way}");
        }
        match way {
            "TERM" => signal(child.id().unwrap(), "TERM"),
            _ => child.stop(),
        }
        let ended = end(&mut child, &mut spec);
        assert!(matches!(ended, Ended::Interrupted), "{way}: {ended:?}");
        let trained = done(end(&mut start(&spec.clone()), &mut spec));
        assert!(bits(&spec, &trained) == expected, "{way}");
    }
}

#[test]
fn a_dropped_job_is_killed_and_reaped() {
    let sandbox = Sandbox::new();
    let mut spec = spec(&sandbox, 40);
    let order = JobOrder { nice: 7, ..order(&spec) };
    let mut child = Child::start(&worker(), &order, STUCK);
    assert!(listen(&mut child, &mut spec, is_step).is_none());
    let id = child.id().unwrap();
    let read = |name: &str| fs::read_to_string(format!("/proc/{id}/{name}")).unwrap();
    if cfg!(target_os = "linux") {
        let limits = read("limits");
        let data = limits.lines().find(|line| line.starts_with("Max data size")).unwrap();
        assert_eq!(data.split_whitespace().nth(3), Some((2u64 << 30).to_string().as_str()), "{limits}");
        assert_eq!(read("oom_score_adj").trim(), "1000");
        let own: i64 = nice_of(&fs::read_to_string("/proc/self/stat").unwrap());
        assert_eq!(nice_of(&read("stat")), (own + 7).min(19));
        for thread in fs::read_dir(format!("/proc/{id}/task")).unwrap().flatten() {
            let stat = fs::read_to_string(thread.path().join("stat")).unwrap();
            assert_eq!(nice_of(&stat), (own + 7).min(19), "{stat}");
        }
    }
    drop(child);
    assert_gone(id);
}

/// The niceness in `/proc/ID/stat`.
fn nice_of(stat: &str) -> i64 {
    let fields = stat.rsplit_once(')').unwrap().1;
    fields.split_whitespace().nth(16).unwrap().parse().unwrap()
}

#[test]
fn memory_is_estimated_before_and_limited_while_it_runs() {
    let sandbox = Sandbox::new();
    let mut spec = spec(&sandbox, 12);
    let recipe = spec.recipe.clone();
    // Known before: both numbers.
    spec.memory = Some(100 << 20);
    spec.recipe =
        Recipe { model: "resnet18".to_owned(), size: Some((224, 224)), batch: 16, ..recipe.clone() };
    let ended = end(&mut start(&spec.clone()), &mut spec);
    let needed = memory_needed(&spec).unwrap().least().div_ceil(1 << 20);
    let Ended::OutOfMemory { limit: Some(_), reason: Some(reason) } = ended else { panic!("{ended:?}") };
    assert!(reason.contains(&format!("{needed} MiB")) && reason.contains("100 MiB"), "{reason}");

    // Not to be seen before: one photo among small ones is huge.
    spec.recipe = recipe;
    let huge = image::RgbImage::from_pixel(7900, 7900, image::Rgb([9, 9, 9]));
    fs::write(spec.data.join("circle/huge.png"), shapes::png(&huge)).unwrap();
    let mut child = start(&spec.clone());
    let ended = end(&mut child, &mut spec);
    assert!(
        matches!(ended, Ended::OutOfMemory { limit: Some(limit), reason: None } if limit == 100 << 20),
        "{ended:?}"
    );
    assert!(ended.to_string().contains("100 MiB"), "{ended}");
    spec.memory = Some(2 << 30);
    done(end(&mut start(&spec.clone()), &mut spec));
}

/// The estimate beside the peak that the kernel counted, which it must not be below by more than a tenth.
#[test]
fn the_estimate_of_memory_is_not_exceeded() {
    let sandbox = Sandbox::new();
    let spec = spec(&sandbox, 60);
    let small = Recipe { size: Some((32, 32)), batch: 128, epochs: 2, ..Recipe::default() };
    let large = Recipe {
        model: "resnet18".to_owned(),
        size: Some((224, 224)),
        batch: 16,
        epochs: 1,
        ..Recipe::default()
    };
    let wide = Recipe { model: "keras-cnn".to_owned(), size: Some((128, 128)), ..large.clone() };
    for recipe in of_form(vec![small.clone()], vec![small, wide, large]) {
        let mut spec = JobSpec { recipe, ..spec.clone() };
        let estimate = memory_needed(&spec).unwrap();
        let mut child = start(&spec.clone());
        let (mut peak, mut taken) = (0, 0);
        loop {
            match child.next(Duration::from_millis(20)) {
                Next::Ended(ended) => break drop(done(ended)),
                Next::Nothing | Next::Message(_) => {
                    peak = peak.max(memory_of(child.id(), "VmHWM:"));
                    taken = taken.max(memory_of(child.id(), "VmData:"));
                }
            };
        }
        spec.run = None;
        let ratio = estimate.total() as f64 / peak as f64;
        let of_limit = estimate.total() as f64 / taken as f64;
        let Recipe { model, size, .. } = &spec.recipe;
        println!(
            "{model} {size:?}: {ratio:.2} of {peak} bytes held, {of_limit:.2} of what the limit counts; {estimate:?}"
        );
        assert!(ratio > 0.9, "{ratio}");
    }
}

/// A number of bytes from a process's status.
fn memory_of(id: Option<u32>, name: &str) -> u64 {
    let status = id.and_then(|id| fs::read_to_string(format!("/proc/{id}/status")).ok()).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.map_or(0, |line| line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024)
}

#[test]
fn a_job_without_progress_is_killed() {
    let sandbox = Sandbox::new();
    let mut spec = spec(&sandbox, 40);
    let mut child = Child::start(&worker(), &order(&spec), Duration::from_secs(5));
    assert!(listen(&mut child, &mut spec, is_step).is_none());
    let id = child.id().unwrap();
    signal(id, "STOP");
    let ended = end(&mut child, &mut spec);
    assert!(matches!(ended, Ended::Stuck { seconds: 5 }), "{ended:?}");
    assert_gone(id);
    done(end(&mut start(&spec.clone()), &mut spec));
}

#[test]
fn a_job_ends_with_its_parent_process() {
    let sandbox = Sandbox::new();
    let spec = spec(&sandbox, 40);
    let spec = JobSpec { recipe: Recipe { epochs: 10_000, ..spec.recipe.clone() }, ..spec };
    let mut parent = Command::new("sh");
    // Two commands, or the shell would become the first one.
    parent.args(["-c", "\"$0\" job; true"]).arg(worker().program);
    let mut parent =
        parent.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    // Held open: it is not the end of its input that ends it.
    let mut input = parent.stdin.take().unwrap();
    let mut order = serde_json::to_vec(&JobOrder { parent: parent.id(), nice: 0, spec }).unwrap();
    order.push(b'\n');
    input.write_all(&order).unwrap();
    let mut lines = BufReader::new(parent.stdout.take().unwrap()).lines();
    assert!(lines.by_ref().any(|line| line.unwrap().contains(r#""type":"step""#)));
    parent.kill().unwrap();
    parent.wait().unwrap();
    // The end of its output is its end: the shell is gone already.
    lines.for_each(drop);
    drop(input);
}

#[test]
fn invalid_orders_are_refused() {
    let sandbox = Sandbox::new();
    let good = serde_json::to_string(&order(&spec(&sandbox, 4))).unwrap();
    let other = good.replace(&format!("\"parent\":{}", std::process::id()), "\"parent\":1");
    assert_ne!(good, other);
    let cut = &good[..good.len() / 2];
    for input in ["", "\n", "{}\n", "noise\n", &good, &format!("{cut}\n"), &format!("{other}\n")] {
        let mut child = sandbox.command("job").stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let run = wait(child);
        assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""), "{input}: {run:#?}");
        assert!(run.stderr.starts_with("error: ") && run.stderr.contains("hint: "), "{run:#?}");
    }
    assert!(!sandbox.ok("--help").contains("\n  job "));
}

/// Whatever the process does, it ends in one typed way, and no process is left.
#[test]
fn other_programs_in_place_of_a_job_are_reported() {
    let sandbox = Sandbox::new();
    let mut spec = spec(&sandbox, 4);
    let cases: [(&str, &str); 10] = [
        ("exit 7", "Exited { code: 7 }"),
        ("exit 0", "Exited { code: 0 }"),
        ("kill -SEGV $$", "Killed { signal: 11 }"),
        ("echo 'memory allocation of 5 bytes failed' >&2; kill -ABRT $$", "OutOfMemory {"),
        (
            "echo 'memory allocation of 5 bytes failed' >&2; head -c 100000 /dev/zero >&2; kill -ABRT $$",
            "OutOfMemory {",
        ),
        ("echo 'assertion failed' >&2; kill -ABRT $$", "Killed { signal: 6 }"),
        ("echo hello; exec sleep 1000", "Failed {"),
        ("head -c 200000000 /dev/zero; exec sleep 1000", "Failed {"),
        ("exec sleep 1000", "Stuck {"),
        ("exec >&-; exec sleep 1000", "Stuck {"),
    ];
    for (script, expected) in cases {
        let program = sandbox.write("job.sh", format!("#!/bin/sh\n{script}\n"));
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let mut child = Child::start(&Worker { program }, &order(&spec), Duration::from_secs(3));
        let ended = end(&mut child, &mut spec);
        assert!(format!("{ended:?}").starts_with(expected), "{script}: {ended:?}");
        assert_eq!(child.id(), None, "{script}: reaped");
    }
    let mut child = Child::start(&Worker { program: "/no/such/program".into() }, &order(&spec), STUCK);
    let ended = end(&mut child, &mut spec);
    assert!(matches!(ended, Ended::CannotStart(_)), "{ended:?}");
    // Whoever asks again gets the same answer.
    assert!(matches!(end(&mut child, &mut spec), Ended::CannotStart(_)));

    spec.data = sandbox.path().join("nowhere");
    let ended = end(&mut start(&spec.clone()), &mut spec);
    assert!(matches!(ended, Ended::Failed { kind: FailureKind::Data, .. }), "{ended:?}");
}
