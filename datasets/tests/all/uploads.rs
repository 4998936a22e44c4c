//! Archives from outside: everything hostile is refused with its reason, everything unusual is read.

use crate::zips::{files, zip_of};
use ocelli_datasets::rng::Rng;
use ocelli_datasets::{
    DecodeLimits, Image, Pixels, Source, Split, UploadError, UploadLimits, UploadZip, decode, file_format,
    thumbnail,
};
use ocelli_testing::hostile::images;
use ocelli_testing::hostile::images::{Fate, cuts};
use ocelli_testing::hostile::zips::{Part, bomb, corpus, fine, unusual, zip};
use ocelli_testing::zip::stored;
use ocelli_testing::zip::zeros;
use std::fs;
use std::path::{Path, PathBuf};
use zip::CompressionMethod;

fn saved(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("upload.zip");
    fs::write(&path, bytes).unwrap();
    (dir, path)
}

/// Reads an archive to its end: its images, or the first error.
fn read(bytes: &[u8], limits: &UploadLimits) -> Result<Vec<(String, Vec<u8>)>, UploadError> {
    let (_keep, path) = saved(bytes);
    read_file(&path, limits)
}

fn read_file(path: &Path, limits: &UploadLimits) -> Result<Vec<(String, Vec<u8>)>, UploadError> {
    let archive = UploadZip::open(path, limits)?;
    let name = |i: usize| archive.items()[i].name.clone();
    (0..archive.items().len()).map(|i| Ok((name(i), archive.bytes(i)?))).collect()
}

#[test]
fn everything_hostile_is_refused_with_its_reason() {
    for case in corpus() {
        let error = match read(&case.bytes, &UploadLimits::default()) {
            Err(UploadError::Io { source }) => panic!("{}: {source}", case.name),
            Err(error) => error.to_string(),
            Ok(images) => panic!("{} is taken, {} images", case.name, images.len()),
        };
        assert!(error.contains(case.says), "{}: {error:?} lacks {:?}", case.name, case.says);
        let fine = error.len() < 500 && !error.chars().any(char::is_control);
        assert!(fine && !error.contains("upload.zip"), "{}: {error:?}", case.name);
    }
}

#[test]
fn everything_unusual_is_read() {
    for (name, bytes) in unusual() {
        let images = read(&bytes, &UploadLimits::default()).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(images.len(), 4, "{name}");
        assert!(images.iter().all(|(_, bytes)| decode(bytes, &DecodeLimits::default()).is_ok()), "{name}");
    }
}

/// What another program writes, packed or not, is read as it is by [`Source`].
#[test]
fn archives_of_other_writers_are_read() {
    let list = files(&["cats/1.png", "cats/2.png", "dogs/3.png", "dogs/4.png"]);
    for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
        let bytes = zip_of(&[[("cats/", Vec::new())].as_slice(), &list].concat(), method);
        let read = read(&bytes, &UploadLimits::default()).unwrap();
        let expected: Vec<_> = list.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.clone())).collect();
        assert_eq!(read, expected);
        let (_keep, path) = saved(&bytes);
        let strict = UploadZip::open(&path, &UploadLimits::default()).unwrap();
        assert_eq!(strict.items(), Source::open(&path).unwrap().items());
    }
}

fn classes(bytes: &[u8]) -> (Vec<String>, String) {
    let (_keep, path) = saved(bytes);
    let archive = UploadZip::open(&path, &UploadLimits::default()).unwrap();
    (archive.classes().to_vec(), archive.notes().join("\n"))
}

/// The second byte of ソ is a backslash in Shift_JIS, and that of 功 in Big5.
#[test]
fn names_in_a_code_page_are_read_as_a_whole() {
    let files = |names: &[&[u8]]| -> Vec<u8> {
        let names = names.iter().zip(0u8..).map(|(name, i)| (name.to_vec(), images::png(4, 4, &[i])));
        stored(&names.collect::<Vec<_>>())
    };
    let (shift_jis, notes) = classes(&files(&[
        b"\x83\x5c\x83\x6f/1.png",
        b"\x83\x5c\x81\x5b\x83\x58/1.png",
        b"\x82\xa4\x82\xc7\x82\xf1/1.png",
    ]));
    assert_eq!(shift_jis, ["うどん", "ソバ", "ソース"]);
    assert!(notes.contains("names that are not UTF-8 are read as Shift_JIS"), "{notes}");
    assert_eq!(classes(&files(&[b"m\x84use/1.png", b"katzen/1.png"])).0, ["katzen", "mäuse"]);
    // Two readings, one of which has a folder more.
    let (_keep, path) = saved(&files(&[b"\x83\x5c/1.png", b"b/2.png"]));
    match UploadZip::open(&path, &UploadLimits::default()) {
        Ok(archive) => assert_eq!(archive.classes(), ["b", "ソ"]),
        Err(error) => assert!(error.to_string().contains("UTF-8"), "{error}"),
    }
}

/// macOS and older tools count modulo 65,536 without ZIP64.
#[test]
fn counts_that_wrapped_around_are_those_of_the_directory() {
    let image = images::png(1, 1, b"");
    let names = (0..65_546).map(|i| if i % 2 == 0 { format!("a/{i}.png") } else { format!("b/{i}.png") });
    let mut bytes = stored(&names.map(|name| (name, image.clone())).collect::<Vec<_>>());
    let (_keep, path) = saved(&bytes);
    let archive = UploadZip::open(&path, &UploadLimits::default()).unwrap();
    assert_eq!(archive.items().len(), 65_546);
    assert_eq!(archive.bytes(65_545).unwrap(), image);
    let few = UploadLimits { max_entries: 65_545, ..UploadLimits::default() };
    let error = UploadZip::open(&path, &few).err().expect("one too many").to_string();
    assert!(error.contains("more than 65545 entries"), "{error}");
    let end = bytes.len() - 22;
    bytes[end + 8..end + 12].copy_from_slice(&[11, 0, 11, 0]);
    let error = read(&bytes, &UploadLimits::default()).unwrap_err().to_string();
    assert!(error.contains("65546 instead of 11"), "{error}");
}

#[test]
fn layout_is_that_of_training() {
    let names =
        ["set/train/b/1.png", "set/train/a/2.png", "set/test/a/3.png", "set/test/b/4.png", "set/x.txt"];
    let parts: Vec<Part> = (0..).zip(names).map(|(i, n)| Part::file(n, &images::png(4, 4, &[i]))).collect();
    let (_keep, path) = saved(&zip(&parts));
    let archive = UploadZip::open(&path, &UploadLimits::default()).unwrap();
    let items: Vec<(&str, u32, Option<Split>)> =
        archive.items().iter().map(|item| (item.name.as_str(), item.class(), item.split)).collect();
    assert_eq!(archive.classes(), ["a", "b"]);
    assert_eq!(items[0], ("set/test/a/3.png", 0, Some(Split::Test)));
    assert_eq!((items.len(), items[3].1, items[3].2), (4, 1, Some(Split::Train)));
    assert!(archive.notes().iter().any(|note| note.contains("read as splits train (set/")));
}

#[test]
fn every_limit_holds_to_the_byte() {
    let usual = UploadLimits::default();
    let parts = fine(1);
    let bytes = zip(&parts);
    let largest = parts.iter().map(|part| part.data.len() as u64).max().unwrap();
    let total: u64 = parts.iter().map(|part| part.data.len() as u64).sum();
    let cases = [
        (UploadLimits { max_entries: 4, ..usual }, UploadLimits { max_entries: 3, ..usual }),
        (
            UploadLimits { max_entry_bytes: largest, ..usual },
            UploadLimits { max_entry_bytes: largest - 1, ..usual },
        ),
        (
            UploadLimits { max_total_bytes: total, ..usual },
            UploadLimits { max_total_bytes: total - 1, ..usual },
        ),
        (UploadLimits { max_depth: 2, ..usual }, UploadLimits { max_depth: 1, ..usual }),
        (UploadLimits { max_name_bytes: 10, ..usual }, UploadLimits { max_name_bytes: 9, ..usual }),
    ];
    for (enough, short) in cases {
        assert_eq!(read(&bytes, &enough).unwrap().len(), 4, "{enough:?}");
        assert!(read(&bytes, &short).is_err(), "{short:?}");
    }
}

/// Ratios count from 1 MiB of an entry and 10 MiB of an archive on; below that, zeros are as good as anything.
#[test]
fn ratios_count_from_their_thresholds_on() {
    let honest = |matches: usize| {
        let mut part = bomb("a/zeros.png", matches);
        let crc = ocelli_testing::zip::crc32(&vec![0; zeros(matches)]);
        part.both(|header| header.crc = crc);
        zip(&[part, Part::file("b/1.png", &images::png(4, 4, b""))])
    };
    let just_below = (1 << 20) / 258;
    assert_eq!(
        read(&honest(just_below - 1), &UploadLimits::default()).unwrap()[0].1.len(),
        zeros(just_below - 1)
    );
    assert!(read(&honest(just_below + 1), &UploadLimits::default()).is_err());
    let generous = UploadLimits { max_ratio: 160, ..UploadLimits::default() };
    assert!(read(&honest(just_below + 1), &generous).is_ok());
}

#[test]
fn damaged_archives_never_panic_and_never_lie() {
    let parts = fine(3);
    let whole = zip(&parts);
    let contents: Vec<&[u8]> = parts.iter().map(|part| part.data.as_slice()).collect();
    let (_keep, path) = saved(&whole);
    let mut rng = Rng::new(5);
    for round in 0..1500 {
        let mut bytes = whole.clone();
        for _ in 0..1 + rng.below(3) {
            let at = rng.below(bytes.len() as u64) as usize;
            bytes[at] = rng.next_u64() as u8;
        }
        if round % 3 == 0 {
            bytes.truncate(rng.below(bytes.len() as u64 + 1) as usize);
        }
        // What passes has the content that was packed: nothing is lost or changed silently.
        fs::write(&path, &bytes).unwrap();
        if let Ok(images) = read_file(&path, &UploadLimits::default()) {
            for (name, content) in images {
                assert!(contents.contains(&content.as_slice()), "{name} in round {round}");
            }
        }
    }
}

#[test]
fn hostile_images_are_accepted_or_refused_by_reasons_of_ours() {
    let limits = DecodeLimits::default();
    for (name, bytes, fate) in images::corpus() {
        match (decode(&bytes, &limits), fate) {
            (Ok(image), Fate::Accepted(width, height)) => {
                assert_eq!((image.width, image.height), (width, height), "{name}");
                let small = decode(&thumbnail(&image, 4).unwrap(), &limits).unwrap();
                assert!(small.width.max(small.height) <= 4, "{name}");
                assert!(file_format(&bytes).is_some(), "{name}");
            }
            (Err(error), Fate::Refused(says)) => {
                let error = error.to_string();
                assert!(error.contains(says) && !error.contains('\n'), "{name}: {error}");
            }
            (outcome, _) => panic!("{name}: {:?}", outcome.map(|image| (image.width, image.height))),
        }
        for cut in cuts(&bytes) {
            if let Err(error) = decode(cut, &limits) {
                let error = error.to_string();
                assert!(!error.contains('\n') && error.len() < 200, "{name}: {error}");
            }
        }
    }
}

#[test]
fn thumbnails_fit_their_square_and_are_never_larger_than_the_image() {
    for (width, height, side, expected) in [
        (100, 50, 10, (10, 5)),
        (50, 100, 10, (5, 10)),
        (1000, 1, 10, (10, 1)),
        (7, 3, 10, (7, 3)),
        (10, 10, 1, (1, 1)),
    ] {
        for channels in [1u8, 3] {
            let n = (width * height) as usize * usize::from(channels);
            for pixels in [Pixels::U8(vec![200; n]), Pixels::U16(vec![200 * 257; n])] {
                let image = Image { width, height, channels, pixels };
                let small = decode(&thumbnail(&image, side).unwrap(), &DecodeLimits::default()).unwrap();
                assert_eq!((small.width, small.height), expected);
                assert_eq!(small.pixels, Pixels::U8(vec![200; small.pixels.len()]));
            }
        }
    }
    let image = Image { width: 1, height: 1, channels: 1, pixels: Pixels::U8(vec![0]) };
    assert!(thumbnail(&image, 0).is_err() && thumbnail(&image, 1025).is_err());
}
