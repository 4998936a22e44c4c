//! Where the files of a data folder lie, and how they come and go.
//!
//! Files come before the rows that name them, and are on the disk before these are written; they go after the rows. A kill
//! between the two leaves a file that no row names: the next start removes what was to go, and puts everything else into
//! `quarantine/`.

use std::fs::{self, DirEntry, File};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use ocelli_common::atomic_file;
use ocelli_common::text::chain;
use ocelli_datasets::{DecodeError, DecodeLimits, decode, file_format};
use sha2::{Digest, Sha256};

use crate::store::database::FileRow;
use crate::store::database::files::StoredFile;
use crate::store::error::StoreError;
#[cfg(not(target_os = "linux"))]
use crate::store::image::IMAGES;
use crate::store::image::{Id, image_path};

/// What is being received; emptied at every start.
pub(super) const INCOMING: &str = "incoming";
/// Files that nothing names.
pub(super) const QUARANTINE: &str = "quarantine";
/// Times that a file of the same path can go to quarantine.
const MAX_AGAIN: u32 = 10_000;
/// Copies of the database.
pub(super) const COPIES: &str = "copies";
/// The database.
pub(super) const DATABASE: &str = "ocelli.db";

/// Where an image in transit lies. In folders of its own, so that threads that write do not wait for each other: a file
/// system makes one file of a folder at a time.
pub(super) fn staged_path(staging: &Path, id: &Id, extension: &str) -> PathBuf {
    let name = file_name(id, extension);
    staging.join(&name[..2]).join(name)
}

pub(super) fn file_name(id: &Id, extension: &str) -> String {
    format!("{id}.{extension}")
}

/// Decodes an image, which is the test it must pass; gives its id and the extension that fits its content.
pub(super) fn examine(bytes: &[u8], limits: &DecodeLimits) -> Result<(Id, &'static str), DecodeError> {
    decode(bytes, limits)?;
    let format = file_format(bytes).expect("what was decoded has a format");
    Ok((Id::of(bytes), format.extension))
}

/// When a file was last changed, in nanoseconds since 1970; 0 where the system does not say.
pub(super) fn written(meta: &fs::Metadata) -> i64 {
    let since = meta.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.and_then(|since| i64::try_from(since.as_nanos()).ok()).unwrap_or(0)
}

/// Writes an image under its id into a folder, where the same image may lie already. Not synced.
pub(super) fn put(
    folder: &Path,
    (id, extension): (Id, &'static str),
    bytes: &[u8],
) -> Result<StoredFile, StoreError> {
    let path = staged_path(folder, &id, extension);
    let mut stored = StoredFile { id, extension, bytes: bytes.len() as u64, written: 0 };
    let created = match File::create_new(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            make_folder(path.parent().expect("it lies in a folder"))?;
            File::create_new(&path)
        }
        created => created,
    };
    let mut file = match created {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(stored),
        file => file.map_err(StoreError::io(&path))?,
    };
    let meta = file.write_all(bytes).and_then(|()| file.metadata()).map_err(|error| {
        // Half an image must not pass for a whole one.
        let _ = fs::remove_file(&path);
        StoreError::io(&path)(error)
    })?;
    stored.written = written(&meta);
    Ok(stored)
}

/// Moves staged images to where rows will name them. Not synced.
pub(super) fn move_in(
    dir: &Path,
    staging: &Path,
    images: &[StoredFile],
    moved: &mut Vec<PathBuf>,
) -> Result<(), StoreError> {
    for file in images {
        let path = image_path(&file.id, file.extension);
        let (from, target) = (staged_path(staging, &file.id, file.extension), dir.join(&path));
        if fs::rename(&from, &target).is_err() {
            clear_way(dir, &path)?;
            fs::rename(&from, &target).map_err(StoreError::io(&target))?;
        }
        moved.push(target);
    }
    Ok(())
}

/// Makes the folders around an image file. What lies in the way and is not what should be there goes to quarantine.
fn clear_way(dir: &Path, path: &str) -> Result<(), StoreError> {
    for (end, _) in path.match_indices('/') {
        let folder = &path[..end];
        let full = dir.join(folder);
        let in_the_way = match fs::metadata(&full) {
            Ok(meta) => !meta.is_dir(),
            // A link to nothing.
            Err(error) => error.kind() == ErrorKind::NotFound && full.symlink_metadata().is_ok(),
        };
        if in_the_way {
            quarantine(dir, folder)?;
        }
        make_folder(&full)?;
    }
    if dir.join(path).symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
        quarantine(dir, path)?;
    }
    Ok(())
}

/// Brings everything that was written below a folder to the disk: one system call for a whole upload on Linux.
pub(super) fn sync(dir: &Path, written: &[PathBuf]) -> Result<(), StoreError> {
    #[cfg(target_os = "linux")]
    {
        let _ = written;
        let folder = File::open(dir).map_err(StoreError::io(dir))?;
        rustix::fs::syncfs(&folder).map_err(|error| StoreError::io(dir)(error.into()))
    }
    #[cfg(not(target_os = "linux"))]
    {
        sync_each(written)?;
        let mut folders: Vec<&Path> = written.iter().filter_map(|path| path.parent()).collect();
        folders.sort();
        folders.dedup();
        folders.into_iter().try_for_each(sync_folder)?;
        sync_folder(&dir.join(IMAGES))?;
        sync_folder(dir)
    }
}

/// Syncs files on a few threads: the disk orders what it is told at once.
#[cfg(not(target_os = "linux"))]
fn sync_each(written: &[PathBuf]) -> Result<(), StoreError> {
    const THREADS: usize = 8;
    let part = written.len().div_ceil(THREADS).max(1);
    std::thread::scope(|scope| {
        let sync = |paths: &[PathBuf]| {
            paths.iter().try_for_each(|path| {
                File::open(path).and_then(|file| file.sync_all()).map_err(StoreError::io(path))
            })
        };
        let threads: Vec<_> = written.chunks(part).map(|paths| scope.spawn(move || sync(paths))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("syncing does not panic"))
    })
}

/// What became of a file that a row describes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    Whole,
    /// It is not what was stored; why.
    Damaged(String),
    /// It cannot be read just now, which says nothing about its content.
    Unreadable(String),
}

/// Why a file of another size or content is damaged.
pub(super) fn other_size(found: u64, bytes: u64) -> String {
    format!("it has {found} bytes in place of {bytes}")
}

/// Reads an image and compares it with its hash.
pub(super) fn inspect_image(dir: &Path, file: &FileRow) -> (Condition, Vec<u8>) {
    let path = dir.join(file.path());
    let bytes = match read_regular(&path) {
        Ok(bytes) => bytes,
        Err(error) => return (condition_of(&error), Vec::new()),
    };
    if bytes.len() as u64 != file.bytes {
        return (Condition::Damaged(other_size(bytes.len() as u64, file.bytes)), bytes);
    }
    if Id::of(&bytes) != file.id {
        return (Condition::Damaged("its content is another one".to_owned()), bytes);
    }
    (Condition::Whole, bytes)
}

/// What an error of reading says about a file that should be there.
pub(super) fn condition_of(error: &io::Error) -> Condition {
    match error.kind() {
        ErrorKind::NotFound => Condition::Damaged("the file is missing".to_owned()),
        ErrorKind::IsADirectory | ErrorKind::NotADirectory | ErrorKind::InvalidInput => {
            Condition::Damaged("something else lies in its place".to_owned())
        }
        _ => Condition::Unreadable(format!("it cannot be read: {error}")),
    }
}

fn read_regular(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(ErrorKind::InvalidInput.into());
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Size and SHA-256 of a file.
pub(super) fn digest(path: &Path) -> io::Result<(u64, [u8; 32])> {
    let mut file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(ErrorKind::InvalidInput.into());
    }
    let (mut hasher, mut piece, mut bytes) = (Sha256::new(), vec![0; 64 << 10], 0);
    loop {
        match file.read(&mut piece)? {
            0 => return Ok((bytes, hasher.finalize().into())),
            n => {
                hasher.update(&piece[..n]);
                bytes += n as u64;
            }
        }
    }
}

/// Moves a file or folder into `quarantine/`, at the path that it had; says where it lies now, relative to the data folder.
pub(super) fn quarantine(dir: &Path, path: &str) -> Result<String, StoreError> {
    let from = find_shown(dir, path);
    let mut number = 0_u32;
    loop {
        // A number after the top folder, so that no part of a path is in the way of another one.
        let top = if number == 0 { QUARANTINE.to_owned() } else { format!("{QUARANTINE}/again-{number}") };
        let free = format!("{top}/{path}");
        let full = dir.join(&free);
        let around = full.parent().expect("it lies in a folder");
        let made = fs::create_dir_all(around);
        if full.symlink_metadata().is_err() && made.is_ok() {
            fs::rename(&from, &full).map_err(StoreError::io(&full))?;
            return Ok(free);
        }
        // A file lies where a folder is needed, or the name is taken; another reason stays the same whatever the number.
        if number == MAX_AGAIN {
            return Err(made.err().map_or_else(
                || StoreError::io(&full)(ErrorKind::AlreadyExists.into()),
                |error| StoreError::io(around)(error),
            ));
        }
        number += 1;
    }
}

/// The file whose path below a folder is shown as `path`: names that are no Unicode are looked for.
fn find_shown(dir: &Path, path: &str) -> PathBuf {
    let mut full = dir.to_owned();
    for part in path.split('/') {
        let next = full.join(part);
        full = if next.symlink_metadata().is_ok() {
            next
        } else {
            let shown = |entry: &DirEntry| entry.file_name().to_string_lossy() == part;
            entries(&full).unwrap_or_default().iter().find(|entry| shown(entry)).map_or(next, DirEntry::path)
        };
    }
    full
}

/// Whether something lies at a path as [`walk`] gives it.
pub(super) fn lies_at(dir: &Path, path: &str) -> bool {
    find_shown(dir, path).symlink_metadata().is_ok()
}

/// Makes names in a folder survive a power cut.
pub(super) fn sync_folder(path: &Path) -> Result<(), StoreError> {
    atomic_file::sync_folder(path).map_err(StoreError::io(path))
}

/// Makes a folder that may be there already. Its name is on the disk once the folder around it is synced.
pub(super) fn make_folder(path: &Path) -> Result<(), StoreError> {
    match fs::create_dir(path) {
        // Whatever it is called: a folder that is there and a disk without room may be told in either order.
        Err(_) if path.is_dir() => Ok(()),
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

/// As [`walk`], with the folders that cannot be read, and why.
pub(super) fn walk_readable(dir: &Path, folder: &str) -> (Vec<String>, Vec<(String, String)>) {
    let (mut found, mut closed) = (Vec::new(), Vec::new());
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let there = match entries(&dir.join(&folder)) {
            Ok(there) => there,
            Err(StoreError::Io { source, .. }) => {
                closed.push((folder, source.to_string()));
                continue;
            }
            Err(error) => {
                closed.push((folder, chain(&error)));
                continue;
            }
        };
        for entry in there {
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            // Not following links: what they point to is not ours.
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(path),
                _ => found.push(path),
            }
        }
    }
    found.sort();
    (found, closed)
}

/// All files below a folder of the data folder, as paths relative to the latter with `/` between the parts, sorted.
/// Names that are no Unicode are given as they can be shown.
pub(super) fn walk(dir: &Path, folder: &str) -> Result<Vec<String>, StoreError> {
    let (found, closed) = walk_readable(dir, folder);
    match closed.into_iter().next() {
        None => Ok(found),
        Some((folder, reason)) => Err(StoreError::io(&dir.join(folder))(io::Error::other(reason))),
    }
}

/// Bytes of all files below a folder.
pub(super) fn size(dir: &Path, folder: &str) -> u64 {
    let (files, _) = walk_readable(dir, folder);
    files.iter().filter_map(|path| fs::symlink_metadata(dir.join(path)).ok()).map(|meta| meta.len()).sum()
}

/// Removes a file that may be gone already.
pub(super) fn remove(path: &Path) -> Result<(), StoreError> {
    atomic_file::remove(path).map_err(StoreError::io(path))
}
