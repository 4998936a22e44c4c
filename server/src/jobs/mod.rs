//! Training jobs: asked for over HTTP, done one after another beside serving, alive after a restart.
//!
//! What is known of a job is in memory, for readers, and in the database, for the next start. One thread takes jobs from
//! a bounded queue; the training itself is a process of its own (`child`). A job that is under way when the service ends,
//! however it ends, is taken up again at the next start and goes on from its last epoch.
//!
//! Nothing that answers a request waits for the disk of another one: a record is locked for a copy in memory, never while
//! it is written.

mod child;
mod events;
mod failures;
mod record;
mod request;
mod wait;
mod work;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ocelli_pipeline::store::{Actor, JobChange, Name, Store, StoreError, StoredJob};
use serde::Serialize;

use crate::config::Config;
use crate::error::ServerError;
use crate::models::Models;
use crate::problem::Problem;

pub use child::{Child, Ended, Next, Worker};
pub(crate) use events::{Line, Log};
pub(crate) use record::{Asked, Brief, EpochMetrics, JobRecord, JobState, Progress, Trigger};
pub(crate) use request::RetrainRequest;

/// Jobs that are kept; the oldest that have ended go first.
const MAX_JOBS: usize = 1000;

/// How often what the disk did not take is written again.
const RETRY: Duration = Duration::from_secs(5);

/// How often it is looked whether the last copy of the database is too old.
const COPY_EVERY: Duration = Duration::from_secs(60 * 60);

/// All jobs and the thread that does them.
pub(crate) struct Jobs {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the thread and the routes share.
struct Shared {
    store: Arc<Store>,
    models: Arc<Models>,
    config: Arc<Config>,
    worker: Worker,
    list: Mutex<List>,
    /// Rung when there is a job to do, or nothing more to do.
    bell: Condvar,
    stopping: AtomicBool,
}

#[derive(Default)]
struct List {
    jobs: BTreeMap<u64, Arc<Job>>,
    queue: VecDeque<u64>,
    /// Jobs that are being written down and will be queued.
    coming: usize,
}

/// Jobs that have not ended.
#[derive(Default, Serialize, schemars::JsonSchema)]
pub(crate) struct JobLoad {
    pub(crate) running: Vec<JobRecord>,
    pub(crate) waiting: usize,
}

/// One job.
pub(crate) struct Job {
    number: u64,
    store: Arc<Store>,
    record: Mutex<JobRecord>,
    /// Held while a change is made and written down, so that changes reach the disk in their order.
    order: Mutex<()>,
    /// The disk does not have what the record says.
    unsaved: AtomicBool,
    /// Epochs and events that the disk did not take yet.
    owed: Mutex<JobChange>,
    pub(crate) log: Log,
    /// Ends the work at its next step.
    stop: AtomicBool,
    /// The version that it starts from or is compared with, beside those that its record names.
    held: Mutex<Option<String>>,
}

impl Jobs {
    /// Opens the jobs of a data folder, queues what was under way for this model, and starts the thread.
    pub(crate) fn open(
        store: Arc<Store>,
        models: Arc<Models>,
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
                _ if model == models.name() => list.queue.push_back(number),
                _ => tracing::warn!(job = number, %model, "waits for a service of its model"),
            }
        }
        let shared = Arc::new(Shared {
            store,
            models,
            config: config.clone(),
            worker,
            list: Mutex::new(list),
            bell: Condvar::new(),
            stopping: AtomicBool::new(false),
        });
        let thread = shared.clone();
        let thread = std::thread::Builder::new().name("ocelli-jobs".into()).spawn(move || thread.serve());
        Ok(Jobs { shared, thread: Mutex::new(Some(thread.map_err(ServerError::Thread)?)) })
    }

    /// Writes a job down and queues it. What it asks for must have been checked.
    pub(crate) fn submit(&self, asked: Asked, by: &Actor) -> Result<JobRecord, Problem> {
        let shared = &self.shared;
        if shared.stopping.load(Ordering::Relaxed) {
            return Err(Problem::NotReady);
        }
        let dataset = asked.request.dataset()?;
        let mut list = shared.list();
        list.check_room(&shared.config)?;
        list.coming += 1;
        drop(list);
        let written = self.write_down(asked, &dataset, by);
        let mut list = shared.list();
        list.coming -= 1;
        let job = written?;
        let record = job.record().clone();
        list.jobs.insert(job.number, Arc::new(job));
        list.queue.push_back(record.number);
        shared.bell.notify_all();
        drop(list);
        tracing::info!(job = record.number, state = record.state.name(), "job");
        shared.forget_oldest();
        Ok(record)
    }

    fn write_down(&self, asked: Asked, dataset: &Name, by: &Actor) -> Result<Job, StoreError> {
        let (store, models) = (&self.shared.store, &self.shared.models);
        let model: Name = Name::nearest(models.name());
        let mut made = None;
        store.jobs().create(&model, dataset, by, |number| {
            let record = JobRecord::new(number, models.name(), asked);
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
        // A job for another model is nobody's work here.
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
        self.shared.bell.notify_all();
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

impl List {
    fn check_room(&self, config: &Config) -> Result<(), Problem> {
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
    fn list(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a job is for the model of this service.
    fn is_own(&self, job: &Job) -> bool {
        job.record().model == self.models.name()
    }

    /// Whether a job is under way here; one of another model waits for its own service.
    fn is_running(&self, job: &Job) -> bool {
        self.is_own(job) && job.record().state.is_running()
    }

    fn serve(&self) {
        while let Some(job) = self.next() {
            work::run(self, &job);
            work::prune(self);
        }
    }

    /// The next job, once there is one; `None` when the service stops. Writes down meanwhile what the disk did not take.
    fn next(&self) -> Option<Arc<Job>> {
        let mut looked = Instant::now();
        loop {
            if looked.elapsed() > COPY_EVERY {
                looked = Instant::now();
                work::copy_database(self);
            }
            let mut list = self.list();
            if self.stopping.load(Ordering::Relaxed) {
                return None;
            }
            // What is read-only trains nothing: jobs wait for a service that may.
            if !self.config.read_only
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
                list = self.list();
            }
            if list.queue.is_empty() && !self.stopping.load(Ordering::Relaxed) {
                drop(self.bell.wait_timeout(list, RETRY));
            }
        }
    }

    /// Deletes the oldest jobs that have ended, where there are too many.
    fn forget_oldest(&self) {
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
                tracing::warn!(job = number, "an old job stays on the disk: {error}");
                return;
            }
        }
    }
}

impl Job {
    fn held(&self) -> MutexGuard<'_, Option<String>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn new(store: Arc<Store>, record: JobRecord, log: Log) -> Job {
        Job {
            number: record.number,
            store,
            record: Mutex::new(record),
            order: Mutex::new(()),
            unsaved: AtomicBool::new(false),
            owed: Mutex::default(),
            log,
            stop: AtomicBool::new(false),
            held: Mutex::default(),
        }
    }

    fn read(store: &Arc<Store>, stored: StoredJob) -> Result<Job, String> {
        let mut record: JobRecord =
            serde_json::from_str(&stored.record).map_err(|error| error.to_string())?;
        let (epochs, events) = store.jobs().history(stored.id).map_err(|error| error.to_string())?;
        record.epochs = epochs.iter().filter_map(|text| serde_json::from_str(text).ok()).collect();
        let log = Log::of(events, record.state.has_ended());
        Ok(Job::new(store.clone(), record, log))
    }

    /// What is known of it now.
    pub(crate) fn record(&self) -> MutexGuard<'_, JobRecord> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the record, on the disk too, and tells those who follow it when its state is another. An error is the
    /// disk's; in memory the change is made, and it is written down as soon as the disk takes it.
    fn update(&self, change: impl FnOnce(&mut JobRecord)) -> Result<(), StoreError> {
        self.commit(None, Vec::new(), change)
    }

    /// As [`Job::update`], with an epoch and with what followers are told.
    fn commit(
        &self,
        epoch: Option<(u32, String)>,
        mut told: Vec<(&'static str, String)>,
        change: impl FnOnce(&mut JobRecord),
    ) -> Result<(), StoreError> {
        let _order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        let mut record = self.record();
        let before = record.state;
        change(&mut record);
        let now = record.clone();
        drop(record);
        if now.state != before {
            tracing::info!(job = self.number, state = now.state.name(), "job");
            told.push(("state", json(&now.brief())));
        }
        if self.log.is_full() {
            told.clear();
        }
        let first = self.log.len() + 1;
        let mut owed = self.owed.lock().unwrap_or_else(PoisonError::into_inner);
        let mut change = std::mem::take(&mut *owed);
        (change.record, change.ended) = (now.to_json(), now.state.has_ended());
        change.epochs.extend(epoch);
        let events =
            (first..).zip(&told).map(|(number, (event, data))| (number, (*event).to_owned(), data.clone()));
        change.events.extend(events);
        let written = self.store.jobs().change(self.number, &change);
        self.unsaved.store(written.is_err(), Ordering::Relaxed);
        if written.is_err() {
            *owed = change;
        }
        drop(owed);
        // Followers are told what is so, whether the disk has it or not.
        self.log.add(told);
        written
    }

    /// Ends the job; an error is the disk's.
    fn try_end(&self, state: JobState, error: Option<String>) -> Result<(), StoreError> {
        let written = self.update(|record| {
            record.state = state;
            record.error = error;
            record.finished = Some(record::now());
        });
        self.log.end();
        written
    }

    /// Ends the job, in memory in any case. What the disk does not take now is written down later.
    fn end(&self, state: JobState, error: Option<String>) {
        if let Err(error) = self.try_end(state, error) {
            tracing::error!(job = self.number, "the end of the job cannot be written down yet: {error}");
        }
    }
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("plain values with text keys")
}
