//! Doing one job: train, compare, keep, promote.
//!
//! Every step can be done again: after a kill the job begins anew and finds what is there. A run folder is resumed or,
//! when its training is over, read; a version that is kept already keeps its verdict; promoting what serves changes
//! nothing.

use std::error::Error;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ocelli_pipeline::store::{Name, NewVersion, StoreError};
use ocelli_pipeline::{
    Candidate, Compute, Data, Evaluation, Event, ModelFile, PipelineError, StartModel, TrainOptions,
    open_model, resume, same_class, train, version_id,
};

use crate::jobs::record::EpochMetrics;
use crate::jobs::request::From;
use crate::jobs::{Job, JobState, Shared, record};
use crate::problem::Problem;

/// Starts of a job after which it is given up: something about it ends the process.
const MAX_ATTEMPTS: u32 = 3;

/// Time between two reports of progress.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);

/// Why the work on a job ended early.
enum Broken {
    /// The stop flag was raised.
    Stopped,
    /// For the record, in our own words.
    Failed(String),
}

impl std::convert::From<StoreError> for Broken {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Stopped => Broken::Stopped,
            error => Broken::Failed(Problem::from(error).to_string()),
        }
    }
}

impl std::convert::From<PipelineError> for Broken {
    fn from(error: PipelineError) -> Self {
        if matches!(error, PipelineError::Stopped) {
            return Broken::Stopped;
        }
        // Its texts are ours, but those of files name places that are nobody's business.
        match error.source().and_then(|source| source.downcast_ref::<io::Error>()) {
            Some(source) => {
                tracing::error!("training: {error}");
                StoreError::Io { path: PathBuf::new(), source: source.kind().into() }.into()
            }
            None => Broken::Failed(error.to_string()),
        }
    }
}

impl std::convert::From<Problem> for Broken {
    fn from(problem: Problem) -> Self {
        Broken::Failed(problem.to_string())
    }
}

/// Does a job and writes down how it ended. Left as it is, to be taken up again, when the service stops.
pub(crate) fn run(shared: &Shared, job: &Job) -> Result<(), StoreError> {
    if job.record().state == JobState::Cancelling {
        return job.end(JobState::Cancelled, None);
    }
    let attempts = job.record().attempts + 1;
    if attempts > MAX_ATTEMPTS {
        let error = format!("the service ended {MAX_ATTEMPTS} times while this job ran: it is given up");
        return job.end(JobState::Failed, Some(error));
    }
    job.update(|record| {
        record.state = JobState::Running;
        record.attempts = attempts;
        record.started.get_or_insert(record::now());
    })?;
    let name = Name::nearest(&job.record().number.to_string());
    let outcome = catch_unwind(AssertUnwindSafe(|| candidate(shared, job, &name)))
        .unwrap_or_else(|_| {
            Err(Broken::Failed("training failed inside the service; the service goes on".into()))
        })
        .and_then(|version| decide(shared, job, &version));
    let stopped_by_service =
        shared.stopping.load(Ordering::Relaxed) && job.record().state != JobState::Cancelling;
    match outcome {
        Err(Broken::Stopped) if stopped_by_service => {
            // It ran until it was told to stop, which speaks for it.
            return job.update(|record| record.attempts = 0);
        }
        Err(Broken::Stopped) => job.end(JobState::Cancelled, None)?,
        Err(Broken::Failed(error)) => {
            tracing::error!(job = job.record().number, "{error}");
            // Where the data folder lies is nobody's business who asks over HTTP.
            let error = error.replace(&format!("{}/", shared.store.dir().display()), "");
            job.end(JobState::Failed, Some(error))?;
        }
        Ok(state) => job.end(state, None)?,
    }
    drop_snapshot(shared, job, &name);
    Ok(())
}

/// Trains, compares and keeps a model; gives its version.
fn candidate(shared: &Shared, job: &Job, name: &Name) -> Result<String, Broken> {
    let versions = shared.models.versions()?;
    let data = snapshot(shared, job, name)?;
    let serving = shared.models.serving().info.version.clone();
    let serving_file = versions.load(&serving)?;
    // Threads inherit the priority of the one that starts them: training and all its helpers run at a low one, and
    // this thread, which starts the threads that serve, does not.
    let (file, evaluation) = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            lower_priority(shared.config.job_nice);
            fit(shared, job, &data, &serving, &serving_file)
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    let version = version_id(&file.content_hash().map_err(PipelineError::from)?);
    let known = versions.get(&version).ok().filter(|known| known.verdict.is_some());
    let verdict = match known {
        Some(known) => known.verdict,
        None => {
            let gate = job.record().request.gate.clone();
            phase(job, "comparing");
            let judge = || {
                lower_priority(shared.config.job_nice);
                let compute = Compute { threads: shared.config.job_threads, exact: false };
                let candidate = Candidate { file: &file, evaluation: &evaluation };
                gate.judge_data(&candidate, Some((&serving, &serving_file)), &data, compute, &job.stop)
            };
            let verdict = std::thread::scope(|scope| scope.spawn(judge).join());
            Some(verdict.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?)
        }
    };
    let id = job.record().number.to_string();
    let about = NewVersion { job: Some(&id), evaluation: Some(&evaluation), verdict: verdict.clone() };
    versions.add(&file, &about)?;
    job.update(|record| {
        record.version = Some(version.clone());
        record.verdict = verdict;
    })?;
    Ok(version)
}

/// Promotes a version if its verdict says so.
fn decide(shared: &Shared, job: &Job, version: &str) -> Result<JobState, Broken> {
    // Whoever cancels a job does not want its model to serve.
    if job.stop.load(Ordering::Relaxed) {
        return Err(Broken::Stopped);
    }
    if job.record().verdict.as_ref().is_none_or(|verdict| !verdict.promote) {
        return Ok(JobState::Kept);
    }
    shared.models.promote(version)?;
    Ok(JobState::Promoted)
}

/// The data set as it is when the job first begins: uploads meanwhile are for the next job.
fn snapshot(shared: &Shared, job: &Job, name: &Name) -> Result<Data, Broken> {
    let dataset = job.record().request.dataset()?;
    Ok(Data::Path(shared.store.datasets().snapshot(&dataset, name)?))
}

fn drop_snapshot(shared: &Shared, job: &Job, name: &Name) {
    let Ok(dataset) = job.record().request.dataset() else { return };
    if let Err(error) = shared.store.datasets().drop_snapshot(&dataset, name) {
        tracing::warn!(job = job.record().number, "the list of its images stays behind: {error}");
    }
}

/// Trains, or goes on, or finds that it is done: the best weights and the report on held-out images.
fn fit(
    shared: &Shared,
    job: &Job,
    data: &Data,
    serving: &str,
    serving_file: &ModelFile,
) -> Result<(ModelFile, Evaluation), Broken> {
    let runs_dir = shared.store.runs_dir();
    let mut told = Instant::now();
    let mut observe = |event: &Event| observe(job, event, &mut told);
    let run = job.record().run.clone().map(|run| runs_dir.join(run)).filter(|run| run.is_dir());
    if let Some(done) = run.as_deref().and_then(finished) {
        return Ok(done);
    }
    let resumed = run.map(|run| resume(&run, None, &job.stop, &mut observe));
    let outcome = match resumed {
        // A folder from before the first weights were written.
        Some(Err(PipelineError::Run { .. })) | None => {
            let options = options(shared, job, data.clone(), serving, serving_file)?;
            train(&options, &job.stop, &mut observe)?
        }
        Some(outcome) => outcome?,
    };
    let evaluation = outcome.evaluation.ok_or(Broken::Stopped)?;
    Ok((open_model(&outcome.best)?, evaluation))
}

/// A run whose training is over.
fn finished(run: &Path) -> Option<(ModelFile, Evaluation)> {
    let text = std::fs::read_to_string(run.join("evaluation.json")).ok()?;
    Some((open_model(run).ok()?, serde_json::from_str(&text).ok()?))
}

fn options(
    shared: &Shared,
    job: &Job,
    data: Data,
    serving: &str,
    serving_file: &ModelFile,
) -> Result<TrainOptions, Broken> {
    let request = job.record().request.clone();
    let (recipe, origins) = request.recipe(shared.config.job_threads)?;
    let start = || StartModel { version: serving.to_owned(), file: serving_file.clone() };
    let usable = StartModel::usable(serving_file) && request.recipe.get("model").is_none();
    let (start, note) = match request.from {
        From::Fresh => (None, "fresh weights, as asked for".to_owned()),
        From::Current if usable => (Some(start()), format!("starts from the weights of version {serving}")),
        From::Current => {
            let reason = format!("version {serving} cannot be trained further: ask for \"from\": \"fresh\"");
            return Err(Broken::Failed(reason));
        }
        From::Auto => {
            let there = data.open()?.classes().to_vec();
            let has = |class: &String| there.iter().any(|other| same_class(class, other));
            let all = serving_file.meta.classes.iter().all(has);
            if usable && all {
                (Some(start()), format!("starts from the weights of version {serving}"))
            } else {
                let why = if all {
                    "that one cannot be trained further"
                } else {
                    "the data lacks classes of that one"
                };
                (None, format!("fresh weights, not those of version {serving}: {why}"))
            }
        }
    };
    job.record().notes.push(note);
    Ok(TrainOptions {
        data,
        recipe,
        origins,
        runs_dir: shared.store.runs_dir(),
        name: Some(request.dataset.clone()),
        data_name: Some(request.dataset),
        start,
    })
}

/// Takes up what training says, and tells it to followers.
fn observe(job: &Job, event: &Event, told: &mut Instant) {
    let lasting = job.record().observe(event);
    if lasting && let Err(error) = job.update(|_| {}) {
        tracing::warn!(job = job.record().number, "the record of the job cannot be written: {error}");
    }
    match event {
        Event::Epoch { .. } => {
            if let Some(metrics) = EpochMetrics::of(event) {
                job.tell("epoch", &metrics);
            }
        }
        Event::Note { text } | Event::Warning { text } => {
            job.tell("note", &serde_json::json!({ "text": text }))
        }
        Event::Step { .. } | Event::Loading { .. } if told.elapsed() < PROGRESS_EVERY => return,
        _ => {}
    }
    *told = Instant::now();
    let progress = job.record().progress.clone();
    job.log.progress(&progress);
}

fn phase(job: &Job, phase: &str) {
    let progress = {
        let mut record = job.record();
        record.progress.phase = phase.to_owned();
        record.progress.clone()
    };
    job.log.progress(&progress);
}

/// Gives the cores to others first; on Linux for the calling thread and those that it starts.
fn lower_priority(nice: usize) {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, nice as i32) {
        tracing::warn!("training keeps its priority: {error}");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = nice;
}
