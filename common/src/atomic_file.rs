//! Files that a crash leaves whole: the old one or the new one, never a part.
//!
//! A file is written beside the old one under a hidden temporary name, brought to the disk, then renamed; then the rename is
//! brought to the disk. Temporary files that a kill left can be told by [`is_temporary`].

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Between the name of a file and the numbers of its writer.
const MARK: &str = ".tmp-";

/// A file that is being written under a temporary name, and is removed when this is dropped.
#[derive(Debug)]
pub struct Temporary {
    path: PathBuf,
    file: File,
    renamed: bool,
}

impl Temporary {
    /// Makes a file in the folder of `path` under a name that no other writer uses, to be written and read.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn create_beside(path: &Path) -> io::Result<Self> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
        loop {
            let mut hidden = OsString::from(".");
            hidden.push(name);
            let count = COUNTER.fetch_add(1, Ordering::Relaxed);
            hidden.push(format!("{MARK}{}-{count}", std::process::id()));
            let path = path.with_file_name(hidden);
            match OpenOptions::new().read(true).write(true).create_new(true).open(&path) {
                // Left by a killed process that had this one's number.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                result => return Ok(Temporary { file: result?, path, renamed: false }),
            }
        }
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Brings the file to the disk and gives it its name, in the same folder; a file of that name is replaced.
    ///
    /// # Errors
    /// Those of the file system; the old file is as it was then.
    pub fn rename(&mut self, path: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.path, path)?;
        self.renamed = true;
        sync_parent(path)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.renamed {
            // What stays behind can be told by its name.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Writes a file at `path` with what `write` gives it. The temporary file is gone after an error, and the old file is as it
/// was.
///
/// # Errors
/// Those of `write`, and those of the file system.
pub fn write_with<T>(path: &Path, write: impl FnOnce(&mut File) -> io::Result<T>) -> io::Result<T> {
    let mut temporary = Temporary::create_beside(path)?;
    let value = write(&mut temporary.file)?;
    temporary.rename(path)?;
    Ok(value)
}

/// As [`write_with`], for bytes that are there already.
///
/// # Errors
/// Those of the file system.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_with(path, |file| file.write_all(bytes))
}

/// Whether a file of this name was being written when its writer ended.
pub fn is_temporary(name: &str) -> bool {
    name.starts_with('.') && name.contains(MARK)
}

/// Makes a rename in the folder of `path` survive a power cut.
///
/// # Errors
/// Those of the file system.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    sync_folder(path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")))
}

/// Makes what was created, renamed or removed in a folder survive a power cut.
///
/// # Errors
/// Those of the file system.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    // Only Unix opens folders as files.
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// Removes a file that may be gone already.
///
/// # Errors
/// Those of the file system.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write(&path, b"old").unwrap();
        write(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        let failed = write_with(&path, |file| {
            file.write_all(b"half")?;
            let names = names(folder.path());
            assert!(names.iter().any(|name| is_temporary(name)), "{names:?}");
            Err::<(), _>(io::Error::other("no more"))
        });
        assert_eq!(failed.unwrap_err().to_string(), "no more");
        assert_eq!(
            (fs::read(&path).unwrap(), names(folder.path())),
            (b"new".to_vec(), vec!["file".to_owned()])
        );
    }

    #[test]
    fn writers_of_one_file_do_not_meet() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::thread::scope(|scope| {
            for byte in 0..8_u8 {
                let path = &path;
                scope.spawn(move || (0..20).for_each(|_| write(path, &[byte; 4096]).unwrap()));
            }
        });
        let bytes = fs::read(&path).unwrap();
        assert!(bytes.len() == 4096 && bytes.iter().all(|byte| *byte == bytes[0]));
        assert_eq!(names(folder.path()), ["file"]);
    }

    #[test]
    fn what_has_no_name_or_no_folder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(write(Path::new("/"), b"").is_err());
        assert!(write(&folder.path().join("nowhere/file"), b"").is_err());
        fs::create_dir(folder.path().join("folder")).unwrap();
        assert!(write(&folder.path().join("folder"), b"").is_err());
        assert_eq!(names(folder.path()), ["folder"]);
    }
}
