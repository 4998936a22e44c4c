//! Images with and without a class: what folders say of them, and what tables add.

use super::reading::{self, Part, Reading};
use super::tree::Folder;
use crate::error::DatasetError;
use crate::files::Found;
use crate::names::{nfc, same_class};
use crate::split::Split;
use crate::split_words as words;
use crate::table::{self, FileLabels, UsedTable};
use ocelli_common::text::{count, some_of};
use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;

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
pub(super) struct Placed<'a> {
    pub(super) file: usize,
    pub(super) class: Cow<'a, str>,
    pub(super) split: Option<Split>,
}

/// An image without a class so far.
pub(super) struct Unlabelled {
    file: usize,
    /// The split folder that it lies in.
    split: Option<Split>,
    /// Whether a table beside class folders may label it: it lies where labelled images are expected.
    expected: bool,
}

/// Images with and without a class.
pub(super) struct Sorted<'a> {
    pub(super) kind: Kind,
    pub(super) placed: Vec<Placed<'a>>,
    unlabelled: Vec<Unlabelled>,
    /// Why a table that is there does not help.
    pub(super) complaint: Option<String>,
}

/// Gives every image the class and split of its folders, as far as these have them.
pub(super) fn sort<'a>(
    found: &'a [Found],
    tree: &Folder<'a>,
    reading: &Reading<'_, 'a>,
) -> Result<Sorted<'a>, String> {
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
    pub(super) fn wants_table(&self) -> bool {
        let classes = self.classes();
        let parts = classes.iter().all(|name| words::is_numbered_part(name));
        classes.len() < 2
            || parts
            || self.unlabelled.iter().any(|image| image.expected && image.split.is_some())
    }

    /// Labels images by the tables among the files, or by the file `only` alone, whatever folders say.
    pub(super) fn label_by_tables(
        &mut self,
        root: &Path,
        found: &[Found],
        read: &dyn Fn(usize) -> Option<Vec<u8>>,
        only: Option<usize>,
    ) -> Result<Vec<UsedTable>, DatasetError> {
        let all = only.is_some()
            || self.classes().len() < 2
            || self.classes().iter().all(|name| words::is_numbered_part(name));
        let mut open: BTreeSet<usize> =
            self.unlabelled.iter().filter(|image| image.expected).map(|image| image.file).collect();
        if all {
            open.extend(self.placed.iter().map(|image| image.file));
        }
        let known: BTreeSet<String> =
            if all { BTreeSet::new() } else { self.classes().into_iter().map(str::to_owned).collect() };
        let FileLabels { labels, used, complaint } =
            table::label_files(root, found, read, &open, (&known, only))?;
        if let Some(table) = only.filter(|_| used.is_empty()) {
            let what = complaint.unwrap_or_else(|| "none of its rows names one of the images".to_owned());
            let path = root.join(&found[table].path);
            return Err(DatasetError::BadCsv { path, line: None, what });
        }
        let folders_say = self.placed.len();
        // Class folders of their own count unless the table knows nearly all of these images.
        let by_folders = all && only.is_none();
        if used.is_empty() || (by_folders && self.classes().len() >= 2 && 10 * labels.len() < 9 * folders_say)
        {
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

    /// The split folder of every image that lies in one, by its number in the list.
    pub(super) fn splits(&self) -> HashMap<usize, Split> {
        let placed = self.placed.iter().map(|image| (image.file, image.split));
        let unlabelled = self.unlabelled.iter().map(|image| (image.file, image.split));
        placed.chain(unlabelled).filter_map(|(file, split)| Some((file, split?))).collect()
    }

    /// What to say of a table that knows nearly all images of class folders under other classes than these.
    pub(super) fn other_labels(
        &self,
        root: &Path,
        found: &[Found],
        read: &dyn Fn(usize) -> Option<Vec<u8>>,
    ) -> Option<String> {
        let open = self.placed.iter().map(|image| image.file).collect();
        let FileLabels { labels, used, .. } =
            table::label_files(root, found, read, &open, (&BTreeSet::new(), None)).ok()?;
        let differs = |image: &&Placed| {
            labels.get(&image.file).is_some_and(|(label, _)| !same_class(label, &image.class))
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
    pub(super) fn left_out(&self, found: &[Found]) -> String {
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
    pub(super) fn describe(
        &self,
        found: &[Found],
        reading: &Reading,
        classes: usize,
        used: &[UsedTable],
    ) -> String {
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
pub(super) fn path_order(a: &str, b: &str) -> Ordering {
    let key = |b| if b == b'/' { 0 } else { b };
    a.bytes().map(key).cmp(b.bytes().map(key))
}
