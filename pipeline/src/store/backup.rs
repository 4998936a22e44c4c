//! Copies: of the database beside itself, and of a whole folder while it is in use.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::store::database::{Database, files, versions};
use crate::store::disk::{self, COPIES, DATABASE};
use crate::store::error::StoreError;
use crate::store::inner::now;

/// Age at which the newest copy is followed by another one.
const COPY_EVERY: Duration = Duration::from_secs(24 * 60 * 60);
/// Copies that are kept.
const KEPT: usize = 2;
/// Times that a backup looks again for files that went while it copied.
const ROUNDS: usize = 10;

/// What a backup holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Backup {
    /// Where it is.
    pub path: PathBuf,
    /// Files that were copied.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Files that were damaged or missing in the folder, as they are in the backup.
    pub missing: Vec<String>,
}

/// Names of the copies of the database, newest first.
pub(super) fn copies(dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let is_copy = |name: &String| name.starts_with("ocelli-") && name.ends_with(".db");
    let mut names: Vec<String> =
        disk::entries(&dir.join(COPIES))?.iter().filter_map(disk::text).filter(is_copy).collect();
    // Their names hold the time, in as many digits for many centuries.
    names.sort_by(|a, b| b.cmp(a));
    Ok(names.into_iter().map(|name| dir.join(COPIES).join(name)).collect())
}

/// The fact that names the copies there are.
pub(super) const FACT: &str = "copies";

/// Makes a copy where the newest one is older than a day.
pub(super) fn keep_daily_copy(dir: &Path, database: &Database) -> Result<(), StoreError> {
    let age = |path: &PathBuf| {
        let changed = fs::metadata(path).and_then(|meta| meta.modified()).ok()?;
        SystemTime::now().duration_since(changed).ok()
    };
    if copies(dir)?.first().and_then(age).is_some_and(|age| age < COPY_EVERY) {
        return Ok(());
    }
    keep_copy(dir, database)
}

/// Makes a copy, and removes the oldest ones beyond [`KEPT`].
pub(super) fn keep_copy(dir: &Path, database: &Database) -> Result<(), StoreError> {
    let there = copies(dir)?;
    let folder = dir.join(COPIES);
    disk::make_folder(&folder)?;
    let temporary = folder.join(".copy.tmp-db");
    disk::remove(&temporary)?;
    database.copy_to(&temporary)?;
    let path = folder.join(format!("ocelli-{:012}.db", now()));
    fs::rename(&temporary, &path).map_err(StoreError::io(&path))?;
    disk::sync_folder(&folder)?;
    let old = there.iter().filter(|old| **old != path).skip(KEPT - 1);
    old.into_iter().try_for_each(|old| disk::remove(old))?;
    let name = |path: &PathBuf| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let names: Vec<String> = copies(dir)?.iter().filter_map(name).collect();
    database.write(|tx| files::set_fact(tx, FACT, &names.join(" ")))
}

/// Copies a data folder to a new folder `to` while a service may be using it: the state of one moment, every file of it
/// compared with its hash.
///
/// # Errors
/// [`StoreError::Conflict`] where something lies at `to`; [`StoreError::Database`], [`StoreError::Io`], [`StoreError::Full`].
pub fn backup(dir: &Path, to: &Path) -> Result<Backup, StoreError> {
    if to.exists() && !disk::entries(to)?.is_empty() {
        let reason = format!("{} is not empty: name a folder that is not there yet", to.display());
        return Err(StoreError::Conflict { reason });
    }
    let dir = &fs::canonicalize(dir).map_err(StoreError::io(dir))?;
    let database = Database::look(&dir.join(DATABASE))?;
    fs::create_dir_all(to).map_err(StoreError::io(to))?;
    if fs::canonicalize(to).map_err(StoreError::io(to))?.starts_with(dir) {
        let _ = fs::remove_dir(to);
        let reason = format!("{} lies in the data folder: name a folder outside of it", to.display());
        return Err(StoreError::Conflict { reason });
    }
    let lock = to.join("lock");
    File::create(&lock).map_err(StoreError::io(&lock))?;
    let copy = to.join(".ocelli.tmp-db");
    let mut done = Copied::default();
    // What is deleted while files are copied is gone from the next look at the database, and then nothing is missing.
    for round in 0..ROUNDS {
        disk::remove(&copy)?;
        database.copy_to(&copy)?;
        let wanted = wanted(&Database::look(&copy)?)?;
        let missing = done.copy(dir, to, &wanted)?;
        if missing.is_empty() || round + 1 == ROUNDS || missing == done.missing {
            done.missing = missing;
            done.drop_others(to, &wanted)?;
            break;
        }
        done.missing = missing;
    }
    let path = to.join(DATABASE);
    disk::sync(to, &[])?;
    // The database comes last: without it the folder is no backup.
    fs::rename(&copy, &path).map_err(StoreError::io(&path))?;
    disk::sync_folder(to)?;
    Ok(Backup { path: to.to_owned(), files: done.files.len() + 1, bytes: done.bytes, missing: done.missing })
}

/// A path and the hash that its file has.
type Wanted = (String, Option<[u8; 32]>);

/// The files that a database names, relative to its folder, with their hash where one is known.
fn wanted(database: &Database) -> Result<Vec<Wanted>, StoreError> {
    database.read(|tx| {
        let mut wanted: Vec<Wanted> =
            files::all(tx)?.into_iter().map(|file| (file.path(), Some(*file.id.bytes()))).collect();
        for model in versions::models(tx)? {
            for version in versions::all(tx, &model)? {
                wanted.push((format!("models/{model}/{}.ocelli", version.version), None));
            }
        }
        wanted.extend(files::kept(tx)?.into_iter().map(|file| (file.path, Some(file.hash))));
        Ok(wanted)
    })
}

#[derive(Default)]
struct Copied {
    files: std::collections::BTreeSet<String>,
    bytes: u64,
    missing: Vec<String>,
}

impl Copied {
    /// Copies what is not copied yet; gives what is missing or not what the database says.
    fn copy(&mut self, dir: &Path, to: &Path, wanted: &[Wanted]) -> Result<Vec<String>, StoreError> {
        let mut missing = Vec::new();
        for (path, hash) in wanted {
            if self.files.contains(path) {
                continue;
            }
            let target = to.join(path);
            let around = target.parent().expect("it lies in a folder");
            fs::create_dir_all(around).map_err(StoreError::io(around))?;
            let whole = match fs::copy(dir.join(path), &target) {
                Ok(bytes) => {
                    self.bytes += bytes;
                    // With its time, so that nothing seems to have been written since.
                    if let Ok(time) = fs::metadata(dir.join(path)).and_then(|meta| meta.modified()) {
                        let _ = File::open(&target).and_then(|file| file.set_modified(time));
                    }
                    let found = disk::digest(&target).map_err(StoreError::io(&target))?;
                    hash.is_none_or(|hash| hash == found.1)
                }
                Err(error) if error.kind() == std::io::ErrorKind::StorageFull => {
                    return Err(StoreError::io(&target)(error));
                }
                Err(_) => false,
            };
            if whole {
                self.files.insert(path.clone());
            } else {
                missing.push(path.clone());
            }
        }
        Ok(missing)
    }

    /// Removes copies of files that were deleted since.
    fn drop_others(&mut self, to: &Path, wanted: &[Wanted]) -> Result<(), StoreError> {
        let wanted: std::collections::HashSet<&str> = wanted.iter().map(|(path, _)| path.as_str()).collect();
        for path in self.files.iter().filter(|path| !wanted.contains(path.as_str())) {
            disk::remove(&to.join(path))?;
        }
        self.files.retain(|path| wanted.contains(path.as_str()));
        Ok(())
    }
}
