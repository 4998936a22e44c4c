//! What happens when a data folder is opened: rows and files are compared, and what a kill left is put in order.

use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use ocelli_common::atomic_file;

use ocelli_common::text::chain;

use crate::store::database::{Database, files, jobs};
use crate::store::disk::{self, Condition, INCOMING};
use crate::store::error::StoreError;
use crate::store::image::{IMAGES, id_of_file, image_path};
use crate::store::inner::Inner;
use crate::store::name::Name;
use crate::store::old_layout;
use crate::store::room::Room;
use crate::store::versions::is_version;

/// Names that a note lists before it says how many more there are.
const SHOWN: usize = 5;

/// The fact that says which layout the folder has.
const LAYOUT: &str = "layout";

/// Opens the database of a locked folder and brings folder and database together; gives what its owner should know.
/// `was_locked` says that the folder was used before.
pub(super) fn open(dir: PathBuf, was_locked: bool) -> Result<(Inner, Vec<String>), StoreError> {
    let path = dir.join(disk::DATABASE);
    // A kill at the very first start leaves an empty file, of a folder that holds nothing else.
    let lost = match fs::symlink_metadata(&path) {
        Ok(meta) if meta.is_file() && meta.len() == 0 => Some("it is empty"),
        Ok(_) => None,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Some("it is missing, and the folder holds what it described")
        }
        Err(error) => return Err(StoreError::io(&path)(error)),
    };
    if let Some(reason) = lost {
        if is_used(&dir, was_locked)? {
            return Err(StoreError::database(&path, reason));
        }
        disk::remove(&path)?;
    }
    let database = Database::open(&path)?;
    disk::sync_folder(&dir)?;
    let inner = Inner {
        dir,
        database,
        files: Mutex::default(),
        models: Mutex::default(),
        settled: Mutex::default(),
        room: Room::default(),
        stagings: AtomicU64::new(0),
    };
    let mut notes = Vec::new();
    if inner.database.read(|tx| files::fact(tx, LAYOUT))?.is_none() {
        if old_layout::is_there(&inner.dir)? || old_layout::has_begun(&inner)? {
            notes.extend(old_layout::take_over(&inner)?);
        }
        inner.database.write(|tx| files::set_fact(tx, LAYOUT, "1"))?;
    }
    remove_what_is_to_go(&inner, &mut notes)?;
    let bytes = compare_images(&inner, &mut notes)?;
    inner.room.measure(&inner.dir, bytes);
    Ok((inner, notes))
}

/// Whether a folder without a database had one: some folders are made after it alone, others by people, too, but then not
/// in a folder that was used already.
fn is_used(dir: &Path, was_locked: bool) -> Result<bool, StoreError> {
    for folder in [IMAGES, disk::COPIES, disk::QUARANTINE, old_layout::ASIDE] {
        if !disk::entries(&dir.join(folder))?.is_empty() {
            return Ok(true);
        }
    }
    if !was_locked || old_layout::is_there(dir)? {
        return Ok(false);
    }
    for folder in ["models", "runs"] {
        if !disk::walk(dir, folder)?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Removes what was in transit, and files whose rows are gone.
fn remove_what_is_to_go(inner: &Inner, notes: &mut Vec<String>) -> Result<(), StoreError> {
    let incoming = inner.dir.join(INCOMING);
    match fs::symlink_metadata(&incoming) {
        Ok(meta) if meta.is_dir() => {
            fs::remove_dir_all(&incoming).map_err(StoreError::io(&incoming))?;
        }
        Ok(_) => drop(disk::quarantine(&inner.dir, INCOMING)?),
        Err(_) => {}
    }
    for path in disk::walk(&inner.dir, "runs")? {
        // A file of a run that was being written when the process ended; one that stays costs room and no more.
        if path.rsplit('/').next().is_some_and(atomic_file::is_temporary) {
            let _ = disk::remove(&inner.dir.join(&path));
        }
    }
    let removed = inner.database.read(files::removed)?;
    if removed.is_empty() {
        return Ok(());
    }
    let mut gone = Vec::new();
    for path in removed {
        let full = inner.dir.join(&path);
        let done = if !is_ours(&path) {
            Ok(())
        } else if fs::symlink_metadata(&full).is_ok_and(|meta| meta.is_dir()) {
            disk::quarantine(&inner.dir, &path).map(drop)
        } else {
            disk::remove(&full)
        };
        match done {
            Ok(()) => gone.push(path),
            // The next start tries again.
            Err(error) => {
                notes.push(format!("{path} was deleted and its file cannot be removed: {}", chain(&error)))
            }
        }
    }
    // The names are gone for good before it is forgotten that they were to go.
    disk::sync(&inner.dir, &[])?;
    inner.database.write(|tx| files::clear_removed(tx, &gone))
}

/// Whether a path is one that the store gives to images or versions: nothing else is ever removed.
fn is_ours(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    match parts.as_slice() {
        [IMAGES, _, name] => is_image(path, name),
        ["models", model, file] => {
            model.parse::<Name>().is_ok() && file.strip_suffix(".ocelli").is_some_and(is_version)
        }
        _ => false,
    }
}

fn is_image(path: &str, name: &str) -> bool {
    id_of_file(name).is_some_and(|(id, extension)| image_path(&id, extension) == path)
}

/// What the disk says of the files below `images/`.
struct Lying {
    /// Regular files with the names of images, by path: size, and when they were written.
    images: HashMap<String, (u64, i64)>,
    others: Vec<String>,
    /// Folders and files that cannot be read just now, and why.
    closed: Vec<(String, String)>,
}

impl Lying {
    fn look(dir: &Path) -> Lying {
        let (found, closed) = disk::walk_readable(dir, IMAGES);
        let mut lying = Lying { images: HashMap::new(), others: Vec::new(), closed };
        for path in found {
            let name = path.rsplit('/').next().unwrap_or_default();
            match fs::metadata(dir.join(&path)) {
                Ok(meta) if is_image(&path, name) && meta.is_file() => {
                    lying.images.insert(path, (meta.len(), disk::written(&meta)));
                }
                // A link to a folder elsewhere is somebody's arrangement: images are read through it.
                Ok(meta) if meta.is_dir() => {}
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    lying.closed.push((path, error.to_string()));
                }
                _ => lying.others.push(path),
            }
        }
        lying
    }

    /// Why a file cannot be seen that should be there: something around it cannot be read.
    fn is_closed(&self, path: &str) -> bool {
        self.closed.iter().any(|(closed, _)| {
            path.strip_prefix(closed.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }
}

/// Notes image files that are missing or damaged, and those that are whole again; puts what no row names into quarantine.
/// Gives the bytes of all image files. Files that were written since they were last found whole are read, others are known
/// by their size.
fn compare_images(inner: &Inner, notes: &mut Vec<String>) -> Result<u64, StoreError> {
    let images = inner.dir.join(IMAGES);
    let in_the_way = match fs::metadata(&images) {
        Ok(meta) => !meta.is_dir(),
        Err(error) => error.kind() == ErrorKind::NotFound && images.symlink_metadata().is_ok(),
    };
    if in_the_way {
        let moved = disk::quarantine(&inner.dir, IMAGES)?;
        notes.push(format!("{IMAGES} was not a folder and was moved to {moved}"));
    }
    let mut lying = Lying::look(&inner.dir);
    for (path, reason) in &lying.closed {
        notes
            .push(format!("{path} cannot be read just now ({reason}); its images are left out until it can"));
    }
    let rows = inner.database.read(files::all)?;
    let (mut changed, mut damaged, mut bytes) = (Vec::new(), Vec::new(), 0);
    for row in rows {
        let path = row.path();
        if lying.is_closed(&path) {
            bytes += row.bytes;
            continue;
        }
        let found = lying.images.remove(&path);
        let written = found.map_or(0, |(_, written)| written);
        let reason = match found {
            None => match disk::inspect_image(&inner.dir, &row).0 {
                Condition::Damaged(reason) => Some(reason),
                // It lies behind a link.
                Condition::Whole | Condition::Unreadable(_) => {
                    bytes += row.bytes;
                    continue;
                }
            },
            Some((size, written)) => {
                bytes += size;
                if size == row.bytes && row.damaged.is_none() && written == row.written {
                    continue;
                }
                match disk::inspect_image(&inner.dir, &row).0 {
                    Condition::Damaged(reason) => Some(reason),
                    Condition::Whole => None,
                    Condition::Unreadable(_) => continue,
                }
            }
        };
        if let Some(reason) = &reason {
            damaged.push(format!("{path} ({reason})"));
        }
        if reason.is_none() || reason != row.damaged {
            changed.push((row.key, written, reason));
        }
    }
    if !changed.is_empty() {
        inner.database.write(|tx| {
            changed.iter().try_for_each(|(key, written, reason)| match reason {
                Some(reason) => files::set_damaged(tx, *key, Some(reason)),
                None => files::set_written(tx, *key, *written),
            })
        })?;
    }
    tell(notes, &damaged, "images are damaged and left out until they are sent again");
    let open = inner.database.read(jobs::all)?.into_iter().filter(|job| !job.ended);
    let tables: Vec<String> = open.map(|job| format!("{IMAGES}/job-{}.csv", job.id)).collect();
    let mut moved = Vec::new();
    for path in lying.images.into_keys().chain(lying.others) {
        let name = path.rsplit('/').next().unwrap_or_default();
        if tables.contains(&path) {
            continue;
        }
        // Tables of jobs that are over, and what was being written: the service's own.
        let own = name.starts_with("job-") && name.ends_with(".csv")
            || name.starts_with(".job-") && name.contains(".tmp-");
        if own {
            disk::remove(&inner.dir.join(&path))?;
            continue;
        }
        match disk::quarantine(&inner.dir, &path) {
            Ok(_) => moved.push(path),
            Err(error) => {
                notes.push(format!("nothing names {path}, and it cannot be moved: {}", chain(&error)))
            }
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
