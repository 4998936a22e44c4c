//! ZIP archives of people we do not know: read strictly, checked as a whole, counted while they inflate.
//!
//! [`crate::Source`] is kind to the archives of its own user: it leaves out what looks odd and says so. An upload is
//! the other case. Whatever is ambiguous in it (two headers that disagree, two names for one place, ranges that
//! overlap) is what attacks on ZIP readers are made of, so the archive is refused and its owner told which entry and
//! why.
//!
//! Three rooms: [`directory`] finds the records and proves that they tile the file, [`names`] judges what entries are
//! called, this file lists images and inflates them.
//!
//! Permission bits of folders are ignored (shared folders often carry setgid); a file that asks for setuid, setgid or
//! the sticky bit is refused.

mod directory;
mod entry;
mod error;
mod limits;
mod names;

use ocelli_common::text::chain;

use crate::decode::SNIFF_BYTES;
use crate::error::DatasetError;
use crate::files::{FileKind, Found, is_junk};
use crate::item::Item;
use crate::layout;
use crate::shared_file::SharedFile;
use crate::table::MAX_TABLE_BYTES;
use crate::zip::formats::{self, HEAD_BYTES};
use crate::zip::inflate::Inflated;
use crate::zip::names::shown;
use directory::Entries;
use entry::Entry;
pub use error::UploadError;
use flate2::Crc;
pub use limits::UploadLimits;
use limits::mebibytes;
use ocelli_common::text::count;
use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Inflated bytes of one entry from which its ratio counts: small text may well shrink a thousandfold.
const RATIO_FROM_ENTRY: u64 = 1 << 20;

/// Inflated bytes of the archive from which its ratio counts.
const RATIO_FROM_ARCHIVE: u64 = 10 << 20;

/// Bytes taken from an entry between two looks at the limits.
const STEP: usize = 64 << 10;

/// An archive whose records and names are proved sound, with its images in class folders.
pub struct UploadZip {
    file: SharedFile,
    limits: UploadLimits,
    entries: Vec<Entry>,
    classes: Vec<String>,
    items: Vec<Item>,
    /// For each item its entry.
    places: Vec<usize>,
    notes: Vec<String>,
    /// Packed bytes of all entries.
    packed: u64,
    /// Inflated so far, by all threads.
    inflated: AtomicU64,
}

impl UploadZip {
    /// Reads the records of an archive, checks them and the names, and arranges its images into classes by the rules of
    /// [`crate::Source`]: wrapping folders are stepped over, folders `train`, `val` and `test` declare splits.
    ///
    /// # Errors
    /// [`UploadError`]; an archive without a single image in a class folder is refused as well.
    pub fn open(path: &Path, limits: &UploadLimits) -> Result<UploadZip, UploadError> {
        let file = SharedFile::open(path)?;
        let Entries { all: entries, note } = directory::read(&file, limits)?;
        names::check(&entries)?;
        let mut zip = UploadZip {
            file,
            limits: *limits,
            packed: entries.iter().map(|entry| entry.packed).sum(),
            entries,
            classes: Vec::new(),
            items: Vec::new(),
            places: Vec::new(),
            notes: note.into_iter().collect(),
            inflated: AtomicU64::new(0),
        };
        zip.arrange()?;
        Ok(zip)
    }

    /// Class names in natural order; the class of an item is an index into them.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The images, sorted by name.
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// What its owner should know: files ignored and why. One line each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The bytes of an item: inflated under all limits, of the declared length and checksum. Threads may call this at
    /// once; the total counts every call.
    ///
    /// # Errors
    /// [`UploadError`]; the whole archive is to be refused then.
    ///
    /// # Panics
    /// When `index` is not below the number of items.
    pub fn bytes(&self, index: usize) -> Result<Vec<u8>, UploadError> {
        self.read_entry(self.places[index], u64::MAX)
    }

    /// The bytes of entry number `entry` of the directory, of at most `limit` bytes, under the limits and checks of
    /// [`UploadZip::bytes`].
    fn read_entry(&self, entry: usize, limit: u64) -> Result<Vec<u8>, UploadError> {
        let entry = &self.entries[entry];
        if entry.size > limit {
            return Err(entry.too_large(&format!("more than {}", mebibytes(limit))));
        }
        let damaged = || entry.refused("its packed data is damaged; make the ZIP again");
        let mut reader = self.reader(entry)?;
        let mut bytes = Vec::with_capacity(entry.size.min(16 << 20) as usize + 1);
        let mut step = vec![0; STEP];
        loop {
            let n = match reader.read(&mut step) {
                Ok(0) => break,
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.raw_os_error().is_some() => return Err(error.into()),
                Err(_) => return Err(damaged()),
            };
            let total = self.inflated.fetch_add(n as u64, Ordering::Relaxed) + n as u64;
            self.check_growth(entry, (bytes.len() + n) as u64, total)?;
            bytes.extend_from_slice(&step[..n]);
        }
        if reader.left() != 0 || bytes.len() as u64 != entry.size {
            return Err(damaged());
        }
        let mut crc = Crc::new();
        crc.update(&bytes);
        if crc.sum() != entry.crc {
            return Err(entry.refused("its checksum does not match its content; make the ZIP again"));
        }
        Ok(bytes)
    }

    /// `grown` bytes of an entry and `total` of the archive are there.
    fn check_growth(&self, entry: &Entry, grown: u64, total: u64) -> Result<(), UploadError> {
        let UploadLimits { max_entry_bytes, max_total_bytes, max_ratio, .. } = self.limits;
        if grown > entry.size {
            return Err(entry.refused("it inflates to more than it declares; make the ZIP again"));
        }
        if grown > max_entry_bytes {
            return Err(entry.too_large(&format!("more than {} inflated", mebibytes(max_entry_bytes))));
        }
        if grown > RATIO_FROM_ENTRY && grown > entry.packed.saturating_mul(max_ratio) {
            return Err(entry.too_large(&format!("it inflates to more than {max_ratio} times its size")));
        }
        if total > max_total_bytes {
            let reason = format!(
                "the archive inflates to more than {}; upload it in parts",
                mebibytes(max_total_bytes)
            );
            return Err(UploadError::TooLarge { reason });
        }
        if total > RATIO_FROM_ARCHIVE && total > self.packed.saturating_mul(max_ratio) {
            let reason = format!(
                "the archive inflates to more than {max_ratio} times its size; upload the images as they are"
            );
            return Err(UploadError::TooLarge { reason });
        }
        Ok(())
    }

    fn reader(&self, entry: &Entry) -> io::Result<Inflated> {
        Inflated::new(&self.file, entry.data, entry.packed, entry.method)
    }

    /// The first bytes of an entry; what cannot be inflated is told by what could.
    fn head(&self, entry: &Entry, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length);
        if let Ok(reader) = self.reader(entry) {
            let _ = reader.take(length as u64).read_to_end(&mut bytes);
        }
        bytes
    }

    /// Refuses an archive whose only content of use is another archive.
    fn check_packed(&self, places: &[usize]) -> Result<(), UploadError> {
        for entry in places.iter().map(|&place| &self.entries[place]) {
            let head = self.head(entry, HEAD_BYTES);
            let zip = head.starts_with(b"PK\x03\x04").then_some("ZIP archive");
            if let Some(format) = zip.or_else(|| formats::other_archive(&head, &entry.path)) {
                let name = shown(&entry.path);
                let reason = format!(
                    "this ZIP is not taken: no image in a class folder, but a {format} (\"{name}\"): unpack that first \
                     and make the ZIP of its folders"
                );
                return Err(UploadError::Refused { reason });
            }
        }
        Ok(())
    }

    fn arrange(&mut self) -> Result<(), UploadError> {
        let (mut found, mut places, mut junk) = (Vec::new(), Vec::new(), 0);
        for (at, entry) in self.entries.iter().enumerate() {
            if entry.is_folder {
                continue;
            }
            if entry.path.split('/').any(is_junk) {
                junk += 1;
                continue;
            }
            let kind = FileKind::of(&entry.path, || self.head(entry, SNIFF_BYTES));
            found.push(Found { path: entry.path.clone(), kind });
            places.push(at);
        }
        if junk > 0 {
            self.notes.push(format!("{} ignored", count(junk, "hidden or system file")));
        }
        if !found.iter().any(|found| found.kind == FileKind::Image) {
            self.check_packed(&places)?;
        }
        let read = |file: usize| self.read_entry(places[file], MAX_TABLE_BYTES).ok();
        let arranged = layout::arrange(Path::new("the archive"), &found, &read, layout::Labelled::default()).map_err(|error| {
            let reason = match error {
                DatasetError::Empty { found, .. } | DatasetError::Unlabelled { found, .. } => format!(
                    "no image in a class folder ({found}); put each class in a folder of its own, e.g. cats/1.jpg and \
                     dogs/1.jpg, and make the ZIP of these folders"
                ),
                DatasetError::UnknownLayout { found, .. } => found,
                error => chain(&error),
            };
            UploadError::Refused { reason }
        })?;
        // How the archive was read comes first.
        self.notes.splice(0..0, arranged.notes);
        self.classes = arranged.classes;
        self.items = arranged.items;
        self.places = arranged.files.iter().map(|&file| places[file]).collect();
        Ok(())
    }
}
