//! The ZIP around a `.keras` file: the one place that names the library, `zip`.

use std::io::{Cursor, Read, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

/// The four bytes that begin an archive with members.
pub(super) const SIGNATURE: &[u8; 4] = b"PK\x03\x04";
/// Largest ratio of a member's bytes to its bytes in the archive: deflate's own limit is 1032, weights come to 1.1.
const MAX_RATIO: u64 = 8;
/// Bytes that a member may have whatever its ratio: text packs well.
const LEAST_BYTES: u64 = 1 << 19;
/// Most members of an archive.
const MAX_MEMBERS: usize = 1_024;

/// An archive in memory.
pub(super) struct Archive<'a>(ZipArchive<Cursor<&'a [u8]>>);

impl<'a> Archive<'a> {
    /// Opens the bytes of an archive.
    pub(super) fn open(bytes: &'a [u8]) -> Result<Self, String> {
        let archive = ZipArchive::new(Cursor::new(bytes)).map_err(|error| error.to_string())?;
        if archive.len() > MAX_MEMBERS {
            return Err(format!("the archive has more than {MAX_MEMBERS} members"));
        }
        Ok(Archive(archive))
    }

    /// Whether it has such a member.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.index_for_name(name).is_some()
    }

    /// The bytes of a member; `None` if there is no such member.
    pub(super) fn member(&mut self, name: &str) -> Result<Option<Vec<u8>>, String> {
        let Some(index) = self.0.index_for_name(name) else { return Ok(None) };
        let say = |error: &dyn std::fmt::Display| format!("member `{name}`: {error}");
        let file = self.0.by_index(index).map_err(|error| say(&error))?;
        let most = file.compressed_size().saturating_mul(MAX_RATIO).saturating_add(LEAST_BYTES);
        let size = file.size();
        if size > most {
            return Err(say(&format_args!("{size} bytes are more than {most}, which its packed bytes allow")));
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

/// The bytes of an archive with these members, none of them packed: so Keras writes them, and weights do not pack.
pub(super) fn write(members: &[(&str, &[u8])]) -> Result<Vec<u8>, String> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for (name, bytes) in members {
        let large = bytes.len() >= u32::MAX as usize;
        writer.start_file(*name, options.large_file(large)).map_err(|error| error.to_string())?;
        writer.write_all(bytes).map_err(|error| error.to_string())?;
    }
    let cursor = writer.finish().map_err(|error| error.to_string())?;
    Ok(cursor.into_inner())
}
