//! Inputs as files, for readers that open a path.

use std::fs;
use std::path::Path;

/// Calls `f` with a folder that holds `files`; the folder is gone afterwards. In memory where the system has such a place.
pub(crate) fn with_files(files: &[(&str, &[u8])], f: impl FnOnce(&Path)) {
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let folder = tempfile::tempdir_in(parent).expect("a folder for the input");
    for (name, bytes) in files {
        fs::write(folder.path().join(name), bytes).expect("the input is written");
    }
    f(folder.path());
}
