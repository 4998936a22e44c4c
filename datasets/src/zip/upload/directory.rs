//! The records of a ZIP file (APPNOTE 6.3.10, 4.3 to 4.5), read so that only one reading is possible.
//!
//! An end record ends the file, but for padding in which nothing can hide; the directory ends where it begins and
//! holds as many records as it counts; every entry of the directory has a local header that says the same; data ranges
//! lie in front of the directory and share no byte. Data in front of the first entry (programs that unpack themselves)
//! is refused. The size of everything that is held in memory is checked first.

use super::entry::Entry;
use super::error::{UploadError, refused};
use super::limits::{UploadLimits, mebibytes};
use super::names;
use crate::shared_file::SharedFile;
use crate::zip::formats::{self, HEAD_BYTES};
use crate::zip::inflate::Method;
use crate::zip::names::{UTF8_AGAIN, read as read_names, shown};
use crate::zip::records::{
    CENTRAL_LENGTH, Central, END, END_LENGTH, End, FLAG_DESCRIPTOR, LOCAL, LOCAL_LENGTH, LOCATOR,
    LOCATOR_LENGTH, MODE_FILE, MODE_FOLDER, MODE_TYPE, RawName, WIDE_END, WIDE_END_LENGTH, read_at, u16_at,
    u32_at, u64_at, widen,
};
use std::io::{self, Read, Seek, SeekFrom};

/// Largest directory: 335 bytes for each of 100,000 entries, and a bound on memory.
const MAX_DIRECTORY: u64 = 32 << 20;

/// Most zero bytes behind the end: a block of a tape or disk. Nothing can hide in zeros.
const MAX_PADDING: usize = 4096;

/// Permissions that no image needs.
const MODE_SPECIAL: u32 = 0o007_000;

/// Where the directory lies.
struct Directory {
    entries: u64,
    offset: u64,
    length: u64,
    /// The count has 64 bits.
    wide: bool,
}

/// The entries of an archive.
pub(super) struct Entries {
    /// In the order of the directory.
    pub(super) all: Vec<Entry>,
    /// In which code page their names are, where it was not said.
    pub(super) note: Option<String>,
}

/// All entries of an archive.
pub(super) fn read(file: &SharedFile, limits: &UploadLimits) -> Result<Entries, UploadError> {
    let mut file = file.clone();
    let directory = find(&mut file, limits)?;
    let mut bytes = vec![0; directory.length as usize];
    read_at(&mut file, directory.offset, &mut bytes)?;
    let records = split(&bytes, &directory, limits)?;
    let raw: Vec<RawName> = records.iter().map(Central::raw_name).collect();
    let names = read_names(&raw);
    let mut entries = Vec::with_capacity(records.len());
    let mut total = 0u64;
    for (record, text) in records.iter().zip(names.texts) {
        let record = Checked { record, text: text.as_deref(), undecided: names.undecided.as_deref() };
        let entry = record.entry(&mut file, limits)?;
        total = total.saturating_add(entry.size);
        if total > limits.max_total_bytes {
            let limit = mebibytes(limits.max_total_bytes);
            let reason = format!("the archive inflates to more than {limit}; upload it in parts");
            return Err(UploadError::TooLarge { reason });
        }
        entries.push(entry);
    }
    check_ranges(&entries, directory.offset)?;
    Ok(Entries { all: entries, note: names.note })
}

/// The records of a directory, which they fill. Their number must be the declared one, as far as its 16 bits can tell:
/// macOS and older tools write 10 for 65,546.
fn split<'a>(
    bytes: &'a [u8],
    directory: &Directory,
    limits: &UploadLimits,
) -> Result<Vec<Central<'a>>, UploadError> {
    let mut records = Vec::with_capacity(directory.entries.min(limits.max_entries) as usize);
    let mut rest = bytes;
    while !rest.is_empty() {
        let (record, after) = Central::split(rest)
            .ok_or_else(|| refused("its directory is damaged or cut off; make the ZIP again"))?;
        rest = after;
        records.push(record);
        if records.len() as u64 > limits.max_entries {
            return Err(too_many(&format!("more than {} entries", limits.max_entries), limits));
        }
    }
    let found = records.len() as u64;
    let counted = if directory.wide { found } else { found & 0xffff };
    if counted != directory.entries {
        let (declared, more) = (directory.entries, if found > directory.entries { "more" } else { "less" });
        return Err(refused(&format!(
            "its directory holds {more} than it declares, {found} instead of {declared} entries; make the ZIP again"
        )));
    }
    Ok(records)
}

fn too_many(entries: &str, limits: &UploadLimits) -> UploadError {
    let most = limits.max_entries;
    UploadError::TooLarge {
        reason: format!("the archive has {entries}; at most {most} are taken, upload it in parts"),
    }
}

fn find(file: &mut SharedFile, limits: &UploadLimits) -> Result<Directory, UploadError> {
    const TAIL: u64 = (END_LENGTH + u16::MAX as usize + LOCATOR_LENGTH + MAX_PADDING) as u64;
    let length = file.seek(SeekFrom::End(0))?;
    let mut magic = [0; 4];
    if length < END_LENGTH as u64 || read_at(file, 0, &mut magic).is_err() || !magic.starts_with(b"PK") {
        return Err(not_a_zip(file));
    }
    if magic == *b"PK\x07\x08" {
        return Err(refused("it is one part of several; make one ZIP of all"));
    }
    let start = length.saturating_sub(TAIL);
    let mut tail = vec![0; (length - start) as usize];
    read_at(file, start, &mut tail)?;
    // The comment of the true end record ends with the file, or padding follows it.
    let candidates = || (0..=tail.len() - END_LENGTH).rev().filter(|&at| tail[at..].starts_with(END));
    let behind = |at: usize| tail.get(at + END_LENGTH + usize::from(u16_at(&tail, at + 20))..);
    let ends = |at: &usize| behind(*at).is_some_and(<[u8]>::is_empty);
    let padded = |at: &usize| behind(*at).is_some_and(is_padding);
    let end = candidates().find(ends).or_else(|| candidates().find(padded)).ok_or_else(|| {
        refused("it has no end record: it is cut off, or something was appended; upload it again")
    })?;
    let said = End::plain(&tail[end..]);
    if said.parts != [0, 0] || said.entries[0] != said.entries[1] {
        return Err(refused("it is one part of several; make one ZIP of all"));
    }
    let plain = Directory { entries: said.entries[1], length: said.length, offset: said.offset, wide: false };
    // A second record with a directory in front of it is a second reading.
    let fits = |at: &usize| {
        let other = End::plain(&tail[*at..]);
        *at != end && other.length > 0 && other.offset + other.length == start + *at as u64
    };
    if candidates().any(|at| fits(&at)) {
        return Err(refused("it has two end records, each with a directory; make the ZIP again"));
    }
    let (directory, bound) = match end.checked_sub(LOCATOR_LENGTH) {
        Some(at) if tail[at..].starts_with(LOCATOR) => {
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

/// Bytes behind the end in which nothing can hide: zeros of tools that write blocks, a line break of those that take
/// every file for text.
fn is_padding(bytes: &[u8]) -> bool {
    bytes == b"\n" || bytes == b"\r\n" || (bytes.len() <= MAX_PADDING && bytes.iter().all(|&byte| byte == 0))
}

fn not_a_zip(file: &mut SharedFile) -> UploadError {
    let mut head = Vec::with_capacity(HEAD_BYTES);
    let read = file.rewind().and_then(|()| file.take(HEAD_BYTES as u64).read_to_end(&mut head));
    match read.ok().and_then(|_| formats::other_archive(&head, "")) {
        Some(format) => {
            refused(&format!("it is a {format}; make a ZIP of the folder with the class folders"))
        }
        None if head.starts_with(&[0x1f, 0x8b]) => {
            refused("it is a file packed with gzip; make a ZIP of the folder with the class folders")
        }
        None => refused("it does not begin like a ZIP archive; was it copied completely?"),
    }
}

/// The ZIP64 end record, which must end where its locator begins, and where it begins itself.
fn zip64_end(file: &mut SharedFile, locator: &[u8], at: u64) -> Result<(Directory, u64), UploadError> {
    let lie = || refused("its ZIP64 end record is damaged; make the ZIP again");
    let begin = u64_at(locator, 8);
    let mut record = [0; WIDE_END_LENGTH];
    if u32_at(locator, 4) != 0
        || u32_at(locator, 16) > 1
        || begin.checked_add(WIDE_END_LENGTH as u64).is_none_or(|end| end > at)
    {
        return Err(lie());
    }
    read_at(file, begin, &mut record)?;
    let ends = u64_at(&record, 4).checked_add(12).and_then(|length| length.checked_add(begin));
    let End { parts, entries, length, offset } = End::wide(&record);
    if !record.starts_with(WIDE_END) || ends != Some(at) || parts != [0, 0] || entries[0] != entries[1] {
        return Err(lie());
    }
    Ok((Directory { entries: entries[1], length, offset, wide: true }, begin))
}

/// Before anything of that size is allocated: count, length and place of the directory.
fn check_extent(directory: &Directory, bound: u64, limits: &UploadLimits) -> Result<(), UploadError> {
    let &Directory { entries, offset, length, wide } = directory;
    if entries > limits.max_entries {
        return Err(too_many(&format!("{entries} entries"), limits));
    }
    if offset.checked_add(length) != Some(bound) || length < entries * CENTRAL_LENGTH as u64 {
        let shift = bound.saturating_sub(length).saturating_sub(offset);
        if !wide && shift > 0 && shift.trailing_zeros() >= 32 {
            return Err(refused("it is larger than 4 GiB and has no ZIP64 records; upload it in parts"));
        }
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

/// A record of the directory with the text of its name.
struct Checked<'a> {
    record: &'a Central<'a>,
    text: Option<&'a str>,
    /// Why it has none.
    undecided: Option<&'a str>,
}

impl Checked<'_> {
    fn entry(&self, file: &mut SharedFile, limits: &UploadLimits) -> Result<Entry, UploadError> {
        let Self { record, text, undecided } = *self;
        let raw = record.raw_name();
        let label = text.map_or_else(|| String::from_utf8_lossy(record.name).into_owned(), str::to_owned);
        let fail = |why: &str| refused(&format!("entry \"{}\": {why}", shown(&label)));
        if record.name.is_empty() {
            return Err(fail("it has no name; make the ZIP again"));
        }
        let length = record.name.len().max(text.map_or(0, str::len));
        if length > limits.max_name_bytes {
            let most = limits.max_name_bytes;
            return Err(fail(&format!("its name has {length} bytes; at most {most} are taken")));
        }
        if let Some(why) = raw.contradiction() {
            return Err(fail(why));
        }
        let Some(text) = text else {
            let why = undecided.expect("names without a text have a reason");
            return Err(refused(&format!("{why}; {UTF8_AGAIN}")));
        };
        let (path, is_folder) = names::path_of(text, limits.max_depth).map_err(|why| fail(&why))?;
        let method = formats::method(record.method(), record.flags()).map_err(fail)?;
        check_mode(record.mode(), is_folder).map_err(fail)?;
        let [size, packed, start] =
            record.numbers().ok_or_else(|| fail("its ZIP64 sizes are damaged; make the ZIP again"))?;
        if record.part() != 0 {
            return Err(fail("it lies in another part of the archive; make one ZIP of all"));
        }
        let mut entry = Entry { path, is_folder, method, crc: record.crc(), packed, size, start, data: 0 };
        if is_folder && (size, packed) != (0, 0) && !(size == 0 && method == Method::Deflated) {
            return Err(fail("it is a folder with content; make the ZIP again"));
        }
        if method == Method::Stored && size != packed {
            return Err(fail("its two sizes differ though it is not packed; make the ZIP again"));
        }
        if size > limits.max_entry_bytes {
            return Err(entry.too_large(&format!("more than {} inflated", mebibytes(limits.max_entry_bytes))));
        }
        entry.data = self.local_end(file, &entry).map_err(|error| match error {
            Mismatch::Io(source) => source.into(),
            Mismatch::Cut => fail("it lies outside of the file: the ZIP is damaged or cut off"),
            Mismatch::Differs => fail("its two headers say different things; make the ZIP again"),
        })?;
        Ok(entry)
    }

    /// Compares the local header with this record; gives where it ends.
    fn local_end(&self, file: &mut SharedFile, entry: &Entry) -> Result<u64, Mismatch> {
        let record = self.record;
        let mut fixed = [0; LOCAL_LENGTH];
        read_at(file, entry.start, &mut fixed)?;
        let (name, extra) = (usize::from(u16_at(&fixed, 26)), usize::from(u16_at(&fixed, 28)));
        if !fixed.starts_with(LOCAL) || name != record.name.len() {
            return Err(Mismatch::Differs);
        }
        let mut behind = vec![0; name + extra];
        read_at(file, entry.start + LOCAL_LENGTH as u64, &mut behind)?;
        let (name, extra) = behind.split_at(name);
        let kind = [6, 8].map(|at| u16_at(&fixed, at));
        if name != record.name || kind != [record.flags(), record.method()] {
            return Err(Mismatch::Differs);
        }
        // A field that only the directory has says how to read these bytes; one that is only here is another name.
        let local = RawName { raw: name, flags: record.flags(), extra }.unicode_path();
        if local.is_some() && local != record.raw_name().unicode_path() {
            return Err(Mismatch::Differs);
        }
        let crc = u32_at(&fixed, 14);
        let [size, packed, _] =
            widen([u32_at(&fixed, 22), u32_at(&fixed, 18), 0], extra).ok_or(Mismatch::Differs)?;
        let said = (crc, size, packed);
        // With this flag the numbers may be left open here and follow the data.
        let open = record.flags() & FLAG_DESCRIPTOR != 0 && said == (0, 0, 0);
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
