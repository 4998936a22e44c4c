//! ZIP archives, well made and otherwise.

use crate::helpers::{LIMITS, folder_of, load, message, png, summary};
use ocelli_datasets::{DecodeLimits, Fit, Preprocessing, Source};
use std::fs;
use std::io::{Cursor, Write};
use std::path::PathBuf;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// Archive bytes of files; names that end in `/` become folders.
pub(crate) fn zip_of(files: &[(&str, Vec<u8>)], method: CompressionMethod) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(method);
    for (name, bytes) in files {
        if name.ends_with('/') {
            writer.add_directory(*name, options).unwrap();
        } else {
            writer.start_file(*name, options).unwrap();
            writer.write_all(bytes).unwrap();
        }
    }
    writer.finish().unwrap().into_inner()
}

fn saved(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("photos.zip");
    fs::write(&path, bytes).unwrap();
    (dir, path)
}

pub(crate) fn files(names: &[&'static str]) -> Vec<(&'static str, Vec<u8>)> {
    names.iter().copied().zip((1..).map(png)).collect()
}

#[test]
fn a_zip_reads_like_the_folder_it_was_made_of() {
    let names = ["train/cats/1.png", "train/dogs/2.png", "test/cats/3.png", "test/dogs/4.png"];
    let dir = folder_of(&names);
    let folder = Source::open(dir.path()).unwrap();
    for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
        let (_keep, path) = saved(&zip_of(&files(&names), method));
        let zip = Source::open(&path).unwrap();
        assert_eq!((zip.kind(), zip.name()), ("zip", "photos"));
        assert_eq!(summary(&zip), summary(&folder));
        for i in 0..names.len() {
            assert_eq!(zip.image(i, &LIMITS).unwrap(), folder.image(i, &LIMITS).unwrap());
        }
    }
}

#[test]
fn wrappers_backslashes_and_litter() {
    let mut list = files(&["wrap\\cats\\1.png", "wrap\\dogs\\2.png", "wrap/cats/3.png", "../dogs/out.png"]);
    list.push(("wrap/", Vec::new()));
    list.push(("__MACOSX/wrap/cats/._1.png", b"junk".to_vec()));
    list.push(("wrap/.DS_Store", b"junk".to_vec()));
    list.push(("wrap/readme.txt", b"hello".to_vec()));
    let (_keep, path) = saved(&zip_of(&list, CompressionMethod::Deflated));
    let source = Source::open(&path).unwrap();
    let names: Vec<&str> = source.items().iter().map(|i| i.name.as_str()).collect();
    assert_eq!(names, ["wrap/cats/1.png", "wrap/cats/3.png", "wrap/dogs/2.png"]);
    let notes = source.notes().join("\n");
    for expected in ["2 hidden or system files", "\"..\"", "readme.txt", "read as class folders in wrap/"] {
        assert!(notes.contains(expected), "{notes}\nlacks {expected}");
    }
}

#[test]
fn links_are_left_out_and_doubles_noted() {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default();
    for (name, bytes) in files(&["cats/1.png", "dogs/1.png", "cats\\1.png"]) {
        writer.start_file(name, options).unwrap();
        writer.write_all(&bytes).unwrap();
    }
    writer.add_symlink("dogs/link.png", "/etc/passwd", options).unwrap();
    let (_keep, path) = saved(&writer.finish().unwrap().into_inner());
    let source = Source::open(&path).unwrap();
    assert_eq!(source.items().len(), 2);
    let notes = source.notes().join("\n");
    assert!(notes.contains("1 symbolic link ignored") && notes.contains("listed more than once"), "{notes}");
}

#[test]
fn names_without_the_utf8_flag_are_read_as_utf8_where_they_are() {
    let bytes = zip_of(&files(&["mAuse/1.png", "katzen/1.png"]), CompressionMethod::Stored);
    // Same length, but bytes that only UTF-8 gives sense to; the flag stays unset.
    let patch = |bytes: &[u8], to: &[u8]| {
        let mut bytes = bytes.to_vec();
        for at in 0..bytes.len() - 5 {
            if &bytes[at..at + 3] == b"mAu" {
                bytes[at..at + 3].copy_from_slice(to);
            }
        }
        bytes
    };
    let (_keep, path) = saved(&patch(&bytes, "mé".as_bytes()));
    assert_eq!(Source::open(&path).unwrap().classes(), ["katzen", "mése"]);
    // Not UTF-8: the code page of DOS.
    let (_keep, path) = saved(&patch(&bytes, b"m\x84u"));
    assert_eq!(Source::open(&path).unwrap().classes(), ["katzen", "mäuse"]);
}

#[test]
fn encrypted_entries_and_other_compressions_are_named() {
    let bytes = zip_of(&files(&["a/1.png", "a/2.png", "b/3.png", "b/4.png"]), CompressionMethod::Stored);
    let patched = |offset_local: usize, offset_central: usize, value: u8| {
        let mut bytes = bytes.clone();
        let local = bytes.windows(4).position(|w| w == b"PK\x03\x04").unwrap();
        let central = bytes.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
        bytes[local + offset_local] |= value;
        bytes[central + offset_central] |= value;
        bytes
    };
    // The flag word's lowest bit means encrypted; method 12 is bzip2.
    for (bytes, expected) in
        [(patched(6, 8, 1), "encrypted"), (patched(8, 10, 12), "compression is not supported")]
    {
        let (_keep, path) = saved(&bytes);
        let source = Source::open(&path).unwrap();
        let error = source.image(0, &LIMITS).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(source.image(1, &LIMITS).is_ok());
        let set = load(&source, &Preprocessing::new(4, 4, 3, Fit::Stretch), 2).unwrap();
        assert_eq!((set.len(), set.skipped().len()), (3, 1));
    }
}

#[test]
fn bombs_are_counted_while_they_inflate() {
    let zeros = vec![0u8; 8 << 20];
    let list = [("a/bomb.png", zeros), ("b/1.png", png(1))];
    let mut bytes = zip_of(&list, CompressionMethod::Deflated);
    let limits = DecodeLimits { max_bytes: 1 << 20, ..LIMITS };
    let (_keep, path) = saved(&bytes);
    let error = Source::open(&path).unwrap().image(0, &limits).unwrap_err().to_string();
    assert!(error.contains("larger than 1 MiB"), "{error}");
    // The same with a declared size that lies.
    let central = bytes.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
    bytes[central + 24..central + 28].copy_from_slice(&100u32.to_le_bytes());
    bytes[22..26].copy_from_slice(&100u32.to_le_bytes());
    let (_keep, path) = saved(&bytes);
    let error = Source::open(&path).unwrap().image(0, &limits).unwrap_err().to_string();
    assert!(error.contains("larger than 1 MiB") || error.contains("damaged"), "{error}");
}

#[test]
fn empty_cut_and_false_archives() {
    let empty = zip_of(&[], CompressionMethod::Stored);
    let whole = zip_of(&files(&["a/1.png", "b/1.png"]), CompressionMethod::Stored);
    let cases: [(&[u8], &str); 5] = [
        (&empty, "no images found (it is empty)"),
        (&whole[..whole.len() / 2], "damaged or cut off"),
        (b"", "does not begin like a ZIP"),
        (b"plain text", "does not begin like a ZIP"),
        (b"PK\x03\x04", "damaged or cut off"),
    ];
    for (bytes, expected) in cases {
        let (_keep, path) = saved(bytes);
        let text = message(Source::open(&path));
        assert!(text.contains(expected), "{text}");
    }
    let one = zip_of(&files(&["wrap/cats/1.png", "wrap/cats/2.png"]), CompressionMethod::Stored);
    let (_keep, path) = saved(&one);
    assert!(message(Source::open(&path)).contains("only one class found (\"cats\")"));
}

#[test]
fn a_zip64_record_that_declares_too_many_entries_is_refused() {
    let mut bytes = zip_of(&files(&["a/1.png", "b/1.png"]), CompressionMethod::Stored);
    let end = bytes.windows(4).rposition(|w| w == b"PK\x05\x06").unwrap();
    let mut tail = bytes.split_off(end);
    tail[8..12].fill(0xff);
    let mut record = vec![0u8; 56];
    record[..4].copy_from_slice(b"PK\x06\x06");
    record[4..12].copy_from_slice(&44u64.to_le_bytes());
    record[24..32].copy_from_slice(&2_000_000u64.to_le_bytes());
    record[32..40].copy_from_slice(&2_000_000u64.to_le_bytes());
    let mut locator = vec![0u8; 20];
    locator[..4].copy_from_slice(b"PK\x06\x07");
    locator[8..16].copy_from_slice(&(end as u64).to_le_bytes());
    locator[16] = 1;
    let (_keep, path) = saved(&[bytes, record, locator, tail].concat());
    assert!(message(Source::open(&path)).contains("2000000 entries; at most 1000000"));
}

#[test]
fn flipped_bytes_never_panic() {
    let bytes = zip_of(&files(&["a/1.png", "a/2.png", "b/3.png"]), CompressionMethod::Deflated);
    let mut rng = ocelli_datasets::rng::Rng::new(3);
    for _ in 0..500 {
        let mut damaged = bytes.clone();
        for _ in 0..1 + rng.below(6) {
            let at = rng.below(damaged.len() as u64) as usize;
            damaged[at] = rng.next_u64() as u8;
        }
        damaged.truncate(damaged.len() - rng.below(20) as usize);
        let (_keep, path) = saved(&damaged);
        if let Ok(source) = Source::open_any(&path) {
            (0..source.items().len()).for_each(|i| drop(source.image(i, &LIMITS)));
        }
    }
}
