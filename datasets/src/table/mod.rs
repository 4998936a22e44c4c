//! Tables of labels: CSV and its relatives, `path,label` or `path,label,split`, with or without a header.
//!
//! [`text`] cuts the text into rows, [`columns`] finds which column is which, [`find`] tells which file a name means, this
//! file puts the rows together. A table is given itself, or it lies beside images without class folders. Its paths are
//! relative to its folder; a name alone, also without extension, means the only image of that name.

mod columns;
mod disk;
mod find;
mod lists;
mod pixels;
mod rows;
mod several;
mod text;

use crate::classes::{note_missing_classes, number_classes};
use crate::error::{DatasetError, io_error};
use crate::files::{FileKind, Found};
use crate::item::{Item, Labels};
use crate::labelling::LabelsPerImage;
use crate::names::{nfc, same_class};
use crate::pixel_array::PixelArray;
use crate::split::Split;
use columns::{Columns, Images, Label};
use disk::Disk;
use find::{Files, Meaning};
use ocelli_common::text::count;
use rows::SHOWN;
use rows::{Labelled, bad, labelled, notes_of, on_disk, several, tables};
pub(crate) use rows::{MAX_TABLE_BYTES, Opened, Stored};
use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use text::{Fault, Row};

pub(crate) use several::{FileLabelSets, label_files as label_files_by_sets};

/// Largest table in bytes: FER-2013 has 288 MB of pixels.
const MAX_BYTES: u64 = 512 << 20;

/// A table that images of a folder or archive have their labels from.
pub(crate) struct UsedTable {
    /// Its number in the list of files.
    pub(crate) file: usize,
    /// Its path and columns.
    pub(crate) about: String,
    pub(crate) labelled: usize,
    pub(crate) notes: Vec<String>,
}

/// Opens a table that was given itself.
pub(crate) fn open(path: &Path, per_image: LabelsPerImage) -> Result<Opened, DatasetError> {
    let fail = |fault: Fault| bad(path, fault);
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|e| io_error(path, e))?;
    if bytes.len() as u64 > MAX_BYTES {
        let what = format!("tables go up to {} MiB", MAX_BYTES >> 20);
        return Err(DatasetError::Limit { path: path.to_owned(), what });
    }
    let rows = text::rows(&bytes).map_err(fail)?;
    drop(bytes);
    if rows.is_empty() {
        return Err(fail(Fault::whole("no rows; each needs path,label or path,label,split")));
    }
    if per_image != LabelsPerImage::One
        && let Some(opened) = several::open(path, &rows, per_image)?
    {
        return Ok(opened);
    }
    let mut disk = Disk::new(path);
    let known = BTreeSet::new();
    let columns = on_disk(&rows, &mut disk, |find| columns::choose(&rows, find, &known)).map_err(fail)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if let Images::Pixels(place) = &columns.images {
        return pixel_images(&rows, &columns, place, &name).map_err(fail);
    }
    let labelled = labels(&rows, &columns, &|name| disk.find(name)).map_err(fail)?;
    let missing: Vec<&str> = labelled.iter().filter(|row| row.file.is_none()).map(|row| row.name).collect();
    if !missing.is_empty() {
        let first = missing.iter().take(SHOWN).map(|name| (*name).to_owned()).collect();
        return Err(DatasetError::MissingFiles { path: path.to_owned(), first, total: missing.len() });
    }
    named_images(&labelled, &columns, &disk).map_err(fail)
}

/// What tables say of images.
#[derive(Default)]
pub(crate) struct FileLabels {
    /// Class and split of files, by their number in the list.
    pub(crate) labels: HashMap<usize, (String, Option<Split>)>,
    pub(crate) used: Vec<UsedTable>,
    /// Why a table that looked like one was not used.
    pub(crate) complaint: Option<String>,
}

/// Labels the files `open` (by number in `found`) by the tables in `found`, or by the file `only` alone; where `known` is not
/// empty, labels must be among these classes.
///
/// # Errors
/// [`DatasetError::BadCsv`] for a table that names these images and is malformed, or contradicts another one.
pub(crate) fn label_files(
    root: &Path,
    found: &[Found],
    read: &dyn Fn(usize) -> Option<Vec<u8>>,
    open: &BTreeSet<usize>,
    (known, only): (&BTreeSet<String>, Option<usize>),
) -> Result<FileLabels, DatasetError> {
    let images: Vec<usize> = (0..found.len()).filter(|&file| found[file].kind == FileKind::Image).collect();
    let paths = |files: &[usize]| files.iter().map(|&file| found[file].path.clone()).collect::<Vec<_>>();
    let open_images: Vec<usize> = open.iter().copied().collect();
    let mut result = FileLabels::default();
    let mut parts: Vec<(usize, Split)> = Vec::new();
    let mut left = MAX_TABLE_BYTES;
    for table in only.map_or_else(|| tables(found), |table| vec![table]) {
        let path = found[table].path.as_str();
        let Some(bytes) = read(table).filter(|bytes| bytes.len() as u64 <= left) else { continue };
        left -= bytes.len() as u64;
        let Ok(rows) = text::rows(&bytes) else { continue };
        if rows.is_empty() {
            continue;
        }
        let (all, unlabelled) = (Files::new(paths(&images), path), Files::new(paths(&open_images), path));
        // An image that has its label is not meant where one without could be.
        let find = |name: &str| match (all.find(name), unlabelled.find(name)) {
            (Meaning::File(file, certainty), _) if open.contains(&images[file]) => {
                Meaning::File(images[file], certainty)
            }
            (Meaning::Several, Meaning::File(file, certainty)) => Meaning::File(open_images[file], certainty),
            (Meaning::Several, Meaning::Several) => Meaning::Several,
            (Meaning::File(_, certainty), _) => Meaning::Labelled(certainty),
            _ => Meaning::Nothing,
        };
        let complain = |fault: Fault| bad(&root.join(path), fault);
        let columns = match columns::choose(&rows, &find, known) {
            Ok(columns) => columns,
            Err(fault) => {
                // Of other texts nothing was expected.
                if only.is_some() {
                    return Err(bad(Path::new(path), fault));
                }
                if known.is_empty() && !path.to_ascii_lowercase().ends_with(".txt") {
                    result.complaint.get_or_insert(bad(Path::new(path), fault).to_string());
                }
                continue;
            }
        };
        let Images::Named(column) = columns.images else { continue };
        let body = &rows[columns.header_rows..];
        if !body.iter().any(|row| matches!(find(row.field(column)), Meaning::File(..))) {
            if let Some(row) = body.iter().find(|row| find(row.field(column)) == Meaning::Several) {
                let fault = Fault::at(row.line, several(row.field(column), &columns.name(column)));
                result.complaint.get_or_insert(bad(Path::new(path), fault).to_string());
            }
            continue;
        }
        let rows = match labels(&rows, &columns, &find) {
            Ok(rows) => rows,
            Err(fault) if known.is_empty() => return Err(complain(fault)),
            Err(_) => continue,
        };
        let labelled: Vec<&Labelled> = rows.iter().filter(|row| row.file.is_some()).collect();
        if !known.is_empty() && labelled.iter().any(|row| !known.contains(nfc(row.label).as_ref())) {
            continue;
        }
        let mut count_of = 0;
        for row in &labelled {
            let file = row.file.expect("rows without a file were left out");
            match result.labels.get(&file) {
                Some((label, _)) if !same_class(label, row.label) => {
                    let what = format!(
                        "{} has the label {:?} here and {label:?} in another row or table",
                        row.name, row.label
                    );
                    return Err(complain(Fault::at(row.line, what)));
                }
                Some(_) => {}
                None => {
                    count_of += 1;
                    result.labels.insert(file, (row.label.to_owned(), row.split));
                    parts.extend(
                        find::part_of(path).filter(|_| row.split.is_none()).map(|split| (file, split)),
                    );
                }
            }
        }
        // Another table has said all of it.
        if count_of == 0 {
            continue;
        }
        let mut notes = notes_of(&columns, &rows);
        let missing = rows.len() - labelled.len();
        if missing > 0 {
            let first = rows.iter().find(|row| row.file.is_none()).map_or("", |row| row.name);
            notes.push(format!(
                "{} of {path} name images that are not there (e.g. {first})",
                count(missing, "row")
            ));
        }
        let about = format!("{path} ({})", columns.about());
        result.used.push(UsedTable { file: table, about, labelled: count_of, notes });
    }
    // train.csv and test.csv are two parts; one of them alone is the name of a table.
    if parts.iter().any(|(_, split)| *split != parts[0].1) {
        for (file, split) in parts {
            result.labels.entry(file).and_modify(|label| label.1 = Some(split));
        }
    }
    Ok(result)
}

fn named_images(rows: &[Labelled], columns: &Columns, disk: &Disk) -> Result<Opened, Fault> {
    let (classes, ids) = number_classes(rows.iter().map(|row| row.label));
    let (mut items, mut files) = (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()));
    let paths = disk.paths();
    let mut notes = vec![format!("read as a table, {}; {} classes", columns.about(), classes.len())];
    notes.extend(notes_of(columns, rows));
    let (kept, doubles) = without_doubles(rows)?;
    for row in kept {
        let labels = Labels::One(ids[nfc(row.label).as_ref()]);
        items.push(Item { name: row.name.to_owned(), labels, split: row.split });
        files.push(paths[row.file.expect("rows without a file were refused")].clone());
    }
    if doubles > 0 {
        notes.push(format!("{} ignored: listed more than once", count(doubles, "row")));
    }
    note_missing_classes(&items, &classes, &mut notes);
    Ok(Opened { classes, items, images: Stored::Files(files), notes })
}

fn pixel_images(rows: &[Row], columns: &Columns, place: &pixels::Place, name: &str) -> Result<Opened, Fault> {
    let find = |_: &str| Meaning::Nothing;
    let labelled = labels(rows, columns, &find)?;
    let mut values = Vec::with_capacity(labelled.len() * place.side * place.side);
    for row in &rows[columns.header_rows..] {
        place.read(row, &mut values)?;
    }
    let length = place.side * place.side;
    if labelled.len() > 1 && values.chunks_exact(length).all(|image| image == &values[..length]) {
        let what =
            format!("column {}: all {} images are the same", columns.name(place.first), labelled.len());
        return Err(Fault::whole(what));
    }
    let (classes, ids) = number_classes(labelled.iter().map(|row| row.label));
    let item = |row: &Labelled| Item {
        name: format!("{name}#{}", row.line),
        labels: Labels::One(ids[nfc(row.label).as_ref()]),
        split: row.split,
    };
    let items: Vec<Item> = labelled.iter().map(item).collect();
    let side = place.side;
    let about = columns.about();
    let mut notes = vec![format!(
        "read as a table of gray images of {side}x{side} pixels, {about}; {} classes",
        classes.len()
    )];
    notes.extend(notes_of(columns, &labelled));
    note_missing_classes(&items, &classes, &mut notes);
    let images = PixelArray::new(side as u32, side as u32, 1, values);
    Ok(Opened { classes, items, images: Stored::Pixels(images), notes })
}

/// The rows behind the header: name, class, split and file of each.
fn labels<'a>(
    rows: &'a [Row],
    columns: &'a Columns,
    find: &dyn Fn(&str) -> Meaning,
) -> Result<Vec<Labelled<'a>>, Fault> {
    labelled(rows, columns, find, |row| {
        let label = match &columns.label {
            Label::Column(column) => row.field(*column),
            Label::OneHot(labels) => one_hot_label(row, labels, columns)?,
        };
        empty_label(row, label, columns)
    })
}

fn empty_label<'a>(row: &Row, label: &'a str, columns: &Columns) -> Result<&'a str, Fault> {
    if !label.is_empty() {
        return Ok(label);
    }
    let column = match &columns.label {
        Label::Column(column) => columns.name(*column),
        Label::OneHot(_) => unreachable!("classes of such columns are their names"),
    };
    Err(Fault::at(
        row.line,
        format!("the label is empty (column {column}); each row needs a path and a label"),
    ))
}

fn one_hot_label<'a>(row: &Row, labels: &[usize], columns: &'a Columns) -> Result<&'a str, Fault> {
    let mut ones = labels.iter().filter(|&&column| row.field(column).parse::<f32>() == Ok(1.0));
    match (ones.next(), ones.next()) {
        (Some(&column), None) => Ok(columns.class_name(column)),
        _ => {
            let what = format!("one of the {} columns of classes must be 1 and the others 0", labels.len());
            Err(Fault::at(row.line, what))
        }
    }
}

/// Every file once, and how many rows say again what another row says.
fn without_doubles<'r, 'a>(rows: &'r [Labelled<'a>]) -> Result<(Vec<&'r Labelled<'a>>, usize), Fault> {
    let mut seen: HashMap<usize, &Labelled> = HashMap::with_capacity(rows.len());
    let (mut kept, mut doubles) = (Vec::with_capacity(rows.len()), 0);
    for row in rows {
        let Some(file) = row.file else {
            kept.push(row);
            continue;
        };
        match seen.get(&file) {
            Some(before) if !same_class(before.label, row.label) || before.split != row.split => {
                let what = format!(
                    "{} is listed before with another label or split (line {})",
                    row.name, before.line
                );
                return Err(Fault::at(row.line, what));
            }
            Some(_) => doubles += 1,
            None => {
                seen.insert(file, row);
                kept.push(row);
            }
        }
    }
    Ok((kept, doubles))
}
