//! From a list of file names to classes and splits: one decision for folders, ZIP archives and uploads.
//!
//! | What there is | How it is read |
//! |---|---|
//! | `CLASS/**/image` | the first folder is the class, deeper folders (`CLASS/images/`) do not matter |
//! | `SPLIT/CLASS/**/image` | splits by every name of [`crate::split_words`]; what lies beside them is left out |
//! | `SPLIT/SPLIT/CLASS/image`, `SPLIT/images/CLASS/image` | folders that repeat a name or say nothing are stepped over |
//! | `CLASS/SPLIT/image` | the same the other way round, where every class folder holds split folders only |
//! | `wrapper/...` | folders that hold nothing but one of these layouts are stepped over |
//! | `train/image`, `test/image` and a table | labels from the table: [`crate::table`] |
//! | `train/image`, `test/image` alone | refused: no image has a label |
//! | `train/CLASS/image`, `test/image` | unlabelled parts are left out, or labelled by a table with the same classes |
//! | `bus/image`, `car/image`, `train/image` | three classes: images lie in `train/` beside other classes |
//! | `train/CLASS/image`, `other/image` | `other` is left out where its name says so (`pred`), else refused as unclear |
//!
//! Hidden and system files are no data; files that are no images are counted in a note. The first note says how the
//! data was read and what was left out.

mod reading;
mod sorted;
mod tree;

use crate::classes::{note_missing_classes, note_similar_classes, number_classes};
use crate::error::DatasetError;
use crate::files::{FileKind, Found};
use crate::item::{Item, Labels};
use crate::labelling::LabelsPerImage;
use crate::names::nfc;
use crate::table::{self, FileLabelSets};
use ocelli_common::text::{count, some_of};
pub(crate) use sorted::Kind;
use sorted::{Sorted, path_order, sort};
use std::collections::BTreeMap;
use std::path::Path;
use tree::Folder;

/// Classes and splits of a list of files.
pub(crate) struct Arranged {
    pub(crate) kind: Kind,
    pub(crate) classes: Vec<String>,
    pub(crate) items: Vec<Item>,
    /// For each item its index in the list of files.
    pub(crate) files: Vec<usize>,
    /// The reading first, then what is left out and what is missing.
    pub(crate) notes: Vec<String>,
}

/// Where the labels of a list of files may come from.
#[derive(Clone, Copy, Default)]
pub(crate) struct Labelled {
    /// How many an image has.
    pub(crate) per_image: LabelsPerImage,
    /// The table of the list that says them, whatever else is there.
    pub(crate) table: Option<usize>,
}

/// Finds the layout of `found`, which stems from `root`; `read` gives the bytes of a file of the list, for tables of
/// labels.
pub(crate) fn arrange(
    root: &Path,
    found: &[Found],
    read: &dyn Fn(usize) -> Option<Vec<u8>>,
    labelled: Labelled,
) -> Result<Arranged, DatasetError> {
    let images = || (0..found.len()).filter(|&file| found[file].kind == FileKind::Image);
    if images().next().is_none() {
        let found = ignored(found, &[]).first().cloned().unwrap_or_else(|| "it is empty".to_owned());
        return Err(DatasetError::Empty { path: root.to_owned(), found });
    }
    let tree = Folder::of(found, images());
    let reading = reading::read(&tree);
    let mut sorted = sort(found, &tree, &reading)
        .map_err(|why| DatasetError::UnknownLayout { path: root.to_owned(), found: why })?;
    let by_table = labelled.table.is_some() || sorted.wants_table();
    if by_table && labelled.per_image != LabelsPerImage::One {
        let how = (labelled.table, labelled.per_image);
        if let Some(sets) = table::label_files_by_sets(root, found, read, how)? {
            return Ok(of_sets(found, sets, &sorted));
        }
    }
    let mut used = Vec::new();
    let mut unused = None;
    if by_table {
        used = sorted.label_by_tables(root, found, read, labelled.table)?;
    } else if sorted.kind == Kind::ClassFolders {
        unused = sorted.other_labels(root, found, read);
    }
    if sorted.placed.is_empty() {
        let (path, text) = (root.to_owned(), sorted.left_out(found));
        return Err(match sorted.complaint {
            Some(complaint) => DatasetError::UnknownLayout {
                path,
                found: format!("{text}, no class folder, and a table that cannot be used: {complaint}"),
            },
            None => DatasetError::Unlabelled { path, found: text },
        });
    }
    sorted.placed.sort_by(|a, b| path_order(&found[a.file].path, &found[b.file].path));

    let (classes, ids) = number_classes(sorted.placed.iter().map(|image| image.class.as_ref()));
    let mut notes = vec![sorted.describe(found, &reading, classes.len(), &used)];
    let numbers: Vec<usize> = used.iter().map(|table| table.file).collect();
    notes.extend(ignored(found, &numbers));
    notes.extend(used.into_iter().flat_map(|table| table.notes));
    let mut arranged = Arranged {
        kind: sorted.kind,
        classes,
        items: Vec::with_capacity(sorted.placed.len()),
        files: Vec::with_capacity(sorted.placed.len()),
        notes,
    };
    for image in &sorted.placed {
        let class = ids[nfc(&image.class).as_ref()];
        let (name, labels) = (found[image.file].path.clone(), Labels::One(class));
        arranged.items.push(Item { name, labels, split: image.split });
        arranged.files.push(image.file);
    }
    arranged.notes.extend(unused);
    note_missing_classes(&arranged.items, &arranged.classes, &mut arranged.notes);
    note_similar_classes(&arranged.classes, &mut arranged.notes);
    Ok(arranged)
}

/// Images with any number of labels, as tables say; splits that these leave open are those of folders.
fn of_sets(found: &[Found], sets: FileLabelSets, sorted: &Sorted) -> Arranged {
    let splits = sorted.splits();
    let FileLabelSets { classes, files, used, mut notes } = sets;
    notes.splice(1..1, ignored(found, &used));
    let mut files: Vec<_> = files.into_iter().collect();
    files.sort_by(|a, b| path_order(&found[a.0].path, &found[b.0].path));
    let mut arranged = Arranged { kind: Kind::Tables, classes, items: Vec::new(), files: Vec::new(), notes };
    for (file, (labels, split)) in files {
        let split = split.or_else(|| splits.get(&file).copied());
        arranged.items.push(Item { name: found[file].path.clone(), labels, split });
        arranged.files.push(file);
    }
    note_missing_classes(&arranged.items, &arranged.classes, &mut arranged.notes);
    note_similar_classes(&arranged.classes, &mut arranged.notes);
    arranged
}

/// What is said of files that are no images and no tables of labels.
fn ignored(found: &[Found], used: &[usize]) -> Vec<String> {
    let mut notes = Vec::new();
    let mut formats: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut others = Vec::new();
    let is_used = |number: usize| used.contains(&number);
    for (_, file) in found.iter().enumerate().filter(|(number, _)| !is_used(*number)) {
        match file.kind {
            FileKind::Image => {}
            FileKind::Undecoded(format) => formats.entry(format).or_default().push(&file.path),
            FileKind::Other => others.push(file.path.as_str()),
        }
    }
    for (format, files) in formats {
        let files_of = count(files.len(), &format!("{format} file"));
        notes.push(format!("left out: {files_of}, convert to JPEG first: {}", some_of(&files)));
    }
    if !others.is_empty() {
        notes.push(format!("left out: {}: {}", count(others.len(), "other file"), some_of(&others)));
    }
    notes
}
