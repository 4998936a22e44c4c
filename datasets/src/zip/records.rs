//! The fields of ZIP records (APPNOTE 4.3 to 4.5), as both readers need them.

use crate::shared_file::SharedFile;
use std::io::{self, Read, Seek, SeekFrom};

pub(super) const END: &[u8] = b"PK\x05\x06";
pub(super) const LOCATOR: &[u8] = b"PK\x06\x07";
pub(super) const WIDE_END: &[u8] = b"PK\x06\x06";
pub(super) const CENTRAL: &[u8] = b"PK\x01\x02";
pub(super) const LOCAL: &[u8] = b"PK\x03\x04";

pub(super) const END_LENGTH: usize = 22;
pub(super) const LOCATOR_LENGTH: usize = 20;
pub(super) const WIDE_END_LENGTH: usize = 56;
pub(super) const CENTRAL_LENGTH: usize = 46;
pub(super) const LOCAL_LENGTH: usize = 30;

pub(super) const FLAG_ENCRYPTED: u16 = 1;
pub(super) const FLAG_DESCRIPTOR: u16 = 1 << 3;
pub(super) const FLAG_PATCH: u16 = 1 << 5;
pub(super) const FLAG_STRONG: u16 = 1 << 6;
pub(super) const FLAG_UTF8: u16 = 1 << 11;
pub(super) const FLAG_MASKED: u16 = 1 << 13;

/// A name as a header has it.
#[derive(Clone, Copy)]
pub(super) struct RawName<'a> {
    pub(super) raw: &'a [u8],
    /// General purpose bits.
    pub(super) flags: u16,
    pub(super) extra: &'a [u8],
}

/// File types of Unix, in the upper half of the external attributes.
pub(super) const MODE_TYPE: u32 = 0o170_000;
pub(super) const MODE_FILE: u32 = 0o100_000;
pub(super) const MODE_FOLDER: u32 = 0o040_000;
pub(super) const MODE_LINK: u32 = 0o120_000;

/// An end record, plain or of ZIP64.
pub(super) struct End {
    /// Number of this part of the archive, and of the part with the directory.
    pub(super) parts: [u32; 2],
    /// Entries in this part, and in all.
    pub(super) entries: [u64; 2],
    /// Bytes of the directory.
    pub(super) length: u64,
    /// Where the directory begins.
    pub(super) offset: u64,
}

impl End {
    /// Of the plain record, at least [`END_LENGTH`] bytes.
    pub(super) fn plain(record: &[u8]) -> Self {
        Self {
            parts: [4, 6].map(|at| u16_at(record, at).into()),
            entries: [8, 10].map(|at| u16_at(record, at).into()),
            length: u32_at(record, 12).into(),
            offset: u32_at(record, 16).into(),
        }
    }

    /// Of the ZIP64 record, at least [`WIDE_END_LENGTH`] bytes.
    pub(super) fn wide(record: &[u8]) -> Self {
        Self {
            parts: [16, 20].map(|at| u32_at(record, at)),
            entries: [24, 32].map(|at| u64_at(record, at)),
            length: u64_at(record, 40),
            offset: u64_at(record, 48),
        }
    }
}

/// A record of the directory.
pub(super) struct Central<'a> {
    pub(super) fixed: &'a [u8],
    pub(super) name: &'a [u8],
    pub(super) extra: &'a [u8],
}

impl<'a> Central<'a> {
    /// The first record and what follows it; `None` where there is none or it is cut off.
    pub(super) fn split(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let fixed = bytes.get(..CENTRAL_LENGTH).filter(|fixed| fixed.starts_with(CENTRAL))?;
        let [name, extra, comment] = [28, 30, 32].map(|at| usize::from(u16_at(fixed, at)));
        let behind = &bytes[CENTRAL_LENGTH..];
        let rest = behind.get(name + extra + comment..)?;
        Some((Central { fixed, name: &behind[..name], extra: &behind[name..name + extra] }, rest))
    }

    pub(super) fn flags(&self) -> u16 {
        u16_at(self.fixed, 8)
    }

    pub(super) fn method(&self) -> u16 {
        u16_at(self.fixed, 10)
    }

    pub(super) fn crc(&self) -> u32 {
        u32_at(self.fixed, 16)
    }

    /// Number of the part with its data.
    pub(super) fn part(&self) -> u16 {
        u16_at(self.fixed, 34)
    }

    /// File type and permissions of Unix; archives of systems without them have 0.
    pub(super) fn mode(&self) -> u32 {
        u32_at(self.fixed, 38) >> 16
    }

    /// Size, packed size and where the local header begins; `None` if a ZIP64 number is missing.
    pub(super) fn numbers(&self) -> Option<[u64; 3]> {
        widen([24, 20, 42].map(|at| u32_at(self.fixed, at)), self.extra)
    }

    pub(super) fn raw_name(&self) -> RawName<'a> {
        RawName { raw: self.name, flags: self.flags(), extra: self.extra }
    }
}

/// Identifiers and contents of extra fields, up to the first that is cut off.
pub(super) fn extra_fields(mut extra: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let head = extra.get(..4)?;
        let length = usize::from(u16_at(head, 2));
        let field = extra.get(4..4 + length)?;
        extra = &extra[4 + length..];
        Some((u16_at(head, 0), field))
    })
}

/// Size, packed size and offset: those that are all ones stand in the ZIP64 field, in this order (4.5.3). A field with
/// fewer numbers than that is damaged; a disk number may follow.
pub(super) fn widen(narrow: [u32; 3], extra: &[u8]) -> Option<[u64; 3]> {
    let mut wide = narrow.map(u64::from);
    if !narrow.contains(&u32::MAX) {
        return Some(wide);
    }
    let (_, field) = extra_fields(extra).find(|(id, _)| *id == 1)?;
    let mut numbers = field.chunks_exact(8);
    for value in wide.iter_mut().filter(|value| **value == u64::from(u32::MAX)) {
        *value = u64_at(numbers.next()?, 0);
    }
    Some(wide)
}

/// Reads bytes that must be there; what lies beyond the reach of the system lies behind the end of the file.
pub(super) fn read_at(file: &mut SharedFile, at: u64, bytes: &mut [u8]) -> io::Result<()> {
    if at > i64::MAX as u64 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(bytes)
}

// Callers have checked that the bytes are there.

pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("the range has 2 bytes"))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("the range has 4 bytes"))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("the range has 8 bytes"))
}
