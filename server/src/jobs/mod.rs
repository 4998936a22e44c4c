//! Training jobs: asked for over HTTP, done one after another beside serving, alive after a restart.
//!
//! ```text
//! jobs/N/job.json       what is asked for, state, epochs, result; replaced as a whole
//! jobs/N/events.jsonl   what `GET /v1/jobs/N/events` tells again to clients that come late
//! ```
//!
//! One thread takes jobs from a bounded queue. The work itself runs on a thread of its own at low priority, with the
//! cores it was given. A job that is running when the process ends, however it ends, is taken up again at the next start
//! and goes on from its last epoch.

mod child;
mod events;
#[cfg_attr(not(test), expect(dead_code, reason = "the records of jobs do not hold it yet"))]
mod failures;
pub(crate) mod limits;
mod record;
mod request;
mod work;

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use ocelli_pipeline::store::{Store, StoreError};

use crate::config::Config;
use crate::error::ServerError;
use crate::models::Models;
use crate::problem::Problem;

pub use child::{Child, Ended, Next, Worker};
pub(crate) use events::{Line, Log};
pub(crate) use record::{JobRecord, JobState, Trigger};
pub(crate) use request::RetrainRequest;

/// Jobs that are kept on the disk; the oldest that have ended go first.
const MAX_JOBS: usize = 1000;

/// All jobs and the thread that does them.
pub(crate) struct Jobs {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the thread and the routes share.
struct Shared {
    dir: PathBuf,
    store: Arc<Store>,
    models: Arc<Models>,
    config: Config,
    list: Mutex<List>,
    /// Rung when there is a job to do, or nothing more to do.
    bell: Condvar,
    stopping: AtomicBool,
}

#[derive(Default)]
struct List {
    jobs: BTreeMap<u64, Arc<Job>>,
    queue: VecDeque<u64>,
    /// New images by data set since its last job was asked for.
    news: BTreeMap<String, usize>,
}

/// One job.
pub(crate) struct Job {
    dir: PathBuf,
    record: Mutex<JobRecord>,
    pub(crate) log: Log,
    /// Ends the work at its next step.
    stop: AtomicBool,
}

impl Jobs {
    /// Opens the jobs of a data folder, queues what was under way, and starts the thread.
    pub(crate) fn open(store: Arc<Store>, models: Arc<Models>, config: &Config) -> Result<Jobs, ServerError> {
        let dir = store.dir().join("jobs");
        fs::create_dir_all(&dir).map_err(|source| StoreError::Io { path: dir.clone(), source })?;
        let mut list = List::default();
        let entries = fs::read_dir(&dir).map_err(|source| StoreError::Io { path: dir.clone(), source })?;
        for path in entries.flatten().map(|entry| entry.path()) {
            let number = path.file_name().and_then(|name| name.to_str()?.parse().ok());
            let Some(number) = number else { continue };
            match Job::read(&path) {
                Ok(job) => drop(list.jobs.insert(number, Arc::new(job))),
                // Killed before the first record was written: nobody was told of this job.
                Err(_) if !path.join("job.json").exists() => drop(fs::remove_dir_all(&path)),
                Err(error) => tracing::error!(job = number, "left out: {error}"),
            }
        }
        let open = |job: &Arc<Job>| !job.record().state.has_ended();
        list.queue = list.jobs.iter().filter(|(_, job)| open(job)).map(|(&number, _)| number).collect();
        sweep(&dir);
        sweep(&store.runs_dir());
        let shared = Arc::new(Shared {
            dir,
            store,
            models,
            config: config.clone(),
            list: Mutex::new(list),
            bell: Condvar::new(),
            stopping: AtomicBool::new(false),
        });
        let worker = shared.clone();
        let thread = std::thread::Builder::new().name("ocelli-jobs".into()).spawn(move || worker.serve());
        Ok(Jobs { shared, thread: Mutex::new(Some(thread.map_err(ServerError::Thread)?)) })
    }

    /// Writes a job down and queues it. What it asks for must have been checked.
    pub(crate) fn submit(&self, request: RetrainRequest, trigger: Trigger) -> Result<JobRecord, Problem> {
        if self.shared.stopping.load(Ordering::Relaxed) {
            return Err(Problem::NotReady);
        }
        let mut list = self.shared.list();
        if list.queue.len() >= self.shared.config.job_queue {
            return Err(Problem::Busy { what: "the queue of training jobs is full" });
        }
        let number = list.jobs.keys().next_back().map_or(1, |last| last + 1);
        let dir = self.shared.dir.join(number.to_string());
        fs::create_dir_all(&dir).map_err(|source| StoreError::Io { path: dir.clone(), source })?;
        let record = JobRecord::new(number, request, trigger);
        let job = Job::new(dir, record.clone(), Log::default());
        if let Err(error) = job.update(|_| {}) {
            // Nobody is told of this job.
            let _ = fs::remove_dir_all(&job.dir);
            return Err(error.into());
        }
        list.news.remove(&record.request.dataset);
        list.jobs.insert(number, Arc::new(job));
        list.queue.push_back(number);
        self.shared.bell.notify_all();
        list.forget_oldest();
        Ok(record)
    }

    /// Counts new images of a data set; true when there are enough for a job.
    pub(crate) fn count_news(&self, dataset: &str, images: usize) -> bool {
        let least = self.shared.config.retrain_on_upload;
        let mut list = self.shared.list();
        let news = list.news.entry(dataset.to_owned()).or_default();
        *news += images;
        least > 0 && *news >= least
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

    /// Ends a job: at once while it waits, within a step of training while it runs.
    pub(crate) fn cancel(&self, id: &str) -> Result<JobRecord, Problem> {
        let job = self.get(id)?;
        let mut list = self.shared.list();
        let number = job.record().number;
        if let Some(at) = list.queue.iter().position(|&waiting| waiting == number) {
            list.queue.remove(at);
            job.end(JobState::Cancelled, None)?;
        } else if job.record().state.has_ended() {
            return Err(Problem::Conflict(format!("job {number} has ended already")));
        } else {
            // First, so that it ends even where that cannot be written down.
            job.stop.store(true, Ordering::Relaxed);
            job.update(|record| {
                if !record.state.has_ended() {
                    record.state = JobState::Cancelling;
                }
            })?;
        }
        drop(list);
        let record = job.record().clone();
        Ok(record)
    }

    /// Running and waiting jobs.
    pub(crate) fn load(&self) -> (Vec<JobRecord>, usize) {
        let list = self.shared.list();
        let running = list.jobs.values().filter(|job| job.record().state.is_running());
        (running.map(|job| job.record().without_epochs()).collect(), list.queue.len())
    }

    /// How many run and how many wait.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let list = self.shared.list();
        let running = list.jobs.values().filter(|job| job.record().state.is_running()).count();
        (running, list.queue.len())
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

/// Removes files below a folder that were being written when the process ended. One that stays costs room and no more.
fn sweep(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            sweep(&entry.path());
        } else if name.starts_with('.') && name.contains(".tmp-") {
            let _ = fs::remove_file(entry.path());
        }
    }
}

impl Drop for Jobs {
    fn drop(&mut self) {
        self.stop();
    }
}

impl List {
    /// Deletes the oldest jobs that have ended, where there are too many.
    fn forget_oldest(&mut self) {
        while self.jobs.len() > MAX_JOBS {
            let ended = self.jobs.iter().find(|(_, job)| job.record().state.has_ended());
            let Some(number) = ended.map(|(&number, _)| number) else { return };
            if let Some(job) = self.jobs.remove(&number) {
                // What stays behind is found again at the next start.
                let _ = fs::remove_dir_all(&job.dir);
            }
        }
    }
}

impl Shared {
    fn list(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self) {
        while let Some(job) = self.next() {
            if let Err(problem) = work::run(self, &job) {
                // Only the disk can be to blame: the outcome of the work itself is in the record.
                tracing::error!(
                    job = job.record().number,
                    "the record of the job cannot be written: {problem}"
                );
            }
        }
    }

    /// The next job, once there is one; `None` when the service stops.
    fn next(&self) -> Option<Arc<Job>> {
        let mut list = self.list();
        loop {
            if self.stopping.load(Ordering::Relaxed) {
                return None;
            }
            if let Some(number) = list.queue.pop_front() {
                return list.jobs.get(&number).cloned();
            }
            list = self.bell.wait(list).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Job {
    fn new(dir: PathBuf, record: JobRecord, log: Log) -> Job {
        Job { dir, record: Mutex::new(record), log, stop: AtomicBool::new(false) }
    }

    fn read(dir: &Path) -> Result<Job, StoreError> {
        let record: JobRecord = record::read(&dir.join("job.json"))?;
        let log = Log::read(&dir.join("events.jsonl"), record.state.has_ended());
        Ok(Job::new(dir.to_owned(), record, log))
    }

    /// What is known of it now.
    pub(crate) fn record(&self) -> MutexGuard<'_, JobRecord> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the record, on the disk too, and tells those who follow it when its state is another. An error is the
    /// disk's; in memory the change is made.
    fn update(&self, change: impl FnOnce(&mut JobRecord)) -> Result<(), StoreError> {
        let mut record = self.record();
        let before = record.state;
        change(&mut record);
        let written = record::write(&self.dir.join("job.json"), &record);
        if record.state != before || record.attempts == 0 {
            tracing::info!(job = record.number, state = record.state.name(), "job");
            self.tell("state", &record.brief());
        }
        written
    }

    /// Tells those who follow the job, and those who come later.
    fn tell(&self, event: &'static str, data: &impl serde::Serialize) {
        self.log.add(&self.dir.join("events.jsonl"), event, data);
    }

    /// Writes down how it ended. Those who follow it are told last.
    fn end(&self, state: JobState, error: Option<String>) -> Result<(), StoreError> {
        let written = self.update(|record| {
            record.state = state;
            record.error = error;
            record.finished = Some(record::now());
        });
        self.log.end();
        written
    }
}
