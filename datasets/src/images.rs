//! The image files of a folder, where no layout matters: what `predict` labels and `flood` sends.

use crate::DatasetError;
use crate::files::FileKind;
use crate::folder::{self, Depth};
use ocelli_common::text::{count, some_of};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What [`images_in`] found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FolderImages {
    /// Image files, and files that are named like ones, in the order of their names.
    pub images: Vec<PathBuf>,
    /// Image files of formats that are not decoded, with the name of the format.
    pub undecoded: Vec<(PathBuf, &'static str)>,
    /// How many files of which such format there are, with some names and what to do. One line each.
    pub warnings: Vec<String>,
    /// What else was left out, and why. One line each.
    pub notes: Vec<String>,
    /// Folders within the folder that were not searched.
    pub folders: usize,
}

/// Lists the images directly in a folder, or all below it. Files are told as in training: by the usual extensions, and
/// by content where a file has another name or none.
///
/// # Errors
/// [`DatasetError`] when a folder cannot be read or there are more files than a data set may have.
pub fn images_in(folder: &Path, recursive: bool) -> Result<FolderImages, DatasetError> {
    let depth = if recursive { Depth::All } else { Depth::One };
    let listing = folder::list(folder, depth)?;
    let mut found = FolderImages {
        images: Vec::new(),
        undecoded: Vec::new(),
        warnings: Vec::new(),
        notes: Vec::new(),
        folders: listing.folders,
    };
    let mut formats: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut others = Vec::new();
    for (file, path) in listing.found.iter().zip(listing.paths) {
        match file.kind {
            FileKind::Image => found.images.push(path),
            FileKind::Undecoded(format) => {
                formats.entry(format).or_default().push(&file.path);
                found.undecoded.push((path, format));
            }
            FileKind::Other => others.push(file.path.as_str()),
        }
    }
    for (format, names) in formats {
        let are = if names.len() == 1 { "is" } else { "are" };
        let files = count(names.len(), &format!("{format} file"));
        found
            .warnings
            .push(format!("{files} {are} not read: {}; convert to JPEG or PNG first", some_of(&names)));
    }
    if !others.is_empty() {
        found.notes.push(format!("{} ignored: {}", count(others.len(), "non-image file"), some_of(&others)));
    }
    found.notes.extend(listing.notes);
    Ok(found)
}
