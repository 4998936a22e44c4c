//! Training jobs: asked for over HTTP, done one after another beside serving, alive after a restart.
//!
//! What is known of a job is in memory, for readers, and in the database, for the next start. One thread takes jobs from
//! a bounded queue; the training itself is a process of its own (`child`). A job that is under way when the service ends,
//! however it ends, is taken up again at the next start and goes on from its last epoch.
//!
//! Nothing that answers a request waits for the disk of another one: a record is locked for a copy in memory, never while
//! it is written.

mod child;
mod ended;
mod error;
mod events;
mod failures;
mod job;
mod order;
mod process;
mod queue;
mod record;
mod request;
mod shared;
mod training;
mod wait;
mod work;

pub use child::{Child, Next};
pub use ended::Ended;
pub(crate) use events::Line;
pub(crate) use job::Job;
pub use process::Worker;
pub(crate) use queue::{JobLoad, Jobs};
pub(crate) use record::{Asked, Brief, EpochMetrics, JobRecord, Progress, Trigger};
pub(crate) use request::RetrainRequest;
