//! The data folder of a service: everything it needs after a restart, and nothing else.
//!
//! ```text
//! lock                          held by the one process that uses the folder
//! ocelli.db                     what is known: data sets, images, versions, which one serves, jobs, feedback, audit
//! images/AB/HASH.EXTENSION      images by the SHA-256 of their content, of all data sets and of feedback
//! models/NAME/VERSION.ocelli    every version of a model, by content hash
//! runs/NAME-NNN/                run folders of training
//! quarantine/                   files that nothing names; nothing is deleted that nobody asked to delete
//! copies/                       copies of the database, from which it can be restored
//! incoming/                     what is being received
//! ```
//!
//! Files come first, are synced at once, and are then named by one transaction; deletion goes the other way round. So a kill
//! or a power cut at any moment leaves the old state or the new one. Nothing in the folder holds an absolute path: it can
//! be moved.

mod audit;
mod backup;
mod changes;
mod check;
mod data_folder;
mod database;
mod datasets;
mod disk;
mod entries;
mod error;
mod feedback;
mod folder_lock;
mod image;
mod import;
mod info;
mod inner;
mod jobs;
mod name;
mod old_layout;
mod opening;
mod repair;
mod room;
mod splits;
mod versions;

#[cfg(test)]
mod tests;

pub use audit::Audit;
pub use backup::{Backup, backup};
pub use changes::{KEPT_CHANGES, MAX_CHANGED};
pub use check::{CheckReport, Problem, check};
pub use data_folder::Store;
pub use datasets::{Datasets, Staging};
pub use entries::{Actor, AuditEntry, Change, FeedbackEntry, FeedbackInput, FeedbackPage, StoredJob};
pub use error::StoreError;
pub use feedback::{Feedback, MAX_FEEDBACK, MAX_FEEDBACK_BYTES, MAX_FEEDBACK_TOTAL};
pub use image::{MAX_IMAGES, Origin, image_id};
pub use import::{ClassChange, ImportReport, MAX_SKIPPED};
pub use info::{AddedImage, ClassInfo, DatasetInfo, DatasetSummary, ImageInfo, ImagePage, StoredImage};
pub use jobs::{JobChange, JobData, JobHistory, Preview, StoredJobs};
pub use name::{MAX_NAME, Name};
pub use repair::repair;
pub use room::Usage;
pub use versions::{Canary, NewVersion, VersionLabels, VersionRecord, Versions};
