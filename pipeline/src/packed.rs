//! A model behind the bytes of the program: one file to ship.
//!
//! ```text
//! program       as the system runs it; what follows is no part of it
//! model file    .ocelli
//! trailer       64 bytes
//!   0..32   SHA-256 of the model file
//!   32..40  its length, little-endian
//!   40..44  version of the trailer, little-endian: 1
//!   44..48  zeros
//!   48..64  mark
//! ```
//!
//! A program finds its model by its own last bytes. Bytes behind a program that are no packed model are an error rather than no model,
//! since a damaged program would otherwise answer with the model that ships.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use ocelli_engine::EngineError;
use ocelli_engine::model_file::{MAX_FILE_BYTES, ModelFile};
use sha2::{Digest, Sha256};

use crate::error::PipelineError;

/// What the packed model is asked for by, where no file or folder has the name.
pub const PACKED: &str = "packed";

/// Bytes of a trailer.
const TRAILER_BYTES: usize = 64;

/// Ends a program with a model.
const MARK: &[u8; 16] = b"ocelli packed \x1a\n";

/// The only version of the trailer.
const VERSION: u32 = 1;

/// A program file, and what is behind it.
#[derive(Debug)]
pub struct Program {
    path: PathBuf,
    file: File,
    /// Bytes of the program itself.
    len: u64,
    packed: Option<Packed>,
}

/// Place and hash of the model in a program.
#[derive(Clone, Copy, Debug)]
struct Packed {
    len: u64,
    hash: [u8; 32],
}

/// Whether a path names the packed model: a file or folder of the name goes first.
pub fn is_packed(path: &Path) -> bool {
    path == Path::new(PACKED) && !path.exists()
}

/// The model that is packed into the running program; `None` where none is.
///
/// # Errors
/// [`PipelineError::Io`] where the program cannot be read; [`PipelineError::Engine`] for a damaged one.
pub fn packed_model() -> Result<Option<ModelFile>, PipelineError> {
    match Program::running()? {
        Some(program) => program.model(),
        None => Ok(None),
    }
}

/// The file of the running program. Where there is no `/proc`, only the command line may tell.
///
/// # Errors
/// Where neither tells.
pub fn running_program() -> io::Result<PathBuf> {
    std::env::current_exe().or_else(|error| {
        let started = std::env::args_os().next().map(PathBuf::from).filter(|path| path.is_file());
        started.map_or(Err(error), std::path::absolute)
    })
}

impl Program {
    /// The running program; `None` where the system does not say which file it is.
    ///
    /// # Errors
    /// As [`Program::open`].
    pub fn running() -> Result<Option<Program>, PipelineError> {
        running_program().ok().map(|path| Program::open(&path)).transpose()
    }

    /// The program of a file.
    ///
    /// # Errors
    /// [`PipelineError::Io`] where it cannot be read; [`PipelineError::Engine`] where what is behind it is no packed model.
    pub fn open(path: &Path) -> Result<Program, PipelineError> {
        let mut file = File::open(path).map_err(PipelineError::io(path))?;
        let end = file.metadata().map_err(PipelineError::io(path))?.len();
        let damaged = |reason: &str| damaged(path, reason);
        let trailer = match end.checked_sub(TRAILER_BYTES as u64) {
            Some(start) => read_at(&mut file, start, TRAILER_BYTES).map_err(PipelineError::io(path))?,
            None => return Err(damaged("is no program")),
        };
        if !trailer.ends_with(MARK) {
            if elf_end(&mut file).is_some_and(|program| program < end) {
                return Err(damaged("its end is damaged or cut off"));
            }
            return Ok(Program { path: path.to_owned(), file, len: end, packed: None });
        }
        let word = |at: usize| u64::from_le_bytes(trailer[at..at + 8].try_into().expect("eight bytes"));
        let (len, version) = (word(32), word(40));
        if version != u64::from(VERSION) {
            return Err(damaged(&format!("the model in it is packed in version {version}, not {VERSION}")));
        }
        let program = end.checked_sub(TRAILER_BYTES as u64).and_then(|end| end.checked_sub(len));
        let Some(program) = program.filter(|_| len <= MAX_FILE_BYTES) else {
            return Err(damaged(&format!("says it holds a model of {len} bytes, more than it has")));
        };
        let hash = trailer[..32].try_into().expect("32 bytes");
        Ok(Program { path: path.to_owned(), file, len: program, packed: Some(Packed { len, hash }) })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a model is packed into it.
    pub fn has_model(&self) -> bool {
        self.packed.is_some()
    }

    /// The model that is packed into it.
    ///
    /// # Errors
    /// [`PipelineError::Io`] where it cannot be read; [`PipelineError::Engine`] where it is damaged.
    pub fn model(mut self) -> Result<Option<ModelFile>, PipelineError> {
        let Some(Packed { len, hash }) = self.packed else { return Ok(None) };
        let bytes = read_at(&mut self.file, self.len, len as usize).map_err(PipelineError::io(&self.path))?;
        if Sha256::digest(&bytes)[..] != hash {
            return Err(damaged(&self.path, "the model in it is damaged"));
        }
        Ok(Some(ModelFile::from_bytes(&bytes)?))
    }

    /// Writes the program with a model behind it in place of the one that it has, and returns the bytes written.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write_with(&mut self, model: &[u8], out: &mut impl Write) -> io::Result<u64> {
        self.file.rewind()?;
        let copied = io::copy(&mut (&self.file).take(self.len), out)?;
        if copied != self.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        out.write_all(model)?;
        let (len, version) = ((model.len() as u64).to_le_bytes(), u64::from(VERSION).to_le_bytes());
        let trailer = [&Sha256::digest(model)[..], &len, &version, MARK].concat();
        out.write_all(&trailer)?;
        Ok(copied + model.len() as u64 + trailer.len() as u64)
    }
}

fn damaged(path: &Path, reason: &str) -> PipelineError {
    let reason = format!("{reason}: pack the model again, or copy the file again");
    EngineError::ModelFile { path: Some(path.to_owned()), reason }.into()
}

/// Bytes of a file that is at least as long.
fn read_at(file: &mut File, start: u64, len: usize) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len).map_err(|_| io::ErrorKind::OutOfMemory)?;
    file.take(len as u64).read_to_end(&mut bytes)?;
    if bytes.len() == len { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Where a program in ELF of 64 bits ends by its own headers (System V ABI, chapter 4); `None` for any other file.
fn elf_end(file: &mut File) -> Option<u64> {
    const HEADER: usize = 64;
    let header = read_at(file, 0, HEADER).ok()?;
    // Mark, 64 bits, little-endian.
    if !header.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let word = |bytes: &[u8], at: usize| {
        Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().expect("eight bytes")))
    };
    let half = |at: usize| u64::from(u16::from_le_bytes([header[at], header[at + 1]]));
    // Segments: start of their table, bytes of a row, rows; then those of the sections.
    let tables = [(32, 54, 56, [8, 32]), (40, 58, 60, [24, 32])];
    let mut end = HEADER as u64;
    for (start, row, rows, [place, size]) in tables {
        let (start, row, rows) = (word(&header, start)?, half(row), half(rows));
        let table = read_at(file, start, (row * rows) as usize).ok()?;
        end = end.max(start.checked_add(row * rows)?);
        let is_section = size == 32 && place == 24;
        for row in table.chunks_exact((row as usize).max(1)) {
            // A section without bytes in the file.
            let nothing = is_section && row.get(4..8)? == 8u32.to_le_bytes();
            if !nothing {
                end = end.max(word(row, place)?.checked_add(word(row, size)?)?);
            }
        }
    }
    Some(end)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::built_in::shipped_model;

    /// A program of this test, with the model that ships behind it.
    fn packed(folder: &Path) -> (PathBuf, Vec<u8>) {
        let model = shipped_model().unwrap().to_bytes().unwrap();
        let mut program = Program::running().unwrap().unwrap();
        assert!(!program.has_model());
        let mut bytes = Vec::new();
        let written = program.write_with(&model, &mut bytes).unwrap();
        assert_eq!(written, bytes.len() as u64);
        let path = folder.join("program");
        fs::write(&path, bytes).unwrap();
        (path, model)
    }

    #[test]
    fn a_model_comes_back_and_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (path, model) = packed(folder.path());
        let found = Program::open(&path).unwrap().model().unwrap().unwrap();
        assert_eq!(found.to_bytes().unwrap(), model);
        // Packed again, the new model stands in the place of the old one.
        let mut again = Vec::new();
        Program::open(&path).unwrap().write_with(&model, &mut again).unwrap();
        assert!(again == fs::read(&path).unwrap());
    }

    #[test]
    fn a_damaged_end_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let (path, model) = packed(folder.path());
        let whole = fs::read(&path).unwrap();
        let damaged = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            let error = Program::open(&path).and_then(Program::model).unwrap_err().to_string();
            assert!(error.contains("program") && error.contains("again"), "{error}");
        };
        let end = whole.len();
        for at in
            [end - 64, end - 33, end - 32, end - 25, end - 24, end - 1, end - 64 - model.len(), end - 65]
        {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            damaged(&bytes);
        }
        for cut in [1, 16, 63, 64, 65, model.len()] {
            damaged(&whole[..end - cut]);
        }
    }
}
