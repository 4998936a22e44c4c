//! Mends a data folder that is not what its database says.

use std::fs;
use std::path::Path;

use crate::store::backup::copies;
use crate::store::check::{CheckReport, Problem, RESTORE, SEND_AGAIN, TAKEN_UP, check};
use crate::store::data_folder::Store;
use crate::store::database::{Database, Rescued, VERSION, files, rescue, with_new_schema};
use crate::store::disk::{self, COPIES, DATABASE, QUARANTINE};
use crate::store::error::StoreError;
use crate::store::folder_lock::{Locked, lock_folder};
use crate::store::image::IMAGES;
use crate::store::inner::now;

/// Mends what [`check`] finds: a damaged or missing database is restored from what can be read of it and from its newest
/// copy; damaged files and files that nothing names go to `quarantine/`, never to nothing. No service may be using the folder.
///
/// # Errors
/// [`StoreError::Locked`], [`StoreError::Io`]; [`StoreError::Database`] when nothing is left to restore it from.
pub fn repair(dir: &Path) -> Result<CheckReport, StoreError> {
    let Locked { dir, lock, .. } = lock_folder(dir)?;
    let mut done = Vec::new();
    if let Some(problem) = restore_database(&dir)? {
        done.push(problem);
    }
    let found = check(&dir)?;
    let database = Database::open(&dir.join(DATABASE))?;
    let mut report = CheckReport { problems: done, ..found.clone() };
    for problem in found.problems {
        let path = problem.path.clone();
        let full = dir.join(&path);
        let is_version = path.starts_with("models/") && problem.next == RESTORE;
        let unreadable = problem.what.starts_with("it cannot be read");
        let next = if path == DATABASE || path.starts_with("ocelli.db-") || unreadable {
            problem.next.clone()
        } else if path == "lock" {
            // Held by this process; its content says nothing.
            fs::write(&full, "").map_err(StoreError::io(&full))?;
            "emptied".to_owned()
        } else if problem.next != TAKEN_UP && disk::lies_at(&dir, &path) {
            let moved = disk::quarantine(&dir, &path)?;
            let more = if is_version { format!("; {RESTORE}") } else { String::new() };
            let more = if problem.next == SEND_AGAIN { format!("; {SEND_AGAIN}") } else { more };
            format!("moved to {moved}{more}")
        } else {
            problem.next.clone()
        };
        note(&database, &problem)?;
        report.problems.push(Problem { next, ..problem });
    }
    drop(database);
    drop(lock);
    // What it finds by opening the folder belongs to the repair: files that are missing are noted.
    drop(Store::open(&dir)?);
    Ok(report)
}

/// Writes what was found of a file into the database.
fn note(database: &Database, problem: &Problem) -> Result<(), StoreError> {
    database.write(|tx| {
        if problem.path.starts_with(IMAGES) && problem.next == SEND_AGAIN {
            for file in files::all(tx)?.iter().filter(|file| file.path() == problem.path) {
                files::set_damaged(tx, file.key, Some("the file is missing"))?;
            }
        }
        if problem.next.starts_with("nothing depends") {
            files::forget_kept(tx, &problem.path)?;
        }
        Ok(())
    })
}

/// What can be read of a damaged database, if need be by the schema of a new one.
fn rescue_any(path: &Path, sound: Option<&Path>, to: &Path) -> Result<Option<Rescued>, StoreError> {
    let dir = path.parent().expect("it lies in a data folder");
    if let Some(found) = rescue((path, sound), to, dir)? {
        return Ok(Some(found));
    }
    let patched = dir.join(".ocelli.tmp-patched");
    let rescue_as = |version: usize| {
        let mut found = None;
        if with_new_schema(path, &patched, version)?.is_some() {
            disk::remove(to)?;
            found = rescue((&patched, sound), to, dir)?;
        }
        for suffix in ["", "-wal", "-shm", "-journal"] {
            disk::remove(&dir.join(format!(".ocelli.tmp-patched{suffix}")))?;
        }
        Ok::<_, StoreError>(found)
    };
    // Where tables lie depends on the version in which the database was made, whatever it was brought to since.
    let mut best = (0, 0);
    for version in 1..=VERSION {
        let rows = rescue_as(version)?.map_or(0, |found| found.rows);
        best = best.max((rows, version));
    }
    match best {
        (0, _) => Ok(None),
        (_, version) => rescue_as(version),
    }
}

/// Restores the database, if it needs that; says what was done.
fn restore_database(dir: &Path) -> Result<Option<Problem>, StoreError> {
    let path = dir.join(DATABASE);
    let what = if path.symlink_metadata().is_ok() {
        match Database::look(&path).and_then(|database| database.problem("integrity_check")) {
            Ok(None) => return Ok(None),
            Ok(Some(reason)) | Err(StoreError::Database { reason, .. }) => reason,
            Err(error) => return Err(error),
        }
    } else {
        "it is missing".to_owned()
    };
    let temporary = dir.join(".ocelli.tmp-db");
    for suffix in ["", "-wal", "-shm", "-journal"] {
        disk::remove(&dir.join(format!(".ocelli.tmp-db{suffix}")))?;
    }
    let mut sound = None;
    for copy in copies(dir)? {
        let problem = Database::look(&copy).and_then(|database| database.problem("integrity_check"));
        if matches!(problem, Ok(None)) {
            sound = Some(copy);
            break;
        }
    }
    let copy_name =
        |copy: &Path| format!("{COPIES}/{}", copy.file_name().unwrap_or_default().to_string_lossy());
    let mut next = None;
    if path.is_file()
        && let Some(found) = rescue_any(&path, sound.as_deref(), &temporary)?
    {
        let partial = match (found.partial.as_slice(), &sound) {
            ([], _) => String::new(),
            (tables, None) => format!(", not all of {}", tables.join(", ")),
            (tables, Some(copy)) => {
                format!(", what was missing of {} came from {}", tables.join(", "), copy_name(copy))
            }
        };
        next = Some(format!("{} rows of it could be read{partial}", found.rows));
    }
    if next.is_none()
        && let Some(copy) = &sound
    {
        disk::remove(&temporary)?;
        fs::copy(copy, &temporary).map_err(StoreError::io(&temporary))?;
        let name = copy_name(copy);
        next = Some(format!("restored from {name}: what was done since that copy is not in it"));
    }
    if next.is_none() {
        // A new one, so that models and images can be told apart from what is lost: their classes.
        disk::remove(&temporary)?;
        drop(Database::open(&temporary)?);
        next = Some(
            "nothing of it could be read and there is no copy: begun anew; versions are taken up from models/, images are in quarantine/"
                .to_owned(),
        );
    }
    let aside = format!("{QUARANTINE}/{}", now());
    for name in [DATABASE, "ocelli.db-wal", "ocelli.db-shm"] {
        if dir.join(name).symlink_metadata().is_ok() {
            let folder = dir.join(&aside);
            fs::create_dir_all(&folder).map_err(StoreError::io(&folder))?;
            fs::rename(dir.join(name), folder.join(name)).map_err(StoreError::io(&folder))?;
        }
    }
    fs::File::open(&temporary).and_then(|file| file.sync_all()).map_err(StoreError::io(&temporary))?;
    for suffix in ["-wal", "-shm"] {
        disk::remove(&dir.join(format!(".ocelli.tmp-db{suffix}")))?;
    }
    fs::rename(&temporary, &path).map_err(StoreError::io(&path))?;
    disk::sync_folder(dir)?;
    let next = next.expect("one of three ways was taken");
    Ok(Some(Problem { path: DATABASE.to_owned(), what, next: format!("{next}; the old one is in {aside}/") }))
}
