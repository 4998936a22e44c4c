//! What can still be read of a damaged database, in a new one.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use ocelli_common::atomic_file;
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, params_from_iter};

use super::fault::store_error;
use super::schema;
use crate::store::error::StoreError;
use crate::store::image::{Id, image_path};

/// Parents before children, so that a row finds what it names.
const TABLES: [&str; 19] = [
    "files",
    "datasets",
    "classes",
    "images",
    "changes",
    "changed",
    "jobs",
    "epochs",
    "events",
    "snapshots",
    "versions",
    "served",
    "version_labels",
    "judged_on",
    "feedback",
    "audit",
    "removed",
    "kept_files",
    "facts",
];

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct Rescued {
    /// Rows that were read.
    pub(in crate::store) rows: usize,
    /// Tables of which only a part could be read, or nothing.
    pub(in crate::store) partial: Vec<&'static str>,
}

/// Bytes of a page.
const PAGE: usize = 4096;

/// A copy of a damaged database with the header and the schema of a new one whose tables have `version`: all databases that
/// were made in one version begin alike. None where it has another form.
pub(in crate::store) fn with_new_schema(
    damaged: &Path,
    to: &Path,
    version: usize,
) -> Result<Option<()>, StoreError> {
    fs::copy(damaged, to).map_err(StoreError::io(to))?;
    let fresh = to.with_extension("tmp-fresh");
    atomic_file::remove(&fresh).map_err(StoreError::io(&fresh))?;
    let make = || -> Result<HashSet<usize>, rusqlite::Error> {
        let mut made = Connection::open(&fresh)?;
        schema::migrate_to(&mut made, version)?;
        let mut statement = made.prepare("SELECT rootpage FROM sqlite_schema")?;
        let roots = statement.query_map([], |row| row.get::<_, i64>(0))?;
        roots.map(|root| root.map(|root| root as usize)).collect()
    };
    let roots = make().map_err(|error| store_error(&fresh, error));
    let pages = fs::read(&fresh).map_err(StoreError::io(&fresh));
    atomic_file::remove(&fresh).map_err(StoreError::io(&fresh))?;
    let (roots, mut pages) = (roots?, pages?);
    if pages.len() < PAGE || pages[16..18] != [0x10, 0x00] {
        return Ok(None);
    }
    // Bytes 28 to 39 count pages and name free ones (https://www.sqlite.org/fileformat2.html section 1.3): zeros for the
    // length of the file, and none.
    pages[28..40].fill(0);
    let write = || -> std::io::Result<()> {
        let mut file = fs::OpenOptions::new().write(true).open(to)?;
        // What is neither where a table begins nor where an index does holds the schema.
        for (at, page) in pages.chunks_exact(PAGE).enumerate().filter(|(at, _)| !roots.contains(&(at + 1))) {
            file.seek(SeekFrom::Start((at * PAGE) as u64))?;
            file.write_all(page)?;
        }
        Ok(())
    };
    write().map_err(StoreError::io(to))?;
    Ok(Some(()))
}

/// Copies every row that can be read from `damaged` into a new database `to`, and drops rows that name others which are
/// lost. None where it is no database at all.
///
/// What tables lack of which only a part can be read is taken from `sound`, an older copy; images of it whose file is gone
/// from the folder `dir` were deleted since, and stay so.
pub(in crate::store) fn rescue(
    (damaged, sound): (&Path, Option<&Path>),
    to: &Path,
    dir: &Path,
) -> Result<Option<Rescued>, StoreError> {
    let make = || -> Result<Connection, rusqlite::Error> {
        let mut target = Connection::open(to)?;
        schema::migrate(&mut target)?;
        target.execute_batch("PRAGMA foreign_keys = OFF; PRAGMA synchronous = OFF;")?;
        Ok(target)
    };
    let target = make().map_err(|error| store_error(to, error))?;
    // Read and write, so that a log beside it is taken up.
    let source = Connection::open_with_flags(damaged, OpenFlags::SQLITE_OPEN_READ_WRITE);
    let Ok(source) = source else { return Ok(None) };
    // Or SQLite refuses a file that is cut, and one of whose indexes is damaged, as a whole.
    let _ = source.execute_batch("PRAGMA writable_schema = ON; PRAGMA cell_size_check = ON;");
    let mut found = Rescued { rows: 0, partial: Vec::new() };
    let version = source.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0)).unwrap_or(0);
    let came_later = |table: &str| {
        schema::LATER.iter().any(|(later, since)| *later == table && (1..*since as i64).contains(&version))
    };
    for table in TABLES.into_iter().filter(|table| !came_later(table)) {
        match copy(&source, &target, table) {
            Ok((rows, whole)) => {
                found.rows += rows;
                if !whole {
                    found.partial.push(table);
                }
            }
            Err(_) => found.partial.push(table),
        }
    }
    if found.rows == 0 {
        return Ok(None);
    }
    if let Some(sound) = sound.filter(|_| !found.partial.is_empty()) {
        fill(&target, sound, &found.partial, dir).map_err(|error| store_error(to, error))?;
    }
    // Numbers that were given are not given again, though their rows are gone.
    let _ = copy_sequences(&source, &target);
    let settle = || -> Result<(), rusqlite::Error> {
        // A row that goes may be named by others: again until nothing is left to do.
        loop {
            let broken: Vec<(String, Option<i64>)> = {
                let mut statement = target.prepare("PRAGMA foreign_key_check")?;
                let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
                rows.collect::<Result<_, _>>()?
            };
            if broken.is_empty() {
                return target.execute_batch("PRAGMA synchronous = FULL; VACUUM;");
            }
            for (table, row) in broken {
                match row {
                    Some(row) => target.execute(&format!("DELETE FROM {table} WHERE rowid = ?"), [row])?,
                    // Tables without row ids: what names nothing is found by the column that names.
                    None => target.execute_batch(ORPHANS).map(|()| 1)?,
                };
            }
        }
    };
    settle().map_err(|error| store_error(to, error))?;
    Ok(Some(found))
}

const ORPHANS: &str = "
DELETE FROM epochs WHERE job NOT IN (SELECT id FROM jobs);
DELETE FROM events WHERE job NOT IN (SELECT id FROM jobs);
DELETE FROM snapshots WHERE job NOT IN (SELECT id FROM jobs) OR file NOT IN (SELECT id FROM files);
DELETE FROM changed WHERE change NOT IN (SELECT id FROM changes) OR file NOT IN (SELECT id FROM files);
DELETE FROM judged_on WHERE version NOT IN (SELECT id FROM versions) OR file NOT IN (SELECT id FROM files);
";

/// Adds to tables what an older copy has and they lack.
fn fill(target: &Connection, sound: &Path, tables: &[&str], dir: &Path) -> Result<(), rusqlite::Error> {
    let keys = || -> Result<HashMap<i64, String>, rusqlite::Error> {
        let mut statement = target.prepare("SELECT id, hash, extension FROM files")?;
        let rows = statement.query_map([], |row| {
            let (hash, extension): ([u8; 32], String) = (row.get(1)?, row.get(2)?);
            Ok((row.get(0)?, image_path(&Id::from(hash), &extension)))
        })?;
        rows.collect()
    };
    let before = keys()?;
    let source = Connection::open_with_flags(sound, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    for table in TABLES.iter().filter(|table| tables.contains(table)) {
        copy(&source, target, table)?;
    }
    copy_sequences(&source, target)?;
    for (key, path) in keys()? {
        if !before.contains_key(&key) && dir.join(path).symlink_metadata().is_err() {
            target.execute("DELETE FROM files WHERE id = ?", [key])?;
        }
    }
    Ok(())
}

fn copy_sequences(source: &Connection, target: &Connection) -> Result<(), rusqlite::Error> {
    let mut statement = source.prepare("SELECT name, seq FROM sqlite_sequence")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (name, last): (String, i64) = (row.get(0)?, row.get(1)?);
        if !TABLES.contains(&name.as_str()) {
            continue;
        }
        let sql = "UPDATE sqlite_sequence SET seq = max(seq, ?2) WHERE name = ?1";
        if target.execute(sql, rusqlite::params![name, last])? == 0 {
            target.execute(
                "INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)",
                rusqlite::params![name, last],
            )?;
        }
    }
    Ok(())
}

/// Copies a table; gives the rows and whether it was read to its end.
fn copy(source: &Connection, target: &Connection, table: &str) -> Result<(usize, bool), rusqlite::Error> {
    let columns = target.prepare(&format!("SELECT * FROM {table}"))?.column_count();
    let places = vec!["?"; columns].join(", ");
    let mut insert = target.prepare(&format!("INSERT OR IGNORE INTO {table} VALUES ({places})"))?;
    let (mut count, mut whole) = (0, true);
    // From both ends: a page in the middle that cannot be read costs only itself. NOT INDEXED: the table, not its indexes.
    for order in ["", "ORDER BY rowid DESC"] {
        let Ok(mut rows) = source.prepare(&format!("SELECT * FROM {table} NOT INDEXED {order}")) else {
            // Tables without row ids are read in one direction.
            continue;
        };
        let mut rows = rows.query([])?;
        loop {
            match rows.next() {
                Ok(Some(row)) => {
                    let values: Result<Vec<Value>, _> = (0..columns).map(|at| row.get(at)).collect();
                    // A value that is none, or that a constraint refuses, is part of the damage.
                    if let Ok(values) = values {
                        count += insert.execute(params_from_iter(values)).unwrap_or(0);
                    }
                }
                Ok(None) => break,
                Err(_) => {
                    whole = false;
                    break;
                }
            }
        }
        if whole {
            break;
        }
    }
    Ok((count, whole))
}
