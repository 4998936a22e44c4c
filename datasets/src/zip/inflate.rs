//! The content of an entry as it inflates.

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

/// A reader of the content.
pub(super) enum Inflated {
    Stored(BufReader<io::Take<SharedFile>>),
    Deflated(DeflateDecoder<BufReader<io::Take<SharedFile>>>),
}

impl Inflated {
    /// Of `packed` bytes that begin at `at`.
    pub(super) fn new(file: &SharedFile, at: u64, packed: u64, method: Method) -> io::Result<Self> {
        let mut file = file.clone();
        file.seek(SeekFrom::Start(at))?;
        let bytes = BufReader::with_capacity(packed.clamp(1, BUFFER) as usize, file.take(packed));
        Ok(match method {
            Method::Stored => Self::Stored(bytes),
            Method::Deflated => Self::Deflated(DeflateDecoder::new(bytes)),
        })
    }

    /// Packed bytes behind the end of the content.
    pub(super) fn left(&self) -> u64 {
        let packed = match self {
            Self::Stored(packed) => packed,
            Self::Deflated(inflater) => inflater.get_ref(),
        };
        packed.get_ref().limit() + packed.buffer().len() as u64
    }
}

impl Read for Inflated {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Stored(packed) => packed.read(buffer),
            Self::Deflated(inflater) => inflater.read(buffer),
        }
    }
}
