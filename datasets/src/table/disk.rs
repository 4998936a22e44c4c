//! Files on disk, as a table names them that was given itself.

use super::find::{Certainty, Files, Meaning};
use crate::files::FileKind;
use crate::folder::{self, Depth};
use ocelli_common::text::{count, some_of};
use std::cell::{OnceCell, Ref, RefCell};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

/// The files that were meant so far, and those that could be.
pub(super) struct Disk {
    folder: PathBuf,
    /// File name of the table.
    table: String,
    /// The numbers of files are places in here.
    paths: RefCell<Vec<PathBuf>>,
    numbers: RefCell<HashMap<PathBuf, usize>>,
    /// Whether names that are no paths mean images below the folder.
    looks_below: bool,
    /// These images, listed when the first such name comes; none where there are too many to list.
    below: OnceCell<Option<Below>>,
}

struct Below {
    files: Files,
    paths: Vec<PathBuf>,
}

impl Disk {
    /// For a table at a path; names are paths at first.
    pub(super) fn new(table: &Path) -> Disk {
        Disk {
            folder: table.parent().unwrap_or(Path::new("")).to_owned(),
            table: table.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            paths: RefCell::default(),
            numbers: RefCell::default(),
            looks_below: false,
            below: OnceCell::new(),
        }
    }

    /// From now on names that are no paths mean images below the folder of the table.
    pub(super) fn look_below(&mut self) {
        self.looks_below = true;
    }

    pub(super) fn find(&self, name: &str) -> Meaning {
        if name.is_empty() {
            return Meaning::Nothing;
        }
        // Backslashes of Windows are tried as well.
        let direct = [self.folder.join(name), self.folder.join(name.replace('\\', "/"))];
        if let Some(path) = direct.into_iter().find(|path| path.is_file()) {
            return Meaning::File(self.number(path), Certainty::Name);
        }
        if !self.looks_below {
            return Meaning::Nothing;
        }
        let Some(below) = self.below.get_or_init(|| self.list()) else { return Meaning::Nothing };
        match below.files.find(name) {
            Meaning::File(file, certainty) => {
                Meaning::File(self.number(below.paths[file].clone()), certainty)
            }
            other => other,
        }
    }

    /// The paths of the files that were meant, by their numbers.
    pub(super) fn paths(&self) -> Ref<'_, Vec<PathBuf>> {
        self.paths.borrow()
    }

    /// How many images below the folder no name meant so far; `None` for none, and where they cannot be listed.
    pub(super) fn unlisted(&self) -> Option<String> {
        let below = self.below.get_or_init(|| self.list()).as_ref()?;
        let numbers = self.numbers.borrow();
        // The folder may be written in another way in the table.
        let meant: HashSet<PathBuf> = numbers.keys().filter_map(|path| path.canonicalize().ok()).collect();
        let open = |path: &&PathBuf| path.canonicalize().is_ok_and(|path| !meant.contains(&path));
        let names: Vec<String> =
            below.paths.iter().filter(open).map(|path| path.display().to_string()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        (!names.is_empty()).then(|| format!("{} ({})", count(names.len(), "image"), some_of(&names)))
    }

    fn list(&self) -> Option<Below> {
        let here = if self.folder.as_os_str().is_empty() { Path::new(".") } else { &self.folder };
        let listing = folder::list(here, Depth::All).ok()?;
        let images = || listing.found.iter().zip(&listing.paths).filter(|(f, _)| f.kind == FileKind::Image);
        let names = images().map(|(file, _)| file.path.clone()).collect();
        let paths = images().map(|(_, path)| path.clone()).collect();
        Some(Below { files: Files::new(names, &self.table), paths })
    }

    fn number(&self, path: PathBuf) -> usize {
        let next = self.paths.borrow().len();
        let number = *self.numbers.borrow_mut().entry(path.clone()).or_insert(next);
        if number == next {
            self.paths.borrow_mut().push(path);
        }
        number
    }
}
