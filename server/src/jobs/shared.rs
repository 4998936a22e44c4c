//! The list of jobs, and what the thread that trains and the routes share.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use ocelli_common::text::chain;
use ocelli_pipeline::store::Store;

use crate::config::Config;
use crate::http::problem::Problem;
use crate::jobs::job::Job;
use crate::jobs::process::Worker;
use crate::jobs::record::{self, JobState};
use crate::jobs::wait;
use crate::models::catalog::Catalog;
use crate::models::model::Model;

/// Jobs that are kept; the oldest that have ended go first.
const MAX_JOBS: usize = 1000;

/// What the thread that trains and the routes share.
pub(super) struct Shared {
    pub(super) store: Arc<Store>,
    pub(super) models: Arc<Catalog>,
    pub(super) config: Arc<Config>,
    pub(super) worker: Worker,
    pub(super) list: Mutex<List>,
    /// Notified when there is a job to do, or nothing more to do.
    pub(super) changed: Condvar,
    pub(super) stopping: AtomicBool,
}

/// The jobs that are known.
#[derive(Default)]
pub(super) struct List {
    pub(super) jobs: BTreeMap<u64, Arc<Job>>,
    pub(super) queue: VecDeque<u64>,
    /// Jobs that are being written down and will be queued.
    pub(super) coming: usize,
}

impl List {
    /// Refuses one more job where the queue is full.
    pub(super) fn check_room(&self, config: &Config) -> Result<(), Problem> {
        if self.queue.len() + self.coming < config.job_queue {
            return Ok(());
        }
        let find = |wanted: fn(JobState) -> bool| {
            let found = self.jobs.values().rev().find(|job| wanted(job.record().state));
            found.map(|job| job.record().without_epochs())
        };
        let (running, last) = (find(JobState::is_running), find(JobState::has_ended));
        let seconds = wait::until_room(running.as_ref(), last.as_ref(), record::now());
        Err(Problem::busy_for("the queue of training jobs is full", seconds))
    }
}

impl Shared {
    pub(super) fn list(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a job is for a model of this service.
    pub(super) fn is_own(&self, job: &Job) -> bool {
        self.models.find(&job.record().model).is_some()
    }

    /// The model that a job is for.
    pub(super) fn model(&self, job: &Job) -> Result<Arc<Model>, Problem> {
        let name = job.record().model.clone();
        self.models.asked(Some(&name))
    }

    /// Whether a job is under way here; one of a model that is not there waits.
    pub(super) fn is_running(&self, job: &Job) -> bool {
        self.is_own(job) && job.record().state.is_running()
    }

    /// Deletes the oldest jobs that have ended, where there are too many.
    pub(super) fn forget_oldest(&self) {
        loop {
            let mut list = self.list();
            if list.jobs.len() <= MAX_JOBS {
                return;
            }
            let ended = list.jobs.iter().find(|(_, job)| job.record().state.has_ended());
            let Some(number) = ended.map(|(&number, _)| number) else { return };
            list.jobs.remove(&number);
            drop(list);
            if let Err(error) = self.store.jobs().delete(number) {
                // It is found again at the next start.
                tracing::warn!(job = number, "an old job stays on the disk: {}", chain(&error));
                return;
            }
        }
    }
}
