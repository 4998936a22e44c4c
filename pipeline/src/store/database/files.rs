//! Rows of image files, and of files that are to go.

use rusqlite::{OptionalExtension, params};

use super::fault::{Fault, Tx};
use crate::store::image::{Id, extension, image_path};

/// An image file.
#[derive(Clone, Debug)]
pub(in crate::store) struct FileRow {
    pub(in crate::store) key: i64,
    pub(in crate::store) id: Id,
    pub(in crate::store) extension: &'static str,
    pub(in crate::store) bytes: u64,
    /// Why it cannot be used.
    pub(in crate::store) damaged: Option<String>,
    /// When it was changed, when it was last found whole; 0 where nobody looked.
    pub(in crate::store) written: i64,
}

/// An image file that is written and not described yet.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct StoredFile {
    pub(in crate::store) id: Id,
    pub(in crate::store) extension: &'static str,
    pub(in crate::store) bytes: u64,
    /// When it was changed, in nanoseconds since 1970; 0 where that is not known.
    pub(in crate::store) written: i64,
}

impl FileRow {
    /// Relative to the data folder.
    pub(in crate::store) fn path(&self) -> String {
        image_path(&self.id, self.extension)
    }
}

pub(super) const COLUMNS: &str = "f.id, f.hash, f.extension, f.bytes, f.damaged, f.written";

/// A row that begins with [`COLUMNS`] at `at`.
pub(super) fn file_of(row: &rusqlite::Row<'_>, at: usize) -> Result<FileRow, rusqlite::Error> {
    let hash: [u8; 32] = row.get(at + 1)?;
    let ending: String = row.get(at + 2)?;
    let unknown = || rusqlite::Error::InvalidColumnType(at + 2, ending.clone(), rusqlite::types::Type::Text);
    Ok(FileRow {
        key: row.get(at)?,
        id: Id::from(hash),
        extension: extension(&ending).ok_or_else(unknown)?,
        bytes: row.get::<_, i64>(at + 3)?.max(0) as u64,
        damaged: row.get(at + 4)?,
        written: row.get(at + 5)?,
    })
}

pub(in crate::store) fn find(tx: &Tx<'_>, id: &Id) -> Result<Option<FileRow>, Fault> {
    let sql = format!("SELECT {COLUMNS} FROM files f WHERE f.hash = ?");
    Ok(tx.prepare_cached(&sql)?.query_row([id.bytes()], |row| file_of(row, 0)).optional()?)
}

/// All image files.
pub(in crate::store) fn all(tx: &Tx<'_>) -> Result<Vec<FileRow>, Fault> {
    let mut statement = tx.prepare(&format!("SELECT {COLUMNS} FROM files f"))?;
    let rows = statement.query_map([], |row| file_of(row, 0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Takes up a file that was written whole; one that was damaged is whole again. Gives its key.
pub(in crate::store) fn put(tx: &Tx<'_>, file: &StoredFile) -> Result<i64, Fault> {
    let StoredFile { id, extension, bytes, written } = file;
    tx.prepare_cached("DELETE FROM removed WHERE path = ?")?.execute([image_path(id, extension)])?;
    let mut statement = tx.prepare_cached(
        "INSERT INTO files (hash, extension, bytes, written) VALUES (?, ?, ?, ?)
         ON CONFLICT (hash) DO UPDATE SET damaged = NULL, bytes = excluded.bytes, written = excluded.written
         RETURNING id",
    )?;
    Ok(statement.query_row(params![id.bytes(), extension, *bytes as i64, written], |row| row.get(0))?)
}

/// Its file was found whole, as it was written then.
pub(in crate::store) fn set_written(tx: &Tx<'_>, key: i64, written: i64) -> Result<(), Fault> {
    tx.prepare_cached("UPDATE files SET written = ?2, damaged = NULL WHERE id = ?1")?
        .execute(params![key, written])?;
    Ok(())
}

/// Notes that a file cannot be used, or that it can again.
pub(in crate::store) fn set_damaged(tx: &Tx<'_>, key: i64, reason: Option<&str>) -> Result<(), Fault> {
    tx.prepare_cached("UPDATE files SET damaged = ?2 WHERE id = ?1")?.execute(params![key, reason])?;
    Ok(())
}

/// Forgets those of the files that no image, feedback, snapshot or change names; gives their paths, which are noted as removed.
pub(in crate::store) fn release(tx: &Tx<'_>, keys: &[i64]) -> Result<Vec<String>, Fault> {
    let mut forget = tx.prepare_cached(
        "DELETE FROM files WHERE id = ?1
         AND NOT EXISTS (SELECT 1 FROM images WHERE file = ?1)
         AND NOT EXISTS (SELECT 1 FROM feedback WHERE file = ?1)
         AND NOT EXISTS (SELECT 1 FROM snapshots WHERE file = ?1)
         AND NOT EXISTS (SELECT 1 FROM changed WHERE file = ?1)
         RETURNING hash, extension",
    )?;
    let mut paths = Vec::new();
    for key in keys {
        let gone = forget.query_row([key], |row| Ok((row.get::<_, [u8; 32]>(0)?, row.get::<_, String>(1)?)));
        if let Some((hash, extension)) = gone.optional()? {
            let path = image_path(&Id::from(hash), &extension);
            note_removed(tx, &path)?;
            paths.push(path);
        }
    }
    Ok(paths)
}

/// Notes that a file is to go; the next start removes it, if this process does not come to it.
pub(in crate::store) fn note_removed(tx: &Tx<'_>, path: &str) -> Result<(), Fault> {
    tx.prepare_cached("INSERT OR IGNORE INTO removed (path) VALUES (?)")?.execute([path])?;
    Ok(())
}

/// Files that are to go.
pub(in crate::store) fn removed(tx: &Tx<'_>) -> Result<Vec<String>, Fault> {
    let mut statement = tx.prepare("SELECT path FROM removed")?;
    let rows = statement.query_map([], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Files that are gone.
pub(in crate::store) fn clear_removed(tx: &Tx<'_>, paths: &[String]) -> Result<(), Fault> {
    let mut statement = tx.prepare_cached("DELETE FROM removed WHERE path = ?")?;
    for path in paths {
        statement.execute([path])?;
    }
    Ok(())
}

/// A file that only its path, size and hash are known of.
#[derive(Clone, Debug)]
pub(in crate::store) struct KeptFile {
    pub(in crate::store) path: String,
    pub(in crate::store) bytes: u64,
    pub(in crate::store) hash: [u8; 32],
}

/// Replaces what is known of the files below a folder (with a `/` at its end).
pub(in crate::store) fn set_kept(tx: &Tx<'_>, folder: &str, files: &[KeptFile]) -> Result<(), Fault> {
    tx.execute("DELETE FROM kept_files WHERE substr(path, 1, length(?1)) = ?1", [folder])?;
    let mut statement =
        tx.prepare_cached("INSERT OR REPLACE INTO kept_files (path, bytes, hash) VALUES (?, ?, ?)")?;
    for file in files {
        statement.execute(params![file.path, file.bytes as i64, file.hash])?;
    }
    Ok(())
}

/// All files that only their path, size and hash are known of.
pub(in crate::store) fn kept(tx: &Tx<'_>) -> Result<Vec<KeptFile>, Fault> {
    let mut statement = tx.prepare("SELECT path, bytes, hash FROM kept_files ORDER BY path")?;
    let rows = statement.query_map([], |row| {
        Ok(KeptFile { path: row.get(0)?, bytes: row.get::<_, i64>(1)? as u64, hash: row.get(2)? })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// A single value.
pub(in crate::store) fn fact(tx: &Tx<'_>, name: &str) -> Result<Option<String>, Fault> {
    Ok(tx.query_row("SELECT value FROM facts WHERE name = ?", [name], |row| row.get(0)).optional()?)
}

/// Sets a single value.
pub(in crate::store) fn set_fact(tx: &Tx<'_>, name: &str, value: &str) -> Result<(), Fault> {
    tx.execute("INSERT OR REPLACE INTO facts (name, value) VALUES (?, ?)", [name, value])?;
    Ok(())
}

/// Forgets a file that only its path, size and hash were known of.
pub(in crate::store) fn forget_kept(tx: &Tx<'_>, path: &str) -> Result<(), Fault> {
    tx.execute("DELETE FROM kept_files WHERE path = ?", [path])?;
    Ok(())
}
