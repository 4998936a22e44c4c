//! Images with any number of labels, by a table.
//!
//! | Form | Rows |
//! |---|---|
//! | a column of lists | `1.jpg,cat\|dog`, between bars, semicolons, commas in quotes or spaces: [`lists::separator`] |
//! | a column for each label | `1.jpg,1,0,1` under a header with their names: [`lists::flag`] |
//! | several rows | `1.jpg,cat` and `1.jpg,dog`: [`lists::listed_often`] |
//!
//! An image with an empty list has none of the labels; one without a row is left out.

use super::columns::{self, Columns, Several};
use super::disk::Disk;
use super::find::{Files, Meaning, part_of};
use super::lists;
use super::rows::{
    Labelled, MAX_TABLE_BYTES, Opened, SHOWN, Stored, bad, labelled, notes_of, on_disk, tables,
};
use super::text::{self, Fault, Row};
use crate::classes::{note_missing_classes, number_classes};
use crate::error::DatasetError;
use crate::files::{FileKind, Found};
use crate::item::{Item, Labels};
use crate::labelling::LabelsPerImage;
use crate::names::nfc;
use crate::split::Split;
use ocelli_common::text::{count, some_of};
use std::collections::BTreeMap;
use std::path::Path;

/// What tables say of the images of a folder or archive.
pub(crate) struct FileLabelSets {
    pub(crate) classes: Vec<String>,
    /// Labels and split of files, by their number in the list.
    pub(crate) files: BTreeMap<usize, (Labels, Option<Split>)>,
    /// Numbers of the tables in the list of files.
    pub(crate) used: Vec<usize>,
    /// The reading first.
    pub(crate) notes: Vec<String>,
}

/// The labels that rows give to files.
#[derive(Default)]
struct Sets {
    files: BTreeMap<usize, Entry>,
    /// Labels in the order of the tables.
    names: Vec<String>,
    notes: Vec<String>,
}

/// A file with its labels and split.
type Numbered = (usize, Labels, Option<Split>);

struct Entry {
    labels: Vec<String>,
    split: Option<Split>,
    line: u64,
    /// As the table writes it.
    name: String,
}

/// Opens a table that was given itself; `None` where its images have one label each and may not have more.
///
/// # Errors
/// [`DatasetError::BadCsv`], and [`DatasetError::MissingFiles`] where more than half of its images are not there.
pub(super) fn open(
    path: &Path,
    rows: &[Row],
    per_image: LabelsPerImage,
) -> Result<Option<Opened>, DatasetError> {
    let always = per_image == LabelsPerImage::Any;
    let mut disk = Disk::new(path);
    let columns = on_disk(rows, &mut disk, |find| columns::choose_several(rows, find, always));
    let Ok(columns) = columns else { return Ok(None) };
    let mut sets = Sets::default();
    sets.add(path, rows, &columns, &|name| disk.find(name))?;
    let paths = disk.paths();
    let (classes, labelled) = sets.numbered();
    let mut opened = Opened {
        classes,
        items: Vec::with_capacity(labelled.len()),
        images: Stored::Files(labelled.iter().map(|(file, ..)| paths[*file].clone()).collect()),
        notes: vec![format!("read as a table, {}; {}", columns.about(), sets.about())],
    };
    opened.notes.append(&mut sets.notes);
    for (file, labels, split) in labelled {
        opened.items.push(Item { name: sets.files[&file].name.clone(), labels, split });
    }
    if let Some(unlisted) = disk.unlisted() {
        opened.notes.push(format!("left out: {unlisted} without a row"));
    }
    note_missing_classes(&opened.items, &opened.classes, &mut opened.notes);
    Ok(Some(opened))
}

/// Labels the images in `found` by the tables among them, or by the file `only`; `None` where no table gives images any number
/// of labels.
///
/// # Errors
/// As [`open`].
pub(crate) fn label_files(
    root: &Path,
    found: &[Found],
    read: &dyn Fn(usize) -> Option<Vec<u8>>,
    (only, per_image): (Option<usize>, LabelsPerImage),
) -> Result<Option<FileLabelSets>, DatasetError> {
    let images: Vec<usize> = (0..found.len()).filter(|&file| found[file].kind == FileKind::Image).collect();
    let paths: Vec<String> = images.iter().map(|&file| found[file].path.clone()).collect();
    let candidates = only.map_or_else(|| tables(found), |table| vec![table]);
    let (mut sets, mut used, mut abouts) = (Sets::default(), Vec::new(), Vec::new());
    let mut left = MAX_TABLE_BYTES;
    let mut parts: Vec<(usize, Split)> = Vec::new();
    for table in candidates {
        let path = found[table].path.as_str();
        let Some(bytes) = read(table).filter(|bytes| bytes.len() as u64 <= left) else { continue };
        left -= bytes.len() as u64;
        let Ok(rows) = text::rows(&bytes) else { continue };
        if rows.is_empty() {
            continue;
        }
        let files = Files::new(paths.clone(), path);
        let find = |name: &str| match files.find(name) {
            Meaning::File(file, certainty) => Meaning::File(images[file], certainty),
            other => other,
        };
        // Beside one whose images have several labels, the others have what they have in the same form.
        let always = per_image == LabelsPerImage::Any || !used.is_empty();
        let Ok(columns) = columns::choose_several(&rows, &find, always) else { continue };
        let before = sets.files.len();
        let whole = root.join(path);
        let (files, has_split) = (sets.add(&whole, &rows, &columns, &find)?, columns.split.is_some());
        if sets.files.len() == before {
            continue;
        }
        parts.extend(
            part_of(path)
                .filter(|_| !has_split)
                .into_iter()
                .flat_map(|split| files.iter().map(move |&file| (file, split))),
        );
        abouts.push(format!("{path} ({})", columns.about()));
        used.push(table);
    }
    if used.is_empty() {
        return Ok(None);
    }
    // train.csv and test.csv are two parts; one of them alone is the name of a table.
    if parts.iter().any(|(_, split)| *split != parts[0].1) {
        for (file, split) in parts {
            sets.files.entry(file).and_modify(|entry| entry.split = Some(split));
        }
    }
    let (classes, labelled) = sets.numbered();
    let mut notes = vec![format!(
        "read as images; labels of {} from {}; {}",
        count(labelled.len(), "image"),
        abouts.join(" and "),
        sets.about()
    )];
    notes.append(&mut sets.notes);
    let unlisted: Vec<&str> = images
        .iter()
        .filter(|file| !sets.files.contains_key(file))
        .map(|&file| found[file].path.as_str())
        .collect();
    if !unlisted.is_empty() {
        let names = some_of(&unlisted);
        notes.push(format!("left out: {} without a row: {names}", count(unlisted.len(), "image")));
    }
    let files = labelled.into_iter().map(|(file, labels, split)| (file, (labels, split))).collect();
    Ok(Some(FileLabelSets { classes, files, used, notes }))
}

impl Sets {
    /// Takes the rows of a table in; gives the files that they name.
    fn add(
        &mut self,
        path: &Path,
        rows: &[Row],
        columns: &Columns<Several>,
        find: &dyn Fn(&str) -> Meaning,
    ) -> Result<Vec<usize>, DatasetError> {
        let fail = |fault: Fault| bad(path, fault);
        let of_row =
            |row: &Row| Ok(labels_of(row, columns).into_iter().map(str::to_owned).collect::<Vec<_>>());
        let rows = labelled(rows, columns, find, of_row).map_err(fail)?;
        let missing: Vec<&Labelled<_>> = rows.iter().filter(|row| row.file.is_none()).collect();
        // A table of another folder, and not one of a few files that are gone.
        if 2 * missing.len() > rows.len() {
            let first = missing.iter().take(SHOWN).map(|row| row.name.to_owned()).collect();
            return Err(DatasetError::MissingFiles { path: path.to_owned(), first, total: missing.len() });
        }
        self.notes.extend(notes_of(columns, &rows));
        if !missing.is_empty() {
            let names: Vec<&str> = missing.iter().map(|row| row.name).collect();
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            let what = count(names.len(), "row");
            self.notes.push(format!("{what} of {file} name images that are not there: {}", some_of(&names)));
        }
        if let Several::Flags(places) = &columns.label {
            self.names.extend(places.iter().map(|&column| columns.class_name(column).to_owned()));
        }
        let mut files = Vec::with_capacity(rows.len());
        for Labelled { line, name, label: labels, split, file } in rows {
            let Some(file) = file else { continue };
            self.names.extend(labels.iter().cloned());
            files.push(file);
            let entry = self.files.entry(file).or_insert_with(|| Entry {
                labels: Vec::new(),
                split,
                line,
                name: name.to_owned(),
            });
            if entry.split != split {
                let what = format!("{name} is listed before with another split (line {})", entry.line);
                return Err(fail(Fault::at(line, what)));
            }
            entry.labels.extend(labels);
        }
        Ok(files)
    }

    /// The labels in natural order, and every file with the numbers of its own.
    fn numbered(&self) -> (Vec<String>, Vec<Numbered>) {
        let (classes, ids) = number_classes(self.names.iter().map(String::as_str));
        let of =
            |entry: &Entry| Labels::any(entry.labels.iter().map(|label| ids[nfc(label).as_ref()]).collect());
        let files = self.files.iter().map(|(&file, entry)| (file, of(entry), entry.split)).collect();
        (classes, files)
    }

    /// `17 labels, 2.9 an image, 12 images without any`.
    fn about(&self) -> String {
        let (classes, files) = self.numbered();
        let given: usize = files.iter().map(|(_, labels, _)| labels.as_slice().len()).sum();
        let mean = given as f64 / files.len().max(1) as f64;
        let mut text = format!("{}, {mean:.1} an image", count(classes.len(), "label"));
        let none = files.iter().filter(|(_, labels, _)| labels.as_slice().is_empty()).count();
        if none > 0 {
            text += &format!(", {} without any", count(none, "image"));
        }
        text
    }
}

/// The labels of a row.
fn labels_of<'a>(row: &'a Row, columns: &'a Columns<Several>) -> Vec<&'a str> {
    match &columns.label {
        Several::Lists { column, separator } => lists::split(row.field(*column), *separator).collect(),
        Several::Flags(places) => {
            let yes = places.iter().filter(|&&column| lists::flag(row.field(column)) == Some(true));
            yes.map(|&column| columns.class_name(column)).collect()
        }
    }
}
