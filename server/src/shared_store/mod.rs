//! Serving on many machines: one writer publishes its models to a shared store, any number of replicas follow it.
//!
//! ```text
//! models/NAME/SHA256.ocelli                a model, named by its content, never changed
//! models/NAME/pointers/00000000042.json    which models have which labels; the highest number counts
//! ```
//!
//! Both are written by a conditional create: a number that is taken is never written again, so nobody overwrites anybody.
//! Models come before the pointer that names them, and are removed after the last one that does. So a kill at any moment
//! leaves the old state or the new one.
//!
//! The writer compares the store with its models at every change and every few seconds, and a replica compares its own
//! with the store: neither depends on a message that could be lost. What a replica is not sure of (an object that is cut
//! off, is not what its name says, or whose model does not give its stored answers) it does not take; what serves goes on.
//!
//! `objects` alone knows what the store is, `pointer` the form of a pointer, `publish` is the writer, `follow` the replica,
//! `first` a replica without a model, `local` what they need of the models of this service.

mod fault;
pub(crate) mod first;
pub(crate) mod follow;
pub(crate) mod local;
pub(crate) mod objects;
pub(crate) mod pointer;
pub(crate) mod publish;
#[cfg(test)]
mod tests;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::select;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::config::Config;
use crate::error::ServerError;
use crate::shared_status::{Role, SharedStore, Status};
use crate::shared_store::follow::Follower;
use crate::shared_store::local::LocalModels;
use crate::shared_store::objects::{ObjectError, Objects};
use crate::shared_store::pointer::{MAX_HOST, Writer};
use crate::shared_store::publish::{Limits, Publisher};

/// What a service does with a shared store, at an address that holds no credentials: a folder, or `s3://`, `gs://` or `az://`
/// with bucket and prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Its models are published there.
    PublishTo(String),
    /// It serves what is published there, and its data folder is a copy of that.
    ReplicaOf(String),
}

impl Sharing {
    /// Whether this program can open the address. Opens no connection.
    ///
    /// # Errors
    /// [`ServerError::SharedStore`].
    pub fn check(&self) -> Result<(), ServerError> {
        self.open().map(drop)
    }

    fn open(&self) -> Result<Objects, ServerError> {
        let (Sharing::PublishTo(address) | Sharing::ReplicaOf(address)) = self;
        Objects::open(address)
            .map_err(|error: ObjectError| ServerError::SharedStore { reason: error.to_string() })
    }
}

/// A service's part in a shared store.
pub(crate) struct Shared {
    role: Role,
    status: Arc<Status>,
    /// True once the store was looked at, with whatever result.
    looked: watch::Sender<bool>,
    models: Arc<dyn LocalModels>,
    poll_interval: Duration,
    /// Until it runs.
    work: Mutex<Option<Work>>,
}

enum Work {
    Publish(Publisher),
    Follow(Follower),
}

impl Shared {
    /// Opens no connection and waits for no store: one that is away is told in the status.
    ///
    /// # Errors
    /// [`ServerError::SharedStore`] for an address that this program cannot open.
    pub(crate) fn new(
        sharing: &Sharing,
        models: Arc<dyn LocalModels>,
        config: &Config,
        data_folder: &Path,
    ) -> Result<Shared, ServerError> {
        let role = match sharing {
            Sharing::PublishTo(_) => Role::Writer,
            Sharing::ReplicaOf(_) => Role::Replica,
        };
        let objects = sharing.open()?;
        let status = Arc::new(Status::new(role, objects.address()));
        let work = match role {
            Role::Writer => {
                if let Err(error) = objects.make() {
                    status.failed(error.to_string(), error.detail());
                }
                let limits =
                    Limits { max_model_bytes: config.max_model_bytes, keep_pointers: config.keep_pointers };
                let publisher =
                    Publisher::new(objects, models.clone(), status.clone(), limits, this_process());
                Work::Publish(publisher)
            }
            Role::Replica => {
                let (models, status) = (models.clone(), status.clone());
                Work::Follow(Follower::new(objects, models, status, config.max_model_bytes, data_folder))
            }
        };
        Ok(Shared {
            role,
            status,
            looked: watch::channel(false).0,
            models,
            poll_interval: config.poll_interval,
            work: Mutex::new(Some(work)),
        })
    }

    /// What is told of it.
    pub(crate) fn status(&self) -> SharedStore {
        self.status.get()
    }

    /// False for a replica that has not looked yet whether it serves what it should.
    pub(crate) fn is_ready(&self) -> bool {
        self.role == Role::Writer || *self.looked.borrow()
    }

    /// Works until the service stops. What is under way then is left as it is: the next start finds it.
    pub(crate) async fn run(&self, mut stopping: watch::Receiver<bool>) {
        let work = self.work.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut work) = work else { return };
        let mut changes = self.models.changed();
        loop {
            changes.mark_unchanged();
            let look = async {
                match &mut work {
                    Work::Publish(publisher) => publisher.look().await,
                    Work::Follow(follower) => follower.look().await,
                }
                self.looked.send_replace(true);
                match self.role {
                    Role::Writer => select! {
                        () = sleep(self.pause()) => {}
                        // An error means that there are no models any more.
                        _ = changes.changed() => {}
                    },
                    Role::Replica => sleep(self.pause()).await,
                }
            };
            select! {
                () = look => {}
                // An error means that the service is gone.
                _ = stopping.wait_for(|&stopping| stopping) => return,
            }
        }
    }

    /// Replicas that were started together do not ask together: three quarters to five quarters of the interval.
    fn pause(&self) -> Duration {
        let part = (random() >> 32) as f64 / f64::from(u32::MAX);
        self.poll_interval.mul_f64(0.75 + 0.5 * part)
    }
}

/// Random bits: the keys of hash maps are drawn by the system.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// This process as a writer.
fn this_process() -> Writer {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.chars().filter(char::is_ascii_graphic).take(MAX_HOST).collect();
    Writer { id: format!("{:016x}", random()), host }
}
