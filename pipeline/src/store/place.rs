//! Where the files of data sets lie: names, moving images in, removing them, sweeping what a kill left behind.

use std::collections::{BTreeSet, HashSet};
use std::fs::{self, DirEntry, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use ocelli_datasets::{DecodeError, DecodeLimits, decode, file_format};

use crate::store::list::{Id, List, Row, id_of_file};
use crate::store::{Name, StoreError};

const LIST: &str = "images.csv";
const STAGING: &str = ".staging";
const SNAPSHOT: &str = "snapshot-";

/// The folder of a data set.
pub(super) struct Place {
    dir: PathBuf,
}

impl Place {
    pub(super) fn new(datasets: &Path, name: &Name) -> Place {
        Place { dir: datasets.join(name.as_str()) }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn list(&self) -> PathBuf {
        self.dir.join(LIST)
    }

    pub(super) fn snapshot(&self, id: &Name) -> PathBuf {
        self.dir.join(format!("{SNAPSHOT}{id}.csv"))
    }

    /// Ids of the snapshots, sorted.
    pub(super) fn snapshots(&self) -> Result<Vec<Name>, StoreError> {
        let id = |name: String| name.strip_prefix(SNAPSHOT)?.strip_suffix(".csv")?.parse().ok();
        let mut ids: Vec<Name> = entries(&self.dir)?.iter().filter_map(|entry| id(text(entry)?)).collect();
        ids.sort();
        Ok(ids)
    }

    /// When the list was last replaced, in seconds since 1970.
    pub(super) fn changed(&self) -> u64 {
        let time = fs::metadata(self.list()).and_then(|meta| meta.modified()).ok();
        time.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).map_or(0, |t| t.as_secs())
    }

    /// Moves staged images to where the list will name them; they are on the disk afterwards.
    pub(super) fn take(&self, staging: &Path, rows: &[Row]) -> Result<Moved, StoreError> {
        let mut moved = Moved(Vec::new());
        self.take_all(staging, rows, &mut moved).inspect_err(|_| moved.undo())?;
        Ok(moved)
    }

    fn take_all(&self, staging: &Path, rows: &[Row], moved: &mut Moved) -> Result<(), StoreError> {
        let images = self.dir.join("images");
        make_folder(&self.dir)?;
        make_folder(&images)?;
        let mut folders = BTreeSet::new();
        for row in rows {
            let target = self.dir.join(row.path());
            let folder = target.parent().expect("images lie in a folder").to_owned();
            if !folders.contains(&folder) {
                make_folder(&folder)?;
                folders.insert(folder);
            }
            // A file that a snapshot keeps has the same content; undoing must not take it away.
            let kept = target.exists();
            let staged = staging.join(file_name(&row.id, row.extension));
            fs::rename(staged, &target).map_err(StoreError::io(&target))?;
            if !kept {
                moved.0.push(target);
            }
        }
        // All of them, new or not: whoever made one may have been killed before syncing its name.
        let around = self.dir.parent().expect("data sets lie in a folder");
        folders
            .iter()
            .map(PathBuf::as_path)
            .chain([images.as_path(), &self.dir, around])
            .try_for_each(sync_folder)
    }

    /// Removes the files of `rows` that neither `list` nor a snapshot names.
    pub(super) fn remove_unnamed(&self, list: &List, rows: &[Row]) -> Result<(), StoreError> {
        let kept = self.named(list)?;
        for row in rows.iter().filter(|row| !kept.contains(&row.id)) {
            remove(&self.dir.join(row.path()))?;
        }
        Ok(())
    }

    /// All images that `list` or a snapshot names.
    fn named(&self, list: &List) -> Result<HashSet<Id>, StoreError> {
        let mut named: HashSet<Id> = list.rows().iter().map(|row| row.id).collect();
        for id in self.snapshots()? {
            if let Some(frozen) = List::read(&self.snapshot(&id))? {
                named.extend(frozen.rows().iter().map(|row| row.id));
            }
        }
        Ok(named)
    }

    /// Removes temporary files, and images that no list names. Only files that have names of ours are touched.
    fn sweep(&self) -> Result<(), StoreError> {
        let list = List::read(&self.list())?.unwrap_or_default();
        let named = self.named(&list)?;
        for entry in entries(&self.dir)? {
            if text(&entry).is_some_and(|name| name.starts_with('.') && name.contains(".csv.tmp-")) {
                remove(&entry.path())?;
            }
        }
        let images = self.dir.join("images");
        for folder in entries(&images)? {
            for file in entries(&folder.path())? {
                let id = text(&file).and_then(|name| id_of_file(&name));
                if id.is_some_and(|id| !named.contains(&id)) {
                    remove(&file.path())?;
                }
            }
        }
        if !self.list().exists() {
            // The first upload never came to its end. A folder with other people's files stays.
            for folder in entries(&images)? {
                let _ = fs::remove_dir(folder.path());
            }
            let _ = fs::remove_dir(&images);
            let _ = fs::remove_dir(&self.dir);
        }
        Ok(())
    }
}

/// Image files that were moved in for a list that is not written yet.
pub(super) struct Moved(Vec<PathBuf>);

impl Moved {
    /// Takes them away again; what stays is swept when the store is opened.
    pub(super) fn undo(&self) {
        for path in &self.0 {
            let _ = fs::remove_file(path);
        }
    }
}

/// Where uploads in transit lie.
pub(super) fn staging(datasets: &Path) -> PathBuf {
    datasets.join(STAGING)
}

/// The data sets there are, sorted.
pub(super) fn names(datasets: &Path) -> Result<Vec<Name>, StoreError> {
    let name = |entry: &DirEntry| -> Option<Name> {
        let name = text(entry)?.parse().ok()?;
        Place::new(datasets, &name).list().is_file().then_some(name)
    };
    let mut names: Vec<Name> = entries(datasets)?.iter().filter_map(name).collect();
    names.sort();
    Ok(names)
}

/// Removes what a killed process left: uploads in transit, and images that no list names. A data set whose list is
/// damaged is left as it is.
pub(super) fn sweep(datasets: &Path) -> Result<(), StoreError> {
    let staging = staging(datasets);
    match fs::remove_dir_all(&staging) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(StoreError::io(&staging)(error)),
        _ => {}
    }
    for entry in entries(datasets)? {
        let name: Option<Name> = text(&entry).and_then(|name| name.parse().ok());
        let Some(name) = name.filter(|_| entry.path().is_dir()) else { continue };
        match Place::new(datasets, &name).sweep() {
            Err(StoreError::Damaged { .. }) => {}
            result => result?,
        }
    }
    Ok(())
}

/// Decodes an image, which is the test it must pass; gives its id and the extension that fits its content.
pub(super) fn examine(bytes: &[u8], limits: &DecodeLimits) -> Result<(Id, &'static str), DecodeError> {
    decode(bytes, limits)?;
    let format = file_format(bytes).expect("what was decoded has a format");
    Ok((Id::of(bytes), format.extension))
}

/// Writes an image, synced, under its id into a folder; one that is there already is the same.
pub(super) fn put(folder: &Path, id: &Id, extension: &str, bytes: &[u8]) -> Result<(), StoreError> {
    let path = folder.join(file_name(id, extension));
    let mut file = match File::create_new(&path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(()),
        file => file.map_err(StoreError::io(&path))?,
    };
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|error| {
        // Half an image must not pass for a whole one.
        let _ = fs::remove_file(&path);
        StoreError::io(&path)(error)
    })
}

pub(super) fn file_name(id: &Id, extension: &str) -> String {
    format!("{id}.{extension}")
}

/// Makes names in a folder survive a power cut.
pub(super) fn sync_folder(path: &Path) -> Result<(), StoreError> {
    // Only Unix opens folders as files.
    if cfg!(unix) {
        File::open(path).and_then(|folder| folder.sync_all()).map_err(StoreError::io(path))?;
    }
    Ok(())
}

/// Makes a folder that may be there already. Its name is on the disk once the folder around it is synced.
pub(super) fn make_folder(path: &Path) -> Result<(), StoreError> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        result => result.map_err(StoreError::io(path)),
    }
}

/// What is in a folder; nothing where there is none.
pub(super) fn entries(path: &Path) -> Result<Vec<DirEntry>, StoreError> {
    match fs::read_dir(path) {
        Ok(entries) => entries.collect::<io::Result<_>>().map_err(StoreError::io(path)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(Vec::new())
        }
        Err(error) => Err(StoreError::io(path)(error)),
    }
}

pub(super) fn text(entry: &DirEntry) -> Option<String> {
    entry.file_name().into_string().ok()
}

/// Removes a file that may be gone already.
pub(super) fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(StoreError::io(path)(error)),
        _ => Ok(()),
    }
}
