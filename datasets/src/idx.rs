//! IDX files, the format of MNIST and its family, plain or gzipped.
//!
//! Big-endian: two zero bytes, element type (8 = unsigned byte), number of dimensions, one `u32` a dimension, values.
//! Images have dimensions (n, height, width) or (n, height, width, channels), labels (n).

use crate::classes::note_missing_classes;
use crate::error::{DatasetError, io_error};
use crate::item::{Item, Labels};
use crate::pixel_array::PixelArray;
use crate::split::Split;
use flate2::read::MultiGzDecoder;
use ocelli_common::text::count;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

/// Most bytes of pixels one file may hold: three times the largest member of the family (EMNIST by class).
const MAX_BYTES: u64 = 2 << 30;

/// Most images one file may hold.
const MAX_IMAGES: u64 = 10_000_000;

/// How much of a file of class names is read; labels are bytes, so 256 names are the most there can be.
const MAX_NAMES_BYTES: u64 = 1 << 20;

/// One images file with its labels, read.
pub(crate) struct Part {
    /// Short file name of the images, for item names.
    pub(crate) file: String,
    pub(crate) split: Option<Split>,
    pub(crate) images: PixelArray,
    pub(crate) labels: Vec<u8>,
}

/// A whole IDX data set.
pub(crate) struct IdxSet {
    pub(crate) classes: Vec<String>,
    pub(crate) items: Vec<Item>,
    pub(crate) notes: Vec<String>,
    /// In the order of the items.
    pub(crate) images: Vec<PixelArray>,
}

/// The images files among the names in a folder, with the split each name declares.
pub(crate) fn find(names: &[String]) -> Vec<(String, Option<Split>)> {
    let mut found: Vec<(String, Option<Split>)> = Vec::new();
    for name in names {
        let lower = name.to_ascii_lowercase();
        let stem = lower.strip_suffix(".gz").unwrap_or(&lower);
        if !stem.contains("images") || !(stem.contains("idx3") || stem.contains("idx4")) {
            continue;
        }
        // With a plain and a gzipped copy side by side the plain one is enough.
        if lower.ends_with(".gz") && names.iter().any(|n| n.to_ascii_lowercase() == stem) {
            continue;
        }
        let split = if stem.contains("train") {
            Some(Split::Train)
        } else if stem.contains("t10k") || stem.contains("test") {
            Some(Split::Test)
        } else if stem.contains("val") {
            Some(Split::Val)
        } else {
            None
        };
        found.push((name.clone(), split));
    }
    found
}

/// Opens the images files of a folder.
pub(crate) fn open_folder(folder: &Path, files: &[(String, Option<Split>)]) -> Result<IdxSet, DatasetError> {
    for (i, (name, split)) in files.iter().enumerate() {
        if let Some((other, _)) = files[..i].iter().find(|(_, s)| s == split) {
            let found = format!(
                "{other} and {name} are two IDX sets in one folder; keep one of them in a folder of its own"
            );
            return Err(DatasetError::UnknownLayout { path: folder.to_owned(), found });
        }
    }
    let mut parts = Vec::new();
    for (name, split) in files {
        parts.push(read_part(&folder.join(name), *split)?);
    }
    parts.sort_by_key(|part| part.split);
    assemble(folder, parts, class_names(folder)?)
}

/// Opens one images file with the labels file beside it; no split is declared.
pub(crate) fn open_file(path: &Path) -> Result<IdxSet, DatasetError> {
    let folder = path.parent().unwrap_or(Path::new(""));
    assemble(folder, vec![read_part(path, None)?], class_names(folder)?)
}

/// Joins parts, checks labels against the classes and numbers the items.
pub(crate) fn assemble(
    folder: &Path,
    parts: Vec<Part>,
    names: Option<Vec<String>>,
) -> Result<IdxSet, DatasetError> {
    let highest = |part: &Part| part.labels.iter().copied().max().map_or(0, |label| usize::from(label) + 1);
    // Without names the training labels (or the only ones) say how many classes there are.
    let declared = match &names {
        Some(names) => names.len(),
        None => parts.first().map_or(0, highest),
    };
    for part in &parts {
        if let Some(i) = part.labels.iter().position(|&label| usize::from(label) >= declared) {
            let what = format!(
                "label {} of image {i} is beyond the {declared} classes{}",
                part.labels[i],
                if names.is_some() { " of labels.txt" } else { " of the training labels" }
            );
            return Err(DatasetError::BadIdx { path: folder.join(&part.file), what });
        }
    }
    let classes = names.unwrap_or_else(|| (0..declared).map(|i| i.to_string()).collect());
    let mut set = IdxSet { classes, items: Vec::new(), notes: Vec::new(), images: Vec::new() };
    for part in parts {
        set.items.extend(part.labels.iter().enumerate().map(|(i, &label)| Item {
            name: format!("{}#{i}", part.file),
            labels: Labels::One(u32::from(label)),
            split: part.split,
        }));
        set.images.push(part.images);
    }
    if set.items.is_empty() {
        return Err(DatasetError::Empty {
            path: folder.to_owned(),
            found: "the IDX files hold none".to_owned(),
        });
    }
    note_missing_classes(&set.items, &set.classes, &mut set.notes);
    Ok(set)
}

/// Reads an images file from any reader; `bad` makes the error out of a description.
pub(crate) fn read_images(
    source: impl Read,
    bad: &dyn Fn(String) -> DatasetError,
) -> Result<PixelArray, DatasetError> {
    let (dims, pixels) = read_values(source, &[3, 4], bad)?;
    let channels = dims.get(3).copied().unwrap_or(1);
    if channels != 1 && channels != 3 {
        return Err(bad(format!("{channels} channels; 1 and 3 are understood")));
    }
    if dims[1] == 0 || dims[2] == 0 {
        return Err(bad(format!("images of {}x{} pixels", dims[2], dims[1])));
    }
    Ok(PixelArray::new(dims[2], dims[1], channels as u8, pixels))
}

/// Reads a labels file from any reader.
pub(crate) fn read_labels(
    source: impl Read,
    bad: &dyn Fn(String) -> DatasetError,
) -> Result<Vec<u8>, DatasetError> {
    Ok(read_values(source, &[1], bad)?.1)
}

fn read_part(path: &Path, split: Option<Split>) -> Result<Part, DatasetError> {
    let labels_path = labels_of(path).ok_or_else(|| DatasetError::BadIdx {
        path: path.to_owned(),
        what: "no labels file beside it (the same name with \"labels\" and \"idx1\")".to_owned(),
    })?;
    let images = read_images(open(path)?, &bad_idx(path))?;
    let labels = read_labels(open(&labels_path)?, &bad_idx(&labels_path))?;
    if labels.len() != images.len() {
        let what = format!("{} but {}", count(labels.len(), "label"), count(images.len(), "image"));
        return Err(DatasetError::BadIdx { path: labels_path, what });
    }
    let file = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(Part { file, split, images, labels })
}

/// The labels file that belongs to an images file, gzipped or not.
fn labels_of(images: &Path) -> Option<PathBuf> {
    let name = images.file_name()?.to_str()?;
    let stem = name.strip_suffix(".gz").unwrap_or(name);
    let stem = stem.replace("images", "labels").replace("idx3", "idx1").replace("idx4", "idx1");
    let candidates = [images.with_file_name(&stem), images.with_file_name(format!("{stem}.gz"))];
    candidates.into_iter().find(|path| path != images && path.is_file())
}

/// `labels.txt` of the folder: one class a line, in the order of the labels; a leading number (`0 cat`) is dropped.
fn class_names(folder: &Path) -> Result<Option<Vec<String>>, DatasetError> {
    let path = folder.join("labels.txt");
    let Some(text) = read_names(&path)? else { return Ok(None) };
    let lines: Vec<&str> = text.trim_start_matches('\u{feff}').lines().map(str::trim).collect();
    let end = lines.iter().rposition(|line| !line.is_empty()).map_or(0, |last| last + 1);
    let lines = &lines[..end];
    let unnumbered: Option<Vec<&str>> =
        lines.iter().enumerate().map(|(i, line)| line.strip_prefix(&format!("{i} "))).collect();
    let names: Vec<String> =
        unnumbered.as_deref().unwrap_or(lines).iter().map(|name| (*name).to_owned()).collect();
    for (i, name) in names.iter().enumerate() {
        if name.is_empty() || names[..i].contains(name) {
            let what = format!("class {i} of labels.txt is {name:?}: empty or named twice");
            return Err(DatasetError::BadIdx { path, what });
        }
    }
    Ok(Some(names))
}

/// A small text file of names, if it exists.
pub(crate) fn read_names(path: &Path) -> Result<Option<String>, DatasetError> {
    let mut text = String::new();
    match File::open(path).and_then(|file| file.take(MAX_NAMES_BYTES).read_to_string(&mut text)) {
        Ok(_) => Ok(Some(text)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(io_error(path, e)),
    }
}

fn bad_idx(path: &Path) -> impl Fn(String) -> DatasetError {
    |what| DatasetError::BadIdx { path: path.to_owned(), what }
}

/// The content of a file, unzipped where the gzip magic says so.
pub(crate) fn open(path: &Path) -> Result<Box<dyn Read>, DatasetError> {
    let fail = |e| io_error(path, e);
    let zipped = crate::folder::head(path, 2).map_err(fail)?.starts_with(&[0x1f, 0x8b]);
    let file = BufReader::new(File::open(path).map_err(fail)?);
    Ok(if zipped { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) })
}

/// Dimensions and values. Nothing is allocated on the header's word alone: the buffer grows with the bytes that come.
fn read_values(
    mut source: impl Read,
    allowed_dims: &[u8],
    bad: &dyn Fn(String) -> DatasetError,
) -> Result<(Vec<u32>, Vec<u8>), DatasetError> {
    let short = |_| bad("the file is damaged or ends inside its header".to_owned());
    let mut magic = [0; 4];
    source.read_exact(&mut magic).map_err(short)?;
    let [0, 0, kind, n_dims] = magic else {
        return Err(bad("it does not begin with the IDX magic number".to_owned()));
    };
    if kind != 8 {
        return Err(bad(format!("element type 0x{kind:02x}; only unsigned bytes (0x08) are read")));
    }
    if !allowed_dims.contains(&n_dims) {
        let what = if allowed_dims == [1] { "labels have 1" } else { "images have 3 (or 4 with channels)" };
        return Err(bad(format!("{n_dims} dimensions, but {what}")));
    }
    let mut dims = Vec::new();
    for _ in 0..n_dims {
        let mut dim = [0; 4];
        source.read_exact(&mut dim).map_err(short)?;
        dims.push(u32::from_be_bytes(dim));
    }
    let bytes = dims.iter().try_fold(1u64, |product, &dim| product.checked_mul(u64::from(dim)));
    let bytes = bytes.filter(|&b| b <= MAX_BYTES && u64::from(dims[0]) <= MAX_IMAGES).ok_or_else(|| {
        bad(format!("dimensions {dims:?} are beyond the limits ({MAX_IMAGES} images, 2 GiB)"))
    })?;
    let mut values = Vec::with_capacity(bytes.min(64 << 20) as usize + 1);
    source
        .take(bytes + 1)
        .read_to_end(&mut values)
        .map_err(|_| bad("the file is damaged or cut off".to_owned()))?;
    if values.len() as u64 != bytes {
        let relation = if (values.len() as u64) < bytes { "fewer" } else { "more" };
        return Err(bad(format!("dimensions {dims:?} ask for {bytes} bytes, but there are {relation}")));
    }
    Ok((dims, values))
}
