//! Doing one job: its process trains and compares, this thread keeps the version and promotes it.
//!
//! Every step can be done again: after a kill the job begins anew and finds what is there. A run folder is resumed or,
//! when its training is over, read; a version that is kept already keeps its verdict; promoting what serves changes
//! nothing.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ocelli_pipeline::job::{
    FailureKind, JobMessage, JobOrder, JobPhase, JobSpec, ModelRef, Trained, fit_into,
};
use ocelli_pipeline::store::{Actor, JobData, Name, NewVersion, Preview, StoreError};
use ocelli_pipeline::{
    Data, Event, ModelFile, PipelineError, Question, QuestionSet, Rules, StartModel, open_model, same_class,
};

use crate::jobs::child::{Child, Ended, Next};
use crate::jobs::failures::{Kind, Outlook, Place};
use crate::jobs::record::EpochMetrics;
use crate::jobs::request::From;
use crate::jobs::{Job, JobState, Jobs, RetrainRequest, Shared, json, record};
use crate::problem::Problem;

/// Time between two reports of progress.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);

/// Longest wait for a message: a job that is to end is told within it.
const LISTEN: Duration = Duration::from_millis(50);

/// How long a process that was told to end may take to save what it has.
const SAVING: Duration = Duration::from_secs(30);

/// Images that were left out are named up to this many.
const MAX_LEFT_OUT: usize = 20;
/// Times that the images of a data set are looked at anew, which changes while a job is asked for.
const MAX_LOOKS: u32 = 20;

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
        match error {
            PipelineError::Stopped => Broken::Stopped,
            error => Broken::Failed(error.to_string()),
        }
    }
}

impl std::convert::From<Problem> for Broken {
    fn from(problem: Problem) -> Self {
        Broken::Failed(problem.to_string())
    }
}

/// Does a job and writes down how it ended. Left as it is, to be taken up again, when the service stops.
pub(super) fn run(shared: &Shared, job: &Job) {
    let outcome = catch_unwind(AssertUnwindSafe(|| begin(shared, job))).unwrap_or_else(|_| {
        Err(Broken::Failed("the job failed inside the service; the service goes on".into()))
    });
    let is_cancelled = job.record().state == JobState::Cancelling;
    match outcome {
        // It goes on at the next start.
        Err(Broken::Stopped) if shared.stopping.load(Ordering::Relaxed) && !is_cancelled => {}
        Err(Broken::Stopped) => job.end(JobState::Cancelled, None),
        Err(Broken::Failed(error)) => {
            tracing::error!(job = job.number, "{error}");
            // Where the data folder lies is nobody's business who asks over HTTP.
            let error = error.replace(&format!("{}/", shared.store.dir().display()), "");
            job.end(JobState::Failed, Some(error));
        }
        Ok(state) => job.end(state, None),
    }
    let run = job.record().run.clone();
    if let Some(run) = run.filter(|_| job.record().state.has_ended())
        && let Err(error) = shared.store.jobs().keep_run(&run)
    {
        tracing::warn!(job = job.number, "the files of the run are not described: {error}");
    }
}

/// Deletes what is beyond the limits of versions, run folders and events.
pub(super) fn prune(shared: &Shared) {
    let open: Vec<_> = {
        let list = shared.list();
        let jobs = list.jobs.values().map(|job| job.record().clone());
        jobs.filter(|record| !record.state.has_ended()).collect()
    };
    let versions: Vec<String> =
        open.iter().flat_map(|record| [record.start.clone(), record.version.clone()]).flatten().collect();
    let runs: Vec<String> = open.iter().filter_map(|record| record.run.clone()).collect();
    let config = &shared.config;
    if let Err(error) = shared.models.prune(config.keep_versions, &versions) {
        tracing::warn!("old versions stay: {error}");
    }
    if let Err(error) = shared.store.jobs().prune(config.keep_runs, config.keep_events as u64, &runs) {
        tracing::warn!("old runs or events stay: {error}");
    }
    copy_database(shared);
}

/// Makes a copy of the database where the last one is too old.
pub(super) fn copy_database(shared: &Shared) {
    if let Err(error) = shared.store.copy_database() {
        tracing::warn!("the database cannot be copied: {error}");
    }
}

impl Jobs {
    /// Refuses a job that needs more memory than it may take, with both numbers.
    pub(crate) fn check_memory(&self, request: &RetrainRequest) -> Result<(), Problem> {
        let dataset = request.dataset()?;
        let mut table = self.shared.store.jobs().preview(&dataset)?;
        for _ in 0..MAX_LOOKS {
            let Err(problem) = self.check_memory_with(request, &table) else { return Ok(()) };
            // Images that were deleted after they were listed are no reason to refuse.
            let now = self.shared.store.jobs().preview(&dataset)?;
            if now.is_like(&table) {
                return Err(problem);
            }
            table = now;
        }
        self.check_memory_with(request, &table)
    }

    fn check_memory_with(&self, request: &RetrainRequest, table: &Preview) -> Result<(), Problem> {
        let shared = &self.shared;
        let serving = shared.models.serving().info.version.clone();
        let spec = Spec { shared, request, data: table.path(), serving: &serving };
        match spec
            .make()
            .and_then(|(spec, _)| fit_into(&spec, shared.config.job_memory).map_err(Broken::from))
        {
            Ok(_) | Err(Broken::Stopped) => Ok(()),
            Err(Broken::Failed(reason)) => {
                Err(Problem::Refused(reason.replace(&format!("{}/", shared.store.dir().display()), "")))
            }
        }
    }
}

fn begin(shared: &Shared, job: &Job) -> Result<JobState, Broken> {
    if job.stop.load(Ordering::Relaxed) {
        return Err(Broken::Stopped);
    }
    let interrupted = job.record().state == JobState::Running;
    let serving = hold_serving(shared, job);
    job.update(|record| {
        record.state = JobState::Running;
        record.attempts += 1;
        record.started.get_or_insert(record::now());
        record.start.get_or_insert(serving);
    })?;
    if interrupted {
        again(job, Kind::ServiceEnded)?;
    }
    let kept = job.record().version.clone();
    let version = match kept.filter(|version| shared.models.record(version).is_ok()) {
        Some(version) => version,
        None => candidate(shared, job)?,
    };
    decide(shared, job, &version)
}

/// The version that serves, which nobody deletes while the job has it.
fn hold_serving(shared: &Shared, job: &Job) -> String {
    loop {
        let serving = shared.models.serving().info.version.clone();
        *job.held() = Some(serving.clone());
        // What does not serve any more may have been deleted before it was held.
        if shared.models.serving().info.version == serving {
            return serving;
        }
    }
}

/// Counts a failure; an error when the job is given up.
fn again(job: &Job, kind: Kind) -> Result<(), Broken> {
    let mut outlook = Outlook::Again;
    job.update(|record| {
        let epochs = record.epochs.last().map_or(0, |epoch| epoch.epoch);
        outlook = record.failures.add(kind, Place { epochs, step: record.progress.step });
    })?;
    match outlook {
        Outlook::Again => Ok(()),
        Outlook::GiveUp(reason) => Err(Broken::Failed(reason)),
    }
}

/// Trains, compares and keeps a model; gives its version.
fn candidate(shared: &Shared, job: &Job) -> Result<String, Broken> {
    let versions = shared.models.versions()?;
    let request = job.record().request.clone();
    let start = job.record().start.clone().unwrap_or_default();
    phase(job, "loading");
    let data = shared.store.jobs().data(job.number, &request.dataset()?)?;
    tell_left_out(job, &data.left_out)?;
    let (mut spec, note) =
        Spec { shared, request: &request, data: data.table.clone(), serving: &start }.make()?;
    let first = job.record().run.is_none();
    if first {
        tell_note(job, note)?;
    }
    // Compared with what serves by then, by the images that one was judged on and those held out from this data set.
    let serving = hold_serving(shared, job);
    let questions = questions(shared, &serving, &data)?;
    spec.serving = Some(ModelRef { path: versions.file(&serving)?, version: serving });
    spec.rules = Rules {
        min_per_class: shared.config.gate_min_per_class,
        min_images: shared.config.gate_min_images,
        manual: job.record().manual.clone(),
    };
    spec.questions = questions.iter().map(|(question, _)| question.clone()).collect();
    let trained = train(shared, job, spec)?;
    let file = open_model(&shared.store.runs_dir().join(&trained.model))?;
    let file = ModelFile { training: None, ..file };
    let id = job.number.to_string();
    let judged_on = questions.into_iter().map(|(question, hash)| (hash, question.class)).collect();
    let about = NewVersion {
        job: Some(&id),
        evaluation: Some(&trained.evaluation),
        verdict: trained.verdict.clone(),
        judged_on,
    };
    let version = versions.add(&file, &about)?.version;
    job.update(|record| {
        record.version = Some(version.clone());
        record.verdict = trained.verdict;
    })?;
    Ok(version)
}

/// Promotes a version if its verdict says so.
fn decide(shared: &Shared, job: &Job, version: &str) -> Result<JobState, Broken> {
    // Whoever cancels a job does not want its model to serve.
    if job.stop.load(Ordering::Relaxed) {
        return Err(Broken::Stopped);
    }
    let Some(verdict) = job.record().verdict.clone().filter(|verdict| verdict.promote) else {
        return Ok(JobState::Kept);
    };
    let by = Actor::service(format!("job {}", job.number));
    let over = verdict.serving.unwrap_or_default();
    if shared.models.promote_over(version, &over, &by)?.is_some() {
        return Ok(JobState::Promoted);
    }
    let text = format!("kept: another version than {over}, which it was compared with, serves by now");
    job.update(|record| {
        if let Some(verdict) = &mut record.verdict {
            verdict.promote = false;
            verdict.reasons.insert(0, text.clone());
            verdict.reason = text;
        }
    })?;
    Ok(JobState::Kept)
}

/// The images by which the candidate is judged, with their hashes: those held out from its data set, and those that the
/// serving version was judged on, without any that the candidate is trained on.
fn questions(
    shared: &Shared,
    serving: &str,
    data: &JobData,
) -> Result<Vec<(Question, [u8; 32])>, StoreError> {
    let trained_on: HashSet<&[u8; 32]> = data.trained_on.iter().collect();
    let reference = shared.store.jobs().judged_on(&Name::nearest(shared.models.name()), serving)?;
    let held_out = data.held_out.iter().cloned().map(|image| (image, QuestionSet::HeldOut));
    let reference = reference.into_iter().map(|image| (image, QuestionSet::Reference));
    let all = held_out.chain(reference).filter(|((.., hash), _)| !trained_on.contains(hash));
    Ok(all.map(|((path, class, hash), set)| (Question { path, class, set }, hash)).collect())
}

/// Has a process train; again after it was killed, as long as that may help.
fn train(shared: &Shared, job: &Job, mut spec: JobSpec) -> Result<Trained, Broken> {
    loop {
        spec.run = job.record().run.clone();
        let order =
            JobOrder { parent: std::process::id(), nice: shared.config.job_niceness(), spec: spec.clone() };
        match listen(shared, job, &order)? {
            Ended::Done(trained) => return Ok(*trained),
            Ended::Interrupted => return Err(Broken::Stopped),
            ended => {
                if job.stop.load(Ordering::Relaxed) {
                    return Err(Broken::Stopped);
                }
                let text = match &ended {
                    Ended::Failed { kind: FailureKind::Disk, error } if error.contains("No space left") => {
                        format!("{}: {error}", Problem::DiskFull)
                    }
                    ended => ended.to_string(),
                };
                tracing::warn!(job = job.number, "{text}");
                let kind = ended.kind().unwrap_or(Kind::Exited);
                again(job, kind).map_err(|broken| match broken {
                    // What the process said is the reason.
                    Broken::Failed(_) if matches!(kind, Kind::Failed | Kind::OutOfMemory) => {
                        Broken::Failed(text.clone())
                    }
                    Broken::Failed(reason) => Broken::Failed(format!("{text}; {reason}")),
                    Broken::Stopped => Broken::Stopped,
                })?;
                tell_note(job, format!("{text}; training goes on from its last epoch"))?;
            }
        }
    }
}

/// Takes up what a process says until it has ended.
fn listen(shared: &Shared, job: &Job, order: &JobOrder) -> Result<Ended, Broken> {
    let mut child = Child::start(&shared.worker, order, shared.config.job_stuck);
    let mut told = Instant::now();
    let mut stopped: Option<Instant> = None;
    loop {
        if job.stop.load(Ordering::Relaxed) {
            match stopped {
                None => {
                    child.stop();
                    stopped = Some(Instant::now());
                }
                Some(since) if since.elapsed() > SAVING => child.kill(),
                Some(_) => {}
            }
        }
        match child.next(LISTEN) {
            Next::Message(JobMessage::Event { event }) => observe(job, &event, &mut told)?,
            Next::Message(JobMessage::Phase { phase: JobPhase::Comparing }) => phase(job, "comparing"),
            Next::Message(_) | Next::Nothing => {}
            Next::Ended(ended) => return Ok(ended),
        }
    }
}

/// What a job's process is told.
struct Spec<'a> {
    shared: &'a Shared,
    request: &'a RetrainRequest,
    /// The table of its images.
    data: PathBuf,
    /// The version whose weights it may start from.
    serving: &'a str,
}

impl Spec<'_> {
    /// The order for the training alone, and what to say about its start.
    fn make(&self) -> Result<(JobSpec, String), Broken> {
        let Spec { shared, request, data, serving } = self;
        let versions = shared.models.versions()?;
        let (recipe, origins) = request.recipe(shared.config.job_threads)?;
        let start = || -> Result<_, Broken> {
            Ok(Some(ModelRef { version: (*serving).to_owned(), path: versions.file(serving)? }))
        };
        let file = match request.from {
            From::Fresh => None,
            _ => Some(versions.load(serving)?),
        };
        let usable = file.as_ref().is_some_and(StartModel::usable) && request.recipe.get("model").is_none();
        let (start, note) = match (request.from, &file) {
            (From::Fresh, _) | (_, None) => (None, "fresh weights, as asked for".to_owned()),
            (From::Current, _) if usable => {
                (start()?, format!("starts from the weights of version {serving}"))
            }
            (From::Current, _) => {
                let reason =
                    format!("version {serving} cannot be trained further: ask for \"from\": \"fresh\"");
                return Err(Broken::Failed(reason));
            }
            (From::Auto, Some(file)) => {
                let there = Data::Path(data.clone()).open()?.classes().to_vec();
                let has = |class: &String| there.iter().any(|other| same_class(class, other));
                let all = file.meta.classes.iter().all(has);
                if usable && all {
                    (start()?, format!("starts from the weights of version {serving}"))
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
        let spec = JobSpec {
            data: data.clone(),
            recipe,
            origins,
            runs_dir: shared.store.runs_dir(),
            run: None,
            name: Some(request.dataset.clone()),
            data_name: Some(request.dataset.clone()),
            start,
            serving: None,
            gate: request.gate.clone(),
            rules: Rules::default(),
            questions: Vec::new(),
            memory: Some(shared.config.job_memory),
        };
        Ok((spec, note))
    }
}

/// Takes up what training says, and tells it to followers.
fn observe(job: &Job, event: &Event, told: &mut Instant) -> Result<(), Broken> {
    match event {
        Event::Epoch { .. } => {
            if let Some(metrics) = EpochMetrics::of(event) {
                let text = json(&metrics);
                let told = vec![("epoch", text.clone())];
                job.commit(Some((metrics.epoch, text)), told, |record| record.observe(event))?;
            }
        }
        Event::Note { text } | Event::Warning { text } => {
            let told = vec![("note", json(&serde_json::json!({ "text": text })))];
            job.commit(None, told, |record| record.observe(event))?;
        }
        // What a run is called is needed to go on with it.
        Event::Model { .. } => job.update(|record| record.observe(event))?,
        _ => job.record().observe(event),
    }
    if matches!(event, Event::Step { .. } | Event::Loading { .. }) && told.elapsed() < PROGRESS_EVERY {
        return Ok(());
    }
    *told = Instant::now();
    let progress = job.record().progress.clone();
    job.log.progress(&progress);
    Ok(())
}

fn tell_note(job: &Job, text: String) -> Result<(), Broken> {
    observe(job, &Event::Note { text }, &mut Instant::now())
}

/// Says which images were left out and why.
fn tell_left_out(job: &Job, left_out: &[String]) -> Result<(), Broken> {
    if left_out.is_empty() || job.record().run.is_some() {
        return Ok(());
    }
    let mut text = format!("{} images are left out: ", left_out.len());
    text += &left_out[..left_out.len().min(MAX_LEFT_OUT)].join(", ");
    if left_out.len() > MAX_LEFT_OUT {
        text += ", ...";
    }
    tracing::warn!(job = job.number, "{text}");
    observe(job, &Event::Warning { text }, &mut Instant::now())
}

fn phase(job: &Job, phase: &str) {
    let progress = {
        let mut record = job.record();
        record.progress.phase = phase.to_owned();
        record.progress.clone()
    };
    job.log.progress(&progress);
}
