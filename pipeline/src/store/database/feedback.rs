//! Rows of feedback that waits for a review.

use rusqlite::{OptionalExtension, Row, params};

use super::fault::{Fault, Tx};
use super::files::FileRow;
use super::files::{COLUMNS, file_of};
use crate::store::entries::{FeedbackEntry, FeedbackInput};
use crate::store::image::Id;

const SELECT: &str =
    "g.added, g.predicted, g.label, g.version, g.note FROM feedback g JOIN files f ON f.id = g.file";

fn entry_of(row: &Row<'_>) -> Result<(FileRow, FeedbackEntry), rusqlite::Error> {
    let file = file_of(row, 0)?;
    let entry = FeedbackEntry {
        id: file.id.to_string(),
        added: row.get::<_, i64>(6)? as u64,
        bytes: file.bytes,
        damaged: file.damaged.clone(),
        input: FeedbackInput {
            predicted: row.get(7)?,
            label: row.get(8)?,
            version: row.get(9)?,
            note: row.get(10)?,
        },
    };
    Ok((file, entry))
}

/// Adds an entry, or replaces what was said of the same image.
pub(in crate::store) fn put(tx: &Tx<'_>, file: i64, added: u64, input: &FeedbackInput) -> Result<(), Fault> {
    tx.execute(
        "INSERT OR REPLACE INTO feedback (file, added, predicted, label, version, note) VALUES (?, ?, ?, ?, ?, ?)",
        params![file, added as i64, input.predicted, input.label, input.version, input.note],
    )?;
    Ok(())
}

/// How many wait, and the bytes of their images, without the image `id`.
pub(in crate::store) fn others(tx: &Tx<'_>, id: &Id) -> Result<(usize, u64), Fault> {
    let sql = "SELECT count(*), coalesce(sum(f.bytes), 0) FROM feedback g JOIN files f ON f.id = g.file WHERE f.hash <> ?";
    Ok(tx.query_row(sql, [id.bytes()], |row| {
        Ok((row.get::<_, i64>(0)? as usize, row.get::<_, i64>(1)? as u64))
    })?)
}

/// Up to `limit` entries from the `offset`th on, oldest first; and how many there are.
pub(in crate::store) fn page(
    tx: &Tx<'_>,
    (offset, limit): (usize, usize),
) -> Result<(usize, Vec<FeedbackEntry>), Fault> {
    let total = tx.query_row("SELECT count(*) FROM feedback", [], |row| row.get::<_, i64>(0))?;
    let mut statement =
        tx.prepare(&format!("SELECT {COLUMNS}, {SELECT} ORDER BY g.added, g.id LIMIT ? OFFSET ?"))?;
    let rows = statement.query_map(params![limit as i64, offset as i64], entry_of)?;
    Ok((total as usize, rows.map(|row| row.map(|(_, entry)| entry)).collect::<Result<_, _>>()?))
}

pub(in crate::store) fn find(tx: &Tx<'_>, id: &Id) -> Result<Option<(FileRow, FeedbackEntry)>, Fault> {
    let mut statement = tx.prepare_cached(&format!("SELECT {COLUMNS}, {SELECT} WHERE f.hash = ?"))?;
    Ok(statement.query_row([id.bytes()], entry_of).optional()?)
}

pub(in crate::store) fn delete(tx: &Tx<'_>, file: i64) -> Result<(), Fault> {
    tx.execute("DELETE FROM feedback WHERE file = ?", [file])?;
    Ok(())
}
