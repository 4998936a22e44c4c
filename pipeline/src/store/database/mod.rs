//! `ocelli.db`: all that a data folder knows, in one SQLite file. No other module names the library.
//!
//! One connection writes, others read. In WAL mode a reader sees the state of the last commit and waits for nobody; a
//! commit returns when it is on the disk (`synchronous=FULL`). Files that rows speak of are written and synced before
//! the rows that name them, and removed after the rows that named them: see [`crate::store::disk`].

pub(super) mod audit;
pub(super) mod changes;
pub(super) mod fault;
pub(super) mod feedback;
pub(super) mod files;
pub(super) mod images;
pub(super) mod jobs;
mod rescue;
mod schema;
pub(super) mod versions;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use crate::store::error::StoreError;
use fault::store_error;

pub(super) use fault::{Fault, Tx};
pub(super) use files::FileRow;
pub(super) use images::SplitCounts;
pub(super) use rescue::{Rescued, rescue, with_new_schema};
pub(super) use schema::VERSION;
pub(super) use versions::VersionRow;

/// How long a connection waits for another process, such as `ocelli store backup`.
const BUSY: Duration = Duration::from_secs(30);

/// Reading connections that are kept open.
const MAX_READERS: usize = 16;

/// The database of an open data folder.
pub(super) struct Database {
    path: PathBuf,
    writer: Mutex<Connection>,
    readers: Mutex<Vec<Connection>>,
}

impl Database {
    /// Opens the database, makes it where it is missing, and brings an older form to this one.
    ///
    /// # Errors
    /// [`StoreError::Database`] when it is no database or fails SQLite's check, and then its files are as they were;
    /// [`StoreError::Conflict`] when a newer program wrote it.
    pub(super) fn open(path: &Path) -> Result<Database, StoreError> {
        if path.symlink_metadata().is_ok() {
            // With a connection that cannot write: one that can moves the log into the file when it is closed.
            if let Some(problem) = Database::look(path)?.problem("quick_check")? {
                return Err(StoreError::database(path, &problem));
            }
        }
        let open = || -> Result<Connection, rusqlite::Error> {
            let mut writer =
                connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
            writer.pragma_update(None, "journal_mode", "wal")?;
            writer.execute_batch(
                "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA journal_size_limit = 67108864;",
            )?;
            schema::migrate(&mut writer)?;
            Ok(writer)
        };
        let writer = open().map_err(|error| store_error(path, error))?;
        Ok(Database { path: path.to_owned(), writer: Mutex::new(writer), readers: Mutex::default() })
    }

    /// Opens the database of a folder that another process may be using, to look at it.
    pub(super) fn look(path: &Path) -> Result<Database, StoreError> {
        let meta = fs::metadata(path).map_err(|error| match error.kind() {
            // A link to nothing: there is no file that could be read later.
            std::io::ErrorKind::NotFound => StoreError::database(path, "it is missing"),
            _ => StoreError::io(path)(error),
        })?;
        if !meta.is_file() {
            return Err(StoreError::database(path, "it is not a file"));
        }
        // SQLite takes an empty file for a new database, which would make all that was in it be forgotten.
        if meta.len() == 0 {
            return Err(StoreError::database(path, "it is empty"));
        }
        let open = || -> Result<Connection, rusqlite::Error> {
            let reader = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
            schema::check_version(&reader)?;
            Ok(reader)
        };
        let reader = open().map_err(|error| store_error(path, error))?;
        Ok(Database { path: path.to_owned(), writer: Mutex::new(reader), readers: Mutex::default() })
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What SQLite's `quick_check` or `integrity_check` finds.
    pub(super) fn problem(&self, check: &'static str) -> Result<Option<String>, StoreError> {
        let found = self.read(|tx| {
            let mut statement = tx.prepare(&format!("PRAGMA {check}(3)"))?;
            let lines: Vec<String> = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
            let mut foreign = tx.prepare("PRAGMA foreign_key_check")?;
            let broken = foreign.query_map([], |row| row.get::<_, String>(0))?.count();
            Ok((lines, broken))
        });
        match found {
            Ok((lines, _)) if lines != ["ok"] => Ok(Some(lines.join("; "))),
            Ok((_, broken)) if broken > 0 => Ok(Some(format!("{broken} rows name rows that are not there"))),
            Ok(_) => Ok(None),
            Err(StoreError::Database { reason, .. }) => Ok(Some(reason)),
            Err(error) => Err(error),
        }
    }

    /// Reads in one transaction: all that `work` sees is of one moment.
    pub(super) fn read<T>(&self, work: impl FnOnce(&Tx<'_>) -> Result<T, Fault>) -> Result<T, StoreError> {
        let spare = self.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match spare {
            Some(connection) => connection,
            None => connect(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY)
                .map_err(|error| store_error(&self.path, error))?,
        };
        let done = self.transact(&connection, TransactionBehavior::Deferred, work);
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if readers.len() < MAX_READERS {
            readers.push(connection);
        }
        done
    }

    /// Writes in one transaction, which is on the disk afterwards. Nothing of it is there after an error.
    pub(super) fn write<T>(&self, work: impl FnOnce(&Tx<'_>) -> Result<T, Fault>) -> Result<T, StoreError> {
        // A transaction that a panic left open was rolled back.
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        self.transact(&writer, TransactionBehavior::Immediate, work)
    }

    fn transact<T>(
        &self,
        connection: &Connection,
        behavior: TransactionBehavior,
        work: impl FnOnce(&Tx<'_>) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        let run = || -> Result<T, Fault> {
            let tx = Transaction::new_unchecked(connection, behavior)?;
            let value = work(&tx)?;
            tx.commit()?;
            Ok(value)
        };
        run().map_err(|fault| match fault {
            Fault::Sql(error) => store_error(&self.path, error),
            Fault::Store(error) => error,
        })
    }

    /// Writes a whole copy of this moment to a file that is not there yet, synced.
    pub(super) fn copy_to(&self, to: &Path) -> Result<(), StoreError> {
        let copied = || -> Result<(), rusqlite::Error> {
            let from = connect(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
            let mut target = Connection::open(to)?;
            let copied = rusqlite::backup::Backup::new(&from, &mut target)?.step(-1)?;
            if !matches!(copied, rusqlite::backup::StepResult::Done) {
                let busy = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
                return Err(rusqlite::Error::SqliteFailure(busy, None));
            }
            // A copy is one file: no log beside it.
            target.pragma_update(None, "journal_mode", "delete")
        };
        copied().map_err(|error| store_error(to, error))?;
        fs::File::open(to).and_then(|file| file.sync_all()).map_err(StoreError::io(to))
    }

    /// Moves all of the log into the database file and empties it.
    pub(super) fn settle(&self) {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever reads on keeps the log alive; the next start takes it up.
        let _ = writer.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // The last connection to close merges the log and removes it; a reader cannot.
        self.readers.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, rusqlite::Error> {
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY)?;
    connection.execute_batch("PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;")?;
    Ok(connection)
}
