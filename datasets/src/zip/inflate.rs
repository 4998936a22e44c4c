//! The content of an entry as it inflates.

use super::records::{LOCAL, LOCAL_LENGTH, u16_at};
use crate::shared_file::SharedFile;
use flate2::bufread::DeflateDecoder;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

/// Packed bytes that are read at a time.
const BUFFER: u64 = 16 << 10;

/// How an entry is packed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Method {
    Stored,
    Deflated,
}

/// Bytes of a local header that are usually enough: the fixed part, a name and an extra field.
const HEADER: u64 = 256;

/// Packed bytes as they lie in the file.
type Packed = io::Take<BufReader<SharedFile>>;

/// A reader of the content.
pub(super) enum Inflated {
    Stored(Packed),
    Deflated(DeflateDecoder<Packed>),
}

impl Inflated {
    /// Of `packed` bytes that begin at `at`.
    pub(super) fn new(file: &SharedFile, at: u64, packed: u64, method: Method) -> io::Result<Self> {
        let bytes = buffered(file, at, packed)?;
        Ok(Self::of(bytes, packed, method))
    }

    /// Of `packed` bytes behind a local header at `start`: a small entry is one read, header and all.
    pub(super) fn behind_header(
        file: &SharedFile,
        start: u64,
        packed: u64,
        method: Method,
    ) -> io::Result<Self> {
        let mut bytes = buffered(file, start, packed.saturating_add(HEADER))?;
        let mut fixed = [0; LOCAL_LENGTH];
        bytes.read_exact(&mut fixed)?;
        if !fixed.starts_with(LOCAL) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let names = i64::from(u16_at(&fixed, 26)) + i64::from(u16_at(&fixed, 28));
        bytes.seek_relative(names)?;
        Ok(Self::of(bytes, packed, method))
    }

    fn of(bytes: BufReader<SharedFile>, packed: u64, method: Method) -> Self {
        let bytes = bytes.take(packed);
        match method {
            Method::Stored => Self::Stored(bytes),
            Method::Deflated => Self::Deflated(DeflateDecoder::new(bytes)),
        }
    }

    /// Packed bytes behind the end of the content.
    pub(super) fn left(&self) -> u64 {
        let packed = match self {
            Self::Stored(packed) => packed,
            Self::Deflated(inflater) => inflater.get_ref(),
        };
        packed.limit()
    }
}

/// A reader from `at` on that reads `length` bytes at a time, within reason.
fn buffered(file: &SharedFile, at: u64, length: u64) -> io::Result<BufReader<SharedFile>> {
    let mut file = file.clone();
    file.seek(SeekFrom::Start(at))?;
    Ok(BufReader::with_capacity(length.clamp(1, BUFFER) as usize, file))
}

impl Read for Inflated {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Stored(packed) => packed.read(buffer),
            Self::Deflated(inflater) => inflater.read(buffer),
        }
    }
}
