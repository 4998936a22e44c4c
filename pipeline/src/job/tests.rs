//! Jobs without a process around them.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use tempfile::TempDir;

use super::*;
use crate::AugmentLevel;
use crate::data::Data;
use crate::event::Event;
use crate::gate::{Gate, Rules};
use crate::recipe::{Origins, Recipe};
use crate::tests::folder_data;

static NEVER: AtomicBool = AtomicBool::new(false);

/// A data folder with images, and a job on them.
fn job(dir: &TempDir) -> JobSpec {
    let root = dir.path().join("data");
    fs::create_dir_all(&root).unwrap();
    let Data::Path(data) = folder_data(&root, &[("bars", 0), ("columns", 1)], 30, 5) else { unreachable!() };
    let recipe =
        Recipe { epochs: 4, batch: 16, augment: AugmentLevel::Light, threads: 1, ..Recipe::default() };
    JobSpec {
        data,
        recipe,
        origins: Origins::new(),
        runs_dir: root.join("runs"),
        run: None,
        finish: false,
        name: Some("job".to_owned()),
        data_name: Some("photos".to_owned()),
        start: None,
        serving: None,
        gate: Gate::default(),
        rules: Rules::default(),
        questions: Vec::new(),
        memory: None,
    }
}

/// The bits of a model's weights.
fn params(path: &Path) -> Vec<u32> {
    open_model(path).unwrap().model.params().iter().map(|w| w.to_bits()).collect()
}

fn quietly(spec: &JobSpec) -> Result<Trained, PipelineError> {
    run_job(spec, &NEVER, &mut |_| {})
}

/// Raises the stop flag at the first message that is `right`; the run's name.
fn stopped_at(spec: &JobSpec, right: impl Fn(&Event) -> bool + Sync) -> String {
    let stop = AtomicBool::new(false);
    let mut run = None;
    let result = run_job(spec, &stop, &mut |message| {
        let JobMessage::Event { event } = message else { return };
        if let Event::Model { run_dir, .. } = event {
            run = Some(run_dir.clone());
        }
        if right(event) {
            stop.store(true, Ordering::Relaxed);
        }
    });
    assert!(matches!(result, Err(PipelineError::Stopped)), "{result:?}");
    run.unwrap()
}

fn epoch_done(epoch: u32) -> impl Fn(&Event) -> bool {
    move |event| matches!(event, Event::Epoch { epoch: done, .. } if *done == epoch)
}

#[test]
fn a_job_goes_on_with_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let spec = job(&dir);
    let whole = quietly(&JobSpec { name: Some("whole".to_owned()), ..spec.clone() }).unwrap();
    let run = stopped_at(&spec, epoch_done(2));
    let again = JobSpec { run: Some(run.clone()), ..spec.clone() };
    let mut steps = 0;
    let trained = run_job(&again, &NEVER, &mut |message| {
        steps += usize::from(matches!(message, JobMessage::Event { event: Event::Epoch { .. } }));
    })
    .unwrap();
    assert_eq!((trained.run.as_str(), steps), (run.as_str(), 2));
    assert_eq!(params(&spec.runs_dir.join(&whole.model)), params(&spec.runs_dir.join(&trained.model)));

    // Done is done: nothing is trained again.
    let mut events = 0;
    let found = run_job(&again, &NEVER, &mut |message| {
        events += usize::from(matches!(message, JobMessage::Event { .. }));
    })
    .unwrap();
    assert_eq!((found.evaluation.accuracy, events), (trained.evaluation.accuracy, 0));
}

#[test]
fn a_run_that_cannot_go_on_is_trained_anew_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let spec = job(&dir);
    for damage in ["", "noise", "no file", "no folder"] {
        let run = stopped_at(&spec, epoch_done(1));
        let last = spec.runs_dir.join(&run).join("weights/last.ocelli");
        match damage {
            "no file" => fs::remove_file(&last).unwrap(),
            "no folder" => fs::remove_dir_all(spec.runs_dir.join(&run)).unwrap(),
            noise => fs::write(&last, noise).unwrap(),
        }
        let mut notes = Vec::new();
        let trained = run_job(&JobSpec { run: Some(run.clone()), ..spec.clone() }, &NEVER, &mut |message| {
            if let JobMessage::Event { event: Event::Note { text } } = message {
                notes.push(text.clone());
            }
        })
        .unwrap();
        assert!(notes.iter().any(|note| note.contains("begins anew")), "{damage}: {notes:?}");
        assert!(spec.runs_dir.join(trained.model).is_file());
    }
    for name in ["..", "/", "", "a/b", "../job-001"] {
        let result = quietly(&JobSpec { run: Some(name.to_owned()), ..spec.clone() });
        assert!(matches!(result, Err(PipelineError::Run { .. })), "{name}");
    }
}

#[test]
fn a_moved_folder_goes_on_and_names_no_place() {
    let dir = tempfile::tempdir().unwrap();
    let spec = job(&dir);
    let run = stopped_at(&spec, epoch_done(1));
    let moved = dir.path().join("elsewhere");
    fs::rename(dir.path().join("data"), &moved).unwrap();
    let run_dir = moved.join("runs").join(&run);
    let place = dir.path().to_str().unwrap();
    for name in ["dataset.json", "recipe.toml", "events.jsonl", "weights/last.ocelli"] {
        let bytes = fs::read(run_dir.join(name)).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains(place), "{name} names {place}");
    }
    // By the folder alone, and by a spec that was written for the new place.
    let outcome = crate::resume(&run_dir, None, &AtomicBool::new(true), &mut |_| {});
    assert!(matches!(outcome, Err(PipelineError::Stopped)), "{outcome:?}");
    let spec =
        JobSpec { data: moved.join("photos"), runs_dir: moved.join("runs"), run: Some(run.clone()), ..spec };
    assert_eq!(quietly(&spec).unwrap().run, run);
}

#[test]
fn what_does_not_fit_is_refused_with_numbers_or_made_to_fit() {
    let dir = tempfile::tempdir().unwrap();
    let spec = job(&dir);
    let spec = JobSpec {
        recipe: Recipe { size: Some((96, 96)), batch: 32, epochs: 1, ..spec.recipe.clone() },
        ..spec
    };
    let estimate = memory_needed(&spec).unwrap();
    let parts = [estimate.plan, estimate.parameters, estimate.images, estimate.work, estimate.program];
    assert_eq!(parts.iter().sum::<u64>(), estimate.least());
    assert_eq!(estimate.least() + estimate.pixels, estimate.total());
    assert_eq!(fit_into(&spec, estimate.total()).unwrap().chunk, None);

    // Images that do not fit go to a file, which is gone with the run.
    let limit = estimate.least() + estimate.pixels / 3;
    assert_eq!(fit_into(&spec, limit).unwrap().chunk, None);
    let mut notes = Vec::new();
    let filed = JobSpec { name: Some("filed".to_owned()), memory: Some(limit), ..spec.clone() };
    let filed = run_job(&filed, &NEVER, &mut |message| {
        if let JobMessage::Event { event: Event::Note { text } } = message {
            notes.push(text.clone());
        }
    })
    .unwrap();
    assert!(notes.iter().any(|note| note.contains("all are in a file of this run")), "{notes:?}");
    let whole = quietly(&JobSpec { name: Some("whole".to_owned()), ..spec.clone() }).unwrap();
    assert_eq!(params(&spec.runs_dir.join(&whole.model)), params(&spec.runs_dir.join(&filed.model)));
    let cache = crate::cache_folder(&spec.runs_dir);
    let left: Vec<_> = fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["lock"]);

    let limit = estimate.least() - 1;
    let fitted = fit_into(&spec, limit).unwrap();
    assert!(
        fitted.chunk.is_some() && fitted.note.is_some() && fitted.estimate.least() <= limit,
        "{fitted:?}"
    );
    let trained = quietly(&JobSpec { memory: Some(limit), ..spec.clone() }).unwrap();
    let text = fs::read_to_string(spec.runs_dir.join(&trained.run).join("recipe.toml")).unwrap();
    let chunk = format!("chunk = {} ", fitted.chunk.unwrap());
    assert!(text.lines().any(|line| line.starts_with(&chunk)), "{text}");

    // Layers that join the images of a batch leave no choice but a smaller batch, which is named.
    let joined = JobSpec { recipe: Recipe { model: "resnet9".to_owned(), ..spec.recipe.clone() }, ..spec };
    let needed = memory_needed(&joined).unwrap().least();
    let Err(PipelineError::Memory { needed: told, limit, batch: Some(batch) }) =
        fit_into(&joined, needed * 3 / 4)
    else {
        panic!("it fits")
    };
    assert_eq!((told, limit), (needed, needed * 3 / 4));
    let smaller = JobSpec { recipe: Recipe { batch, ..joined.recipe.clone() }, ..joined.clone() };
    fit_into(&smaller, limit).unwrap();
    let result = quietly(&JobSpec { memory: Some(1 << 20), ..joined.clone() });
    assert!(matches!(result, Err(PipelineError::Memory { batch: None, .. })), "{result:?}");
    let runs = fs::read_dir(&joined.runs_dir).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(runs.filter(|name| name != ".cache").count(), 3, "a refused job leaves no folder");
}

#[test]
fn messages_are_one_line_and_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let spec = job(&dir);
    let mut lines = Vec::new();
    let result = run_job(&spec, &NEVER, &mut |message| lines.push(message.to_json()));
    lines.push(JobMessage::ended(result).to_json());
    lines.push(JobMessage::ended(Err(PipelineError::Stopped)).to_json());
    lines.push(JobMessage::ended(Err(PipelineError::recipe("lr", "too\nlarge"))).to_json());
    for line in &lines {
        assert!(!line.contains('\n'), "{line}");
        let read: JobMessage = serde_json::from_str(line).unwrap();
        assert_eq!(read.to_json(), *line);
    }
    assert!(lines[lines.len() - 3].starts_with(r#"{"message":"done""#));
    let spec: JobSpec = serde_json::from_str(&serde_json::to_string(&spec).unwrap()).unwrap();
    assert_eq!(spec.name.as_deref(), Some("job"));
}
