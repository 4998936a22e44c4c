//! From a list of file names to classes and splits: one decision for folders, ZIP archives and uploads.
//!
//! | What there is | How it is read |
//! |---|---|
//! | `CLASS/**/image` | the first folder is the class, deeper folders (`CLASS/images/`) do not matter |
//! | `SPLIT/CLASS/**/image` | splits by every name of [`words`]; what lies beside them is left out |
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
mod tree;
pub(crate) mod words;

use crate::decode::{Sniffed, sniff};
use crate::names::nfc;
use crate::table::{self, FileLabels, UsedTable};
use crate::{DatasetError, Item, Split};
use reading::{Part, Reading};
use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;
use tree::Folder;

/// Most files and folders one data set may have.
pub(crate) const MAX_ENTRIES: usize = 1_000_000;

/// Usual extensions of images.
pub(crate) const IMAGE_EXTENSIONS: [&str; 12] =
    ["jpg", "jpeg", "jpe", "jfif", "png", "webp", "bmp", "dib", "gif", "tif", "tiff", "apng"];

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
        let extension = name.rsplit_once('.').map(|(_, e)| e.to_ascii_lowercase());
        if extension.is_some_and(|e| IMAGE_EXTENSIONS.contains(&e.as_str())) {
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
    const JUNK: [&str; 10] = [
        "__macosx",
        // The picture of a folder in the Finder.
        "icon\r",
        "__pycache__",
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
    pub(crate) kind: Kind,
    pub(crate) classes: Vec<String>,
    pub(crate) items: Vec<Item>,
    /// For each item its index in the list of files.
    pub(crate) files: Vec<usize>,
    /// The reading first, then what is left out and what is missing.
    pub(crate) notes: Vec<String>,
}

/// Where the labels stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// In the names of folders.
    ClassFolders,
    /// The same, within split folders.
    SplitFolders,
    /// In tables beside the images.
    Tables,
}

/// An image that has its class.
struct Placed<'a> {
    file: usize,
    class: Cow<'a, str>,
    split: Option<Split>,
}

/// An image without a class so far.
struct Unlabelled {
    file: usize,
    /// The split folder that it lies in.
    split: Option<Split>,
    /// Whether a table beside class folders may label it: it lies where labelled images are expected.
    expected: bool,
}

/// Finds the layout of `found`, which stems from `root`; `read` gives the bytes of a file of the list, for tables of
/// labels.
pub(crate) fn arrange(
    root: &Path,
    found: &[Found],
    read: &dyn Fn(usize) -> Option<Vec<u8>>,
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
    let mut used = Vec::new();
    let mut unused = None;
    if sorted.wants_table() {
        used = sorted.label_by_tables(root, found, read)?;
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
    notes.extend(ignored(found, &used));
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
        arranged.items.push(Item { name: found[image.file].path.clone(), class, split: image.split });
        arranged.files.push(image.file);
    }
    arranged.notes.extend(unused);
    note_missing_classes(&arranged.items, &arranged.classes, &mut arranged.notes);
    note_similar_classes(&arranged.classes, &mut arranged.notes);
    Ok(arranged)
}

/// Images with and without a class.
struct Sorted<'a> {
    kind: Kind,
    placed: Vec<Placed<'a>>,
    unlabelled: Vec<Unlabelled>,
    /// Why a table that is there does not help.
    complaint: Option<String>,
}

/// Gives every image the class and split of its folders, as far as these have them.
fn sort<'a>(found: &'a [Found], tree: &Folder<'a>, reading: &Reading<'_, 'a>) -> Result<Sorted<'a>, String> {
    let mut sorted =
        Sorted { kind: Kind::ClassFolders, placed: Vec::new(), unlabelled: Vec::new(), complaint: None };
    match reading {
        Reading::Unclear(why) => return Err(why.clone()),
        Reading::Classes(folder) => {
            for class in reading::classes(folder) {
                sorted.place(class, class.name, None);
            }
        }
        Reading::SplitsInClasses(folder) => {
            sorted.kind = Kind::SplitFolders;
            for class in folder.folders.values() {
                for part in class.folders.values() {
                    sorted.place(part, class.name, words::exact_split(part.name));
                }
            }
        }
        Reading::Splits(parts) => {
            sorted.kind = Kind::SplitFolders;
            let training: BTreeSet<Cow<str>> = parts
                .iter()
                .filter(|part| part.split == Split::Train)
                .flat_map(|part| reading::classes(part.folder))
                .map(|class| nfc(class.name))
                .collect();
            for part in parts {
                let classes = reading::classes(part.folder);
                for class in &classes {
                    let foreign = !training.is_empty() && !training.contains(&nfc(class.name));
                    // What is called images, or lies alone in one folder because a program asks for one.
                    if foreign
                        && (words::is_generic(class.name) || (classes.len() == 1 && training.len() > 1))
                    {
                        continue;
                    }
                    sorted.place(class, class.name, Some(part.split));
                }
            }
            let placed: HashSet<usize> = sorted.placed.iter().map(|image| image.file).collect();
            for part in parts {
                let rest = part.folder.all().into_iter().filter(|file| !placed.contains(file));
                let split = Some(part.split);
                sorted.unlabelled.extend(rest.map(|file| Unlabelled { file, split, expected: true }));
            }
        }
    }
    let known: HashSet<usize> =
        sorted.placed.iter().map(|i| i.file).chain(sorted.unlabelled.iter().map(|i| i.file)).collect();
    let divided = matches!(reading, Reading::Splits(_));
    let rest = tree.all().into_iter().filter(|file| !known.contains(file));
    sorted.unlabelled.extend(rest.map(|file| Unlabelled { file, split: None, expected: !divided }));
    sorted.unlabelled.sort_by(|a, b| path_order(&found[a.file].path, &found[b.file].path));
    Ok(sorted)
}

impl<'a> Sorted<'a> {
    fn place(&mut self, folder: &Folder<'a>, class: &'a str, split: Option<Split>) {
        let images = folder.all().into_iter();
        self.placed.extend(images.map(|file| Placed { file, class: Cow::Borrowed(class), split }));
    }

    fn classes(&self) -> BTreeSet<&str> {
        self.placed.iter().map(|image| image.class.as_ref()).collect()
    }

    /// Whether folders do not say enough: images of a part without labels, fewer than two classes, or classes that
    /// look like numbered parts.
    fn wants_table(&self) -> bool {
        let classes = self.classes();
        let parts = classes.iter().all(|name| words::is_numbered_part(name));
        classes.len() < 2
            || parts
            || self.unlabelled.iter().any(|image| image.expected && image.split.is_some())
    }

    /// Labels images by the tables among the files.
    fn label_by_tables(
        &mut self,
        root: &Path,
        found: &[Found],
        read: &dyn Fn(usize) -> Option<Vec<u8>>,
    ) -> Result<Vec<UsedTable>, DatasetError> {
        let all = self.classes().len() < 2 || self.classes().iter().all(|name| words::is_numbered_part(name));
        let mut open: BTreeSet<usize> =
            self.unlabelled.iter().filter(|image| image.expected).map(|image| image.file).collect();
        if all {
            open.extend(self.placed.iter().map(|image| image.file));
        }
        let known: BTreeSet<String> =
            if all { BTreeSet::new() } else { self.classes().into_iter().map(str::to_owned).collect() };
        let FileLabels { labels, used, complaint } = table::label_files(root, found, read, &open, &known)?;
        let folders_say = self.placed.len();
        // Class folders of their own count unless the table knows nearly all of these images.
        if used.is_empty() || (all && self.classes().len() >= 2 && 10 * labels.len() < 9 * folders_say) {
            self.complaint = complaint;
            return Ok(Vec::new());
        }
        if all {
            let rest = self.placed.drain(..).map(|image| Unlabelled {
                file: image.file,
                split: image.split,
                expected: true,
            });
            self.unlabelled.extend(rest);
            self.kind = Kind::Tables;
        }
        let mut rest = Vec::new();
        for image in self.unlabelled.drain(..) {
            match labels.get(&image.file) {
                Some((class, split)) => self.placed.push(Placed {
                    file: image.file,
                    class: Cow::Owned(class.clone()),
                    split: split.or(image.split),
                }),
                None => rest.push(image),
            }
        }
        self.unlabelled = rest;
        Ok(used)
    }

    /// What to say of a table that knows nearly all images of class folders under other classes than these.
    fn other_labels(
        &self,
        root: &Path,
        found: &[Found],
        read: &dyn Fn(usize) -> Option<Vec<u8>>,
    ) -> Option<String> {
        let open = self.placed.iter().map(|image| image.file).collect();
        let FileLabels { labels, used, .. } =
            table::label_files(root, found, read, &open, &BTreeSet::new()).ok()?;
        let differs = |image: &&Placed| {
            labels.get(&image.file).is_some_and(|(label, _)| !crate::names::same_class(label, &image.class))
        };
        let others = self.placed.iter().filter(differs).count();
        if 10 * labels.len() < 9 * self.placed.len() || 2 * others < labels.len() {
            return None;
        }
        let classes: BTreeSet<&str> = labels.values().map(|(label, _)| label.as_str()).collect();
        let classes: Vec<&str> = classes.into_iter().collect();
        Some(format!(
            "{} has other labels for these images ({}) and is not used: give the table itself to use it",
            used.first()?.about,
            some_of(&classes)
        ))
    }

    /// `40 images without a label in test/, 3 in meta/`; empty when there are none.
    fn left_out(&self, found: &[Found]) -> String {
        const SHOWN: usize = 3;
        let mut folders: BTreeMap<&str, (usize, &str)> = BTreeMap::new();
        for image in &self.unlabelled {
            let path = found[image.file].path.as_str();
            let folder = path.rfind('/').map_or("", |at| &path[..=at]);
            folders.entry(folder).or_insert((0, path)).0 += 1;
        }
        let mut texts: Vec<String> = Vec::new();
        for (i, (folder, (n, example))) in folders.iter().take(SHOWN).enumerate() {
            let noun = if i == 0 { format!("{} without a label", count(*n, "image")) } else { n.to_string() };
            texts.push(match *folder {
                "" => format!("{noun} in no folder (e.g. {example})"),
                folder => format!("{noun} in {folder}"),
            });
        }
        let more: usize = folders.values().skip(SHOWN).map(|(n, _)| n).sum();
        if more > 0 {
            texts.push(format!("{more} in {}", count(folders.len() - SHOWN, "other folder")));
        }
        texts.join(", ")
    }

    /// The reading in one line.
    fn describe(&self, found: &[Found], reading: &Reading, classes: usize, used: &[UsedTable]) -> String {
        let mut text = match reading {
            Reading::Splits(parts) => {
                let part = |part: &Part| {
                    let path = part.folder.path.trim_end_matches('/');
                    if path == part.split.to_string() {
                        path.to_owned()
                    } else {
                        format!("{} ({path}/)", part.split)
                    }
                };
                let mut parts: Vec<&Part> = parts.iter().collect();
                parts.sort_by_key(|part| part.split);
                format!("splits {}", parts.into_iter().map(part).collect::<Vec<_>>().join(", "))
            }
            Reading::SplitsInClasses(_) => "class folders with splits in each".to_owned(),
            Reading::Classes(folder) if folder.path.is_empty() || self.kind == Kind::Tables => {
                if self.kind == Kind::Tables { "images".to_owned() } else { "class folders".to_owned() }
            }
            Reading::Classes(folder) => format!("class folders in {}", folder.path),
            Reading::Unclear(_) => unreachable!("an unclear layout was refused"),
        };
        for table in used {
            text += &format!("; labels of {} from {}", count(table.labelled, "image"), table.about);
        }
        text +=
            &format!("; {}", if classes == 1 { "1 class".to_owned() } else { format!("{classes} classes") });
        if !self.unlabelled.is_empty() {
            text += &format!("; left out: {}", self.left_out(found));
        }
        format!("read as {text}")
    }
}

/// Orders paths part by part: a folder's files stand together.
fn path_order(a: &str, b: &str) -> Ordering {
    let key = |b| if b == b'/' { 0 } else { b };
    a.bytes().map(key).cmp(b.bytes().map(key))
}

/// Class names in natural order, and the id of each by its NFC form. Names that are one after NFC are one class, shown
/// as it was first seen.
pub(crate) fn number_classes<'a>(
    names: impl Iterator<Item = &'a str>,
) -> (Vec<String>, HashMap<String, u32>) {
    let mut first: HashMap<Cow<'a, str>, &'a str> = HashMap::new();
    let mut last = "";
    for name in names {
        // Images of a class mostly follow each other.
        if name != last {
            first.entry(nfc(name)).or_insert(name);
            last = name;
        }
    }
    let mut classes: Vec<String> = first.into_values().map(str::to_owned).collect();
    classes.sort_by(|a, b| natural_order(a, b));
    let ids = classes.iter().map(|name| nfc(name).into_owned()).zip(0..).collect();
    (classes, ids)
}

/// Names the classes that a declared split other than training has no image of: those without a training image are no
/// classes of a model and are told when it is trained.
pub(crate) fn note_missing_classes(items: &[Item], classes: &[String], notes: &mut Vec<String>) {
    for split in [Split::Val, Split::Test] {
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

/// Names that differ only in case, spaces and separators are most likely one class with a spelling mistake.
fn note_similar_classes(classes: &[String], notes: &mut Vec<String>) {
    let mut alike: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for class in classes {
        let plain: String =
            nfc(class).chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
        if !plain.is_empty() {
            alike.entry(plain).or_default().push(class);
        }
    }
    for names in alike.values().filter(|names| names.len() > 1) {
        let names: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
        notes.push(format!(
            "{} are taken for different classes; rename the folders if they are one",
            names.join(" and ")
        ));
    }
}

/// What is said of files that are no images and no tables of labels.
fn ignored(found: &[Found], used: &[UsedTable]) -> Vec<String> {
    let mut notes = Vec::new();
    let mut formats: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut others = Vec::new();
    let is_used = |number: usize| used.iter().any(|table| table.file == number);
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
