//! CSV and TSV manifests: `path,label` or `path,label,split`, with or without a header.
//!
//! Paths are relative to the manifest. A header is recognised by its names (path, file, filename, image, ...; label,
//! class, ...; split, ...), in any column order, or by naming a file that does not exist when all others do.

use crate::folder::io_error;
use crate::layout::{count, note_missing_classes, number_classes};
use crate::{DatasetError, Item, Split};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Largest manifest in bytes and rows.
const MAX_BYTES: u64 = 256 << 20;
const MAX_ROWS: usize = 1_000_000;

/// How many missing files an error names.
const SHOWN: usize = 5;

const PATH_NAMES: [&str; 11] = [
    "path",
    "file",
    "filename",
    "file_name",
    "filepath",
    "file_path",
    "image",
    "image_path",
    "image_name",
    "img",
    "img_path",
];
const LABEL_NAMES: [&str; 7] = ["label", "class", "class_name", "classname", "category", "target", "labels"];
const SPLIT_NAMES: [&str; 5] = ["split", "set", "subset", "partition", "part"];

/// A whole manifest.
pub(crate) struct Manifest {
    pub(crate) classes: Vec<String>,
    pub(crate) items: Vec<Item>,
    pub(crate) paths: Vec<PathBuf>,
    pub(crate) notes: Vec<String>,
}

/// Which column holds what.
#[derive(Clone, Copy)]
struct Columns {
    path: usize,
    label: usize,
    split: Option<usize>,
}

struct Row {
    line: u64,
    path: String,
    label: String,
    split: Option<Split>,
    file: Option<PathBuf>,
}

/// Reads and checks a manifest.
pub(crate) fn open(path: &Path) -> Result<Manifest, DatasetError> {
    let bad = |line: Option<u64>, what: String| DatasetError::BadCsv { path: path.to_owned(), line, what };
    let text = read_text(path, &bad)?;
    let delimiter = delimiter_of(&text);
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(delimiter)
        .from_reader(text.as_bytes());

    let folder = path.parent().unwrap_or(Path::new(""));
    let mut columns = None;
    let mut rows: Vec<Row> = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|e| {
            bad(e.position().map(csv::Position::line), "the row is malformed (unbalanced quotes?)".to_owned())
        })?;
        let fields: Vec<&str> = record.iter().map(str::trim).collect();
        let line = record.position().map_or(0, csv::Position::line);
        if fields.iter().all(|field| field.is_empty()) {
            continue;
        }
        let columns = match columns {
            Some(columns) => columns,
            None => {
                if let Some(header) = header_of(&fields) {
                    columns = Some(header);
                    continue;
                }
                *columns.insert(Columns { path: 0, label: 1, split: (fields.len() > 2).then_some(2) })
            }
        };
        match parse_row(&fields, columns, line, folder) {
            Ok(row) => rows.push(row),
            // The first row may be a header with names we do not know.
            Err(what) if !rows.is_empty() || resolves(folder, fields[0]) => {
                return Err(bad(Some(line), what));
            }
            Err(_) => {}
        }
        if rows.len() > MAX_ROWS {
            let what = format!("more than {MAX_ROWS} rows");
            return Err(DatasetError::Limit { path: path.to_owned(), what });
        }
    }
    let missing = |rows: &[Row]| rows.iter().filter(|row| row.file.is_none()).count();
    if rows.len() > 1 && rows[0].file.is_none() && missing(&rows) == 1 {
        rows.remove(0);
    }
    if rows.is_empty() {
        return Err(bad(None, "no rows; each needs path,label or path,label,split".to_owned()));
    }
    if missing(&rows) > 0 {
        let names = rows.iter().filter(|row| row.file.is_none()).map(|row| row.path.clone());
        let first = names.take(SHOWN).collect();
        return Err(DatasetError::MissingFiles { path: path.to_owned(), first, total: missing(&rows) });
    }
    build(rows, &bad)
}

fn build(
    rows: Vec<Row>,
    bad: &dyn Fn(Option<u64>, String) -> DatasetError,
) -> Result<Manifest, DatasetError> {
    let (classes, ids) = number_classes(rows.iter().map(|row| row.label.as_str()));
    let mut manifest = Manifest { classes, items: Vec::new(), paths: Vec::new(), notes: Vec::new() };
    let mut seen: BTreeMap<PathBuf, (u32, Option<Split>)> = BTreeMap::new();
    let mut doubles = 0;
    for row in rows {
        let class = ids[&row.label];
        let file = row.file.expect("rows without a file were refused");
        match seen.get(&file) {
            Some(&(label, split)) if label != class || split != row.split => {
                let what = format!("{} is listed before with another label or split", row.path);
                return Err(bad(Some(row.line), what));
            }
            Some(_) => {
                doubles += 1;
                continue;
            }
            None => seen.insert(file.clone(), (class, row.split)),
        };
        manifest.items.push(Item { name: row.path, class, split: row.split });
        manifest.paths.push(file);
    }
    if doubles > 0 {
        manifest.notes.push(format!("{} ignored: listed more than once", count(doubles, "row")));
    }
    let declared: BTreeSet<Option<Split>> = manifest.items.iter().map(|item| item.split).collect();
    if declared.len() > 1 && declared.contains(&None) {
        let n = manifest.items.iter().filter(|item| item.split.is_none()).count();
        manifest.notes.push(format!("{} without a split", count(n, "row")));
    }
    note_missing_classes(&manifest.items, &manifest.classes, &mut manifest.notes);
    Ok(manifest)
}

fn parse_row(fields: &[&str], columns: Columns, line: u64, folder: &Path) -> Result<Row, String> {
    let field = |at: usize| fields.get(at).copied().unwrap_or("");
    let (path, label) = (field(columns.path), field(columns.label));
    if path.is_empty() || label.is_empty() {
        return Err(format!(
            "{} is empty; each row needs a path and a label",
            if path.is_empty() { "the path" } else { "the label" }
        ));
    }
    let split = match columns.split.map(field) {
        None | Some("") => None,
        Some(word) => Some(word.parse::<Split>().map_err(|e| e.to_string())?),
    };
    let file = resolve(folder, path);
    Ok(Row { line, path: path.to_owned(), label: label.to_owned(), split, file })
}

/// The file a path means, if it is there; backslashes of Windows manifests are tried as well.
fn resolve(folder: &Path, path: &str) -> Option<PathBuf> {
    let candidates = [folder.join(path), folder.join(path.replace('\\', "/"))];
    candidates.into_iter().find(|candidate| candidate.is_file())
}

fn resolves(folder: &Path, path: &str) -> bool {
    resolve(folder, path).is_some()
}

fn header_of(fields: &[&str]) -> Option<Columns> {
    let find = |names: &[&str]| fields.iter().position(|f| names.contains(&f.to_ascii_lowercase().as_str()));
    Some(Columns { path: find(&PATH_NAMES)?, label: find(&LABEL_NAMES)?, split: find(&SPLIT_NAMES) })
}

/// The separator that the first line has most of; a comma when in doubt.
fn delimiter_of(text: &str) -> u8 {
    let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or("");
    let of = |separator: u8| line.bytes().filter(|&b| b == separator).count();
    [b';', b'\t', b','].into_iter().max_by_key(|&separator| of(separator)).unwrap_or(b',')
}

fn read_text(path: &Path, bad: &dyn Fn(Option<u64>, String) -> DatasetError) -> Result<String, DatasetError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|e| io_error(path, e))?;
    if bytes.len() as u64 > MAX_BYTES {
        let what = format!("manifests go up to {} MiB", MAX_BYTES >> 20);
        return Err(DatasetError::Limit { path: path.to_owned(), what });
    }
    let text =
        String::from_utf8(bytes).map_err(|_| bad(None, "not UTF-8 text; save it as CSV UTF-8".to_owned()))?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators_are_guessed_from_the_first_line() {
        assert_eq!(delimiter_of("a.png,cat\n"), b',');
        assert_eq!(delimiter_of("\n a.png\tcat\n"), b'\t');
        assert_eq!(delimiter_of("path;label;split\n"), b';');
        assert_eq!(delimiter_of("alone"), b',');
    }

    #[test]
    fn headers_are_recognised_in_any_order() {
        let columns = header_of(&["Split", "LABEL", "id", "FileName"]).unwrap();
        assert_eq!((columns.path, columns.label, columns.split), (3, 1, Some(0)));
        assert!(header_of(&["cats/1.png", "cat"]).is_none());
    }
}
