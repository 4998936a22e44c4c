//! CIFAR-10 and CIFAR-100 in their binary version.
//!
//! A record is one label byte (CIFAR-100: coarse and fine) and 3,072 bytes of pixels, the red, green and blue planes
//! of 32x32 each. Pixels stay on disk and are read record by record.

use crate::classes::note_missing_classes;
use crate::error::io_error;
use crate::idx::read_names;
use crate::item::Labels;
use crate::shared_file::SharedFile;
use crate::{DatasetError, DecodeError, Image, Item, Pixels, Split};
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

/// Width and height of every image.
pub(crate) const SIDE: u32 = 32;
const PLANE: usize = (SIDE * SIDE) as usize;
const PIXELS: usize = 3 * PLANE;

/// Most bytes of one file: 60 times the published ones.
const MAX_BYTES: u64 = 2 << 30;

const CIFAR10: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// Which of the two, with the files that are there.
pub(crate) struct Found {
    /// Bytes before the pixels; the last of them is the label.
    label_bytes: usize,
    files: Vec<(String, Split)>,
}

/// A whole CIFAR data set.
pub(crate) struct CifarSet {
    pub(crate) classes: Vec<String>,
    pub(crate) items: Vec<Item>,
    pub(crate) notes: Vec<String>,
    pub(crate) records: Records,
}

/// Where the pixels of each item lie.
pub(crate) struct Records {
    /// Files and how many images each holds, in the order of the items.
    files: Vec<(SharedFile, usize)>,
    label_bytes: usize,
}

/// Looks for CIFAR files among the names in a folder.
pub(crate) fn find(folder: &Path, names: &[String]) -> Result<Option<Found>, DatasetError> {
    let has = |name: &str| names.iter().any(|n| n == name);
    let ten = |name: &str| {
        if name == "test_batch.bin" {
            Some(Split::Test)
        } else {
            (name.starts_with("data_batch_") && name.ends_with(".bin")).then_some(Split::Train)
        }
    };
    let hundred = |name: &str| match name {
        "train.bin" => Some(Split::Train),
        "test.bin" => Some(Split::Test),
        _ => None,
    };
    let pick = |of: &dyn Fn(&str) -> Option<Split>| -> Vec<(String, Split)> {
        names.iter().filter_map(|n| Some((n.clone(), of(n)?))).collect()
    };
    let (files_10, files_100) = (pick(&ten), pick(&hundred));
    if !files_10.is_empty() {
        return Ok(Some(Found { label_bytes: 1, files: files_10 }));
    }
    if !files_100.is_empty() {
        return Ok(Some(Found { label_bytes: 2, files: files_100 }));
    }
    if has("batches.meta") || has("data_batch_1") || (has("meta") && has("train") && has("test")) {
        return Err(DatasetError::BadCifar {
            path: folder.to_owned(),
            what: "this is the Python (pickle) version; get the binary version, whose files end in .bin"
                .to_owned(),
        });
    }
    Ok(None)
}

/// Reads the labels of all files.
pub(crate) fn open(folder: &Path, found: Found) -> Result<CifarSet, DatasetError> {
    let Found { label_bytes, mut files } = found;
    files.sort_by(|a, b| a.1.cmp(&b.1).then_with(|| a.0.cmp(&b.0)));
    let classes = class_names(folder, label_bytes)?;
    let mut set = CifarSet {
        classes,
        items: Vec::new(),
        notes: Vec::new(),
        records: Records { files: Vec::new(), label_bytes },
    };
    for (name, split) in files {
        let path = folder.join(&name);
        let bad = |what: String| DatasetError::BadCifar { path: path.clone(), what };
        let file = SharedFile::open(&path).map_err(|e| io_error(&path, e))?;
        let labels = read_labels(file.clone(), label_bytes).map_err(|e| io_error(&path, e))?;
        let labels = labels.ok_or_else(|| {
            bad(format!(
                "its size is no multiple of {} bytes (one label and one 32x32 RGB image), or above 2 GiB",
                label_bytes + PIXELS
            ))
        })?;
        if let Some(i) = labels.iter().position(|&label| usize::from(label) >= set.classes.len()) {
            return Err(bad(format!(
                "label {} of image {i} is beyond the {} classes",
                labels[i],
                set.classes.len()
            )));
        }
        set.records.files.push((file, labels.len()));
        set.items.extend(labels.iter().enumerate().map(|(i, &label)| Item {
            name: format!("{name}#{i}"),
            labels: Labels::One(u32::from(label)),
            split: Some(split),
        }));
    }
    if set.items.is_empty() {
        let found = "the CIFAR files hold none".to_owned();
        return Err(DatasetError::Empty { path: folder.to_owned(), found });
    }
    note_missing_classes(&set.items, &set.classes, &mut set.notes);
    Ok(set)
}

impl Records {
    /// Reads one image and interleaves its planes.
    pub(crate) fn image(&self, mut index: usize) -> Result<Image, DecodeError> {
        let mut files = self.files.iter();
        let file = files.find(|(_, n)| {
            let inside = index < *n;
            index -= if inside { 0 } else { *n };
            inside
        });
        let (file, _) = file.expect("the caller checked the index");
        let record = (self.label_bytes + PIXELS) as u64;
        let mut planes = [0; PIXELS];
        let mut file = file.clone();
        file.seek(SeekFrom::Start(index as u64 * record + self.label_bytes as u64))
            .and_then(|_| file.read_exact(&mut planes))
            .map_err(|source| DecodeError::Read { source })?;
        let pixels = (0..PIXELS).map(|i| planes[i % 3 * PLANE + i / 3]).collect();
        Ok(Image { width: SIDE, height: SIDE, channels: 3, pixels: Pixels::U8(pixels) })
    }
}

/// One label a record (the fine one of CIFAR-100), or `None` when the size does not fit.
fn read_labels(mut file: SharedFile, label_bytes: usize) -> std::io::Result<Option<Vec<u8>>> {
    let record = label_bytes + PIXELS;
    let length = file.seek(SeekFrom::End(0))?;
    if length % record as u64 != 0 || length > MAX_BYTES {
        return Ok(None);
    }
    file.seek(SeekFrom::Start(0))?;
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let mut bytes = vec![0; record];
    let mut labels = Vec::with_capacity((length / record as u64) as usize);
    for _ in 0..length / record as u64 {
        reader.read_exact(&mut bytes)?;
        labels.push(bytes[label_bytes - 1]);
    }
    Ok(Some(labels))
}

/// The names file of the archive where it is there and complete.
fn class_names(folder: &Path, label_bytes: usize) -> Result<Vec<String>, DatasetError> {
    let (file, known): (_, Vec<String>) = if label_bytes == 1 {
        ("batches.meta.txt", CIFAR10.map(str::to_owned).to_vec())
    } else {
        ("fine_label_names.txt", (0..100).map(|i| i.to_string()).collect())
    };
    let text = read_names(&folder.join(file))?.unwrap_or_default();
    let names: Vec<String> =
        text.lines().map(str::trim).filter(|l| !l.is_empty()).map(str::to_owned).collect();
    Ok(if names.len() == known.len() { names } else { known })
}
