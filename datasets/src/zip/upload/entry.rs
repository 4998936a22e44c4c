//! An entry of an uploaded archive whose headers agree.

use super::error::{UploadError, refused};
use crate::zip::inflate::Method;
use crate::zip::names::shown;

/// An entry whose headers agree.
pub(super) struct Entry {
    /// Parts joined by `/`.
    pub(super) path: String,
    pub(super) is_folder: bool,
    pub(super) method: Method,
    /// CRC-32 of the content.
    pub(super) crc: u32,
    /// Packed bytes.
    pub(super) packed: u64,
    /// Inflated bytes.
    pub(super) size: u64,
    /// Where the local header begins.
    pub(super) start: u64,
    /// Where the packed bytes begin.
    pub(super) data: u64,
}

impl Entry {
    pub(super) fn refused(&self, why: &str) -> UploadError {
        refused(&format!("entry \"{}\": {why}", shown(&self.path)))
    }

    pub(super) fn too_large(&self, why: &str) -> UploadError {
        let reason = format!("entry \"{}\": {why}; leave it out", shown(&self.path));
        UploadError::TooLarge { reason }
    }
}
