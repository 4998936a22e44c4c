//! What happens when a data folder is opened: rows and files are compared, and what a kill left is put in order.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use crate::store::database::{Database, files, jobs};
use crate::store::image::id_of_file;
use crate::store::place::{self, IMAGES, INCOMING};
use crate::store::room::Room;
use crate::store::{Inner, StoreError, old_layout};

/// Names that a note lists before it says how many more there are.
const SHOWN: usize = 5;

/// The fact that says which layout the folder has.
const LAYOUT: &str = "layout";

/// Opens the database of a locked folder and brings folder and database together; gives what its owner should know.
pub(super) fn open(dir: PathBuf) -> Result<(Inner, Vec<String>), StoreError> {
    let path = dir.join(place::DATABASE);
    if !path.exists() && is_used(&dir)? {
        return Err(StoreError::database(&path, "it is missing, and the folder holds what it described"));
    }
    let database = Database::open(&path)?;
    place::sync_folder(&dir)?;
    let inner =
        Inner { dir, database, files: Mutex::new(()), room: Room::default(), stagings: AtomicU64::new(0) };
    let mut notes = Vec::new();
    if inner.database.read(|tx| files::fact(tx, LAYOUT))?.is_none() {
        if old_layout::is_there(&inner.dir)? {
            notes.extend(old_layout::take_over(&inner)?);
        }
        inner.database.write(|tx| files::set_fact(tx, LAYOUT, "1"))?;
    }
    remove_what_is_to_go(&inner)?;
    let bytes = compare_images(&inner, &mut notes)?;
    inner.room.measure(&inner.dir, bytes);
    Ok((inner, notes))
}

/// Whether a folder without a database had one: the folders below are made after it alone.
fn is_used(dir: &Path) -> Result<bool, StoreError> {
    for folder in [IMAGES, place::COPIES, place::QUARANTINE] {
        if !place::entries(&dir.join(folder))?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Removes what was in transit, and files whose rows are gone.
fn remove_what_is_to_go(inner: &Inner) -> Result<(), StoreError> {
    let incoming = inner.dir.join(INCOMING);
    match fs::remove_dir_all(&incoming) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(StoreError::io(&incoming)(error));
        }
        _ => {}
    }
    let removed = inner.database.read(files::removed)?;
    if removed.is_empty() {
        return Ok(());
    }
    removed.iter().try_for_each(|path| place::remove(&inner.dir.join(path)))?;
    inner.database.write(|tx| files::clear_removed(tx, &removed))
}

/// Notes image files that are missing or of another size, and those that are whole again; puts what no row names into
/// quarantine. Gives the bytes of all image files.
fn compare_images(inner: &Inner, notes: &mut Vec<String>) -> Result<u64, StoreError> {
    let mut lying: HashMap<String, u64> = HashMap::new();
    let mut others = Vec::new();
    for path in place::walk(&inner.dir, IMAGES)? {
        let name = path.rsplit('/').next().unwrap_or_default();
        let full = inner.dir.join(&path);
        let is_image =
            id_of_file(name).is_some_and(|(id, extension)| place::image_path(&id, extension) == path);
        match fs::symlink_metadata(&full) {
            Ok(meta) if is_image && meta.is_file() => drop(lying.insert(path, meta.len())),
            _ => others.push(path),
        }
    }
    let rows = inner.database.read(files::all)?;
    let (mut changed, mut damaged, mut bytes) = (Vec::new(), Vec::new(), 0);
    for row in rows {
        let path = row.path();
        let found = match lying.remove(&path) {
            None if inner.dir.join(&path).exists() => Some("something else lies in its place".to_owned()),
            None => Some("the file is missing".to_owned()),
            Some(size) => {
                bytes += size;
                // Of the right size; another content is seen when it is read, and stays noted until then.
                let known = row.damaged.clone().filter(|reason| reason.contains("content"));
                if size == row.bytes { known } else { Some(place::other_size(size, row.bytes)) }
            }
        };
        if let Some(reason) = &found {
            damaged.push(format!("{path} ({reason})"));
        }
        if found != row.damaged {
            changed.push((row.key, found));
        }
    }
    if !changed.is_empty() {
        inner.database.write(|tx| {
            changed.iter().try_for_each(|(key, reason)| files::set_damaged(tx, *key, reason.as_deref()))
        })?;
    }
    tell(notes, &damaged, "images are damaged and left out until they are sent again");
    let open = inner.database.read(jobs::all)?.into_iter().filter(|job| !job.ended);
    let tables: Vec<String> = open.map(|job| format!("{IMAGES}/job-{}.csv", job.id)).collect();
    let mut moved = Vec::new();
    for path in lying.into_keys().chain(others) {
        let name = path.rsplit('/').next().unwrap_or_default();
        if tables.contains(&path) {
            continue;
        }
        // Tables of jobs that are over, and what was being written: the service's own.
        let own = name.starts_with("job-") && name.ends_with(".csv")
            || name.starts_with(".job-") && name.contains(".tmp-");
        if own {
            place::remove(&inner.dir.join(&path))?;
        } else if place::quarantine(&inner.dir, &path).is_ok() {
            moved.push(path);
        }
    }
    tell(notes, &moved, "files below images/ that nothing names were moved to quarantine/");
    Ok(bytes)
}

/// Adds a note about some files, if there are any.
fn tell(notes: &mut Vec<String>, files: &[String], what: &str) {
    if files.is_empty() {
        return;
    }
    let mut shown = files[..files.len().min(SHOWN)].join(", ");
    if files.len() > SHOWN {
        shown += ", ...";
    }
    notes.push(format!("{} {what}: {shown}", files.len()));
}
