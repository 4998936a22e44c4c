//! Having a process train: started again where that may help, listened to, and told to followers.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ocelli_pipeline::Event;
use ocelli_pipeline::job::{FailureKind, JobMessage, JobOrder, JobPhase, JobSpec, Trained};

use crate::http::problem::Problem;
use crate::jobs::child::{Child, Next};
use crate::jobs::ended::Ended;
use crate::jobs::error::JobError;
use crate::jobs::failures::{Kind, NextStep, Point};
use crate::jobs::job::{Job, json};
use crate::jobs::record::EpochMetrics;
use crate::jobs::shared::Shared;

/// Time between two reports of progress.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);

/// Longest wait for a message: a job that is to end is told within it.
const LISTEN: Duration = Duration::from_millis(50);

/// How long a process that was told to end may take to save what it has.
const SAVING: Duration = Duration::from_secs(30);

/// Images that were left out are named up to this many.
const MAX_LEFT_OUT: usize = 20;

/// Has a process train; again after it was killed, as long as that may help.
pub(super) fn train(shared: &Shared, job: &Job, mut spec: JobSpec) -> Result<Trained, JobError> {
    loop {
        (spec.run, spec.finish) = {
            let record = job.record();
            (record.run.clone(), record.finish)
        };
        let order =
            JobOrder { parent: std::process::id(), nice: shared.config.job_niceness(), spec: spec.clone() };
        match listen(shared, job, &order)? {
            Ended::Done(trained) => return Ok(*trained),
            // It saved its state and begins again, to take the best epoch.
            Ended::Interrupted
                if !spec.finish && job.record().finish && !job.stop.load(Ordering::Relaxed) => {}
            Ended::Interrupted => return Err(JobError::Stopped),
            ended => {
                if job.stop.load(Ordering::Relaxed) {
                    return Err(JobError::Stopped);
                }
                let text = match &ended {
                    Ended::Failed { kind: FailureKind::Disk, error } if error.contains("No space left") => {
                        format!("{}: {error}", Problem::DiskFull)
                    }
                    ended => ended.to_string(),
                };
                tracing::warn!(job = job.number, "{text}");
                let kind = ended.kind().unwrap_or(Kind::Exited);
                count_failure(job, kind).map_err(|broken| match broken {
                    // What the process said is the reason.
                    JobError::Failed(_) if matches!(kind, Kind::Failed | Kind::OutOfMemory) => {
                        JobError::Failed(text.clone())
                    }
                    JobError::Failed(reason) => JobError::Failed(format!("{text}; {reason}")),
                    JobError::Stopped => JobError::Stopped,
                })?;
                note(job, format!("{text}; training goes on from its last epoch"))?;
            }
        }
    }
}

/// Takes up what a process says until it has ended.
fn listen(shared: &Shared, job: &Job, order: &JobOrder) -> Result<Ended, JobError> {
    let mut child = Child::start(&shared.worker, order, shared.config.job_stuck);
    let mut reported = Instant::now();
    let mut stopped: Option<Instant> = None;
    loop {
        let is_to_finish = !order.spec.finish && job.record().finish;
        if job.stop.load(Ordering::Relaxed) || is_to_finish {
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
            Next::Message(JobMessage::Event { event }) => observe(job, &event, &mut reported)?,
            Next::Message(JobMessage::Phase { phase: JobPhase::Comparing }) => set_phase(job, "comparing"),
            Next::Message(_) | Next::Nothing => {}
            Next::Ended(ended) => return Ok(ended),
        }
    }
}

/// Counts a failure; an error when the job is given up.
pub(super) fn count_failure(job: &Job, kind: Kind) -> Result<(), JobError> {
    let mut next = NextStep::Again;
    job.update(|record| {
        let epochs = record.epochs.last().map_or(0, |epoch| epoch.epoch);
        next = record.failures.add(kind, Point { epochs, step: record.progress.step });
    })?;
    match next {
        NextStep::Again => Ok(()),
        NextStep::GiveUp(reason) => Err(JobError::Failed(reason)),
    }
}

/// Takes up what training says, and tells it to followers.
fn observe(job: &Job, event: &Event, reported: &mut Instant) -> Result<(), JobError> {
    match event {
        Event::Epoch { .. } => {
            if let Some(metrics) = EpochMetrics::of(event) {
                let text = json(&metrics);
                let lines = vec![("epoch", text.clone())];
                job.commit(Some((metrics.epoch, text)), lines, |record| record.observe(event))?;
            }
        }
        Event::Note { text } | Event::Warning { text } => {
            let lines = vec![("note", json(&serde_json::json!({ "text": text })))];
            job.commit(None, lines, |record| record.observe(event))?;
        }
        // What a run is called is needed to go on with it.
        Event::Model { .. } => job.update(|record| record.observe(event))?,
        _ => job.record().observe(event),
    }
    if matches!(event, Event::Step { .. } | Event::Loading { .. }) && reported.elapsed() < PROGRESS_EVERY {
        return Ok(());
    }
    *reported = Instant::now();
    let progress = job.record().progress.clone();
    job.log.progress(&progress);
    Ok(())
}

pub(super) fn note(job: &Job, text: String) -> Result<(), JobError> {
    observe(job, &Event::Note { text }, &mut Instant::now())
}

/// Says which images were left out and why.
pub(super) fn note_left_out(job: &Job, left_out: &[String]) -> Result<(), JobError> {
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

pub(super) fn set_phase(job: &Job, phase: &str) {
    let progress = {
        let mut record = job.record();
        record.progress.phase = phase.to_owned();
        record.progress.clone()
    };
    job.log.progress(&progress);
}
