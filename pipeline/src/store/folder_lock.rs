//! One process alone uses a data folder.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::store::error::StoreError;

/// A folder that no other process uses.
pub(super) struct Locked {
    /// As an absolute path.
    pub(super) dir: PathBuf,
    pub(super) lock: File,
    /// The lock was there before: the folder was used already.
    pub(super) was_there: bool,
}

/// How often, and after what time, a lock that somebody holds is tried again.
const LOCK_TRIES: usize = 40;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Makes a data folder where it is missing and takes its lock.
pub(super) fn lock_folder(dir: &Path) -> Result<Locked, StoreError> {
    fs::create_dir_all(dir).map_err(StoreError::io(dir))?;
    let dir = fs::canonicalize(dir).map_err(StoreError::io(dir))?;
    let path = dir.join("lock");
    let was_there = path.symlink_metadata().is_ok();
    // Whatever made a folder of it, nobody holds that.
    let _ = fs::remove_dir(&path);
    let lock = OpenOptions::new().create(true).append(true).open(&path).map_err(StoreError::io(&path))?;
    let mut taken = lock.try_lock();
    // A process that is just ending, or a child of one between its start and its program, holds the lock for a moment.
    for _ in 0..LOCK_TRIES {
        if !matches!(taken, Err(TryLockError::WouldBlock)) {
            break;
        }
        std::thread::sleep(LOCK_PAUSE);
        taken = lock.try_lock();
    }
    match taken {
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked { dir }),
        // File systems without locks lose the protection, not the service.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(Locked { dir, lock, was_there }),
    }
}
