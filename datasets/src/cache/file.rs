//! Writing and reading one cache file.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::Crc;
use ocelli_common::atomic_file::Temporary;

use super::format::{self, HEADER, Header, Key, Record, Stored};
use crate::decode::Pixels;
use crate::error::DatasetError;
use crate::shared_file::{read_exact_at, write_all_at};

/// What is wrong with a cache file, as a clause.
pub(crate) type Damage = String;

/// A cache file that is being written, by any number of threads.
pub(crate) struct CacheWriter {
    temporary: Temporary,
    folder: PathBuf,
    /// Where the next pixels go.
    end: AtomicU64,
    /// Bytes of all pixels, as expected.
    expected: u64,
}

impl CacheWriter {
    pub(super) fn new(temporary: Temporary, folder: PathBuf, expected: u64) -> Self {
        CacheWriter { temporary, folder, end: AtomicU64::new(HEADER as u64), expected }
    }

    /// Appends bytes; where they are.
    pub(crate) fn append(&self, bytes: &[u8]) -> Result<u64, DatasetError> {
        let at = self.end.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        write_all_at(self.temporary.file(), bytes, at).map_err(|error| self.failed(error))?;
        Ok(at)
    }

    /// Writes header and index, brings all to the disk and gives the file its name.
    pub(crate) fn finish(
        mut self,
        name: &str,
        key: &Key,
        entries: &[Stored],
    ) -> Result<CacheFile, DatasetError> {
        let end = self.end.load(Ordering::Relaxed);
        let (header, index) = format::encode(key, end, entries);
        let path = self.folder.join(name);
        let file = self.temporary.file();
        let written = write_all_at(file, &index, end)
            .and_then(|()| write_all_at(file, &header, 0))
            // Room for images that turned out to be unreadable was taken, too.
            .and_then(|()| file.set_len(end + index.len() as u64))
            .and_then(|()| file.try_clone());
        let file = written.map_err(|error| self.failed(error))?;
        self.temporary.rename(&path).map_err(|error| self.failed(error))?;
        // Whoever reads shares; a system without locks has none to give back.
        let _ = file.unlock();
        let _ = file.try_lock_shared();
        Ok(CacheFile { path, file, temporary: None })
    }

    /// The file for this program alone, which is gone when it is dropped.
    pub(crate) fn keep_unnamed(self) -> Result<CacheFile, DatasetError> {
        let file = self.temporary.file().try_clone().map_err(|error| self.failed(error))?;
        Ok(CacheFile { path: self.folder, file, temporary: Some(self.temporary) })
    }

    fn failed(&self, source: io::Error) -> DatasetError {
        DatasetError::CacheWrite { path: self.folder.clone(), bytes: self.expected, source }
    }
}

/// A whole cache file.
pub(crate) struct CacheFile {
    path: PathBuf,
    file: File,
    /// Removes a file that nobody is to find again.
    temporary: Option<Temporary>,
}

impl CacheFile {
    /// Opens a file that must have been made of `key`, for images of `len` values, and reads its index. Pixels are not
    /// looked at.
    pub(super) fn open(path: &Path, key: &Key, len: usize) -> Result<(CacheFile, Vec<Stored>), Damage> {
        let io = |error: io::Error| error.to_string();
        let file = File::open(path).map_err(io)?;
        // Says to whoever cleans up that it is in use.
        let _ = file.try_lock_shared();
        let length = file.metadata().map_err(io)?.len();
        let mut header = [0; HEADER];
        if length < HEADER as u64 {
            return Err("it is cut off".to_owned());
        }
        read_exact_at(&file, &mut header, 0).map_err(io)?;
        let read = Header::decode(&header, length)?;
        if read.key != *key {
            return Err("it was made of other images".to_owned());
        }
        // Below the length of the file, which is there.
        let mut index = vec![0; read.index_len as usize];
        read_exact_at(&file, &mut index, read.index_at).map_err(io)?;
        let entries = read.entries(&header, &index, len)?;
        Ok((CacheFile { path: path.to_owned(), file, temporary: None }, entries))
    }

    /// Where it can be found again.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.temporary.is_none().then_some(&*self.path)
    }

    /// The pixels of an image of `len` values.
    ///
    /// # Errors
    /// [`DatasetError::Io`], [`DatasetError::CacheDamaged`].
    pub(crate) fn read(&self, record: Record, len: usize) -> Result<Pixels, DatasetError> {
        let mut bytes = vec![0; len << u32::from(record.wide)];
        read_exact_at(&self.file, &mut bytes, record.at).map_err(|source| match source.kind() {
            io::ErrorKind::UnexpectedEof => DatasetError::CacheDamaged { path: self.path.clone() },
            _ => DatasetError::Io { path: self.path.clone(), source },
        })?;
        if crc(&bytes) != record.crc {
            return Err(DatasetError::CacheDamaged { path: self.path.clone() });
        }
        Ok(if record.wide {
            Pixels::U16(bytes.as_chunks().0.iter().map(|&two| u16::from_le_bytes(two)).collect())
        } else {
            Pixels::U8(bytes)
        })
    }
}

/// CRC-32 as in ZIP and PNG.
pub(crate) fn crc(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}
