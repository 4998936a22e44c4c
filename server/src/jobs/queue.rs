//! All jobs: asked for, looked at and cancelled by routes, done one after another by a thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ocelli_pipeline::store::{Actor, JobChange, Name, Store, StoreError};
use serde::Serialize;

use crate::config::Config;
use crate::error::ServerError;
use crate::http::problem::Problem;
use crate::jobs::events::Log;
use crate::jobs::job::{Job, json};
use crate::jobs::process::Worker;
use crate::jobs::record::{Asked, JobRecord, JobState};
use crate::jobs::request::RetrainRequest;
use crate::jobs::shared::{List, Shared};
use crate::jobs::{order, work};
use crate::models::catalog::Catalog;
use crate::models::model::Model;

/// How often what the disk did not take is written again.
const RETRY: Duration = Duration::from_secs(5);

/// How often it is looked whether the last copy of the database is too old.
const COPY_EVERY: Duration = Duration::from_secs(60 * 60);

/// All jobs and the thread that does them.
pub(crate) struct Jobs {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Jobs that have not ended.
#[derive(Default, Serialize, schemars::JsonSchema)]
pub(crate) struct JobLoad {
    pub(crate) running: Vec<JobRecord>,
    pub(crate) waiting: usize,
}

impl Jobs {
    /// Opens the jobs of a data folder, queues what was under way for its models, and starts the thread.
    pub(crate) fn open(
        store: Arc<Store>,
        models: Arc<Catalog>,
        config: &Arc<Config>,
        worker: Worker,
    ) -> Result<Jobs, ServerError> {
        let mut list = List::default();
        for stored in store.jobs().all()? {
            let number = stored.id;
            match Job::read(&store, stored) {
                Ok(job) => drop(list.jobs.insert(number, Arc::new(job))),
                Err(reason) => tracing::error!(job = number, "left out: {reason}"),
            }
        }
        for (&number, job) in &list.jobs {
            let JobRecord { state, model, .. } = job.record().clone();
            match state {
                // Somebody did not want it any more; nothing of it is running.
                JobState::Cancelling => job.end(JobState::Cancelled, None),
                state if state.has_ended() => {}
                _ if models.find(&model).is_some() => list.queue.push_back(number),
                _ => tracing::warn!(job = number, %model, "waits for its model"),
            }
        }
        let shared = Arc::new(Shared {
            store,
            models,
            config: config.clone(),
            worker,
            list: Mutex::new(list),
            changed: Condvar::new(),
            stopping: AtomicBool::new(false),
        });
        let thread = shared.clone();
        let thread = std::thread::Builder::new().name("ocelli-jobs".into()).spawn(move || serve(&thread));
        Ok(Jobs { shared, thread: Mutex::new(Some(thread.map_err(ServerError::Thread)?)) })
    }

    /// Writes a job for a model down and queues it. What it asks for must have been checked.
    pub(crate) fn submit(&self, model: &Model, asked: Asked, by: &Actor) -> Result<JobRecord, Problem> {
        let shared = &self.shared;
        if shared.stopping.load(Ordering::Relaxed) {
            return Err(Problem::NotReady);
        }
        let dataset = asked.request.dataset()?;
        let mut list = shared.list();
        list.check_room(&shared.config)?;
        list.coming += 1;
        drop(list);
        let written = self.write_down(model, asked, &dataset, by);
        let mut list = shared.list();
        list.coming -= 1;
        let job = written?;
        let record = job.record().clone();
        list.jobs.insert(job.number, Arc::new(job));
        list.queue.push_back(record.number);
        shared.changed.notify_all();
        drop(list);
        tracing::info!(job = record.number, state = record.state.name(), "job");
        shared.forget_oldest();
        Ok(record)
    }

    fn write_down(&self, model: &Model, asked: Asked, dataset: &Name, by: &Actor) -> Result<Job, StoreError> {
        let store = &self.shared.store;
        let mut made = None;
        store.jobs().create(&Name::nearest(model.name()), dataset, by, |number| {
            let record = JobRecord::new(number, model.name(), asked);
            let event = ("state", json(&record.brief()));
            let change = JobChange {
                record: record.to_json(),
                events: vec![(1, event.0.to_owned(), event.1.clone())],
                ..JobChange::default()
            };
            let job = Job::new(store.clone(), record, Log::default());
            job.log.add([event]);
            made = Some(job);
            change
        })?;
        Ok(made.expect("what was created has a record"))
    }

    /// Refuses what [`Jobs::submit`] would: known before a request is read.
    pub(crate) fn check_room(&self) -> Result<(), Problem> {
        self.shared.list().check_room(&self.shared.config)
    }

    /// Refuses a job that needs more memory than it may take, with both numbers.
    pub(crate) fn check_memory(&self, model: &Model, request: &RetrainRequest) -> Result<(), Problem> {
        order::check_memory(&self.shared, model, request)
    }

    /// All jobs, newest first, without their epochs: of a thousand jobs these are megabytes.
    pub(crate) fn all(&self) -> Vec<JobRecord> {
        let jobs: Vec<Arc<Job>> = self.shared.list().jobs.values().rev().cloned().collect();
        jobs.iter().map(|job| job.record().without_epochs()).collect()
    }

    /// A job by its number.
    pub(crate) fn get(&self, id: &str) -> Result<Arc<Job>, Problem> {
        let found = id.parse().ok().and_then(|number: u64| self.shared.list().jobs.get(&number).cloned());
        found.ok_or_else(|| {
            Problem::NotFound("there is no job of this number: GET /v1/jobs lists them".to_owned())
        })
    }

    /// Ends a job: at once while it waits, within a step of training while it runs. Waits for the disk.
    pub(crate) fn cancel(&self, id: &str, by: &Actor) -> Result<JobRecord, Problem> {
        let job = self.get(id)?;
        let mut list = self.shared.list();
        let waiting = list.queue.iter().position(|&waiting| waiting == job.number);
        if let Some(at) = waiting {
            list.queue.remove(at);
        }
        drop(list);
        let state = job.record().state;
        // A job for a model that is not there is nobody's work.
        let idle = !state.has_ended() && !self.shared.is_own(&job);
        if waiting.is_some() || idle {
            job.try_end(JobState::Cancelled, None)?;
        } else if state.has_ended() {
            return Err(Problem::Conflict(format!("job {} has ended already", job.number)));
        } else {
            // First, so that it ends even where that cannot be written down.
            job.stop.store(true, Ordering::Relaxed);
            job.update(|record| {
                if !record.state.has_ended() {
                    record.state = JobState::Cancelling;
                }
            })?;
        }
        let detail = serde_json::json!({});
        self.shared.store.audit().add(by, "cancel job", &job.number.to_string(), &detail)?;
        let record = job.record().clone();
        Ok(record)
    }

    /// Ends the training of a job, which goes on with the best of its epochs so far. Waits for the disk.
    pub(crate) fn finish(&self, id: &str, by: &Actor) -> Result<JobRecord, Problem> {
        let job = self.get(id)?;
        let mut refused = None;
        job.update(|record| {
            refused = match record.state {
                JobState::Running if record.epochs.is_empty() => {
                    Some("no epoch is done yet, so there is nothing to keep: wait for the first one, or cancel the job")
                }
                JobState::Running => None,
                JobState::Queued => Some("the job has not begun, so there is nothing to keep: cancel it"),
                JobState::Cancelling => Some("the job is being cancelled"),
                _ => Some("the job has ended already"),
            };
            record.finish |= refused.is_none();
        })?;
        if let Some(reason) = refused {
            return Err(Problem::Conflict(reason.to_owned()));
        }
        let detail = serde_json::json!({});
        self.shared.store.audit().add(by, "finish job", &job.number.to_string(), &detail)?;
        let record = job.record().clone();
        Ok(record)
    }

    /// The job that a version is needed for, if there is one.
    pub(crate) fn needs(&self, version: &str) -> Option<u64> {
        let jobs: Vec<Arc<Job>> = self.shared.list().jobs.values().cloned().collect();
        let is_needed = |job: &&Arc<Job>| {
            let record = job.record();
            let held = job.held();
            !record.state.has_ended()
                && [&record.start, &record.version, &held]
                    .into_iter()
                    .any(|own| own.as_deref() == Some(version))
        };
        jobs.iter().find(is_needed).map(|job| job.number)
    }

    /// Running and waiting jobs.
    pub(crate) fn load(&self) -> JobLoad {
        let list = self.shared.list();
        let running: Vec<Arc<Job>> =
            list.jobs.values().rev().filter(|job| self.shared.is_running(job)).cloned().collect();
        let waiting = list.queue.len();
        drop(list);
        JobLoad { running: running.iter().map(|job| job.record().without_epochs()).collect(), waiting }
    }

    /// Saves and ends the job that runs, which goes on at the next start, and ends the thread.
    pub(crate) fn stop(&self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        let list = self.shared.list();
        list.jobs.values().for_each(|job| job.stop.store(true, Ordering::Relaxed));
        self.shared.changed.notify_all();
        drop(list);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // It contains panics of its jobs.
            let _ = thread.join();
        }
    }
}

impl Drop for Jobs {
    fn drop(&mut self) {
        self.stop();
    }
}

fn serve(shared: &Shared) {
    while let Some(job) = next(shared) {
        work::run(shared, &job);
        work::prune(shared);
    }
}

/// The next job, once there is one; `None` when the service stops. Writes down meanwhile what the disk did not take.
fn next(shared: &Shared) -> Option<Arc<Job>> {
    let mut looked = Instant::now();
    loop {
        if looked.elapsed() > COPY_EVERY {
            looked = Instant::now();
            work::copy_database(shared);
        }
        let mut list = shared.list();
        if shared.stopping.load(Ordering::Relaxed) {
            return None;
        }
        // What is read-only trains nothing: jobs wait for a service that may.
        if !shared.config.read_only
            && let Some(number) = list.queue.pop_front()
        {
            return list.jobs.get(&number).cloned();
        }
        let unsaved = |job: &&Arc<Job>| job.unsaved.load(Ordering::Relaxed);
        let unsaved: Vec<Arc<Job>> = list.jobs.values().filter(unsaved).cloned().collect();
        if !unsaved.is_empty() {
            drop(list);
            // What is still not taken is tried again after the wait.
            let _ = unsaved.iter().try_for_each(|job| job.update(|_| {}));
            list = shared.list();
        }
        if list.queue.is_empty() && !shared.stopping.load(Ordering::Relaxed) {
            drop(shared.changed.wait_timeout(list, RETRY));
        }
    }
}
