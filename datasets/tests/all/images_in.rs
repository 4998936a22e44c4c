//! The images of a folder that is no data set.

use std::fs;
use std::path::Path;

use ocelli_datasets::{DatasetError, images_in};

const JPEG: &[u8] = b"\xff\xd8\xff\xe0 and so on";
const HEIC: &[u8] = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic";
const AVIF: &[u8] = b"\0\0\0\x18ftypavif\0\0\0\0avifmif1";

fn write(root: &Path, files: &[(&str, &[u8])]) {
    for (name, bytes) in files {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// Paths below `root`, with `/` between the parts.
fn names<'a>(root: &Path, paths: impl IntoIterator<Item = &'a std::path::PathBuf>) -> Vec<String> {
    paths.into_iter().map(|path| path.strip_prefix(root).unwrap().to_str().unwrap().to_owned()).collect()
}

#[test]
fn files_are_told_as_in_training() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    write(
        root,
        &[
            ("a.jpg", JPEG),
            ("b.jfif", JPEG),
            ("c.JPE", JPEG),
            ("d", JPEG),
            ("e.heic", JPEG),
            ("f.HEIC", HEIC),
            ("g", HEIC),
            ("h.avif", AVIF),
            ("i.dat", b"BM and so on"),
            ("j.png", b"a text that calls itself an image"),
            ("notes.txt", b"hello"),
            ("empty", b""),
            (".DS_Store", b"x"),
            ("._a.jpg", JPEG),
            ("Thumbs.db", b"x"),
            ("__MACOSX/a.jpg", JPEG),
            ("deep/k.jpg", JPEG),
            ("deep/er/l.HEIF", HEIC),
        ],
    );
    let flat = images_in(root, false).unwrap();
    let images = ["a.jpg", "b.jfif", "c.JPE", "d", "e.heic", "i.dat", "j.png"];
    assert_eq!(names(root, &flat.images), images);
    assert_eq!(names(root, flat.undecoded.iter().map(|(path, _)| path)), ["f.HEIC", "g", "h.avif"]);
    assert_eq!(
        flat.undecoded.iter().map(|(_, format)| *format).collect::<Vec<_>>(),
        ["HEIC", "HEIC", "AVIF"]
    );
    assert_eq!(flat.warnings.len(), 2);
    assert!(flat.warnings[0].starts_with("1 AVIF file is not read: h.avif; convert"), "{:?}", flat.warnings);
    assert!(
        flat.warnings[1].starts_with("2 HEIC files are not read: f.HEIC, g; convert"),
        "{:?}",
        flat.warnings
    );
    assert_eq!(
        flat.notes,
        ["2 non-image files ignored: empty, notes.txt", "4 hidden or system files ignored"]
    );
    assert_eq!(flat.folders, 1);

    let deep = images_in(root, true).unwrap();
    assert_eq!(
        names(root, &deep.images),
        ["a.jpg", "b.jfif", "c.JPE", "d", "deep/k.jpg", "e.heic", "i.dat", "j.png"]
    );
    assert!(
        deep.warnings[1].starts_with("3 HEIC files are not read: deep/er/l.HEIF, f.HEIC, g; "),
        "{:?}",
        deep.warnings
    );
    assert_eq!(deep.folders, 0);
}

#[test]
fn a_folder_may_be_empty_or_missing() {
    let folder = tempfile::tempdir().unwrap();
    let found = images_in(folder.path(), true).unwrap();
    assert!(found.images.is_empty() && found.undecoded.is_empty() && found.notes.is_empty());
    assert!(matches!(images_in(&folder.path().join("no"), true), Err(DatasetError::NotFound { .. })));
}

#[cfg(unix)]
#[test]
fn links_are_followed_and_circles_are_not() {
    use std::os::unix::fs::symlink;
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let root = folder.path();
    write(root, &[("a.jpg", JPEG)]);
    write(other.path(), &[("b.jpg", JPEG)]);
    symlink(other.path(), root.join("linked")).unwrap();
    symlink(root, root.join("circle")).unwrap();
    symlink(root.join("a.jpg"), root.join("again.jpg")).unwrap();
    let found = images_in(root, true).unwrap();
    assert_eq!(names(root, &found.images), ["a.jpg", "again.jpg", "linked/b.jpg"]);
    assert_eq!(found.notes, ["link circle/ leads back to a folder around it: not followed"]);
}
