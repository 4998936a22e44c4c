//! Who changed what, and when.

use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use crate::store::database::{self, Fault, Tx};
use crate::store::{Inner, StoreError, now};

/// Who asks for a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// The scope of the key, such as `admin`; `service` for what the service does by itself.
    pub scope: String,
    /// The name of the key.
    pub key: String,
}

impl Actor {
    /// The service itself, on behalf of `what`, such as `job 3`.
    pub fn service(what: impl Into<String>) -> Actor {
        Actor { scope: "service".to_owned(), key: what.into() }
    }
}

/// A change. Times are seconds since 1970-01-01 UTC.
#[derive(Clone, Debug, PartialEq, Serialize, schemars::JsonSchema)]
pub struct AuditEntry {
    /// Numbers go up, and are never given twice.
    pub id: u64,
    /// When.
    pub at: u64,
    /// Who: the scope of the key.
    pub scope: String,
    /// Who: the name of the key.
    pub key: String,
    /// What was done, such as `promote`.
    pub action: String,
    /// To what, such as a version or the name of a data set.
    pub subject: String,
    /// More about it.
    pub detail: Value,
}

/// The audit log of a store.
pub struct Audit {
    inner: Arc<Inner>,
}

impl Audit {
    pub(super) fn new(inner: Arc<Inner>) -> Audit {
        Audit { inner }
    }

    /// Notes a change that was made outside of the store.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Database`].
    pub fn add(&self, by: &Actor, action: &str, subject: &str, detail: &Value) -> Result<(), StoreError> {
        self.inner.database.write(|tx| note(tx, by, (action, subject), detail))
    }

    /// Up to `limit` entries before the one of number `before`, newest first.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Database`].
    pub fn page(&self, before: Option<u64>, limit: usize) -> Result<Vec<AuditEntry>, StoreError> {
        self.inner.database.read(|tx| database::audit::page(tx, before.unwrap_or(u64::MAX), limit))
    }
}

/// Notes a change in the transaction that makes it.
pub(super) fn note(tx: &Tx<'_>, by: &Actor, what: (&str, &str), detail: &Value) -> Result<(), Fault> {
    database::audit::add(tx, now(), by, what, detail)
}
