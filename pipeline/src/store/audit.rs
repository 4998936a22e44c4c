//! Who changed what, and when.

use std::sync::Arc;

use serde_json::Value;

use crate::store::database::{self, Fault, Tx};
use crate::store::entries::{Actor, AuditEntry};
use crate::store::error::StoreError;
use crate::store::inner::{Inner, now};

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
