//! Reading the small files that a service is started with: settings, keys, certificates.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::failure::Failure;

/// A settings file is a page of text; more than this is some other file.
const MAX_FILE: u64 = 1 << 20;

/// The text of such a file.
pub(super) fn read_text(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE + 1).read_to_string(&mut text))
        .map_err(|error| Failure::io(path, &error))?;
    if text.len() as u64 > MAX_FILE {
        let reason = format!("{} is larger than {MAX_FILE} bytes", path.display());
        return Err(Failure::usage(reason, "name the file of settings, keys or certificates"));
    }
    Ok(text)
}
