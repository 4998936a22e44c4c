//! Rows of changes that people made to images, and of what the images were before.

use ocelli_datasets::Split;
use rusqlite::{OptionalExtension, Row, params};

use super::fault::{Fault, Tx};
use super::images::{NewImage, split_of, split_word};
use crate::store::entries::{Actor, Change};
use crate::store::image::{Id, Origin};

/// What an image was before a change.
#[derive(Clone, Debug)]
pub(in crate::store) struct Before {
    /// Key of its file.
    pub(in crate::store) file: i64,
    pub(in crate::store) id: Id,
    pub(in crate::store) class: String,
    pub(in crate::store) split: Split,
    pub(in crate::store) name: String,
    pub(in crate::store) added: u64,
    pub(in crate::store) origin: Origin,
}

impl Before {
    /// The image as it is put back.
    pub(in crate::store) fn as_new(&self) -> NewImage<'_> {
        NewImage { split: self.split, name: &self.name, added: self.added, origin: self.origin }
    }
}

/// Adds a change of a data set: to which class its images went, none where they were removed. Gives its number.
pub(in crate::store) fn add(
    tx: &Tx<'_>,
    dataset: i64,
    at: u64,
    by: &Actor,
    class: Option<&str>,
) -> Result<i64, Fault> {
    tx.execute(
        "INSERT INTO changes (dataset, at, scope, key, class) VALUES (?, ?, ?, ?, ?)",
        params![dataset, at as i64, by.scope, by.key, class],
    )?;
    Ok(tx.last_insert_rowid())
}

/// Notes what an image was before a change.
pub(in crate::store) fn keep(tx: &Tx<'_>, change: i64, image: &Before) -> Result<(), Fault> {
    tx.prepare_cached(
        "INSERT INTO changed (change, file, class, split, name, added, source) VALUES (?, ?, ?, ?, ?, ?, ?)",
    )?
    .execute(params![
        change,
        image.file,
        image.class,
        split_word(image.split),
        image.name,
        image.added as i64,
        image.origin.as_str()
    ])?;
    Ok(())
}

fn change_of(row: &Row<'_>) -> Result<Change, rusqlite::Error> {
    Ok(Change {
        change: row.get::<_, i64>(0)? as u64,
        at: row.get::<_, i64>(1)? as u64,
        scope: row.get(2)?,
        key: row.get(3)?,
        class: row.get(4)?,
        images: row.get::<_, i64>(5)? as usize,
        undone: row.get::<_, Option<i64>>(6)?.map(|at| at as u64),
    })
}

const CHANGE: &str = "id, at, scope, key, class, (SELECT count(*) FROM changed WHERE change = changes.id), undone FROM changes";

/// Up to `limit` changes of a data set, newest first.
pub(in crate::store) fn list(tx: &Tx<'_>, dataset: i64, limit: usize) -> Result<Vec<Change>, Fault> {
    let sql = format!("SELECT {CHANGE} WHERE dataset = ? ORDER BY id DESC LIMIT ?");
    let mut statement = tx.prepare_cached(&sql)?;
    let rows = statement.query_map([dataset, limit as i64], change_of)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// A change of a data set.
pub(in crate::store) fn find(tx: &Tx<'_>, dataset: i64, change: u64) -> Result<Option<Change>, Fault> {
    let Ok(change) = i64::try_from(change) else { return Ok(None) };
    let sql = format!("SELECT {CHANGE} WHERE dataset = ? AND id = ?");
    Ok(tx.prepare_cached(&sql)?.query_row([dataset, change], change_of).optional()?)
}

/// What the images of a change were before it.
pub(in crate::store) fn before(tx: &Tx<'_>, change: u64) -> Result<Vec<Before>, Fault> {
    let mut statement = tx.prepare_cached(
        "SELECT c.file, f.hash, c.class, c.split, c.name, c.added, c.source
         FROM changed c JOIN files f ON f.id = c.file WHERE c.change = ? ORDER BY c.file",
    )?;
    let rows = statement.query_map([change as i64], |row| {
        let source: String = row.get(6)?;
        Ok(Before {
            file: row.get(0)?,
            id: Id::from(row.get::<_, [u8; 32]>(1)?),
            class: row.get(2)?,
            split: split_of(row, 3)?,
            name: row.get(4)?,
            added: row.get::<_, i64>(5)? as u64,
            origin: Origin::parse(&source),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Notes that a change was undone.
pub(in crate::store) fn set_undone(tx: &Tx<'_>, change: u64, at: u64) -> Result<(), Fault> {
    tx.execute("UPDATE changes SET undone = ?2 WHERE id = ?1", [change as i64, at as i64])?;
    Ok(())
}

/// Forgets what an image was before the changes of a data set.
pub(in crate::store) fn forget(tx: &Tx<'_>, dataset: i64, file: i64) -> Result<(), Fault> {
    tx.execute(
        "DELETE FROM changed WHERE file = ?2 AND change IN (SELECT id FROM changes WHERE dataset = ?1)",
        [dataset, file],
    )?;
    Ok(())
}

/// Forgets all changes of a data set but the newest `keep`; gives the keys of the files that they kept.
pub(in crate::store) fn prune(tx: &Tx<'_>, dataset: i64, keep: usize) -> Result<Vec<i64>, Fault> {
    let oldest: Option<i64> = tx
        .query_row(
            "SELECT id FROM changes WHERE dataset = ? ORDER BY id DESC LIMIT 1 OFFSET ?",
            [dataset, keep as i64],
            |row| row.get(0),
        )
        .optional()?;
    let Some(last) = oldest else { return Ok(Vec::new()) };
    let keys = {
        let mut statement = tx.prepare(
            "SELECT DISTINCT c.file FROM changed c JOIN changes g ON g.id = c.change WHERE g.dataset = ? AND g.id <= ?",
        )?;
        let rows = statement.query_map([dataset, last], |row| row.get(0))?;
        rows.collect::<Result<Vec<i64>, _>>()?
    };
    tx.execute("DELETE FROM changes WHERE dataset = ? AND id <= ?", [dataset, last])?;
    Ok(keys)
}
