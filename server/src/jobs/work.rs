//! Doing one job: its process trains and compares, this thread keeps the version and promotes it.
//!
//! Every step can be done again: after a kill the job begins anew and finds what is there. A run folder is resumed or,
//! when its training is over, read; a version that is kept already keeps its verdict; promoting what serves changes
//! nothing.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ocelli_common::text::chain;
use ocelli_pipeline::job::ModelRef;
use ocelli_pipeline::store::{Actor, NewVersion};
use ocelli_pipeline::{ModelFile, Rules, open_model};

use crate::jobs::error::JobError;
use crate::jobs::failures::Kind;
use crate::jobs::job::Job;
use crate::jobs::order::{Spec, questions};
use crate::jobs::record::{self, JobState};
use crate::jobs::shared::Shared;
use crate::jobs::training::{count_failure, note, note_left_out, set_phase, train};
use crate::models::model::Model;

/// Does a job and writes down how it ended. Left as it is, to be taken up again, when the service stops.
pub(super) fn run(shared: &Shared, job: &Job) {
    let outcome = catch_unwind(AssertUnwindSafe(|| begin(shared, job))).unwrap_or_else(|_| {
        Err(JobError::Failed("the job failed inside the service; the service goes on".into()))
    });
    let is_cancelled = job.record().state == JobState::Cancelling;
    match outcome {
        // It goes on at the next start.
        Err(JobError::Stopped) if shared.stopping.load(Ordering::Relaxed) && !is_cancelled => {}
        Err(JobError::Stopped) => job.end(JobState::Cancelled, None),
        Err(JobError::Failed(error)) => {
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
        tracing::warn!(job = job.number, "the files of the run are not described: {}", chain(&error));
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
    for model in shared.models.all() {
        if let Err(error) = model.prune(&versions) {
            tracing::warn!(model = model.name(), "old versions stay: {error}");
        }
    }
    if let Err(error) = shared.store.jobs().prune(config.keep_runs, config.keep_events as u64, &runs) {
        tracing::warn!("old runs or events stay: {}", chain(&error));
    }
    copy_database(shared);
}

/// Makes a copy of the database where the last one is too old.
pub(super) fn copy_database(shared: &Shared) {
    if let Err(error) = shared.store.copy_database() {
        tracing::warn!("the database cannot be copied: {}", chain(&error));
    }
}

fn begin(shared: &Shared, job: &Job) -> Result<JobState, JobError> {
    if job.stop.load(Ordering::Relaxed) {
        return Err(JobError::Stopped);
    }
    let interrupted = job.record().state == JobState::Running;
    let model = shared.model(job)?;
    let serving = hold_serving(&model, job);
    job.update(|record| {
        // A cancellation that was answered since holds.
        if record.state != JobState::Cancelling {
            record.state = JobState::Running;
        }
        record.attempts += 1;
        record.started.get_or_insert(record::now());
        record.start.get_or_insert(serving);
    })?;
    if interrupted {
        count_failure(job, Kind::ServiceEnded)?;
    }
    let kept = job.record().version.clone();
    let version = match kept.filter(|version| model.record(version).is_ok()) {
        Some(version) => version,
        None => candidate((shared, &model), job)?,
    };
    decide(&model, job, &version)
}

/// The version that serves, which nobody deletes while the job has it.
fn hold_serving(model: &Model, job: &Job) -> String {
    loop {
        let serving = model.version();
        *job.held() = Some(serving.clone());
        // What does not serve any more may have been deleted before it was held.
        if model.version() == serving {
            return serving;
        }
    }
}

/// Trains, compares and keeps a model; gives its version.
fn candidate((shared, model): (&Shared, &Model), job: &Job) -> Result<String, JobError> {
    let versions = model.versions()?;
    let request = job.record().request.clone();
    let start = job.record().start.clone().unwrap_or_default();
    set_phase(job, "loading");
    let data = shared.store.jobs().data(job.number, &request.dataset()?)?;
    note_left_out(job, &data.left_out)?;
    let (mut spec, about_start) =
        Spec { shared, model, request: &request, data: data.table.clone(), serving: &start }.make()?;
    let first = job.record().run.is_none();
    if first {
        note(job, about_start)?;
    }
    // Compared with what serves by then, by the images that one was judged on and those held out from this data set.
    let serving = hold_serving(model, job);
    let questions = questions((shared, model), &serving, &data)?;
    spec.serving = Some(ModelRef { path: versions.file(&serving)?, version: serving });
    spec.rules = Rules {
        min_per_class: model.config().gate_min_per_class,
        min_images: model.config().gate_min_images,
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
fn decide(model: &Arc<Model>, job: &Job, version: &str) -> Result<JobState, JobError> {
    // Whoever cancels a job does not want its model to serve.
    if job.stop.load(Ordering::Relaxed) {
        return Err(JobError::Stopped);
    }
    let Some(verdict) = job.record().verdict.clone().filter(|verdict| verdict.promote) else {
        return Ok(JobState::Kept);
    };
    let by = Actor::service(format!("job {}", job.number));
    let over = verdict.serving.unwrap_or_default();
    if model.promote_over(version, &over, &by)?.is_some() {
        return Ok(JobState::Promoted);
    }
    let text = format!("kept: it was compared with version {over}, and another one serves now");
    job.update(|record| {
        if let Some(verdict) = &mut record.verdict {
            verdict.promote = false;
            verdict.reasons.insert(0, text.clone());
            verdict.reason = text;
        }
    })?;
    Ok(JobState::Kept)
}
