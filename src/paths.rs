//! Paths as people write them: a model by its run folder, a data set in place of an image, a command to paste.

use std::path::{Path, PathBuf};

use ocelli_pipeline::{BuiltIn, Data, is_packed};

use crate::failure::Failure;

/// The bundled data set, or what is at a path, with the labels of a table where one is given beside it.
pub(crate) fn data(path: Option<PathBuf>, table: Option<PathBuf>) -> Data {
    match (path, table) {
        (Some(images), Some(table)) => Data::Labelled { images, table },
        (path, _) => path.map_or(Data::Bundled, Data::Path),
    }
}

/// Whether a path names a model: a `.ocelli` file, a run folder, or one in this program.
pub(crate) fn is_model(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("ocelli"))
        || path.join("weights").join("best.ocelli").is_file()
        || BuiltIn::named(path).is_some()
        || is_packed(path)
}

/// The model of a command that takes one by an option or as the first of its paths; images follow.
pub(crate) fn model_before_images(
    model: Option<PathBuf>,
    paths: &mut Vec<PathBuf>,
    command: &str,
) -> Result<Option<PathBuf>, Failure> {
    let model = match model {
        None if is_model(&paths[0]) => Some(paths.remove(0)),
        model => model,
    };
    if paths.is_empty() {
        let hint = format!("`ocelli {command} MODEL IMAGE...`, or - for standard input");
        return Err(Failure::usage("a model is given, but no image", hint));
    }
    Ok(model)
}

/// What a file is that was given as an image and is none, and what to do with it; by its name and its first bytes.
pub(crate) fn no_image(path: &Path, head: &[u8]) -> Option<&'static str> {
    let extension = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    match (head, extension.as_str()) {
        ([b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..], _) => Some(
            "a ZIP archive: unpack it and give the folder; archives of labelled images are for `ocelli evaluate MODEL DATA`",
        ),
        (_, "csv" | "tsv") => Some(
            "a table: give the images or their folder; tables of labelled images are for `ocelli evaluate MODEL DATA`",
        ),
        ([0, 0, 8, 1 | 3 | 4, ..], _) => Some(
            "an IDX file, not an image: `ocelli evaluate MODEL DATA` reads it, with its labels beside it",
        ),
        ([0x1f, 0x8b, ..], _) => Some("a gzip file: unpack it and give the image or the folder"),
        (_, "ocelli") => Some("a model: it comes first, or behind --model"),
        _ => None,
    }
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
    fn data_sets_and_models_are_no_images() {
        let says = |name: &str, head: &[u8]| no_image(Path::new(name), head);
        for (name, head, expected) in [
            ("photos.zip", &b"PK\x03\x04"[..], "a ZIP archive"),
            ("photos", b"PK\x05\x06", "a ZIP archive"),
            ("labels.CSV", b"file,label", "a table"),
            ("labels.tsv", b"", "a table"),
            ("train-images-idx3-ubyte", b"\0\0\x08\x03", "an IDX file"),
            ("train-images-idx3-ubyte.gz", b"\x1f\x8b\x08", "a gzip file"),
            ("best.ocelli", b"OCELLI", "a model"),
        ] {
            assert!(says(name, head).is_some_and(|text| text.starts_with(expected)), "{name}");
        }
        for (name, head) in
            [("a.png", &b"\x89PNG"[..]), ("notes.txt", b"hello"), ("a.heic", b"\0\0\0\x18ftyp")]
        {
            assert_eq!(says(name, head), None, "{name}");
        }
    }

    #[test]
    fn words_survive_a_shell() {
        assert_eq!(shell_word(Path::new("runs/a-001")), "runs/a-001");
        assert_eq!(shell_word(Path::new("my runs/it's")), "'my runs/it'\\''s'");
    }
}
