//! ZIP archives read in place: nothing is ever extracted, so names cannot lead anywhere.
//!
//! The central directory is parsed once and shared; each read works on a clone of the archive handle with its own
//! position in the file, so any number of threads read at once.

use crate::decode::SNIFF_BYTES;
use crate::folder::{io_error, read_limited};
use crate::layout::{self, FileKind, Found, MAX_ENTRIES};
use crate::{DatasetError, DecodeError, DecodeLimits};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

/// An open archive.
pub(crate) struct ZipFolder {
    archive: ZipArchive<SharedFile>,
}

/// What an archive holds.
pub(crate) struct Listing {
    pub(crate) found: Vec<Found>,
    /// For each of `found` its number in the archive.
    pub(crate) entries: Vec<usize>,
    pub(crate) notes: Vec<String>,
}

impl ZipFolder {
    pub(crate) fn open(path: &Path) -> Result<Self, DatasetError> {
        let file = SharedFile::open(path).map_err(|e| io_error(path, e))?;
        let bad = |what: &str| DatasetError::BadZip { path: path.to_owned(), what: what.to_owned() };
        let broken = |_: ZipError| bad("it is damaged or cut off (no readable central directory)");
        let declared = declared_entries(file.clone()).map_err(|e| io_error(path, e))?;
        if declared > MAX_ENTRIES as u64 {
            let what = format!("{declared} entries; at most {MAX_ENTRIES} are read");
            return Err(DatasetError::Limit { path: path.to_owned(), what });
        }
        Ok(Self { archive: ZipArchive::new(file).map_err(broken)? })
    }

    /// The names of all plain files, hidden and system files and links left out.
    pub(crate) fn list(&self) -> Listing {
        let mut listing = Listing { found: Vec::new(), entries: Vec::new(), notes: Vec::new() };
        let (mut junk, mut links, mut escaping, mut doubles) = (0, 0, 0, 0);
        let mut seen = BTreeSet::new();
        for index in 0..self.archive.len() {
            let Ok(entry) = self.archive.by_index_data(index) else { continue };
            let name = text(entry.name_raw(), || entry.name().map(|n| n.into_owned()).ok());
            let parts: Vec<&str> =
                name.split(['/', '\\']).filter(|part| !part.is_empty() && *part != ".").collect();
            if entry.is_dir() || name.ends_with('\\') || parts.is_empty() {
                continue;
            }
            if parts.iter().any(|part| layout::is_junk(part) && *part != "..") {
                junk += 1;
            } else if entry.is_symlink() {
                links += 1;
            } else if parts.contains(&"..") {
                escaping += 1;
            } else if !seen.insert(parts.join("/")) {
                doubles += 1;
            } else {
                let path = parts.join("/");
                let kind = FileKind::of(&path, || self.head(index));
                listing.found.push(Found { path, kind });
                listing.entries.push(index);
            }
        }
        let mut note = |n: usize, noun: &str, why: &str| {
            if n > 0 {
                listing.notes.push(format!("{} {why}", layout::count(n, noun)));
            }
        };
        note(junk, "hidden or system file", "ignored");
        note(links, "symbolic link", "ignored");
        note(escaping, "entry name with \"..\"", "ignored");
        note(doubles, "entry name", "listed more than once: the first counts");
        if self.archive.has_duplicate_names() {
            listing.notes.push("some names are listed more than once: the last of each counts".to_owned());
        }
        listing
    }

    /// The content of an entry, at most `limits.max_bytes` long, counted while it is inflated; its checksum is
    /// verified.
    pub(crate) fn read(&self, index: usize, limits: &DecodeLimits) -> Result<Vec<u8>, DecodeError> {
        let fail = |what| DecodeError::Archive { what };
        let mut archive = self.archive.clone();
        let entry = archive.by_index_data(index).map_err(|_| fail("its ZIP entry is damaged"))?;
        if entry.encrypted() {
            return Err(fail("it is encrypted; make the ZIP again without a password"));
        }
        if ![CompressionMethod::Stored, CompressionMethod::Deflated].contains(&entry.compression()) {
            return Err(fail("its ZIP compression is not supported; make the ZIP again with deflate"));
        }
        let size = entry.size();
        let file = archive.by_index(index).map_err(|_| fail("its ZIP entry is damaged"))?;
        match read_limited(file, size, limits) {
            // Wrong checksums and broken streams come as I/O errors of these kinds.
            Err(DecodeError::Read { source })
                if matches!(
                    source.kind(),
                    io::ErrorKind::InvalidData
                        | io::ErrorKind::InvalidInput
                        | io::ErrorKind::UnexpectedEof
                        | io::ErrorKind::Other
                ) =>
            {
                Err(fail("its ZIP entry is damaged"))
            }
            result => result,
        }
    }

    fn head(&self, index: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SNIFF_BYTES);
        if let Ok(file) = self.archive.clone().by_index(index) {
            // A broken entry is then told by what could be read of it.
            let _ = file.take(SNIFF_BYTES as u64).read_to_end(&mut bytes);
        }
        bytes
    }
}

/// The largest number of entries that any end record declares, read before entries are: a directory of a hundred
/// million names is refused without holding it in memory. Plain end records count in 16 bits, which needs no limit, so
/// only those that point to a ZIP64 record matter (APPNOTE 4.3.14 to 4.3.16).
fn declared_entries(mut file: SharedFile) -> io::Result<u64> {
    const END: &[u8] = b"PK\x05\x06";
    const LOCATOR: &[u8] = b"PK\x06\x07";
    const LOCATOR_LENGTH: u64 = 20;
    // The end record, its comment of up to 65,535 bytes, and the locator in front.
    const TAIL: u64 = 22 + 65_535 + LOCATOR_LENGTH;

    let start = file.length.saturating_sub(TAIL);
    let mut tail = Vec::new();
    file.seek(SeekFrom::Start(start))?;
    file.by_ref().take(TAIL).read_to_end(&mut tail)?;
    let mut most = 0;
    for end in (LOCATOR_LENGTH as usize..tail.len()).filter(|&at| tail[at..].starts_with(END)) {
        let locator = &tail[end - LOCATOR_LENGTH as usize..end];
        if !locator.starts_with(LOCATOR) {
            continue;
        }
        let at = u64::from_le_bytes(locator[8..16].try_into().expect("the range has 8 bytes"));
        // Data in front of the archive shifts the record; it then lies right before its locator.
        for at in [at, (start + end as u64).saturating_sub(LOCATOR_LENGTH + 56)] {
            let mut record = [0; 40];
            file.seek(SeekFrom::Start(at))?;
            if file.read_exact(&mut record).is_ok() && record.starts_with(b"PK\x06\x06") {
                let count = u64::from_le_bytes(record[32..].try_into().expect("the range has 8 bytes"));
                most = most.max(count);
            }
        }
    }
    Ok(most)
}

/// Many tools write UTF-8 without setting the flag for it, so that is tried first.
fn text(raw: &[u8], declared: impl FnOnce() -> Option<String>) -> String {
    match std::str::from_utf8(raw) {
        Ok(name) => name.to_owned(),
        Err(_) => declared().unwrap_or_else(|| String::from_utf8_lossy(raw).into_owned()),
    }
}

/// A file that several readers share, each with its own position.
#[derive(Clone)]
pub(crate) struct SharedFile {
    file: Arc<File>,
    length: u64,
    position: u64,
}

impl SharedFile {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        Ok(Self { file: Arc::new(file), length, position: 0 })
    }
}

impl Read for SharedFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        #[cfg(unix)]
        let n = std::os::unix::fs::FileExt::read_at(&*self.file, buffer, self.position)?;
        #[cfg(windows)]
        let n = std::os::windows::fs::FileExt::seek_read(&*self.file, buffer, self.position)?;
        self.position += n as u64;
        Ok(n)
    }
}

impl Seek for SharedFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.length.checked_add_signed(by),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        self.position = target.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.position)
    }
}
