//! From a list of file names to classes and splits. Folders and ZIP archives share these rules:
//!
//! * `CLASS/**/image`: the first folder is the class, deeper folders do not matter;
//! * `SPLIT/CLASS/**/image`: where the top folders are named train, val, valid, validation or test and hold folders;
//! * folders that wrap all of it are stepped over;
//! * hidden and system files are no data, files that are no images are counted in a note.

use crate::decode::{Sniffed, sniff};
use crate::{DatasetError, Item, Split};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Most files and folders one data set may have.
pub(crate) const MAX_ENTRIES: usize = 1_000_000;

/// Deepest chain of wrapping folders that is stepped over.
const MAX_WRAPPERS: usize = 8;

/// A file as the reader found it.
pub(crate) struct Found {
    /// Relative to the root, `/` between the parts.
    pub(crate) path: String,
    pub(crate) kind: FileKind,
}

/// What a file is for us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FileKind {
    /// An image, or named like one; decoding will tell.
    Image,
    /// An image format that is recognised but not decoded.
    Undecoded(&'static str),
    /// Anything else.
    Other,
}

impl FileKind {
    /// Trusts the usual extensions and looks at the first bytes of everything else.
    pub(crate) fn of(name: &str, head: impl FnOnce() -> Vec<u8>) -> Self {
        const EXTENSIONS: [&str; 12] =
            ["jpg", "jpeg", "jpe", "jfif", "png", "webp", "bmp", "dib", "gif", "tif", "tiff", "apng"];
        let extension = name.rsplit_once('.').map(|(_, e)| e.to_ascii_lowercase());
        if extension.is_some_and(|e| EXTENSIONS.contains(&e.as_str())) {
            return Self::Image;
        }
        match sniff(&head()) {
            Sniffed::Image(_) => Self::Image,
            Sniffed::Undecoded(format) => Self::Undecoded(format),
            Sniffed::Other(_) => Self::Other,
        }
    }
}

/// True for files and folders that systems and tools leave behind.
pub(crate) fn is_junk(name: &str) -> bool {
    const JUNK: [&str; 9] = [
        // The picture of a folder in the Finder.
        "icon\r",
        "__macosx",
        "thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
        "@eadir",
        "$recycle.bin",
        "system volume information",
        "lost+found",
    ];
    name.starts_with('.') || JUNK.contains(&name.to_lowercase().as_str())
}

/// Classes and splits of a list of files.
pub(crate) struct Arranged {
    pub(crate) splits_declared: bool,
    pub(crate) classes: Vec<String>,
    pub(crate) items: Vec<Item>,
    /// For each item its index in the list of files.
    pub(crate) files: Vec<usize>,
    pub(crate) notes: Vec<String>,
}

/// An image's path, cut into parts.
struct Entry<'a> {
    file: usize,
    parts: Vec<&'a str>,
}

/// Finds the layout of `found`, which stems from `root`.
pub(crate) fn arrange(root: &Path, found: &[Found]) -> Result<Arranged, DatasetError> {
    let mut notes = Vec::new();
    note_ignored(found, &mut notes);
    let mut entries: Vec<Entry> = found
        .iter()
        .enumerate()
        .filter(|(_, f)| f.kind == FileKind::Image)
        .map(|(file, f)| Entry { file, parts: f.path.split('/').collect() })
        .collect();
    entries.sort_by(|a, b| a.parts.cmp(&b.parts));
    if entries.is_empty() {
        let found = notes.first().cloned().unwrap_or_else(|| "it is empty".to_owned());
        return Err(DatasetError::Empty { path: root.to_owned(), found });
    }

    let mut level = 0;
    let mut splits = split_folders(&entries, level);
    while splits.is_empty() && level < MAX_WRAPPERS && is_wrapper(&entries, level) {
        level += 1;
        splits = split_folders(&entries, level);
    }
    if level > 0 {
        notes.push(format!("everything lies in {}/", entries[0].parts[..level].join("/")));
    }

    let class_level = level + usize::from(!splits.is_empty());
    let mut loose = Vec::new();
    let mut placed = Vec::new();
    for entry in entries {
        let split = splits.get(entry.parts[level]).copied();
        if entry.parts.len() < class_level + 2 || (split.is_none() && !splits.is_empty()) {
            loose.push(entry);
        } else {
            placed.push((entry.parts[class_level].to_owned(), split, entry));
        }
    }
    if let Some(first) = loose.first() {
        let name = &found[first.file].path;
        notes.push(format!("{} ignored: in no class folder (e.g. {name})", count(loose.len(), "image")));
    }
    if placed.is_empty() {
        let found = format!("{} outside any class folder", count(loose.len(), "image"));
        return Err(DatasetError::Empty { path: root.to_owned(), found });
    }

    let (classes, ids) = number_classes(placed.iter().map(|(class, ..)| class.as_str()));
    let mut arranged = Arranged {
        splits_declared: !splits.is_empty(),
        classes,
        items: Vec::with_capacity(placed.len()),
        files: Vec::with_capacity(placed.len()),
        notes,
    };
    for (class, split, entry) in &placed {
        arranged.items.push(Item { name: found[entry.file].path.clone(), class: ids[class], split: *split });
        arranged.files.push(entry.file);
    }
    note_missing_classes(&arranged.items, &arranged.classes, &mut arranged.notes);
    Ok(arranged)
}

/// Class names in natural order, and the id of each.
pub(crate) fn number_classes<'a>(
    names: impl Iterator<Item = &'a str>,
) -> (Vec<String>, BTreeMap<String, u32>) {
    let unique: BTreeSet<&str> = names.collect();
    let mut classes: Vec<String> = unique.into_iter().map(str::to_owned).collect();
    classes.sort_by(|a, b| natural_order(a, b));
    let ids = classes.iter().cloned().zip(0..).collect();
    (classes, ids)
}

/// Names the classes that a declared split has no image of.
pub(crate) fn note_missing_classes(items: &[Item], classes: &[String], notes: &mut Vec<String>) {
    for split in [Split::Train, Split::Val, Split::Test] {
        let present: BTreeSet<u32> =
            items.iter().filter(|i| i.split == Some(split)).map(|i| i.class).collect();
        if present.is_empty() {
            continue;
        }
        let missing: Vec<&str> = classes
            .iter()
            .zip(0..)
            .filter(|(_, id)| !present.contains(id))
            .map(|(c, _)| c.as_str())
            .collect();
        if !missing.is_empty() {
            notes.push(format!("{split} has no images of {}", some_of(&missing)));
        }
    }
}

/// Compares runs of digits as numbers, so that `class2` comes before `class10`; the rest byte by byte.
pub(crate) fn natural_order(a: &str, b: &str) -> Ordering {
    let (mut x, mut y) = (a.as_bytes(), b.as_bytes());
    while let (Some(&p), Some(&q)) = (x.first(), y.first()) {
        if p.is_ascii_digit() && q.is_ascii_digit() {
            let (m, n) = (take_number(&mut x), take_number(&mut y));
            match m.len().cmp(&n.len()).then(m.cmp(n)) {
                Ordering::Equal => {}
                different => return different,
            }
        } else if p != q {
            return p.cmp(&q);
        } else {
            (x, y) = (&x[1..], &y[1..]);
        }
    }
    x.len().cmp(&y.len()).then_with(|| a.cmp(b))
}

/// Cuts the leading digits off, without leading zeros.
fn take_number<'a>(text: &mut &'a [u8]) -> &'a [u8] {
    let end = text.iter().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    *text = rest;
    &number[number.iter().position(|&b| b != b'0').unwrap_or(end)..]
}

/// The folders at `level` that are splits, if that is the layout: they hold class folders, and either there is
/// nothing else or there are two of them and one is for training. (A class may well be called "train".)
fn split_folders<'a>(entries: &[Entry<'a>], level: usize) -> BTreeMap<&'a str, Split> {
    let inside = || entries.iter().filter(|e| e.parts.len() >= level + 2);
    let named: BTreeMap<&str, Split> =
        inside().filter_map(|e| Some((e.parts[level], e.parts[level].parse().ok()?))).collect();
    let with_classes: BTreeSet<Split> = inside()
        .filter(|e| e.parts.len() >= level + 3)
        .filter_map(|e| named.get(e.parts[level]).copied())
        .collect();
    let nothing_else = inside().all(|e| named.contains_key(e.parts[level]));
    let divided = with_classes.len() >= 2 && with_classes.contains(&Split::Train);
    if !with_classes.is_empty() && (nothing_else || divided) { named } else { BTreeMap::new() }
}

/// True when all images lie in one folder at `level` and that folder holds folders rather than images.
fn is_wrapper(entries: &[Entry], level: usize) -> bool {
    let first = entries[0].parts[level];
    entries.iter().all(|e| e.parts.len() >= level + 2 && e.parts[level] == first)
        && entries.iter().any(|e| e.parts.len() >= level + 3)
        && {
            let folders: BTreeSet<&str> =
                entries.iter().filter(|e| e.parts.len() >= level + 3).map(|e| e.parts[level + 1]).collect();
            folders.len() >= 2 || entries.iter().all(|e| e.parts.len() >= level + 3)
        }
}

fn note_ignored(found: &[Found], notes: &mut Vec<String>) {
    let mut formats: BTreeMap<&str, usize> = BTreeMap::new();
    let mut others = Vec::new();
    for file in found {
        match file.kind {
            FileKind::Image => {}
            FileKind::Undecoded(format) => *formats.entry(format).or_default() += 1,
            FileKind::Other => others.push(file.path.as_str()),
        }
    }
    for (format, n) in formats {
        notes.push(format!("{} ignored: convert to JPEG first", count(n, &format!("{format} file"))));
    }
    if !others.is_empty() {
        notes.push(format!("{} ignored: {}", count(others.len(), "non-image file"), some_of(&others)));
    }
}

/// `1 image`, `2 images`.
pub(crate) fn count(n: usize, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

/// The first few names and how many more there are.
pub(crate) fn some_of(names: &[&str]) -> String {
    let shown = names.iter().take(5).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(5) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests;
