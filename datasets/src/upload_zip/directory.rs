//! The records of a ZIP file (APPNOTE 6.3.10, 4.3 to 4.5), read so that only one reading is possible.
//!
//! An end record ends the file; the directory ends where it begins; every entry of the directory has a local header
//! that says the same; data ranges lie in front of the directory and share no byte. Data in front of the first entry
//! (programs that unpack themselves) is refused. The size of everything that is held in memory is checked first.

use super::names::{self, shown};
use super::{UploadError, UploadLimits, mebibytes};
use crate::zip_folder::SharedFile;
use std::io::{self, Read, Seek, SeekFrom};

/// Largest directory: 335 bytes for each of 100,000 entries, and a bound on memory.
const MAX_DIRECTORY: u64 = 32 << 20;

const END: &[u8] = b"PK\x05\x06";
const END_LENGTH: usize = 22;
const LOCATOR_LENGTH: usize = 20;
const CENTRAL_LENGTH: usize = 46;
const LOCAL_LENGTH: usize = 30;

const FLAG_ENCRYPTED: u16 = 1;
const FLAG_DESCRIPTOR: u16 = 1 << 3;
const FLAG_PATCH: u16 = 1 << 5;
const FLAG_STRONG: u16 = 1 << 6;
const FLAG_UTF8: u16 = 1 << 11;
const FLAG_MASKED: u16 = 1 << 13;

/// File types and permissions of Unix, in the upper half of the external attributes.
const MODE_TYPE: u32 = 0o170_000;
const MODE_FILE: u32 = 0o100_000;
const MODE_FOLDER: u32 = 0o040_000;
const MODE_SPECIAL: u32 = 0o007_000;

/// How an entry is packed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Method {
    Stored,
    Deflated,
}

/// An entry whose headers agree.
pub(super) struct Entry {
    /// Parts joined by `/`.
    pub(super) path: String,
    pub(super) is_folder: bool,
    pub(super) method: Method,
    /// CRC-32 of the content.
    pub(super) crc: u32,
    /// Packed bytes.
    pub(super) packed: u64,
    /// Inflated bytes.
    pub(super) size: u64,
    /// Where the local header begins.
    start: u64,
    /// Where the packed bytes begin.
    pub(super) data: u64,
}

impl Entry {
    pub(super) fn refused(&self, why: &str) -> UploadError {
        refused(&format!("entry \"{}\": {why}", shown(&self.path)))
    }

    pub(super) fn too_large(&self, why: &str) -> UploadError {
        let reason = format!("entry \"{}\": {why}; leave it out", shown(&self.path));
        UploadError::TooLarge { reason }
    }
}

/// Where the directory lies.
struct Directory {
    entries: u64,
    offset: u64,
    length: u64,
}

/// All entries of an archive, in the order of the directory.
pub(super) fn read(file: &SharedFile, limits: &UploadLimits) -> Result<Vec<Entry>, UploadError> {
    let mut file = file.clone();
    let directory = find(&mut file, limits)?;
    let mut bytes = vec![0; directory.length as usize];
    read_at(&mut file, directory.offset, &mut bytes)?;
    let mut rest = bytes.as_slice();
    let mut entries = Vec::with_capacity(directory.entries as usize);
    let mut total = 0u64;
    for _ in 0..directory.entries {
        let (record, after) = Central::split(rest)?;
        rest = after;
        let entry = record.check(&mut file, limits)?;
        total = total.saturating_add(entry.size);
        if total > limits.max_total_bytes {
            let limit = mebibytes(limits.max_total_bytes);
            let reason = format!("the archive inflates to more than {limit}; upload it in parts");
            return Err(UploadError::TooLarge { reason });
        }
        entries.push(entry);
    }
    if !rest.is_empty() {
        return Err(refused("its directory holds more than it declares; make the ZIP again"));
    }
    check_ranges(&entries, directory.offset)?;
    Ok(entries)
}

fn find(file: &mut SharedFile, limits: &UploadLimits) -> Result<Directory, UploadError> {
    const TAIL: u64 = (END_LENGTH + u16::MAX as usize + LOCATOR_LENGTH) as u64;
    let length = file.seek(SeekFrom::End(0))?;
    let mut magic = [0; 4];
    if length < END_LENGTH as u64 || read_at(file, 0, &mut magic).is_err() || !magic.starts_with(b"PK") {
        return Err(refused("it does not begin like a ZIP archive; was it copied completely?"));
    }
    let start = length.saturating_sub(TAIL);
    let mut tail = vec![0; (length - start) as usize];
    read_at(file, start, &mut tail)?;
    // The comment of the true end record ends with the file.
    let end = (0..=tail.len() - END_LENGTH)
        .rev()
        .find(|&at| {
            tail[at..].starts_with(END) && usize::from(u16_at(&tail, at + 20)) == tail.len() - at - END_LENGTH
        })
        .ok_or_else(|| {
            refused("it has no end record: it is cut off, or something was appended; upload it again")
        })?;
    let record = &tail[end..];
    if u16_at(record, 4) != 0 || u16_at(record, 6) != 0 || u16_at(record, 8) != u16_at(record, 10) {
        return Err(refused("it is one part of several; make one ZIP of all"));
    }
    let plain = Directory {
        entries: u16_at(record, 10).into(),
        length: u32_at(record, 12).into(),
        offset: u32_at(record, 16).into(),
    };
    let (directory, bound) = match end.checked_sub(LOCATOR_LENGTH) {
        Some(at) if tail[at..].starts_with(b"PK\x06\x07") => {
            let (wide, at) = zip64_end(file, &tail[at..end], start + at as u64)?;
            let agrees = |narrow: u64, all_ones: u64, wide: u64| narrow == all_ones || narrow == wide;
            if !agrees(plain.entries, 0xffff, wide.entries)
                || !agrees(plain.length, 0xffff_ffff, wide.length)
                || !agrees(plain.offset, 0xffff_ffff, wide.offset)
            {
                return Err(refused("its ZIP64 end record contradicts its end record; make the ZIP again"));
            }
            (wide, at)
        }
        _ => (plain, start + end as u64),
    };
    check_extent(&directory, bound, limits)?;
    Ok(directory)
}

/// The ZIP64 end record, which must end where its locator begins, and where it begins itself.
fn zip64_end(file: &mut SharedFile, locator: &[u8], at: u64) -> Result<(Directory, u64), UploadError> {
    const LENGTH: usize = 56;
    let lie = || refused("its ZIP64 end record is damaged; make the ZIP again");
    let begin = u64_at(locator, 8);
    let mut record = [0; LENGTH];
    if u32_at(locator, 4) != 0
        || u32_at(locator, 16) > 1
        || begin.checked_add(LENGTH as u64).is_none_or(|end| end > at)
    {
        return Err(lie());
    }
    read_at(file, begin, &mut record)?;
    let ends = u64_at(&record, 4).checked_add(12).and_then(|length| length.checked_add(begin));
    let whole =
        u32_at(&record, 16) == 0 && u32_at(&record, 20) == 0 && u64_at(&record, 24) == u64_at(&record, 32);
    if !record.starts_with(b"PK\x06\x06") || ends != Some(at) || !whole {
        return Err(lie());
    }
    let directory =
        Directory { entries: u64_at(&record, 32), length: u64_at(&record, 40), offset: u64_at(&record, 48) };
    Ok((directory, begin))
}

/// Before anything of that size is allocated: count, length and place of the directory.
fn check_extent(directory: &Directory, bound: u64, limits: &UploadLimits) -> Result<(), UploadError> {
    let &Directory { entries, offset, length } = directory;
    if entries > limits.max_entries {
        let most = limits.max_entries;
        let reason =
            format!("the archive has {entries} entries; at most {most} are taken, upload it in parts");
        return Err(UploadError::TooLarge { reason });
    }
    if offset.checked_add(length) != Some(bound) || length < entries * CENTRAL_LENGTH as u64 {
        return Err(refused(
            "its directory does not lie where the end record says: it is damaged, cut off, or has data in front; \
             make the ZIP again",
        ));
    }
    if length > MAX_DIRECTORY {
        let most = mebibytes(MAX_DIRECTORY);
        let reason = format!("the archive's list of names is larger than {most}; upload it in parts");
        return Err(UploadError::TooLarge { reason });
    }
    Ok(())
}

/// A record of the directory.
struct Central<'a> {
    fixed: &'a [u8],
    name: &'a [u8],
    extra: &'a [u8],
}

impl<'a> Central<'a> {
    fn split(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), UploadError> {
        let cut = || refused("its directory is damaged or cut off; make the ZIP again");
        let fixed =
            bytes.get(..CENTRAL_LENGTH).filter(|fixed| fixed.starts_with(b"PK\x01\x02")).ok_or_else(cut)?;
        let [name, extra, comment] = [28, 30, 32].map(|at| usize::from(u16_at(fixed, at)));
        let behind = &bytes[CENTRAL_LENGTH..];
        if behind.len() < name + extra + comment {
            return Err(cut());
        }
        let record = Central { fixed, name: &behind[..name], extra: &behind[name..name + extra] };
        Ok((record, &behind[name + extra + comment..]))
    }

    fn check(&self, file: &mut SharedFile, limits: &UploadLimits) -> Result<Entry, UploadError> {
        let flags = u16_at(self.fixed, 8);
        let name = names::text(self.name, flags & FLAG_UTF8 != 0);
        let label = name.clone().unwrap_or_else(|_| String::from_utf8_lossy(self.name).into_owned());
        let fail = |why: &str| refused(&format!("entry \"{}\": {why}", shown(&label)));
        if self.name.is_empty() {
            return Err(fail("it has no name; make the ZIP again"));
        }
        if self.name.len() > limits.max_name_bytes {
            let why = format!(
                "its name has {} bytes; at most {} are taken",
                self.name.len(),
                limits.max_name_bytes
            );
            return Err(fail(&why));
        }
        let name = name.map_err(|why| fail(&why))?;
        let (path, is_folder) = names::path_of(&name, limits.max_depth).map_err(|why| fail(&why))?;
        if flags & (FLAG_ENCRYPTED | FLAG_STRONG | FLAG_MASKED) != 0 {
            return Err(fail("it is encrypted; make the ZIP again without a password"));
        }
        let method = match u16_at(self.fixed, 10) {
            0 => Method::Stored,
            8 if flags & FLAG_PATCH == 0 => Method::Deflated,
            _ => return Err(fail("its compression is not supported; make the ZIP again with deflate")),
        };
        check_mode(u32_at(self.fixed, 38) >> 16, is_folder).map_err(fail)?;
        let narrow = [u32_at(self.fixed, 24), u32_at(self.fixed, 20), u32_at(self.fixed, 42)];
        let [size, packed, start] = widen(narrow, self.extra)
            .ok_or_else(|| fail("its ZIP64 sizes are damaged; make the ZIP again"))?;
        if u16_at(self.fixed, 34) != 0 {
            return Err(fail("it lies in another part of the archive; make one ZIP of all"));
        }
        let mut entry =
            Entry { path, is_folder, method, crc: u32_at(self.fixed, 16), packed, size, start, data: 0 };
        if is_folder && (size, packed) != (0, 0) && !(size == 0 && method == Method::Deflated) {
            return Err(fail("it is a folder with content; make the ZIP again"));
        }
        if method == Method::Stored && size != packed {
            return Err(fail("its two sizes differ though it is not packed; make the ZIP again"));
        }
        if size > limits.max_entry_bytes {
            return Err(entry.too_large(&format!("more than {} inflated", mebibytes(limits.max_entry_bytes))));
        }
        entry.data = self.local_end(file, &entry, flags).map_err(|error| match error {
            Mismatch::Io(source) => source.into(),
            Mismatch::Cut => fail("it lies outside of the file: the ZIP is damaged or cut off"),
            Mismatch::Differs => fail("its two headers say different things; make the ZIP again"),
        })?;
        Ok(entry)
    }

    /// Compares the local header with this record; gives where it ends.
    fn local_end(&self, file: &mut SharedFile, entry: &Entry, flags: u16) -> Result<u64, Mismatch> {
        let mut fixed = [0; LOCAL_LENGTH];
        read_at(file, entry.start, &mut fixed)?;
        let (name, extra) = (usize::from(u16_at(&fixed, 26)), usize::from(u16_at(&fixed, 28)));
        if !fixed.starts_with(b"PK\x03\x04") || name != self.name.len() {
            return Err(Mismatch::Differs);
        }
        let mut behind = vec![0; name + extra];
        read_at(file, entry.start + LOCAL_LENGTH as u64, &mut behind)?;
        let (name, extra) = behind.split_at(name);
        let kind = [6, 8].map(|at| u16_at(&fixed, at));
        if name != self.name || kind != [flags, u16_at(self.fixed, 10)] {
            return Err(Mismatch::Differs);
        }
        let crc = u32_at(&fixed, 14);
        let [size, packed, _] =
            widen([u32_at(&fixed, 22), u32_at(&fixed, 18), 0], extra).ok_or(Mismatch::Differs)?;
        let said = (crc, size, packed);
        // With this flag the numbers may be left open here and follow the data.
        let open = flags & FLAG_DESCRIPTOR != 0 && said == (0, 0, 0);
        if !open && said != (entry.crc, entry.size, entry.packed) {
            return Err(Mismatch::Differs);
        }
        Ok(entry.start + (LOCAL_LENGTH + behind.len()) as u64)
    }
}

/// Why a local header does not do.
enum Mismatch {
    Io(io::Error),
    Cut,
    Differs,
}

impl From<io::Error> for Mismatch {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof { Self::Cut } else { Self::Io(error) }
    }
}

/// Only plain files and folders; archives of systems without modes have 0 here.
fn check_mode(mode: u32, is_folder: bool) -> Result<(), &'static str> {
    match (mode & MODE_TYPE, is_folder) {
        (0, _) | (MODE_FILE, false) | (MODE_FOLDER, true) => {}
        _ => {
            return Err("it is a link or another special file, no plain file; make the ZIP again without it");
        }
    }
    if !is_folder && mode & MODE_SPECIAL != 0 {
        return Err(
            "it has special permission bits (setuid, setgid or sticky); make the ZIP again without them",
        );
    }
    Ok(())
}

/// Size, packed size and offset: those that are all ones stand in the ZIP64 field, in this order (4.5.3). A field with
/// more or fewer numbers than that is damaged; a disk number may follow.
fn widen(narrow: [u32; 3], mut extra: &[u8]) -> Option<[u64; 3]> {
    let mut wide = narrow.map(u64::from);
    let missing = narrow.iter().filter(|&&n| n == u32::MAX).count();
    if missing == 0 {
        return Some(wide);
    }
    while extra.len() >= 4 {
        let (id, length) = (u16_at(extra, 0), usize::from(u16_at(extra, 2)));
        let field = extra.get(4..4 + length)?;
        if id == 1 {
            let mut numbers = field.chunks_exact(8);
            for value in wide.iter_mut().filter(|value| **value == u64::from(u32::MAX)) {
                *value = u64_at(numbers.next()?, 0);
            }
            return Some(wide);
        }
        extra = &extra[4 + length..];
    }
    None
}

/// Headers and data of all entries lie in front of the directory, begin with the file and share no byte.
fn check_ranges(entries: &[Entry], directory: u64) -> Result<(), UploadError> {
    let mut order: Vec<&Entry> = entries.iter().collect();
    order.sort_by_key(|entry| entry.start);
    let mut last: Option<(&Entry, u64)> = None;
    for entry in order {
        let end = entry.data.checked_add(entry.packed).filter(|&end| end <= directory);
        let end = end.ok_or_else(|| entry.refused("its data overlaps the directory; make the ZIP again"))?;
        match last {
            None if entry.start != 0 => {
                return Err(refused("it has data in front of its first entry; make the ZIP again"));
            }
            Some((other, taken)) if entry.start < taken => {
                let why = format!("its data overlaps that of \"{}\"; make the ZIP again", shown(&other.path));
                return Err(entry.refused(&why));
            }
            _ => last = Some((entry, end)),
        }
    }
    Ok(())
}

fn refused(what: &str) -> UploadError {
    UploadError::Refused { reason: format!("this ZIP is not taken: {what}") }
}

fn read_at(file: &mut SharedFile, at: u64, bytes: &mut [u8]) -> io::Result<()> {
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(bytes)
}

// Callers have checked that the bytes are there.

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("the range has 2 bytes"))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("the range has 4 bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("the range has 8 bytes"))
}
