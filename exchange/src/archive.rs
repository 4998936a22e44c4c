//! ZIP archives of stored members, read in place and written: the only file that names the library `zip`.

use std::io::{Cursor, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

/// What every ZIP archive with a member begins with.
const MARK: &[u8] = b"PK\x03\x04";

/// Members that an archive of any size may have.
const MEMBERS: u64 = 1000;

/// Bytes of archive that each further member needs. A member takes about a hundred bytes and the library's record of it
/// some five hundred; the rest of PyTorch's members is padding and data.
const BYTES_PER_MEMBER: u64 = 128;

/// A member by name, and its bytes in the archive.
pub(crate) type Member<'a> = (String, &'a [u8]);

/// Whether bytes begin like an archive.
pub(crate) fn is_archive(bytes: &[u8]) -> bool {
    bytes.starts_with(MARK)
}

/// The members of an archive that are stored as they are, in the archive's order. Takes about five times the bytes of the
/// archive at most.
///
/// # Errors
/// What is wrong with it: damaged, encrypted or compressed.
pub(crate) fn members(bytes: &[u8]) -> Result<Vec<Member<'_>>, String> {
    check_count(bytes)?;
    let damaged = |error: zip::result::ZipError| format!("the archive is damaged: {error}");
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(damaged)?;
    let mut members = Vec::with_capacity(archive.len());
    for index in 0..archive.len() {
        let member = archive.by_index_raw(index).map_err(damaged)?;
        let name = member.name().map_err(damaged)?.into_owned();
        if member.compression() != CompressionMethod::Stored || member.encrypted() {
            return Err(format!("member `{name}` is compressed or encrypted: PyTorch stores it as it is"));
        }
        let start = member.data_start().and_then(|start| usize::try_from(start).ok());
        let len = usize::try_from(member.size()).ok();
        let range = start.zip(len).and_then(|(start, len)| bytes.get(start..start.checked_add(len)?));
        members.push((name.clone(), range.ok_or_else(|| format!("member `{name}` is cut off"))?));
    }
    Ok(members)
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
