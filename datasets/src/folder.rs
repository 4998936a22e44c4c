//! Folders on disk: walking them in a fixed order, and reading single files within limits.
//!
//! Links are followed, to files and to folders; a folder that contains itself through a link is entered once.

use crate::decode::{DecodeLimits, SNIFF_BYTES};
use crate::error::{DatasetError, DecodeError, io_error};
use crate::files::{FileKind, Found, MAX_ENTRIES, is_junk};
use ocelli_common::text::count;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Deepest nesting of folders.
const MAX_DEPTH: usize = 64;

/// Everything below a folder.
pub(crate) struct Listing {
    pub(crate) found: Vec<Found>,
    /// Where each of `found` lies; names that are no Unicode differ from their `path`.
    pub(crate) paths: Vec<PathBuf>,
    pub(crate) notes: Vec<String>,
    /// Folders that were not entered.
    pub(crate) folders: usize,
}

/// How far down a folder is listed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Only what lies in the folder itself.
    One,
    /// All of it.
    All,
}

/// Lists the files in or below `root`, sorted, without hidden and system files.
pub(crate) fn list(root: &Path, depth: Depth) -> Result<Listing, DatasetError> {
    let real = fs::canonicalize(root).map_err(|e| io_error(root, e))?;
    let listing = Listing { found: Vec::new(), paths: Vec::new(), notes: Vec::new(), folders: 0 };
    let mut walk = Walk { root, depth, listing, chain: vec![real], entries: 0, junk: 0 };
    walk.enter(root, "")?;
    let mut listing = walk.listing;
    if walk.junk > 0 {
        let files = count(walk.junk, "hidden or system file");
        listing.notes.push(format!("{files} ignored"));
    }
    Ok(listing)
}

struct Walk<'a> {
    root: &'a Path,
    depth: Depth,
    listing: Listing,
    /// The real paths of the folders entered on the way here.
    chain: Vec<PathBuf>,
    entries: usize,
    junk: usize,
}

impl Walk<'_> {
    fn enter(&mut self, folder: &Path, prefix: &str) -> Result<(), DatasetError> {
        let mut names = fs::read_dir(folder)
            .and_then(|entries| entries.map(|e| e.map(|e| e.file_name())).collect::<io::Result<Vec<_>>>())
            .map_err(|e| io_error(folder, e))?;
        names.sort();
        self.entries += names.len();
        if self.entries > MAX_ENTRIES || self.chain.len() > MAX_DEPTH {
            let what = format!(
                "more than {MAX_ENTRIES} files or {MAX_DEPTH} nested folders; give the folder that holds the class folders"
            );
            return Err(DatasetError::Limit { path: self.root.to_owned(), what });
        }
        let before = self.listing.found.len();
        for name in names {
            let text = name.to_string_lossy();
            if is_junk(&text) {
                self.junk += 1;
                continue;
            }
            let path = folder.join(&name);
            let shown = if prefix.is_empty() { text.into_owned() } else { format!("{prefix}/{text}") };
            // A dangling link counts as a file: decoding will name it as unreadable.
            match fs::metadata(&path) {
                Ok(meta) if meta.is_dir() && self.depth == Depth::One => self.listing.folders += 1,
                Ok(meta) if meta.is_dir() => self.enter_folder(path, shown)?,
                Ok(meta) if !meta.is_file() => {}
                _ => {
                    let kind = FileKind::of(&shown, || head(&path, SNIFF_BYTES).unwrap_or_default());
                    self.listing.found.push(Found { path: shown, kind });
                    self.listing.paths.push(path);
                }
            }
        }
        if self.listing.found.len() == before && !prefix.is_empty() {
            self.listing.notes.push(format!("folder {prefix}/ is empty"));
        }
        Ok(())
    }

    fn enter_folder(&mut self, path: PathBuf, shown: String) -> Result<(), DatasetError> {
        let linked = fs::symlink_metadata(&path).is_ok_and(|m| m.is_symlink());
        let real = match (linked, self.chain.last(), path.file_name()) {
            (false, Some(parent), Some(name)) => parent.join(name),
            _ => fs::canonicalize(&path).map_err(|e| io_error(&path, e))?,
        };
        if self.chain.contains(&real) {
            self.listing.notes.push(format!("link {shown}/ leads back to a folder around it: not followed"));
            return Ok(());
        }
        self.chain.push(real);
        self.enter(&path, &shown)?;
        self.chain.pop();
        Ok(())
    }
}

/// The first bytes of a file.
pub(crate) fn head(path: &Path, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(length);
    File::open(path)?.take(length as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A whole file, at most `limits.max_bytes` long.
pub(crate) fn read(path: &Path, limits: &DecodeLimits) -> Result<Vec<u8>, DecodeError> {
    let fail = |source| DecodeError::Read { source };
    let file = File::open(path).map_err(fail)?;
    let length = file.metadata().map_err(fail)?.len();
    read_limited(file, length, limits)
}

/// Reads to the end, counting: what a file or archive declares about its length is only a hint.
pub(crate) fn read_limited(
    source: impl Read,
    declared: u64,
    limits: &DecodeLimits,
) -> Result<Vec<u8>, DecodeError> {
    let too_many = DecodeError::TooManyBytes { limit: limits.max_bytes };
    if declared > limits.max_bytes {
        return Err(too_many);
    }
    // One byte more than declared saves the reallocation that finding the end would cost.
    let mut bytes = Vec::with_capacity(declared.min(16 << 20) as usize + 1);
    source
        .take(limits.max_bytes.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|source| DecodeError::Read { source })?;
    if bytes.len() as u64 > limits.max_bytes { Err(too_many) } else { Ok(bytes) }
}
