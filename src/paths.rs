//! Paths as people write them: a model by its run folder, images by their folder, a command to paste.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ocelli_pipeline::Data;

/// Names that are taken for images when a folder is searched; a file that is named itself may be called anything.
const IMAGE_EXTENSIONS: [&str; 8] = ["jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff"];
/// Deepest nesting of folders that is searched: a loop of links ends here at the latest.
const MAX_DEPTH: usize = 64;

/// The bundled data set, or what is at a path.
pub(crate) fn data(path: Option<PathBuf>) -> Data {
    path.map_or(Data::Bundled, Data::Path)
}

/// Whether a path names a model: a `.ocelli` file or a run folder.
pub(crate) fn is_model(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("ocelli"))
        || path.join("weights").join("best.ocelli").is_file()
}

/// All images below a folder, sorted, or only those in it. Hidden files are left out; links to folders are not
/// followed.
pub(crate) fn images_in(folder: &Path, recursive: bool) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    collect(folder, recursive, 0, &mut found)?;
    Ok(found)
}

fn collect(folder: &Path, recursive: bool, depth: usize, found: &mut Vec<PathBuf>) -> io::Result<()> {
    let mut entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name();
        if name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            if recursive && depth < MAX_DEPTH {
                collect(&path, recursive, depth + 1, found)?;
            }
        } else if is_image_name(&path) {
            found.push(path);
        }
    }
    Ok(())
}

fn is_image_name(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    IMAGE_EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known))
}

/// A path as one word of a shell command.
pub(crate) fn shell_word(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_a_shell() {
        assert_eq!(shell_word(Path::new("runs/a-001")), "runs/a-001");
        assert_eq!(shell_word(Path::new("my runs/it's")), "'my runs/it'\\''s'");
    }
}
