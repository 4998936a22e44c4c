//! Rows of the audit log.

use rusqlite::params;

use super::fault::{Fault, Tx};
use crate::store::entries::{Actor, AuditEntry};

pub(in crate::store) fn add(
    tx: &Tx<'_>,
    at: u64,
    by: &Actor,
    (action, subject): (&str, &str),
    detail: &serde_json::Value,
) -> Result<(), Fault> {
    tx.prepare_cached(
        "INSERT INTO audit (at, scope, key, action, subject, detail) VALUES (?, ?, ?, ?, ?, ?)",
    )?
    .execute(params![at as i64, by.scope, by.key, action, subject, detail.to_string()])?;
    Ok(())
}

/// Up to `limit` entries before the one of number `before`, newest first.
pub(in crate::store) fn page(tx: &Tx<'_>, before: u64, limit: usize) -> Result<Vec<AuditEntry>, Fault> {
    let mut statement = tx.prepare_cached(
        "SELECT id, at, scope, key, action, subject, detail FROM audit WHERE id < ? ORDER BY id DESC LIMIT ?",
    )?;
    let before = i64::try_from(before).unwrap_or(i64::MAX);
    let rows = statement.query_map(params![before, limit as i64], |row| {
        let detail: String = row.get(6)?;
        Ok(AuditEntry {
            id: row.get::<_, i64>(0)? as u64,
            at: row.get::<_, i64>(1)? as u64,
            scope: row.get(2)?,
            key: row.get(3)?,
            action: row.get(4)?,
            subject: row.get(5)?,
            detail: serde_json::from_str(&detail).unwrap_or_default(),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Deletes all but the newest `keep` entries.
pub(in crate::store) fn prune(tx: &Tx<'_>, keep: u64) -> Result<(), Fault> {
    tx.execute("DELETE FROM audit WHERE id <= (SELECT max(id) FROM audit) - ?", [keep as i64])?;
    Ok(())
}
