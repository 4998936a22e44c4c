//! What a transaction is and what it fails with.

use std::fs;
use std::path::Path;

use rusqlite::{ErrorCode, Transaction};

use super::schema;
use crate::store::error::StoreError;

/// A connection inside of a transaction.
pub(in crate::store) type Tx<'a> = Transaction<'a>;

/// What a transaction fails with.
#[derive(Debug)]
pub(in crate::store) enum Fault {
    Sql(rusqlite::Error),
    Store(StoreError),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Fault::Sql(error)
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Fault::Store(error)
    }
}

/// What an error of SQLite means for the folder.
pub(super) fn store_error(path: &Path, error: rusqlite::Error) -> StoreError {
    use std::io::ErrorKind;
    let io = |kind: ErrorKind| StoreError::Io { path: path.to_owned(), source: kind.into() };
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => io(ErrorKind::StorageFull),
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => io(ErrorKind::PermissionDenied),
        Some(ErrorCode::SystemIoFailure | ErrorCode::OutOfMemory) => {
            StoreError::Io { path: path.to_owned(), source: std::io::Error::other(error.to_string()) }
        }
        Some(ErrorCode::CannotOpen) => match fs::File::open(path) {
            Err(source) => StoreError::Io { path: path.to_owned(), source },
            Ok(_) => {
                StoreError::Io { path: path.to_owned(), source: std::io::Error::other(error.to_string()) }
            }
        },
        Some(ErrorCode::SchemaChanged) if error.to_string().contains(schema::NEWER) => StoreError::Conflict {
            reason: format!("the database {} cannot be used: {error}", path.display()),
        },
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => io(ErrorKind::ResourceBusy),
        _ => StoreError::database(path, &error.to_string()),
    }
}
