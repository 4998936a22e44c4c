//! From the name of an image in a table to the file that is meant.

use crate::files::IMAGE_EXTENSIONS;
use crate::split::Split;
use crate::split_words::{exact_split, split_of};
use std::collections::HashMap;

/// Most files of one name among which folders decide: a list of a million rows compares each with all of them.
const MAX_ALIKE: usize = 256;

/// How surely a name means a file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Certainty {
    /// Only without its extension: `ISIC_1` for `images/ISIC_1.jpg`.
    Stem,
    /// The path from the table's folder, or the only file of this name.
    Name,
}

/// What a name means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Meaning {
    File(usize, Certainty),
    /// A file that has its label already.
    Labelled(Certainty),
    /// Several files could be meant.
    Several,
    Nothing,
}

/// The files that a table may speak of.
pub(super) struct Files {
    /// Paths with `/` between the parts, relative to where the table's paths may begin.
    paths: Vec<String>,
    /// The folder of the table, with a `/` behind unless it is empty.
    folder: String,
    /// The part that the table's own name speaks of: `1` in `test.csv` means `test/1.jpg` rather than `train/1.jpg`. A
    /// table of any other name is for the training part: the others are what labels are asked for.
    part: Split,
    by_path: HashMap<String, usize>,
    /// In lower case, as the next one.
    by_name: HashMap<String, Vec<usize>>,
    by_stem: HashMap<String, Vec<usize>>,
}

impl Files {
    /// `table` is the path of the table among the others.
    pub(super) fn new(paths: Vec<String>, table: &str) -> Files {
        let (folder, name) = table.split_at(table.rfind('/').map_or(0, |at| at + 1));
        let mut files = Files {
            folder: folder.to_owned(),
            part: part_of(name).unwrap_or(Split::Train),
            by_path: HashMap::with_capacity(paths.len()),
            by_name: HashMap::with_capacity(paths.len()),
            by_stem: HashMap::with_capacity(paths.len()),
            paths,
        };
        for (i, path) in files.paths.iter().enumerate() {
            let name = last_part(path).to_lowercase();
            files.by_path.insert(path.clone(), i);
            files.by_stem.entry(base_and_extension(&name).0.to_owned()).or_default().push(i);
            files.by_name.entry(name).or_default().push(i);
        }
        files
    }

    /// The number of a file in the list.
    pub(super) fn find(&self, name: &str) -> Meaning {
        let slashes = name.replace('\\', "/");
        let name = slashes.trim_start_matches("./").trim_start_matches('/');
        if name.is_empty() {
            return Meaning::Nothing;
        }
        let beside = format!("{}{name}", self.folder);
        if let Some(&file) = self.by_path.get(beside.as_str()).or_else(|| self.by_path.get(name)) {
            return Meaning::File(file, Certainty::Name);
        }
        let last = last_part(name).to_lowercase();
        if let Some(files) = self.by_name.get(&last) {
            return self.choose(files, name, Certainty::Name);
        }
        // Only a name that has no extension of its own means a file with one.
        match self.by_stem.get(&last) {
            Some(files) => self.choose(files, name, Certainty::Stem),
            None => Meaning::Nothing,
        }
    }

    /// Of several files those whose folders agree best with the name, then those of the same case, near the table, and of
    /// its part.
    fn choose(&self, files: &[usize], name: &str, certainty: Certainty) -> Meaning {
        if files.len() > MAX_ALIKE {
            return Meaning::Several;
        }
        let agreeing = |file: &usize| {
            let (path, name) = (self.paths[*file].rsplit('/'), name.rsplit('/'));
            path.skip(1).zip(name.skip(1)).take_while(|(a, b)| a == b).count()
        };
        // A path of another computer ends like ours; one that names another folder is another file.
        let beside = |file: &usize| {
            self.paths[*file].strip_prefix(&self.folder).is_some_and(|path| !path.contains('/'))
        };
        let may_be = |file: &&usize| !name.contains('/') || agreeing(file) > 0 || beside(file);
        let files: Vec<usize> = files.iter().filter(may_be).copied().collect();
        match files.as_slice() {
            [] => return Meaning::Nothing,
            &[file] => return Meaning::File(file, certainty),
            _ => {}
        }
        let same_case = |file: &usize| {
            let own = last_part(&self.paths[*file]);
            own == last_part(name) || base_and_extension(own).0 == last_part(name)
        };
        let near = |file: &usize| self.paths[*file].starts_with(&self.folder);
        let of_part = |file: &usize| {
            let mut folders = self.paths[*file].rsplit('/').skip(1);
            folders.any(|folder| exact_split(folder) == Some(self.part))
        };
        let rank = |file: &usize| (agreeing(file), same_case(file), near(file), of_part(file));
        let best = files.iter().map(rank).max();
        let mut chosen = files.iter().filter(|file| Some(rank(file)) == best);
        match (chosen.next(), chosen.next()) {
            (Some(&file), None) => Meaning::File(file, certainty),
            _ => Meaning::Several,
        }
    }
}

/// The split that the name of a table speaks of, whatever else it says: `test_labels.csv`, `val_annotations.txt`.
pub(super) fn part_of(table: &str) -> Option<Split> {
    let name = last_part(table);
    split_of(name.rsplit_once('.').map_or(name, |(base, _)| base)).map(|name| name.split)
}

fn last_part(path: &str) -> &str {
    &path[path.rfind('/').map_or(0, |at| at + 1)..]
}

/// A name without the usual extension of an image, and that extension.
pub(super) fn base_and_extension(name: &str) -> (&str, &str) {
    match name.rsplit_once('.') {
        Some((base, extension)) if IMAGE_EXTENSIONS.iter().any(|e| extension.eq_ignore_ascii_case(e)) => {
            (base, extension)
        }
        _ => (name, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_mean_files_by_path_name_and_stem() {
        let paths = [
            "data/train/1.jpg",
            "data/test/1.jpg",
            "data/train/a.b.png",
            "data/x.jpg",
            "data/y.jpg",
            "data/y.png",
        ]
        .map(str::to_owned)
        .to_vec();
        let files = Files::new(paths.clone(), "data/train.csv");
        let name = |i| Meaning::File(i, Certainty::Name);
        let stem = |i| Meaning::File(i, Certainty::Stem);
        for (text, meaning) in [
            ("train/1.jpg", name(0)),
            ("data/test/1.jpg", name(1)),
            ("./train\\1.jpg", name(0)),
            ("/somewhere/else/test/1.jpg", name(1)),
            ("1.jpg", name(0)),
            ("other/x.jpg", name(3)),
            ("other/a.b.png", Meaning::Nothing),
            ("1", stem(0)),
            ("test/1", stem(1)),
            ("a.b", stem(2)),
            ("x", stem(3)),
            ("X.JPG", name(3)),
            ("y", Meaning::Several),
            ("a.png", Meaning::Nothing),
            ("", Meaning::Nothing),
            ("/", Meaning::Nothing),
        ] {
            assert_eq!(files.find(text), meaning, "{text}");
        }
        assert_eq!(Files::new(paths.clone(), "data/labels.csv").find("1"), stem(0));
        assert_eq!(Files::new(paths.clone(), "data/test.csv").find("1"), stem(1));
        assert_eq!(Files::new(paths, "data/labels_test.csv").find("1.jpg"), name(1));
    }

    #[test]
    fn of_many_files_of_one_name_only_a_path_means_one() {
        let paths: Vec<String> = (0..=MAX_ALIKE).map(|i| format!("x/{i}/1.jpg")).collect();
        let few = Files::new(paths[..MAX_ALIKE].to_vec(), "labels.csv");
        let many = Files::new(paths, "labels.csv");
        assert_eq!(few.find("else/7/1.jpg"), Meaning::File(7, Certainty::Name));
        assert_eq!(many.find("else/7/1.jpg"), Meaning::Several);
        assert_eq!(many.find("x/7/1.jpg"), Meaning::File(7, Certainty::Name));
    }
}
