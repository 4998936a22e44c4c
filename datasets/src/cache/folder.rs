//! A folder of cache files: their names, making one, finding one again, removing them.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use ocelli_common::atomic_file::{Temporary, is_temporary};

use super::file::{CacheFile, CacheWriter, Damage};
use super::format::{self, Key, Stored};
use crate::decode::DecodeLimits;
use crate::error::{DatasetError, io_error};
use crate::preprocess::Preprocessing;
use crate::split::ContentHash;

/// How the name of a cache file ends.
const EXTENSION: &str = ".pixels";

/// Whoever makes or removes files holds a lock on this one for that moment.
const LOCK: &str = "lock";

/// A folder for cache files. It is made when it is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheFolder {
    path: PathBuf,
    keep: bool,
}

/// A file in a [`CacheFolder`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheEntry {
    /// The file.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// A program that runs reads or writes it.
    pub in_use: bool,
}

/// Whose pixels a file holds.
#[derive(Clone, Copy)]
pub(crate) struct Images<'a> {
    pub(crate) preprocessing: &'a Preprocessing,
    pub(crate) limits: &'a DecodeLimits,
    pub(crate) count: usize,
}

impl Images<'_> {
    /// What the names of all files begin with that may hold these images.
    fn prefix(&self) -> String {
        let Preprocessing { width, height, channels, fit, .. } = self.preprocessing;
        format!("{width}x{height}x{channels}-{fit}-{}-", self.count)
    }

    pub(crate) fn key<'a>(&self, identities: impl Iterator<Item = Option<&'a ContentHash>>) -> Key {
        format::key(self.preprocessing, self.limits, identities)
    }

    pub(crate) fn name(&self, key: &Key) -> String {
        let digits: String = key[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        self.prefix() + &digits + EXTENSION
    }
}

impl CacheFolder {
    /// A folder whose files stay, to be found again by the next run on the same images.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        CacheFolder { path: path.into(), keep: true }
    }

    /// A folder whose files are removed with the [`crate::ImageSet`] that they belong to. Those that a kill left are
    /// removed when the next one is made.
    pub fn passing(path: impl Into<PathBuf>) -> Self {
        CacheFolder { path: path.into(), keep: false }
    }

    pub(crate) fn keeps(&self) -> bool {
        self.keep
    }

    /// Whether there is a file that may hold these images.
    pub(crate) fn may_hold(&self, images: &Images) -> bool {
        let prefix = images.prefix();
        let named = |name: &str| name.starts_with(&prefix) && name.ends_with(EXTENSION);
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        entries.into_iter().any(|entry| entry.file_name().to_str().is_some_and(named))
    }

    /// The file of a key: `None` where there is none.
    pub(crate) fn open(
        &self,
        images: &Images,
        key: &Key,
    ) -> Option<Result<(CacheFile, Vec<Stored>), Damage>> {
        let path = self.path.join(images.name(key));
        let opened = || {
            let (file, entries) = CacheFile::open(&path, key, images.preprocessing.len())?;
            if entries.len() == images.count {
                Ok((file, entries))
            } else {
                Err("its index is damaged".to_owned())
            }
        };
        path.exists().then(opened)
    }

    /// A new file for about `bytes` of pixels, for which room is taken on the disk.
    pub(crate) fn create(&self, bytes: u64) -> Result<CacheWriter, DatasetError> {
        let failed = |source| DatasetError::CacheWrite { path: self.path.clone(), bytes, source };
        fs::create_dir_all(&self.path).map_err(failed)?;
        let guard = self.lock().map_err(failed)?;
        for path in self.files().map_err(failed)? {
            if is_unfinished(&path) && in_use(&path) == Some(false) {
                let _ = fs::remove_file(&path);
            }
        }
        let temporary = Temporary::create_beside(&self.path.join("new")).map_err(failed)?;
        // Says that it is not left from a kill.
        let _ = temporary.file().try_lock();
        drop(guard);
        take_room(temporary.file(), bytes).map_err(failed)?;
        Ok(CacheWriter::new(temporary, self.path.clone(), bytes))
    }

    /// All cache files, whole and unfinished ones, sorted. A folder that is not there has none.
    ///
    /// # Errors
    /// [`DatasetError::Io`].
    pub fn entries(&self) -> Result<Vec<CacheEntry>, DatasetError> {
        let paths = match self.files() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            paths => paths.map_err(|error| io_error(&self.path, error))?,
        };
        let entry = |path: PathBuf| {
            // Gone since it was listed.
            let bytes = fs::symlink_metadata(&path).ok()?.len();
            Some(CacheEntry { bytes, in_use: in_use(&path)?, path })
        };
        Ok(paths.into_iter().filter_map(entry).collect())
    }

    /// Removes all cache files that no running program uses; each with what became of it.
    ///
    /// # Errors
    /// [`DatasetError::Io`] when the folder cannot be listed.
    pub fn clean(&self) -> Result<Vec<(CacheEntry, io::Result<()>)>, DatasetError> {
        if !self.path.is_dir() {
            return Ok(Vec::new());
        }
        let _guard = self.lock().map_err(|error| io_error(&self.path, error))?;
        let remove = |entry: CacheEntry| {
            let removed = if entry.in_use { Ok(()) } else { fs::remove_file(&entry.path) };
            (entry, removed)
        };
        Ok(self.entries()?.into_iter().map(remove).collect())
    }

    /// Waits until no other program makes or removes files here.
    fn lock(&self) -> io::Result<File> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(self.path.join(LOCK))?;
        match file.lock() {
            Err(error) if error.kind() != io::ErrorKind::Unsupported => Err(error),
            _ => Ok(file),
        }
    }

    /// All files of ours.
    fn files(&self) -> io::Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let path = entry.path();
            let whole = path.to_str().is_some_and(|path| path.ends_with(EXTENSION));
            if entry.file_type()?.is_file() && (whole || is_unfinished(&path)) {
                paths.push(path);
            }
        }
        paths.sort();
        Ok(paths)
    }
}

fn is_unfinished(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(is_temporary)
}

/// Whether a running program holds a lock on a file; `None` when it is gone. What cannot be told counts as in use.
fn in_use(path: &Path) -> Option<bool> {
    match File::open(path) {
        Ok(file) => Some(file.try_lock().is_err()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(_) => Some(true),
    }
}

/// Takes room on the disk, so that a full one is found before hours of decoding.
fn take_room(file: &File, bytes: u64) -> io::Result<()> {
    // Some file systems (ext4) fill the disk before they say that it is too small: other programs would feel it.
    #[cfg(target_os = "linux")]
    if let Ok(disk) = rustix::fs::fstatvfs(file)
        && disk.f_bavail.saturating_mul(disk.f_frsize) < bytes
    {
        return Err(io::ErrorKind::StorageFull.into());
    }
    #[cfg(target_os = "linux")]
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, bytes) {
        // A file system that cannot do it beforehand says so when it is full.
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS | rustix::io::Errno::INVAL) => {}
        result => result?,
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (file, bytes);
    Ok(())
}
