//! ZIP archives, well made and otherwise.

use crate::helpers::{LIMITS, folder_of, load, message, png, summary};
use ocelli_datasets::{DecodeLimits, Fit, Preprocessing, Source};
use ocelli_testing::zip::{Part, central, stored, unicode_path, zip as archive};
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
    // The flag word's lowest bit means encrypted.
    for (bytes, expected) in [
        (patched(6, 8, 1), "encrypted"),
        (patched(8, 10, 99), "encrypted (AES)"),
        (patched(8, 10, 9), "Deflate64"),
        (patched(8, 10, 12), "bzip2"),
        (patched(8, 10, 14), "LZMA"),
        (patched(8, 10, 93), "Zstandard"),
    ] {
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

fn opened(bytes: &[u8]) -> Source {
    let (_keep, path) = saved(bytes);
    Source::open(&path).unwrap()
}

fn refusal(bytes: &[u8]) -> String {
    let (_keep, path) = saved(bytes);
    message(Source::open(&path))
}

fn parts(names: &[&[u8]]) -> Vec<Part> {
    names.iter().zip(1..).map(|(name, seed)| Part::file(name, &png(seed))).collect()
}

#[test]
fn names_are_those_of_the_field_then_the_flag_then_a_code_page_with_sense() {
    // GBK in the header, the text in the field; a field with the checksum of another name does not count.
    let mut list = parts(&[b"\xc3\xa8/1.png", b"\xb9\xb7/2.png"]);
    for (part, text) in list.iter_mut().zip(["猫/1.png", "狗/2.png"]) {
        let raw = part.central.name.clone();
        part.both(|header| header.extra = unicode_path(&raw, text));
    }
    assert_eq!(opened(&archive(&list)).classes(), ["狗", "猫"]);
    for part in &mut list {
        part.both(|header| header.extra[5] ^= 1);
    }
    let text = refusal(&archive(&list));
    for expected in ["in GBK", "in EUC-KR", "UTF-8 names (7-Zip: parameter cu=on)", "give the folder"] {
        assert!(text.contains(expected), "{text}\nlacks {expected}");
    }
    let source = opened(&archive(&parts(&[b"\x83\x5c\x83\x6f/1.png", b"\x83\x5c\x81\x5b\x83\x58/2.png"])));
    assert_eq!(source.classes(), ["ソバ", "ソース"]);
    assert!(source.notes().join("\n").contains("read as Shift_JIS"), "{:?}", source.notes());
    let source = opened(&archive(&parts(&[b"m\x84use/1.png", "forêt_é/2.png".as_bytes()])));
    assert_eq!(source.classes(), ["forêt_é", "mäuse"]);
}

/// What cannot be read does no harm where it is no class: in files, in names of files, in litter.
#[test]
fn names_that_cannot_be_read_matter_in_folders_of_images_alone() {
    let mut list = parts(&[b"cats/\xc3\xa8.png", b"dogs/\xb9\xb7.png"]);
    list.push(Part::file(b"\xc3\xa8/read.txt", b"text"));
    list.push(Part::file(b"__MACOSX/\xc3\xa8/1.png", b"text"));
    let source = opened(&archive(&list));
    assert_eq!(source.classes(), ["cats", "dogs"]);
    let notes = source.notes().join("\n");
    assert!(notes.contains("2 file names in an unknown code page"), "{notes}");
    // Without a slash nobody can tell whether this is a folder.
    list.push(Part::file(b"dogs\\\xc3\xa8.png", &png(9)));
    assert!(refusal(&archive(&list)).contains("UTF-8"));
}

#[test]
fn counts_that_wrapped_around_are_those_of_the_directory() {
    let image = png(1);
    let names = (0..65_546).map(|i| if i % 2 == 0 { format!("a/{i}.png") } else { format!("b/{i}.png") });
    let mut bytes = stored(&names.map(|name| (name, image.clone())).collect::<Vec<_>>());
    let source = opened(&bytes);
    assert_eq!(source.items().len(), 65_546);
    let end = bytes.len() - 22;
    bytes[end + 8..end + 12].copy_from_slice(&[11, 0, 11, 0]);
    let text = refusal(&bytes);
    assert!(text.contains("declares 11 entries and its directory holds 65546"), "{text}");
}

/// Offsets modulo 2^32 in an archive beyond 4 GiB without ZIP64; the file is mostly a hole.
#[test]
fn offsets_that_wrapped_around_are_found_again_or_refused() {
    use std::io::{Seek, SeekFrom};
    let list = parts(&[b"a/1.png", b"b/2.png", b"b/3.png"]);
    let starts = [0, 5 << 30, (8 << 30) + 7];
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("large.zip");
    let mut file = fs::File::create(&path).unwrap();
    let mut directory = Vec::new();
    for (part, start) in list.iter().zip(starts) {
        file.seek(SeekFrom::Start(start)).unwrap();
        file.write_all(&ocelli_testing::zip::local(part)).unwrap();
        directory.extend(central(&part.central, start as u32));
    }
    let at = file.stream_position().unwrap();
    file.write_all(&directory).unwrap();
    file.write_all(&ocelli_testing::zip::end(3, directory.len() as u32, at as u32)).unwrap();
    let source = Source::open(&path).unwrap();
    assert_eq!(source.items().len(), 3);
    for (index, part) in list.iter().enumerate() {
        assert_eq!(source.encoded(index, &LIMITS).unwrap().unwrap(), part.data);
    }
    // The last entry is gone.
    file.seek(SeekFrom::Start(starts[2])).unwrap();
    file.write_all(b"XXXX").unwrap();
    assert!(message(Source::open(&path)).contains("larger than 4 GiB and has no ZIP64"));
}

#[test]
fn what_lies_around_an_archive_is_told_or_refused() {
    let whole = stored(&files(&["a/1.png", "b/2.png"]));
    let program = [b"#!/bin/unpack\n", whole.as_slice()].concat();
    // A file that begins with something else is no data set unless its name says ZIP.
    let source = opened(&program);
    assert_eq!(source.items().len(), 2);
    assert!(source.image(1, &LIMITS).is_ok());
    assert!(source.notes().join("\n").contains("14 bytes in front"), "{:?}", source.notes());
    for behind in [&b"\0\0"[..], b"\r\n", b"some text of a mail program", &[0; 10_000]] {
        assert_eq!(opened(&[&whole, behind].concat()).items().len(), 2);
    }
    let other = stored(&files(&["c/1.png", "d/2.png"]));
    assert!(refusal(&[whole.as_slice(), &other].concat()).contains("two archives were joined"));
    // Cut off behind an archive that it holds: nothing of the inner one is taken for it.
    let outer = stored(&[("a/1.png", png(1)), ("old.zip", other), ("b/2.png", png(2))]);
    let inner_end = outer.windows(4).position(|w| w == b"PK\x05\x06").unwrap() + 22;
    for cut in [inner_end, inner_end + 60, outer.len() - 30] {
        let text = refusal(&outer[..cut]);
        assert!(text.contains("cut off"), "{cut}: {text}");
    }
}

#[test]
fn other_archives_and_parts_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut tar = vec![0u8; 1024];
    tar[257..262].copy_from_slice(b"ustar");
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&tar).unwrap();
    let packed = packed.finish().unwrap();
    let spanned = [b"PK\x07\x08".as_slice(), &stored(&files(&["a/1.png"]))].concat();
    let mut last = stored(&files(&["a/1.png", "b/1.png"]));
    let end = last.len() - 22;
    last[end + 4..end + 8].copy_from_slice(&[1, 0, 1, 0]);
    for (name, bytes, says) in [
        ("photos.tar", tar.as_slice(), "a tar archive, which is not read; unpack it"),
        ("photos.data", &tar, "a tar archive"),
        ("photos.tar.gz", &packed, "a tar archive packed with gzip"),
        ("photos", &packed, "a tar archive packed with gzip"),
        ("photos.7z", b"7z\xbc\xaf\x27\x1c....", "a 7z archive"),
        ("photos.zip", b"Rar!\x1a\x07\x01\0....", "a RAR archive"),
        ("photos.tar.xz", b"\xfd7zXZ\0....", "packed with xz"),
        ("photos.z01", &spanned, "a ZIP archive in several parts"),
        ("photos.z02", b"whatever", "a ZIP archive in several parts"),
        ("photos.zip.002", b"whatever", "an archive in several parts"),
        ("photos2.zip", &last, "one part of an archive in several parts"),
    ] {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        let text = message(Source::open(&path));
        assert!(text.contains(says), "{name}: {text}");
    }
    let inner = stored(&files(&["a/1.png", "b/1.png"]));
    for (name, bytes) in [("data/photos.zip", inner), ("photos.bin", b"7z\xbc\xaf\x27\x1c....".to_vec())] {
        let text = refusal(&stored(&[(name, bytes)]));
        assert!(text.contains("holds no image but a") && text.contains("unpack it first"), "{text}");
    }
}

/// Whatever the library for archives reads of sound ones, this reader reads.
#[test]
fn another_reader_sees_the_same() {
    let mut rng = ocelli_datasets::rng::Rng::new(11);
    for round in 0..60u64 {
        let names: Vec<String> = (0..2 + rng.below(12))
            .map(|i| format!("c{}/{}{i}.png", i % 2, if round % 3 == 0 { "é" } else { "" }))
            .collect();
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, seed) in names.iter().zip(0..) {
            let method = [CompressionMethod::Stored, CompressionMethod::Deflated][rng.below(2) as usize];
            let options =
                SimpleFileOptions::default().compression_method(method).large_file(rng.below(2) == 1);
            writer.start_file(name, options).unwrap();
            writer.write_all(&png(seed)).unwrap();
        }
        writer.set_comment("x".repeat(rng.below(300) as usize)).unwrap();
        let bytes = writer.finish().unwrap().into_inner();
        let (_keep, path) = saved(&bytes);
        let source = Source::open(&path).unwrap();
        let mut other = zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
        assert_eq!((source.items().len(), other.len()), (names.len(), names.len()));
        for (index, item) in source.items().iter().enumerate() {
            let mut content = Vec::new();
            std::io::Read::read_to_end(&mut other.by_name(&item.name).unwrap(), &mut content).unwrap();
            assert_eq!(source.encoded(index, &LIMITS).unwrap().unwrap(), content);
        }
    }
}
