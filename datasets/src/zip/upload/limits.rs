//! What an uploaded archive may cost.

use crate::decode::DecodeLimits;

/// What an uploaded archive may cost before it is refused as a whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UploadLimits {
    /// Files and folders in the archive.
    pub max_entries: u64,
    /// Inflated bytes of one entry.
    pub max_entry_bytes: u64,
    /// Inflated bytes of all entries together.
    pub max_total_bytes: u64,
    /// Inflated bytes for one packed byte: of an entry after its first MiB, of the archive after its first 10 MiB.
    pub max_ratio: u64,
    /// Nested folders in a name, the file included.
    pub max_depth: usize,
    /// Length of a name in bytes.
    pub max_name_bytes: usize,
    /// What a single image may cost; passing it costs the image, not the archive.
    pub image: DecodeLimits,
    /// Images that are decoded at a time; 0 counts as 1. Peak memory is this many decoded images.
    pub max_parallel: usize,
}

impl Default for UploadLimits {
    /// 100,000 entries of at most 256 MiB, 4 GiB in all, 100:1, 32 folders deep, names of 1,024 bytes, the usual
    /// [`DecodeLimits`], 2 images at a time.
    fn default() -> Self {
        Self {
            max_entries: 100_000,
            max_entry_bytes: 256 << 20,
            max_total_bytes: 4 << 30,
            max_ratio: 100,
            max_depth: 32,
            max_name_bytes: 1024,
            image: DecodeLimits::default(),
            max_parallel: 2,
        }
    }
}

/// A number of bytes for people; limits below a MiB are for tests and small devices.
pub(super) fn mebibytes(bytes: u64) -> String {
    if bytes >= 1 << 20 { format!("{} MiB", bytes >> 20) } else { format!("{bytes} bytes") }
}
