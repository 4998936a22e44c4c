//! How much room the folder takes, and how much it may take.

use std::path::Path;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use serde::Serialize;

use crate::store::disk;
use crate::store::error::StoreError;

/// What is left free on the disk, so that the database can still write: a twentieth of it, and at most this.
const RESERVE: u64 = 64 << 20;

/// Bytes in use, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Usage {
    /// Images of data sets and of feedback.
    pub images: u64,
    /// Model versions.
    pub models: u64,
    /// Run folders.
    pub runs: u64,
    /// The database, its log and its copies.
    pub database: u64,
    /// Files that nothing names.
    pub quarantine: u64,
}

impl Usage {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.images + self.models + self.runs + self.database + self.quarantine
    }
}

/// Counts kept while the service runs, so that asking for them reads no disk.
#[derive(Default)]
pub(super) struct Room {
    limit: AtomicU64,
    images: AtomicI64,
    models: AtomicI64,
    runs: AtomicI64,
    database: AtomicI64,
    quarantine: AtomicI64,
}

impl Room {
    /// Counts what is there; image files are counted by whoever walked them.
    pub(super) fn measure(&self, dir: &Path, images: u64) {
        self.images.store(images as i64, Ordering::Relaxed);
        self.models.store(disk::size(dir, "models") as i64, Ordering::Relaxed);
        self.quarantine.store(disk::size(dir, disk::QUARANTINE) as i64, Ordering::Relaxed);
        self.measure_runs(dir);
    }

    /// Counts run folders and the database anew.
    pub(super) fn measure_runs(&self, dir: &Path) {
        self.runs.store(disk::size(dir, "runs") as i64, Ordering::Relaxed);
        let file = |name: &str| std::fs::metadata(dir.join(name)).map_or(0, |meta| meta.len());
        let own = file(disk::DATABASE) + file("ocelli.db-wal") + disk::size(dir, disk::COPIES);
        self.database.store(own as i64, Ordering::Relaxed);
    }

    /// Image files came or went.
    pub(super) fn images(&self, bytes: i64) {
        self.images.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Versions came or went.
    pub(super) fn models(&self, bytes: i64) {
        self.models.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn usage(&self) -> Usage {
        let read = |count: &AtomicI64| count.load(Ordering::Relaxed).max(0) as u64;
        Usage {
            images: read(&self.images),
            models: read(&self.models),
            runs: read(&self.runs),
            database: read(&self.database),
            quarantine: read(&self.quarantine),
        }
    }

    pub(super) fn set_limit(&self, bytes: u64) {
        self.limit.store(bytes, Ordering::Relaxed);
    }

    pub(super) fn check(&self, dir: &Path, more: u64) -> Result<(), StoreError> {
        let (limit, used) = (self.limit.load(Ordering::Relaxed), self.usage().total());
        if limit > 0 && used.saturating_add(more) > limit {
            let reason = format!(
                "the data folder holds {used} bytes and may hold {limit} (max_data_bytes): {more} more have no room; delete data sets or versions, or raise the limit"
            );
            return Err(StoreError::Full { reason });
        }
        if let Some((free, all)) = disk(dir)
            && free < more.saturating_add(RESERVE.min(all / 20))
        {
            return Err(StoreError::io(dir)(std::io::ErrorKind::StorageFull.into()));
        }
        Ok(())
    }
}

/// Bytes that are free for us on the disk of a folder, and bytes in all.
fn disk(dir: &Path) -> Option<(u64, u64)> {
    #[cfg(target_os = "linux")]
    {
        let found = rustix::fs::statvfs(dir).ok()?;
        Some((found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize))
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = dir;
        None
    }
}
