//! Rows of model versions: which there are, which serves, what they were judged on.

use rusqlite::{OptionalExtension, params};

use super::fault::{Fault, Tx};
use super::files::FileRow;
use super::files::{COLUMNS, file_of};

/// A version; its record is JSON.
#[derive(Clone, Debug)]
pub(in crate::store) struct VersionRow {
    pub(in crate::store) key: i64,
    pub(in crate::store) version: String,
    pub(in crate::store) record: String,
    pub(in crate::store) damaged: Option<String>,
    /// When its file was changed, when it was last found whole; 0 where nobody looked.
    pub(in crate::store) written: i64,
}

fn version_of(row: &rusqlite::Row<'_>) -> Result<VersionRow, rusqlite::Error> {
    Ok(VersionRow {
        key: row.get(0)?,
        version: row.get(1)?,
        record: row.get(2)?,
        damaged: row.get(3)?,
        written: row.get(4)?,
    })
}

const ROW: &str = "SELECT id, version, record, damaged, written FROM versions";

/// Models that have versions, sorted.
pub(in crate::store) fn models(tx: &Tx<'_>) -> Result<Vec<String>, Fault> {
    let mut statement = tx.prepare("SELECT DISTINCT model FROM versions ORDER BY model")?;
    let rows = statement.query_map([], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// All versions of a model, oldest first.
pub(in crate::store) fn all(tx: &Tx<'_>, model: &str) -> Result<Vec<VersionRow>, Fault> {
    let mut statement = tx.prepare_cached(&format!("{ROW} WHERE model = ? ORDER BY number"))?;
    let rows = statement.query_map([model], version_of)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(in crate::store) fn find(tx: &Tx<'_>, model: &str, version: &str) -> Result<Option<VersionRow>, Fault> {
    let mut statement = tx.prepare_cached(&format!("{ROW} WHERE model = ? AND version = ?"))?;
    Ok(statement.query_row([model, version], version_of).optional()?)
}

/// The number that the next version gets.
pub(in crate::store) fn next_number(tx: &Tx<'_>, model: &str) -> Result<u32, Fault> {
    let sql = "SELECT coalesce(max(number), 0) + 1 FROM versions WHERE model = ?";
    Ok(tx.query_row(sql, [model], |row| row.get(0))?)
}

/// Adds a version or replaces what is known of it; gives its key.
pub(in crate::store) fn put(
    tx: &Tx<'_>,
    model: &str,
    (version, number): (&str, u32),
    record: &str,
    evaluation: Option<&str>,
) -> Result<i64, Fault> {
    let mut statement = tx.prepare_cached(
        "INSERT INTO versions (model, version, number, record, evaluation) VALUES (?, ?, ?, ?, ?)
         ON CONFLICT (model, version) DO UPDATE
         SET record = excluded.record, evaluation = coalesce(excluded.evaluation, evaluation), damaged = NULL
         RETURNING id",
    )?;
    Ok(statement.query_row(params![model, version, number, record, evaluation], |row| row.get(0))?)
}

pub(in crate::store) fn set_damaged(tx: &Tx<'_>, key: i64, reason: Option<&str>) -> Result<(), Fault> {
    tx.execute("UPDATE versions SET damaged = ?2 WHERE id = ?1", params![key, reason])?;
    Ok(())
}

/// Its file was found whole, as it was written then.
pub(in crate::store) fn set_written(tx: &Tx<'_>, key: i64, written: i64) -> Result<(), Fault> {
    tx.execute("UPDATE versions SET written = ?2, damaged = NULL WHERE id = ?1", params![key, written])?;
    Ok(())
}

pub(in crate::store) fn evaluation(tx: &Tx<'_>, key: i64) -> Result<Option<String>, Fault> {
    Ok(tx.query_row("SELECT evaluation FROM versions WHERE id = ?", [key], |row| row.get(0))?)
}

pub(in crate::store) fn delete(tx: &Tx<'_>, key: i64) -> Result<(), Fault> {
    tx.execute("DELETE FROM versions WHERE id = ?", [key])?;
    Ok(())
}

/// The version that serves, then those that served before it, the last one first.
pub(in crate::store) fn served(tx: &Tx<'_>, model: &str) -> Result<Vec<String>, Fault> {
    let mut statement = tx.prepare_cached(
        "SELECT v.version FROM served s JOIN versions v ON v.id = s.version WHERE v.model = ? ORDER BY s.id DESC",
    )?;
    let rows = statement.query_map([model], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// From now on a version serves; of those before it `keep` are remembered.
pub(in crate::store) fn serve(
    tx: &Tx<'_>,
    model: &str,
    key: i64,
    now: u64,
    keep: usize,
) -> Result<(), Fault> {
    tx.execute("INSERT INTO served (version, at) VALUES (?, ?)", params![key, now as i64])?;
    tx.execute(
        "DELETE FROM served WHERE id IN (
             SELECT s.id FROM served s JOIN versions v ON v.id = s.version
             WHERE v.model = ? ORDER BY s.id DESC LIMIT -1 OFFSET ?)",
        params![model, i64::try_from(keep).unwrap_or(i64::MAX).saturating_add(1)],
    )?;
    Ok(())
}

/// Forgets that the last version of a model ever served.
pub(in crate::store) fn unserve(tx: &Tx<'_>, model: &str) -> Result<(), Fault> {
    tx.execute(
        "DELETE FROM served WHERE id = (
             SELECT max(s.id) FROM served s JOIN versions v ON v.id = s.version WHERE v.model = ?)",
        [model],
    )?;
    Ok(())
}

/// A label besides that of the version that serves: its name, the version, and the share of a canary in percent.
pub(in crate::store) type LabelRow = (String, String, Option<u8>);

/// The labels of a model.
pub(in crate::store) fn labels(tx: &Tx<'_>, model: &str) -> Result<Vec<LabelRow>, Fault> {
    let mut statement = tx.prepare_cached(
        "SELECT l.label, v.version, l.share FROM version_labels l JOIN versions v ON v.id = l.version WHERE l.model = ?",
    )?;
    let rows = statement.query_map([model], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Gives a version a label, which another one may have had.
pub(in crate::store) fn set_label(
    tx: &Tx<'_>,
    model: &str,
    (label, key): (&str, i64),
    share: Option<u8>,
) -> Result<(), Fault> {
    let sql = "INSERT OR REPLACE INTO version_labels (model, label, version, share) VALUES (?, ?, ?, ?)";
    tx.execute(sql, params![model, label, key, share])?;
    Ok(())
}

/// Takes a label away; whether there was one.
pub(in crate::store) fn clear_label(tx: &Tx<'_>, model: &str, label: &str) -> Result<bool, Fault> {
    Ok(tx.execute("DELETE FROM version_labels WHERE model = ? AND label = ?", [model, label])? > 0)
}

/// Takes all labels of a version away.
pub(in crate::store) fn clear_labels_of(tx: &Tx<'_>, key: i64) -> Result<(), Fault> {
    tx.execute("DELETE FROM version_labels WHERE version = ?", [key])?;
    Ok(())
}

/// Notes by which images a version was compared.
pub(in crate::store) fn set_judged_on(tx: &Tx<'_>, key: i64, images: &[(i64, String)]) -> Result<(), Fault> {
    tx.execute("DELETE FROM judged_on WHERE version = ?", [key])?;
    // An image that was deleted meanwhile is gone from here, too.
    let mut statement = tx.prepare_cached(
        "INSERT OR IGNORE INTO judged_on (version, file, class) SELECT ?1, id, ?3 FROM files WHERE id = ?2",
    )?;
    for (file, class) in images {
        statement.execute(params![key, file, class])?;
    }
    Ok(())
}

/// By which images a version was compared: files and classes.
pub(in crate::store) fn judged_on(
    tx: &Tx<'_>,
    model: &str,
    version: &str,
) -> Result<Vec<(FileRow, String)>, Fault> {
    let sql = format!(
        "SELECT {COLUMNS}, j.class FROM judged_on j JOIN files f ON f.id = j.file JOIN versions v ON v.id = j.version
         WHERE v.model = ? AND v.version = ? ORDER BY f.id"
    );
    let mut statement = tx.prepare(&sql)?;
    let rows = statement.query_map([model, version], |row| Ok((file_of(row, 0)?, row.get(6)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
