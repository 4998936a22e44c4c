//! One training job: its record in memory and on the disk, and what followers are told.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ocelli_common::text::chain;
use ocelli_pipeline::store::{JobChange, Store, StoreError, StoredJob};

use crate::jobs::events::Log;
use crate::jobs::record::{self, JobRecord, JobState};

/// A training job.
pub(crate) struct Job {
    pub(super) number: u64,
    store: Arc<Store>,
    record: Mutex<JobRecord>,
    /// Held while a change is made and written down, so that changes reach the disk in their order.
    order: Mutex<()>,
    /// The disk does not have what the record says.
    pub(super) unsaved: AtomicBool,
    /// Epochs and events that the disk did not take yet.
    pending: Mutex<JobChange>,
    pub(crate) log: Log,
    /// Ends the work at its next step.
    pub(super) stop: AtomicBool,
    /// The version that it starts from or is compared with, beside those that its record names.
    held: Mutex<Option<String>>,
}

impl Job {
    /// The version that is held for it.
    pub(super) fn held(&self) -> MutexGuard<'_, Option<String>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn new(store: Arc<Store>, record: JobRecord, log: Log) -> Job {
        Job {
            number: record.number,
            store,
            record: Mutex::new(record),
            order: Mutex::new(()),
            unsaved: AtomicBool::new(false),
            pending: Mutex::default(),
            log,
            stop: AtomicBool::new(false),
            held: Mutex::default(),
        }
    }

    /// A job as the disk has it.
    pub(super) fn read(store: &Arc<Store>, stored: StoredJob) -> Result<Job, String> {
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
    pub(super) fn update(&self, change: impl FnOnce(&mut JobRecord)) -> Result<(), StoreError> {
        self.commit(None, Vec::new(), change)
    }

    /// As [`Job::update`], with an epoch and with what followers are lines.
    pub(super) fn commit(
        &self,
        epoch: Option<(u32, String)>,
        mut lines: Vec<(&'static str, String)>,
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
            lines.push(("state", json(&now.brief())));
        }
        if self.log.is_full() {
            lines.clear();
        }
        let first = self.log.len() + 1;
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let mut change = std::mem::take(&mut *pending);
        (change.record, change.ended) = (now.to_json(), now.state.has_ended());
        change.epochs.extend(epoch);
        let events =
            (first..).zip(&lines).map(|(number, (event, data))| (number, (*event).to_owned(), data.clone()));
        change.events.extend(events);
        let written = self.store.jobs().change(self.number, &change);
        self.unsaved.store(written.is_err(), Ordering::Relaxed);
        if written.is_err() {
            *pending = change;
        }
        drop(pending);
        // Followers are told what is so, whether the disk has it or not.
        self.log.add(lines);
        written
    }

    /// Ends the job; an error is the disk's. A job that fails while it is being cancelled is cancelled: that was answered.
    pub(super) fn try_end(&self, state: JobState, error: Option<String>) -> Result<(), StoreError> {
        let written = self.update(|record| {
            let is_cancelled = state == JobState::Failed && record.state == JobState::Cancelling;
            (record.state, record.error) =
                if is_cancelled { (JobState::Cancelled, None) } else { (state, error) };
            record.finished = Some(record::now());
        });
        self.log.end();
        written
    }

    /// Ends the job, in memory in any case. What the disk does not take now is written down later.
    pub(super) fn end(&self, state: JobState, error: Option<String>) {
        if let Err(error) = self.try_end(state, error) {
            tracing::error!(
                job = self.number,
                "the end of the job cannot be recorded yet: {}",
                chain(&error)
            );
        }
    }
}

/// A value of ours as JSON.
pub(super) fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("plain values with text keys")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::record::{Asked, Trigger};
    use crate::jobs::request::RetrainRequest;

    #[test]
    fn a_job_that_fails_while_it_is_cancelled_is_cancelled() {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(folder.path()).unwrap());
        for (state, expected) in [
            (JobState::Running, (JobState::Failed, Some("why".to_owned()))),
            (JobState::Cancelling, (JobState::Cancelled, None)),
        ] {
            let asked = Asked { request: RetrainRequest::default(), trigger: Trigger::Request, manual: None };
            let job = Job::new(store.clone(), JobRecord::new(1, "m", asked), Log::default());
            job.record().state = state;
            job.end(JobState::Failed, Some("why".to_owned()));
            let record = job.record().clone();
            assert_eq!((record.state, record.error), expected, "{state:?}");
        }
    }
}
