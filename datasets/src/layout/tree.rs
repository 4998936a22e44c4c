//! The folders that hold images, as a tree.

use crate::files::Found;
use std::collections::BTreeMap;

/// A folder with images somewhere below it.
#[derive(Default)]
pub(super) struct Folder<'a> {
    /// Its name; empty for the root.
    pub(super) name: &'a str,
    /// Where it lies below the root, with a `/` behind; empty for the root.
    pub(super) path: &'a str,
    /// Images directly in it, by their number in the list of files.
    pub(super) images: Vec<usize>,
    pub(super) folders: BTreeMap<&'a str, Folder<'a>>,
}

impl<'a> Folder<'a> {
    /// The tree of some files of a list.
    pub(super) fn of(found: &'a [Found], files: impl Iterator<Item = usize>) -> Folder<'a> {
        let mut root = Folder::default();
        for file in files {
            let path = found[file].path.as_str();
            let (mut folder, mut start) = (&mut root, 0);
            while let Some(length) = path[start..].find('/') {
                let name = &path[start..start + length];
                start += length + 1;
                folder = folder.folders.entry(name).or_insert_with(|| Folder {
                    name,
                    path: &path[..start],
                    ..Folder::default()
                });
            }
            folder.images.push(file);
        }
        root
    }

    /// All images at any depth.
    pub(super) fn all(&self) -> Vec<usize> {
        let (mut images, mut open) = (Vec::new(), vec![self]);
        while let Some(folder) = open.pop() {
            images.extend_from_slice(&folder.images);
            open.extend(folder.folders.values());
        }
        images
    }

    /// The only folder in it.
    pub(super) fn only(&self) -> Option<&Folder<'a>> {
        if self.folders.len() == 1 { self.folders.values().next() } else { None }
    }

    pub(super) fn is_flat(&self) -> bool {
        self.folders.is_empty()
    }
}
