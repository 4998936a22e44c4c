//! Rows of jobs. What a record holds is the service's own; here it is JSON.

use rusqlite::{OptionalExtension, params};

use super::fault::{Fault, Tx};
use crate::store::entries::StoredJob;

/// Makes a job whose record is written once its number is known.
pub(in crate::store) fn create(tx: &Tx<'_>, model: &str, dataset: &str) -> Result<u64, Fault> {
    tx.execute("INSERT INTO jobs (model, dataset, ended, record) VALUES (?, ?, 0, '')", [model, dataset])?;
    Ok(tx.last_insert_rowid() as u64)
}

/// As [`create`], for a job that has its number already.
pub(in crate::store) fn put(tx: &Tx<'_>, id: u64, model: &str, dataset: &str) -> Result<(), Fault> {
    tx.execute(
        "INSERT INTO jobs (id, model, dataset, ended, record) VALUES (?, ?, ?, 0, '')",
        params![id as i64, model, dataset],
    )?;
    Ok(())
}

pub(in crate::store) fn set_record(tx: &Tx<'_>, id: u64, record: &str, ended: bool) -> Result<(), Fault> {
    tx.prepare_cached("UPDATE jobs SET record = ?2, ended = ?3 WHERE id = ?1")?
        .execute(params![id as i64, record, ended])?;
    Ok(())
}

/// Keeps the figures of an epoch; one that is done again counts once.
pub(in crate::store) fn set_epoch(tx: &Tx<'_>, id: u64, epoch: u32, metrics: &str) -> Result<(), Fault> {
    tx.execute("DELETE FROM epochs WHERE job = ? AND epoch > ?", params![id as i64, epoch])?;
    tx.execute(
        "INSERT OR REPLACE INTO epochs (job, epoch, metrics) VALUES (?, ?, ?)",
        params![id as i64, epoch, metrics],
    )?;
    Ok(())
}

pub(in crate::store) fn add_event(
    tx: &Tx<'_>,
    id: u64,
    number: usize,
    event: &str,
    data: &str,
) -> Result<(), Fault> {
    tx.prepare_cached("INSERT OR REPLACE INTO events (job, number, event, data) VALUES (?, ?, ?, ?)")?
        .execute(params![id as i64, number as i64, event, data])?;
    Ok(())
}

/// All jobs, oldest first, without their events.
pub(in crate::store) fn all(tx: &Tx<'_>) -> Result<Vec<StoredJob>, Fault> {
    let mut jobs = tx.prepare("SELECT id, model, dataset, ended, record FROM jobs ORDER BY id")?;
    let rows = jobs.query_map([], |row| {
        Ok(StoredJob {
            id: row.get::<_, i64>(0)? as u64,
            model: row.get(1)?,
            dataset: row.get(2)?,
            ended: row.get(3)?,
            record: row.get(4)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(in crate::store) fn epochs(tx: &Tx<'_>, id: u64) -> Result<Vec<String>, Fault> {
    let mut statement = tx.prepare_cached("SELECT metrics FROM epochs WHERE job = ? ORDER BY epoch")?;
    let rows = statement.query_map([id as i64], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Events as pairs of name and data, in order.
pub(in crate::store) fn events(tx: &Tx<'_>, id: u64) -> Result<Vec<(String, String)>, Fault> {
    let mut statement = tx.prepare_cached("SELECT event, data FROM events WHERE job = ? ORDER BY number")?;
    let rows = statement.query_map([id as i64], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Deletes a job, with all that is known of it.
pub(in crate::store) fn delete(tx: &Tx<'_>, id: u64) -> Result<(), Fault> {
    tx.execute("DELETE FROM jobs WHERE id = ?", [id as i64])?;
    Ok(())
}

/// A job on a data set that has not ended.
pub(in crate::store) fn open_on(tx: &Tx<'_>, dataset: &str) -> Result<Option<u64>, Fault> {
    let sql = "SELECT id FROM jobs WHERE dataset = ? AND ended = 0 ORDER BY id LIMIT 1";
    Ok(tx.query_row(sql, [dataset], |row| row.get::<_, i64>(0)).optional()?.map(|id| id as u64))
}

/// Deletes the events of the jobs that ended longest ago, beyond the newest `keep`.
pub(in crate::store) fn prune_events(tx: &Tx<'_>, keep: u64) -> Result<(), Fault> {
    tx.execute(
        "DELETE FROM events WHERE (job, number) IN (
             SELECT e.job, e.number FROM events e JOIN jobs j ON j.id = e.job WHERE j.ended
             ORDER BY e.job DESC, e.number DESC LIMIT -1 OFFSET ?)",
        [keep as i64],
    )?;
    Ok(())
}
