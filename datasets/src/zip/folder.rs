//! The user's own archives, read tolerantly: data in front and behind, numbers that wrapped around, odd names.
//!
//! The directory is read once; each read of an entry has a position of its own in the file, so any number of threads
//! read at once. What the directory holds is read or refused, never a part of it without a word.

use super::formats;
use super::inflate::Inflated;
use super::names::{self, UTF8_AGAIN};
use super::records::{
    CENTRAL, Central, END, END_LENGTH, End, LOCAL, LOCAL_LENGTH, LOCATOR, LOCATOR_LENGTH, MODE_FOLDER,
    MODE_LINK, MODE_TYPE, WIDE_END, WIDE_END_LENGTH, read_at, u16_at, u64_at,
};
use super::{HEAD_BYTES, code_pages};
use crate::decode::SNIFF_BYTES;
use crate::error::io_error;
use crate::files::{FileKind, Found, MAX_ENTRIES, is_junk};
use crate::folder::read_limited;
use crate::shared_file::SharedFile;
use crate::{DatasetError, DecodeError, DecodeLimits};
use flate2::Crc;
use ocelli_common::text::count;
use std::collections::HashMap;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// Largest directory: 268 bytes for each of [`MAX_ENTRIES`] entries, and a bound on memory.
const MAX_DIRECTORY: u64 = 256 << 20;

/// Where an end record is looked for: its comment, and as much behind the end.
const TAIL: u64 = 2 * (END_LENGTH as u64 + u16::MAX as u64);

/// An open archive.
pub(crate) struct ZipFolder {
    file: SharedFile,
    entries: Vec<Entry>,
}

/// What an archive holds.
pub(crate) struct Listing {
    pub(crate) found: Vec<Found>,
    /// For each of `found` its number in the archive.
    pub(crate) entries: Vec<usize>,
    pub(crate) notes: Vec<String>,
}

/// What the directory says of an entry.
struct Entry {
    /// Where the local header begins.
    start: u64,
    packed: u64,
    size: u64,
    crc: u32,
    method: u16,
    flags: u16,
}

/// Why an archive is not read.
enum Problem {
    Io(io::Error),
    Bad(String),
    Limit(String),
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl ZipFolder {
    /// Opens an archive and lists its plain files, hidden and system files and links left out.
    pub(crate) fn open(path: &Path) -> Result<(Self, Listing), DatasetError> {
        let told = |problem| match problem {
            Problem::Io(source) => io_error(path, source),
            Problem::Bad(what) => DatasetError::BadZip { path: path.to_owned(), what },
            Problem::Limit(what) => DatasetError::Limit { path: path.to_owned(), what },
        };
        let file = SharedFile::open(path).map_err(|e| io_error(path, e))?;
        open(file).map_err(told)
    }

    /// As [`ZipFolder::open`], for an archive that is part of this program; `None` for a damaged one.
    pub(crate) fn embedded(bytes: &'static [u8]) -> Option<(Self, Listing)> {
        open(SharedFile::embedded(bytes)).ok()
    }

    /// The content of an entry, at most `limits.max_bytes` long, counted while it is inflated; its checksum is
    /// verified.
    pub(crate) fn read(&self, index: usize, limits: &DecodeLimits) -> Result<Vec<u8>, DecodeError> {
        let damaged = || DecodeError::Archive { what: "its ZIP entry is damaged" };
        let entry = &self.entries[index];
        let told = |error: io::Error| match error.raw_os_error() {
            Some(_) => DecodeError::Read { source: error },
            None => damaged(),
        };
        let reader = self.reader(entry)?.map_err(told)?;
        let bytes = match read_limited(reader, entry.size, limits) {
            Err(DecodeError::Read { source }) => return Err(told(source)),
            result => result?,
        };
        let mut crc = Crc::new();
        crc.update(&bytes);
        if bytes.len() as u64 != entry.size || crc.sum() != entry.crc {
            return Err(damaged());
        }
        Ok(bytes)
    }

    /// A reader of an entry's content; what is not supported is the outer error.
    fn reader(&self, entry: &Entry) -> Result<io::Result<Inflated>, DecodeError> {
        let method =
            formats::method(entry.method, entry.flags).map_err(|what| DecodeError::Archive { what })?;
        Ok(Inflated::behind_header(&self.file, entry.start, entry.packed, method))
    }

    /// The first bytes of an entry; a broken one is told by what can be read of it.
    fn head(&self, index: usize, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length);
        if let Ok(Ok(reader)) = self.reader(&self.entries[index]) {
            let _ = reader.take(length as u64).read_to_end(&mut bytes);
        }
        bytes
    }
}

fn open(mut file: SharedFile) -> Result<(ZipFolder, Listing), Problem> {
    let place = find(&mut file)?;
    let records = place.records()?;
    let mut archive = ZipFolder { file, entries: Vec::with_capacity(records.len()) };
    for record in &records {
        let entry = archive.entry(record, &place)?;
        archive.entries.push(entry);
    }
    let mut listing = archive.list(&records)?;
    if place.front > 0 {
        listing
            .notes
            .push(format!("{} in front of the archive ignored", count(place.front as usize, "byte")));
    }
    if !listing.found.iter().any(|found| found.kind == FileKind::Image) {
        let packed = listing.found.iter().zip(&listing.entries).find_map(|(found, &entry)| {
            let head = archive.head(entry, HEAD_BYTES);
            let zip = head.starts_with(LOCAL).then_some("ZIP archive");
            Some((&found.path, zip.or_else(|| formats::other_archive(&head, &found.path))?))
        });
        if let Some((path, format)) = packed {
            return Err(Problem::Bad(format!("it holds no image but a {format} ({path}): unpack it first")));
        }
    }
    Ok((archive, listing))
}

/// The directory and where things are.
struct Place {
    directory: Vec<u8>,
    /// Entries that the end record declares.
    declared: u64,
    /// The count is one of 64 bits.
    wide: bool,
    /// Bytes in front of the archive, by which all offsets are shifted.
    front: u64,
    /// How many times 4 GiB the offsets may lack.
    wraps: u64,
}

impl Place {
    /// All records; their number must be the one that is declared, as far as 16 bits can tell: macOS and older tools
    /// write 10 for 65,546.
    fn records(&self) -> Result<Vec<Central<'_>>, Problem> {
        let mut rest = self.directory.as_slice();
        let mut records = Vec::new();
        while let Some((record, after)) = Central::split(rest) {
            rest = after;
            records.push(record);
            if records.len() > MAX_ENTRIES {
                return Err(too_many(records.len() as u64));
            }
        }
        let found = records.len() as u64;
        // A signature of the directory, or data for its decryption, is no entry.
        let whole = rest.is_empty() || rest.starts_with(b"PK\x05\x05") || rest.starts_with(b"PK\x06\x08");
        let counted = if self.wide { found } else { found & 0xffff };
        if !whole {
            return Err(Problem::Bad(format!(
                "its directory is damaged behind {} of {} entries",
                found,
                self.declared.max(found + 1)
            )));
        }
        if counted != self.declared {
            return Err(Problem::Bad(format!(
                "its end record declares {} entries and its directory holds {found}; make the ZIP again",
                self.declared
            )));
        }
        Ok(records)
    }
}

fn too_many(entries: u64) -> Problem {
    Problem::Limit(format!("{entries} entries; at most {MAX_ENTRIES} are read"))
}

/// Looks for the last end record with a directory in front of it.
fn find(file: &mut SharedFile) -> Result<Place, Problem> {
    let length = file.seek(SeekFrom::End(0))?;
    let start = length.saturating_sub(TAIL);
    let mut tail = Vec::new();
    file.seek(SeekFrom::Start(start))?;
    file.by_ref().take(TAIL).read_to_end(&mut tail)?;
    let mut first = None;
    for end in
        (0..(tail.len() + 1).saturating_sub(END_LENGTH)).rev().filter(|&at| tail[at..].starts_with(END))
    {
        match directory_at(file, &tail, start, end) {
            Ok(place) => return Ok(place),
            Err(Problem::Io(error)) if error.kind() != io::ErrorKind::UnexpectedEof => {
                return Err(error.into());
            }
            Err(problem @ Problem::Limit(_)) => return Err(problem),
            Err(problem) => first = first.or(Some(problem)),
        }
    }
    match first {
        Some(Problem::Bad(what)) => Err(Problem::Bad(what)),
        _ => {
            let mut magic = [0; 2];
            let begins = read_at(file, 0, &mut magic).is_ok() && &magic == b"PK";
            Err(Problem::Bad(if begins {
                "it is damaged or cut off (no readable central directory)".to_owned()
            } else {
                "it does not begin like a ZIP archive; was it copied completely?".to_owned()
            }))
        }
    }
}

/// The directory of the end record at `end` of the file's `tail`, which begins at `start`.
fn directory_at(file: &mut SharedFile, tail: &[u8], start: u64, end: usize) -> Result<Place, Problem> {
    let bad = |what: &str| Problem::Bad(what.to_owned());
    let cut = || bad("it is damaged or cut off (no readable central directory)");
    let plain = End::plain(&tail[end..]);
    let wide = match end.checked_sub(LOCATOR_LENGTH) {
        Some(at) if tail[at..].starts_with(LOCATOR) => wide_end(file, &tail[at..end], start + at as u64)?,
        _ => None,
    };
    let (said, bound, is_wide) = match wide {
        Some((wide, at)) => (wide, at, true),
        None => (plain, start + end as u64, false),
    };
    if said.parts != [0, 0] || said.entries[0] != said.entries[1] {
        return Err(bad(
            "it is one part of an archive in several parts (.z01, .z02, ...); join them first (zip -s 0, or 7-Zip) or \
             unpack them and give the folder",
        ));
    }
    let declared = said.entries[1];
    if declared > MAX_ENTRIES as u64 {
        return Err(too_many(declared));
    }
    let begin = bound.checked_sub(said.length).ok_or_else(cut)?;
    let front = begin.checked_sub(said.offset).ok_or_else(cut)?;
    if said.length > MAX_DIRECTORY {
        let most = MAX_DIRECTORY >> 20;
        return Err(Problem::Limit(format!("its list of names is larger than {most} MiB")));
    }
    let mut directory = vec![0; said.length as usize];
    read_at(file, begin, &mut directory)?;
    if !directory.is_empty() && !directory.starts_with(CENTRAL) {
        return Err(cut());
    }
    let behind = &tail[(end + END_LENGTH + usize::from(u16_at(&tail[end..], 20))).min(tail.len())..];
    let is_record = |bytes: &[u8]| [CENTRAL, LOCAL, END].contains(&bytes);
    if behind.windows(4).any(is_record) {
        return Err(bad(
            "parts of another archive lie behind its end: it is cut off, or two archives were joined",
        ));
    }
    let mut magic = [0; 4];
    let archive_in_front = front > 0 && read_at(file, 0, &mut magic).is_ok() && magic == LOCAL;
    // Without ZIP64, offsets beyond 4 GiB have lost their upper half.
    let wrapped = archive_in_front && !is_wide && front.trailing_zeros() >= 32;
    if archive_in_front && !wrapped {
        return Err(bad("another archive lies in front of it: it is cut off, or two archives were joined"));
    }
    let (front, wraps) = if wrapped { (0, front >> 32) } else { (front, 0) };
    Ok(Place { directory, declared, wide: is_wide, front, wraps })
}

/// The ZIP64 end record and where it begins. Data in front of the archive shifts it; it then lies right before its
/// locator.
fn wide_end(file: &mut SharedFile, locator: &[u8], at: u64) -> Result<Option<(End, u64)>, Problem> {
    let said = u64_at(locator, 8);
    for begin in [said, at.saturating_sub(WIDE_END_LENGTH as u64)] {
        let mut record = [0; WIDE_END_LENGTH];
        if begin < at && read_at(file, begin, &mut record).is_ok() && record.starts_with(WIDE_END) {
            return Ok(Some((End::wide(&record), begin)));
        }
    }
    Err(Problem::Bad("its ZIP64 end record is damaged or cut off".to_owned()))
}

impl ZipFolder {
    fn entry(&self, record: &Central, place: &Place) -> Result<Entry, Problem> {
        // An entry whose numbers are missing is damaged when it is read.
        let [size, packed, start] = record.numbers().unwrap_or([0, 0, u64::MAX]);
        let mut start = start.saturating_add(place.front);
        if place.wraps > 0 {
            start = self.unwrapped(record, start, place.wraps)?;
        }
        Ok(Entry { start, packed, size, crc: record.crc(), method: record.method(), flags: record.flags() })
    }

    /// Where the local header of an entry is, if its offset may lack up to `wraps` times 4 GiB.
    fn unwrapped(&self, record: &Central, start: u64, wraps: u64) -> Result<u64, Problem> {
        let mut header = vec![0; LOCAL_LENGTH + record.name.len()];
        let mut is_there = |at: &u64| {
            let read = read_at(&mut self.file.clone(), *at, &mut header).is_ok();
            read && header.starts_with(LOCAL)
                && usize::from(u16_at(&header, 26)) == record.name.len()
                && header[LOCAL_LENGTH..] == *record.name
        };
        let mut places =
            (0..=wraps).filter_map(|wrap| start.checked_add(wrap << 32)).filter(|at| is_there(at));
        match (places.next(), places.next()) {
            (Some(at), None) => Ok(at),
            _ => Err(Problem::Bad(
                "it is larger than 4 GiB and has no ZIP64 records, so that entries cannot be found; make the ZIP again \
                 with a tool that writes ZIP64, or unpack it and give the folder"
                    .to_owned(),
            )),
        }
    }

    fn list(&self, records: &[Central]) -> Result<Listing, Problem> {
        let raw: Vec<_> = records.iter().map(Central::raw_name).collect();
        let names = names::read(&raw);
        let mut listing = Listing { found: Vec::new(), entries: Vec::new(), notes: Vec::new() };
        listing.notes.extend(names.note);
        let (mut junk, mut links, mut escaping, mut doubles, mut unnamed) = (0, 0, 0, 0, 0);
        let mut seen: HashMap<String, usize> = HashMap::with_capacity(records.len());
        for (index, (record, text)) in records.iter().zip(names.texts).enumerate() {
            let is_known = text.is_some();
            let name = text.unwrap_or_else(|| code_pages::appnote(record.name));
            let parts: Vec<&str> =
                name.split(['/', '\\']).filter(|part| !part.is_empty() && *part != ".").collect();
            let file_type = record.mode() & MODE_TYPE;
            if name.ends_with(['/', '\\']) || file_type == MODE_FOLDER || parts.is_empty() {
                continue;
            }
            if parts.iter().any(|part| is_junk(part) && *part != "..") {
                junk += 1;
                continue;
            }
            if file_type == MODE_LINK {
                links += 1;
                continue;
            }
            if parts.contains(&"..") {
                escaping += 1;
                continue;
            }
            let path = parts.join("/");
            let kind = FileKind::of(&path, || self.head(index, SNIFF_BYTES));
            if !is_known && kind == FileKind::Image {
                // The folders are the classes; a file may be called what it wants.
                let (folders, file) = split_last(record.name);
                if let (Some(why), true) = (&names.undecided, !folders.is_ascii() || file.contains(&b'\\')) {
                    return Err(Problem::Bad(format!(
                        "{why}; {UTF8_AGAIN}, or unpack it and give the folder"
                    )));
                }
                unnamed += 1;
            }
            match seen.get(&path) {
                Some(&at) => {
                    doubles += 1;
                    (listing.found[at].kind, listing.entries[at]) = (kind, index);
                }
                None => {
                    seen.insert(path.clone(), listing.found.len());
                    listing.found.push(Found { path, kind });
                    listing.entries.push(index);
                }
            }
        }
        let mut note = |n: usize, noun: &str, why: &str| {
            if n > 0 {
                listing.notes.push(format!("{} {why}", count(n, noun)));
            }
        };
        note(junk, "hidden or system file", "ignored");
        note(links, "symbolic link", "ignored");
        note(escaping, "entry name with \"..\"", "ignored");
        note(doubles, "entry name", "listed more than once: the last of each counts");
        note(unnamed, "file name", "in an unknown code page, shown as CP437");
        Ok(listing)
    }
}

/// Folders and file name of an entry, at the last slash.
fn split_last(name: &[u8]) -> (&[u8], &[u8]) {
    match name.iter().rposition(|&byte| byte == b'/') {
        Some(at) => (&name[..at], &name[at + 1..]),
        None => (&[], name),
    }
}
