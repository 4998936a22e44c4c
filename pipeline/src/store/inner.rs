//! What the parts of an open data folder share.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::store::database::Database;
use crate::store::disk;
use crate::store::name::Name;
use crate::store::room::Room;

/// What the parts of a store share.
pub(super) struct Inner {
    pub(super) dir: PathBuf,
    pub(super) database: Database,
    /// Held from before image files come until rows name them, and from before rows go until their files are gone.
    pub(super) files: Mutex<()>,
    /// Held while files of versions come or go.
    pub(super) models: Mutex<()>,
    /// Models whose folder was put in order since the start.
    pub(super) settled: Mutex<BTreeSet<Name>>,
    pub(super) room: Room,
    /// Folders that were made for what is in transit.
    pub(super) stagings: AtomicU64,
}

impl Inner {
    /// A turn of changing image files.
    pub(super) fn files(&self) -> MutexGuard<'_, ()> {
        lock(&self.files)
    }

    /// Removes files that rows no longer name. What cannot be removed now is removed at the next start.
    pub(super) fn remove(&self, paths: &[String]) {
        for path in paths {
            let full = self.dir.join(path);
            let bytes = fs::metadata(&full).map_or(0, |meta| meta.len());
            if disk::remove(&full).is_ok() {
                self.room.images(-(bytes as i64));
            }
        }
    }
}

/// A panic elsewhere leaves what these guard whole: it is replaced, never edited.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Seconds since 1970-01-01 UTC.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
