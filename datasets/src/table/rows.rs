//! What both readings of a table share: with a class an image, and with any number of labels.

use super::columns::{Columns, Images, LabelColumns};
use super::disk::Disk;
use super::find::Meaning;
use super::text::{Fault, Row};
use crate::error::DatasetError;
use crate::files::{FileKind, Found};
use crate::item::Item;
use crate::pixel_array::PixelArray;
use crate::split::Split;
use ocelli_common::text::{count, some_of};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Most tables among the files of a data set that are looked at, and the bytes of all of them.
const MAX_TABLES: usize = 16;
pub(crate) const MAX_TABLE_BYTES: u64 = 64 << 20;

/// How many missing files an error names.
pub(super) const SHOWN: usize = 5;

/// A table that was given itself.
pub(crate) struct Opened {
    pub(crate) classes: Vec<String>,
    pub(crate) items: Vec<Item>,
    pub(crate) images: Stored,
    pub(crate) notes: Vec<String>,
}

/// The images of a table, in the order of its items.
pub(crate) enum Stored {
    Files(Vec<PathBuf>),
    Pixels(PixelArray),
}

/// A row as it was understood, with its label or labels `T`.
pub(super) struct Labelled<'a, T = &'a str> {
    pub(super) line: u64,
    pub(super) name: &'a str,
    pub(super) label: T,
    pub(super) split: Option<Split>,
    pub(super) file: Option<usize>,
}

/// The columns of a table whose images are files on the disk.
pub(super) fn on_disk<L: LabelColumns>(
    rows: &[Row],
    disk: &mut Disk,
    choose: impl Fn(&dyn Fn(&str) -> Meaning) -> Result<Columns<L>, Fault>,
) -> Result<Columns<L>, Fault> {
    let direct = choose(&|name| disk.find(name));
    let found = |columns: &Columns<L>| match columns.images {
        Images::Named(path) => rows.iter().any(|row| disk.find(row.field(path)) != Meaning::Nothing),
        Images::Pixels(_) => true,
    };
    let names_are_paths = direct.as_ref().is_ok_and(found);
    disk.look_below();
    // Otherwise they are names alone, perhaps without extension, of images anywhere below.
    if names_are_paths { direct } else { choose(&|name| disk.find(name)) }
}

pub(super) fn bad(path: &Path, fault: Fault) -> DatasetError {
    DatasetError::BadCsv { path: path.to_owned(), line: fault.line, what: fault.what }
}

/// Files that may be tables of labels, those nearest to the root first.
pub(super) fn tables(found: &[Found]) -> Vec<usize> {
    let may_be = |file: &usize| {
        let path = found[*file].path.to_ascii_lowercase();
        let name = path.rsplit('/').next().unwrap_or_default();
        let is_table = [".csv", ".tsv", ".txt"].iter().any(|end| name.ends_with(end));
        // What a competition wants back has made-up labels.
        found[*file].kind == FileKind::Other && is_table && !name.contains("submission")
    };
    let mut tables: Vec<usize> = (0..found.len()).filter(may_be).collect();
    tables.sort_by_key(|&file| {
        (found[file].path.ends_with(".txt"), found[file].path.matches('/').count(), file)
    });
    tables.truncate(MAX_TABLES);
    tables
}

/// What to say about columns that are not used and rows without a split.
pub(super) fn notes_of<L, T>(columns: &Columns<L>, rows: &[Labelled<T>]) -> Vec<String> {
    let mut notes = Vec::new();
    if !columns.unused.is_empty() {
        let names: Vec<&str> = columns.unused.iter().map(String::as_str).collect();
        let noun = if names.len() == 1 { "column" } else { "columns" };
        notes.push(format!("{noun} not used: {}", some_of(&names)));
    }
    let without = rows.iter().filter(|row| row.split.is_none()).count();
    if columns.split.is_some() && without > 0 {
        notes.push(format!("{} without a split", count(without, "row")));
    }
    notes
}

/// The rows behind the header: name, labels, split and file of each; `label` gives the labels.
pub(super) fn labelled<'a, L: LabelColumns, T>(
    rows: &'a [Row],
    columns: &'a Columns<L>,
    find: &dyn Fn(&str) -> Meaning,
    label: impl Fn(&'a Row) -> Result<T, Fault>,
) -> Result<Vec<Labelled<'a, T>>, Fault> {
    let usual = columns.width().unwrap_or_else(|| {
        let mut lengths: BTreeMap<usize, usize> = BTreeMap::new();
        rows.iter().for_each(|row| *lengths.entry(row.len()).or_default() += 1);
        // Of two lengths that are as frequent the shorter one: the rest is too long.
        let usual = lengths.into_iter().rev().max_by_key(|(_, n)| *n).map_or(0, |(length, _)| length);
        usual.max(columns.needed())
    });
    let one = |row: &'a Row| {
        if row.fields().skip(usual).any(|field| !field.is_empty()) {
            let what = format!(
                "{} columns where {usual} are expected; put values that hold the separator in quotes",
                row.len()
            );
            return Err(Fault::at(row.line, what));
        }
        let Images::Named(path) = columns.images else {
            let (line, split) = (row.line, columns.split_of(row));
            return Ok(Labelled { line, name: "", label: label(row)?, split, file: None });
        };
        let name = row.field(path);
        if name.is_empty() {
            let what = format!(
                "the path is empty (column {}); each row needs a path and a label",
                columns.name(path)
            );
            return Err(Fault::at(row.line, what));
        }
        let label = label(row)?;
        let file = match find(name) {
            Meaning::File(file, _) => Some(file),
            Meaning::Nothing | Meaning::Labelled(_) => None,
            Meaning::Several => {
                return Err(Fault::at(row.line, several(name, &columns.name(path))));
            }
        };
        Ok(Labelled { line: row.line, name, label, split: columns.split_of(row), file })
    };
    rows[columns.header_rows..].iter().map(one).collect()
}

pub(super) fn several(name: &str, column: &str) -> String {
    format!("{name:?} in column {column} may mean several images; write the path with its folder")
}
