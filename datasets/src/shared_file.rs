//! A file that several readers share, each with its own position: on disk, or in this program.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

/// An open file and a position in it.
#[derive(Clone)]
pub(crate) struct SharedFile {
    content: Content,
    length: u64,
    position: u64,
}

#[derive(Clone)]
enum Content {
    File(Arc<File>),
    Bytes(&'static [u8]),
}

impl SharedFile {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        Ok(Self { content: Content::File(Arc::new(file)), length, position: 0 })
    }

    /// A file that is part of this program.
    pub(crate) fn embedded(bytes: &'static [u8]) -> Self {
        Self { content: Content::Bytes(bytes), length: bytes.len() as u64, position: 0 }
    }
}

/// Reads from a position on; whatever other threads read at the same time.
pub(crate) fn read_at(file: &File, buffer: &mut [u8], position: u64) -> io::Result<usize> {
    #[cfg(unix)]
    return std::os::unix::fs::FileExt::read_at(file, buffer, position);
    #[cfg(windows)]
    return std::os::windows::fs::FileExt::seek_read(file, buffer, position);
    #[cfg(not(any(unix, windows)))]
    return no_files((file, buffer, position));
}

/// Fills a buffer from a position on.
pub(crate) fn read_exact_at(file: &File, mut buffer: &mut [u8], mut position: u64) -> io::Result<()> {
    while !buffer.is_empty() {
        match read_at(file, buffer, position) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => {
                buffer = &mut buffer[n..];
                position += n as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes at a position; whatever other threads write elsewhere at the same time.
pub(crate) fn write_all_at(file: &File, mut bytes: &[u8], mut position: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        #[cfg(unix)]
        let written = std::os::unix::fs::FileExt::write_at(file, bytes, position);
        #[cfg(windows)]
        let written = std::os::windows::fs::FileExt::seek_write(file, bytes, position);
        #[cfg(not(any(unix, windows)))]
        let written: io::Result<usize> = no_files((file, bytes, position));
        match written {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                bytes = &bytes[n..];
                position += n as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The answer of a system without files, such as a browser.
#[cfg(not(any(unix, windows)))]
fn no_files<T>(_: T) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}

impl Read for SharedFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = match &self.content {
            Content::File(file) => read_at(file, buffer, self.position)?,
            Content::Bytes(bytes) => (&bytes[self.position.min(self.length) as usize..]).read(buffer)?,
        };
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
