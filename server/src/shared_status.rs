//! What `/status` and `/metrics` tell of a shared store; `shared_store` works with it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use ocelli_pipeline::store::Name;
use serde::Serialize;

/// What this service does with the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// Its models are published.
    Writer,
    /// It serves what is published.
    Replica,
}

/// The shared store as this service sees it. Times are seconds since 1970-01-01 UTC.
#[derive(Clone, Debug, PartialEq, Serialize, schemars::JsonSchema)]
pub(crate) struct SharedStore {
    pub(crate) role: Role,
    /// Its address, without credentials.
    pub(crate) url: String,
    /// When it was last read to the end.
    pub(crate) last_look: Option<u64>,
    /// Why it cannot be used now; what serves goes on.
    pub(crate) error: Option<Trouble>,
    /// By name.
    pub(crate) models: BTreeMap<String, SharedModel>,
    /// Pointers that came into force here since the start.
    pub(crate) pointers: u64,
    /// Pointers that were refused.
    pub(crate) refused: u64,
}

impl SharedStore {
    /// Whether the last look at the store came to its end.
    pub(crate) fn is_up(&self) -> bool {
        self.error.is_none() && self.last_look.is_some()
    }

    /// Seconds since that was last so.
    pub(crate) fn age(&self) -> Option<u64> {
        Some(now().saturating_sub(self.last_look?))
    }

    /// Models whose newest pointer is not in force, or that are not published.
    pub(crate) fn problems(&self) -> usize {
        self.models.values().filter(|model| model.problem.is_some()).count()
    }
}

/// What is wrong, and since when.
#[derive(Clone, Debug, PartialEq, Serialize, schemars::JsonSchema)]
pub(crate) struct Trouble {
    pub(crate) reason: String,
    pub(crate) since: u64,
}

/// A model in the shared store.
#[derive(Clone, Debug, Default, PartialEq, Serialize, schemars::JsonSchema)]
pub(crate) struct SharedModel {
    /// The number of the pointer that is in force here.
    pub(crate) pointer: Option<u64>,
    /// When that came into force here.
    pub(crate) since: Option<u64>,
    /// Why the newest pointer is not in force, or why this model is not published.
    pub(crate) problem: Option<Trouble>,
}

/// Kept by whoever works with the store, read by whoever asks.
pub(crate) struct Status(Mutex<SharedStore>);

impl Status {
    pub(crate) fn new(role: Role, url: &str) -> Status {
        Status(Mutex::new(SharedStore {
            role,
            url: url.to_owned(),
            last_look: None,
            error: None,
            models: BTreeMap::new(),
            pointers: 0,
            refused: 0,
        }))
    }

    /// All of it at this moment.
    pub(crate) fn get(&self) -> SharedStore {
        self.lock().clone()
    }

    /// The store was read.
    pub(crate) fn looked(&self) {
        let mut own = self.lock();
        own.last_look = Some(now());
        if own.error.take().is_some() {
            tracing::info!(store = %own.url, "the shared store is there again");
        }
    }

    /// The store could not be used. It is told in the log when it begins, there with `detail`.
    pub(crate) fn failed(&self, reason: String, detail: &str) {
        let mut own = self.lock();
        if own.error.as_ref().is_some_and(|before| before.reason == reason) {
            return;
        }
        tracing::warn!(store = %own.url, detail, "{reason}; what serves goes on");
        let since = own.error.as_ref().map_or_else(now, |before| before.since);
        own.error = Some(Trouble { reason, since });
    }

    /// A pointer of a model is in force.
    pub(crate) fn in_force(&self, name: &Name, number: u64) {
        let mut own = self.lock();
        let model = own.models.entry(name.to_string()).or_default();
        if model.pointer != Some(number) {
            (model.pointer, model.since) = (Some(number), Some(now()));
            own.pointers += 1;
        }
    }

    /// Something is wrong with a model, or no longer. It is told in the log when it begins or changes; says whether it did.
    pub(crate) fn problem(&self, name: &Name, reason: Option<String>) -> bool {
        let mut own = self.lock();
        let model = own.models.entry(name.to_string()).or_default();
        let Some(reason) = reason else {
            model.problem = None;
            return false;
        };
        if model.problem.as_ref().is_some_and(|before| before.reason == reason) {
            return false;
        }
        tracing::error!(model = %name, "shared store: {reason}");
        let since = model.problem.as_ref().map_or_else(now, |before| before.since);
        model.problem = Some(Trouble { reason, since });
        true
    }

    /// A pointer was refused.
    pub(crate) fn refused(&self) {
        self.lock().refused += 1;
    }

    fn lock(&self) -> MutexGuard<'_, SharedStore> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Seconds since 1970-01-01 UTC.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
