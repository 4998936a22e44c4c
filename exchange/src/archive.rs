//! ZIP archives, read and written: stored members in place, packed ones unpacked. The only file that names the library `zip`.

use std::io::{Cursor, Read, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

/// What every ZIP archive with a member begins with.
const MARK: &[u8] = b"PK\x03\x04";

/// Members that an archive of any size may have.
const MEMBERS: u64 = 1000;

/// Bytes of archive that each further member needs. A member takes about a hundred bytes and the library's record of it
/// some five hundred; the rest of PyTorch's members is padding and data.
const BYTES_PER_MEMBER: u64 = 128;

/// Largest ratio of a member's bytes to its bytes in the archive that is unpacked. Deflate's own limit is 1032, weights come
/// to 1.1.
const RATIO: u64 = 8;

/// Bytes that a member may have whatever its ratio: text packs well.
const UNPACKED: u64 = 1 << 19;

/// A member by name, and its bytes in the archive; `None` where it is compressed or encrypted.
pub(crate) type Member<'a> = (String, Option<&'a [u8]>);

/// Whether bytes begin like an archive.
pub(crate) fn is_archive(bytes: &[u8]) -> bool {
    bytes.starts_with(MARK)
}

/// The members of an archive in its order. Takes about five times the bytes of the
/// archive at most.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn members(bytes: &[u8]) -> Result<Vec<Member<'_>>, String> {
    check_count(bytes)?;
    let damaged = |error: zip::result::ZipError| format!("the archive is damaged: {error}");
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(damaged)?;
    let mut members = Vec::with_capacity(archive.len());
    for index in 0..archive.len() {
        let member = archive.by_index_raw(index).map_err(damaged)?;
        let name = member.name().map_err(damaged)?.into_owned();
        if member.compression() != CompressionMethod::Stored || member.encrypted() {
            members.push((name, None));
            continue;
        }
        let start = member.data_start().and_then(|start| usize::try_from(start).ok());
        let len = usize::try_from(member.size()).ok();
        let range = start.zip(len).and_then(|(start, len)| bytes.get(start..start.checked_add(len)?));
        let bytes = range.ok_or_else(|| format!("member `{name}` is cut off"))?;
        members.push((name, Some(bytes)));
    }
    Ok(members)
}

/// An archive whose members may be packed by deflate.
pub(crate) struct Packed<'a>(ZipArchive<Cursor<&'a [u8]>>);

impl<'a> Packed<'a> {
    /// Opens the bytes of an archive.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn open(bytes: &'a [u8]) -> Result<Self, String> {
        check_count(bytes)?;
        let archive = ZipArchive::new(Cursor::new(bytes));
        archive.map(Packed).map_err(|error| format!("the archive is damaged: {error}"))
    }

    /// Whether it has such a member.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.index_for_name(name).is_some()
    }

    /// The bytes of a member; `None` if there is no such member.
    ///
    /// # Errors
    /// What is wrong with it: damaged, encrypted, or of far more bytes than the archive has for it.
    pub(crate) fn member(&mut self, name: &str) -> Result<Option<Vec<u8>>, String> {
        let Some(index) = self.0.index_for_name(name) else { return Ok(None) };
        let say = |error: &dyn std::fmt::Display| format!("member `{name}`: {error}");
        let file = self.0.by_index(index).map_err(|error| say(&error))?;
        let size = file.size();
        let most = file.compressed_size().saturating_mul(RATIO).saturating_add(UNPACKED);
        if size > most {
            return Err(say(&format_args!(
                "{size} bytes are more than the {most} that its packed bytes allow"
            )));
        }
        // Grows with what is really there: sizes in the archive may lie.
        let mut bytes = Vec::new();
        file.take(size.saturating_add(1)).read_to_end(&mut bytes).map_err(|error| say(&error))?;
        if bytes.len() as u64 != size {
            return Err(say(&format_args!("has another size than the {size} bytes that the archive says")));
        }
        Ok(Some(bytes))
    }
}

/// Refuses an archive that says it has more members than its bytes can hold, for which the library would take memory at once.
fn check_count(bytes: &[u8]) -> Result<(), String> {
    const END: &[u8] = b"PK\x05\x06";
    const END_64: &[u8] = b"PK\x06\x06";
    /// Longest comment, and the records around it.
    const TAIL: usize = (1 << 16) + 256;
    let most = MEMBERS + bytes.len() as u64 / BYTES_PER_MEMBER;
    let tail = &bytes[bytes.len().saturating_sub(TAIL)..];
    for at in 0..tail.len() {
        let record = &tail[at..];
        let count = if record.starts_with(END) {
            // 0xffff says that the larger record has it.
            record
                .get(10..12)
                .map(|two| u64::from(u16::from_le_bytes([two[0], two[1]])))
                .filter(|&n| n != 0xffff)
        } else if record.starts_with(END_64) {
            record.get(32..40).map(|eight| u64::from_le_bytes(eight.try_into().expect("eight bytes")))
        } else {
            None
        };
        if let Some(count) = count.filter(|&count| count > most) {
            return Err(format!(
                "the archive says it has {count} members, too many for {} bytes",
                bytes.len()
            ));
        }
    }
    Ok(())
}

/// An archive of members that are stored as they are, without times: the same members give the same bytes.
///
/// # Errors
/// What is wrong with a name: two of them are the same.
pub(crate) fn write(members: &[(String, Vec<u8>)]) -> Result<Vec<u8>, String> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in members {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .large_file(bytes.len() > u32::MAX as usize / 2);
        archive.start_file(name.as_str(), options).map_err(|error| format!("member `{name}`: {error}"))?;
        archive.write_all(bytes).expect("a write to memory cannot fail");
    }
    Ok(archive.finish().map_err(|error| error.to_string())?.into_inner())
}
