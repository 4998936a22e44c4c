//! `images.csv`: which images a data set has. What is not in it does not count; what is in it is there.
//!
//! Training reads the same file as a table of labels, which takes the first three columns and passes over the others.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use ocelli_datasets::names::nfc;
use ocelli_datasets::{ContentHash, Split};
use ocelli_engine::model_file::{MAX_CLASS_NAME_BYTES, MAX_CLASSES};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::csv;
use crate::run_folder::{hex, write_atomic};
use crate::store::StoreError;

/// Most images one data set may have.
pub const MAX_IMAGES: usize = 1_000_000;
/// Largest list in bytes, which is also the largest that training reads.
const MAX_LIST: u64 = 256 << 20;
/// Longest original name that is kept, in characters.
const MAX_ORIGINAL: usize = 120;

const COLUMNS: [&str; 7] = ["path", "label", "split", "name", "added", "source", "bytes"];
const EXTENSIONS: [&str; 6] = ["jpg", "png", "webp", "gif", "tif", "bmp"];

/// How an image came into a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Sent by a user as training data.
    Upload,
    /// A prediction that a user corrected.
    Feedback,
}

impl Origin {
    fn as_str(self) -> &'static str {
        match self {
            Origin::Upload => "upload",
            Origin::Feedback => "feedback",
        }
    }
}

/// SHA-256 of an image file.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(super) struct Id(ContentHash);

impl Id {
    pub(super) fn of(image: &[u8]) -> Id {
        Id(Sha256::digest(image).into())
    }

    /// From 64 lower-case hexadecimal digits.
    pub(super) fn parse(text: &str) -> Option<Id> {
        let digits = text.as_bytes();
        if digits.len() != 64 || !digits.iter().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(b)) {
            return None;
        }
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Id(hash))
    }
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

/// An image of a data set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) id: Id,
    /// By content, without a dot.
    pub(super) extension: &'static str,
    pub(super) class: Arc<str>,
    pub(super) split: Option<Split>,
    /// What it was called where it came from.
    pub(super) name: String,
    /// Seconds since 1970.
    pub(super) added: u64,
    pub(super) origin: Origin,
    /// Size of the file.
    pub(super) bytes: u64,
}

impl Row {
    /// Where its file lies, relative to the list.
    pub(super) fn path(&self) -> String {
        file_path(&self.id, self.extension)
    }
}

/// `images/ab/abcd...png`.
pub(super) fn file_path(id: &Id, extension: &str) -> String {
    let id = id.to_string();
    format!("images/{}/{id}.{extension}", &id[..2])
}

/// The id in a file's name, if we gave it.
pub(super) fn id_of_file(name: &str) -> Option<Id> {
    let (id, extension) = name.split_once('.')?;
    EXTENSIONS.contains(&extension).then(|| Id::parse(id))?
}

/// All images of a data set in the order in which they came. Class names that are the same after NFC are one class, which
/// is called as the first image had it.
#[derive(Clone, Default)]
pub(super) struct List {
    rows: Vec<Row>,
    index: HashMap<Id, usize>,
    /// Classes by their name after NFC.
    classes: HashMap<String, Arc<str>>,
}

impl List {
    pub(super) fn rows(&self) -> &[Row] {
        &self.rows
    }

    pub(super) fn get(&self, id: &Id) -> Option<&Row> {
        self.index.get(id).map(|&at| &self.rows[at])
    }

    /// A class by a name of it, as the list calls it; the name as it is where the list has no such class.
    pub(super) fn class(&self, name: &str) -> Arc<str> {
        self.classes.get(&*nfc(name)).cloned().unwrap_or_else(|| name.into())
    }

    /// Adds an image that is not there yet.
    pub(super) fn push(&mut self, mut row: Row) {
        let composed = nfc(&row.class);
        match self.classes.get(&*composed) {
            Some(class) => row.class = class.clone(),
            None => drop(self.classes.insert(composed.into_owned(), row.class.clone())),
        }
        let before = self.index.insert(row.id, self.rows.len());
        debug_assert!(before.is_none());
        self.rows.push(row);
    }

    /// The list without one image.
    pub(super) fn without(&self, id: &Id) -> List {
        let mut list = List::default();
        self.rows.iter().filter(|row| row.id != *id).for_each(|row| list.push(row.clone()));
        list
    }

    /// Images of each class.
    pub(super) fn counts(&self) -> BTreeMap<Arc<str>, usize> {
        let mut counts = BTreeMap::new();
        for row in &self.rows {
            *counts.entry(row.class.clone()).or_default() += 1;
        }
        counts
    }

    /// Bytes of all images.
    pub(super) fn bytes(&self) -> u64 {
        self.rows.iter().map(|row| row.bytes).sum()
    }

    /// Reads a list, `None` where there is none.
    pub(super) fn read(path: &Path) -> Result<Option<List>, StoreError> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::io(path)(error)),
        };
        let mut text = String::new();
        let damaged = |reason: String| StoreError::Damaged { path: path.to_owned(), reason };
        match file.take(MAX_LIST + 1).read_to_string(&mut text) {
            Ok(n) if n as u64 > MAX_LIST => return Err(damaged("it is too long".to_owned())),
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                return Err(damaged("it is no UTF-8 text".to_owned()));
            }
            result => result.map_err(StoreError::io(path))?,
        };
        List::parse(&text).map(Some).map_err(damaged)
    }

    fn parse(text: &str) -> Result<List, String> {
        let mut reader = ::csv::ReaderBuilder::new().from_reader(text.as_bytes());
        let header = reader.headers().map_err(|_| "its header is damaged".to_owned())?;
        if header.iter().ne(COLUMNS) {
            return Err(format!("its columns are not {}", COLUMNS.join(",")));
        }
        let mut list = List::default();
        let mut classes: HashMap<String, Arc<str>> = HashMap::new();
        for (number, record) in reader.records().enumerate() {
            let row = record.ok().and_then(|record| {
                let class = classes.entry(record[1].to_owned()).or_insert_with(|| record[1].into());
                row_of(&record, class.clone())
            });
            match row.filter(|row| !list.index.contains_key(&row.id)) {
                Some(row) if list.rows.len() < MAX_IMAGES => list.push(row),
                _ => return Err(format!("its row {} is not one of ours", number + 1)),
            }
        }
        Ok(list)
    }

    /// Replaces the file as a whole.
    pub(super) fn write(&self, path: &Path) -> Result<(), StoreError> {
        let mut text = COLUMNS.join(",") + "\n";
        for row in &self.rows {
            text.push_str(&row.path());
            text.push(',');
            csv::field(&mut text, &row.class);
            text.push(',');
            if let Some(split) = row.split {
                let _ = write!(text, "{split}");
            }
            text.push(',');
            csv::field(&mut text, &row.name);
            let _ = writeln!(text, ",{},{},{}", row.added, row.origin.as_str(), row.bytes);
        }
        if text.len() as u64 > MAX_LIST {
            let reason =
                format!("the list of the data set would pass {} MiB; begin another one", MAX_LIST >> 20);
            return Err(StoreError::TooLarge { reason });
        }
        Ok(write_atomic(path, text.as_bytes())?)
    }

    /// Whether the list is within its limits.
    pub(super) fn check_size(&self) -> Result<(), StoreError> {
        check_counts(self.rows.len(), self.counts().len())
    }
}

fn check_counts(images: usize, classes: usize) -> Result<(), StoreError> {
    for (what, n, most) in [("images", images, MAX_IMAGES), ("classes", classes, MAX_CLASSES)] {
        if n > most {
            let reason = format!("the data set would have {n} {what}; at most {most} are possible");
            return Err(StoreError::TooLarge { reason });
        }
    }
    Ok(())
}

fn row_of(record: &::csv::StringRecord, class: Arc<str>) -> Option<Row> {
    let path = &record[0];
    let id = id_of_file(path.rsplit('/').next()?)?;
    let extension = EXTENSIONS.into_iter().find(|e| path.ends_with(&format!(".{e}")))?;
    check_class(&class).ok()?;
    let split = match &record[2] {
        "" => None,
        word => Some(word.parse().ok()?),
    };
    let origin = match &record[5] {
        "upload" => Origin::Upload,
        "feedback" => Origin::Feedback,
        _ => return None,
    };
    let (added, bytes) = (record[4].parse().ok()?, record[6].parse().ok()?);
    let row = Row { id, extension, class, split, name: record[3].to_owned(), added, origin, bytes };
    (row.path() == path).then_some(row)
}

/// Class names are any text that a model file takes, on one line and without spaces around it.
pub(super) fn check_class(class: &str) -> Result<(), String> {
    let shown: String = class.chars().take(40).flat_map(char::escape_debug).collect();
    if class.is_empty() || class.len() > MAX_CLASS_NAME_BYTES {
        return Err(format!(
            "the class name {shown:?} has {} bytes; 1 to {MAX_CLASS_NAME_BYTES} are possible",
            class.len()
        ));
    }
    if class.chars().any(char::is_control) || class.trim() != class {
        return Err(format!("the class name {shown:?} has control characters, or spaces around it"));
    }
    Ok(())
}

/// An original name as it is kept: one line, not too long.
pub(super) fn original(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_ORIGINAL).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_reads_back_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("images.csv");
        assert!(List::read(&path).unwrap().is_none());
        let mut list = List::default();
        let texts =
            ["x", "a,b", "\"", "'", "=1+1", "a \"b\", c", "\u{fffd}", "a\u{2028}b", "#", ";;;;", "path"];
        let splits = [None, Some(Split::Train), Some(Split::Val), Some(Split::Test)];
        for i in 0..200u64 {
            let text = texts[i as usize % texts.len()];
            list.push(Row {
                id: Id::of(&i.to_le_bytes()),
                extension: EXTENSIONS[i as usize % EXTENSIONS.len()],
                class: text.into(),
                split: splits[i as usize % splits.len()],
                name: format!(" {text} {i}"),
                added: i << 32,
                origin: if i % 2 == 0 { Origin::Upload } else { Origin::Feedback },
                bytes: u64::MAX - i,
            });
        }
        list.write(&path).unwrap();
        let read = List::read(&path).unwrap().unwrap();
        assert_eq!(read.rows, list.rows);
        let id = list.rows[7].id;
        let without = list.without(&id);
        assert!(without.get(&id).is_none() && without.rows.len() == 199);
    }

    #[test]
    fn spellings_of_a_class_are_one_class_called_as_it_came_first() {
        let (composed, decomposed) = ("\u{e9}\u{e9}n", "e\u{301}e\u{301}n");
        let row = |i: u64, class: &str| Row {
            id: Id::of(&i.to_le_bytes()),
            extension: "png",
            class: class.into(),
            split: None,
            name: String::new(),
            added: 0,
            origin: Origin::Upload,
            bytes: 1,
        };
        for (first, second) in [(composed, decomposed), (decomposed, composed)] {
            let mut list = List::default();
            assert_eq!(&*list.class(second), second);
            for (i, class) in (0..).zip([first, "twee", second, first]) {
                list.push(row(i, class));
            }
            assert_eq!((&*list.class(second), list.counts().len()), (first, 2));
            assert_eq!(list.counts()[first], 3);
        }
        // A list that has both spellings is read as one class.
        let mut text = COLUMNS.join(",") + "\n";
        for (i, class) in (0..).zip([decomposed, composed]) {
            text += &format!("{},{class},,,0,upload,1\n", row(i, class).path());
        }
        let list = List::parse(&text).unwrap();
        assert_eq!(list.counts().into_iter().collect::<Vec<_>>(), [(decomposed.into(), 2)]);
    }

    #[test]
    fn limits_hold_to_the_number() {
        assert!(check_counts(MAX_IMAGES, MAX_CLASSES).is_ok());
        let text = |images, classes| check_counts(images, classes).unwrap_err().to_string();
        assert!(text(MAX_IMAGES + 1, 1).contains("1000001 images; at most 1000000"));
        assert!(text(1, MAX_CLASSES + 1).contains("65537 classes; at most 65536"));
        assert!(check_class(&"x".repeat(MAX_CLASS_NAME_BYTES)).is_ok());
        for bad in ["", " x", "x\t", "a\nb", &"x".repeat(MAX_CLASS_NAME_BYTES + 1)] {
            assert!(check_class(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn ids_are_64_lower_case_digits() {
        let id = Id::of(b"x");
        assert_eq!(Id::parse(&id.to_string()), Some(id));
        for bad in ["", "../x", &"0".repeat(63), &"0".repeat(65), &"A".repeat(64), &"\u{e4}".repeat(32)] {
            assert!(Id::parse(bad).is_none(), "{bad}");
        }
    }
}
